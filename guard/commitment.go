package guard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/guardbook/guardbook"
)

// Salt returns the salt of an entry's commitment: HMAC-SHA-256 of the entry's id
// under the instance's commitment key. Giving out one salt opens one entry;
// destroying the key makes every commitment meaningless (soc2.md, section 6).
func Salt(key []byte, entry string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(entry))
	return m.Sum(nil)
}

// Commitment binds an entry to what was read without saying what it was:
// "sha256:" and the hex of SHA-256(salt || content), where content is each part's
// type and text, and the arguments of a tool call, each after its length as a
// 64-bit big-endian number. Without the salt, a guess cannot be confirmed.
func Commitment(salt []byte, in *guardbook.Interaction) string {
	h := sha256.New()
	h.Write(salt)
	writeContent(h, in)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
