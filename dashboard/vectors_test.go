package dashboard

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json/v2"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var update = flag.Bool("update", false, "write src/test/proofs.json anew")

// vector is a proof that another implementation made.
type vector struct {
	Size  int64  `json:"size"`
	Index int64  `json:"index"`
	Entry string `json:"entry"`
	Proof string `json:"proof"`
}

type vectors struct {
	Key     string   `json:"key"`
	Vectors []vector `json:"vectors"`
}

const origin = "guardbook/test-vectors"

// sizes have every shape of right edge up to 9 leaves, and two larger trees.
var sizes = []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 256}

// The proofs that src/test/merkle.test.ts checks with the browser's code are
// sumdb/tlog's, in the format of C2SP tlog-proof. This test checks the file with
// sumdb/tlog again, so that both sides are held to the same bytes.
func TestProofVectors(t *testing.T) {
	const file = "src/test/proofs.json"
	if *update {
		writeVectors(t, file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(v.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range v.Vectors {
		head, checkpoint, _ := strings.Cut(x.Proof, "\n\n")
		n, err := note.Open([]byte(checkpoint), note.VerifierList(verifier))
		if err != nil {
			t.Fatalf("leaf %d of %d: %v", x.Index, x.Size, err)
		}
		lines := strings.Split(n.Text, "\n")
		root, err := tlog.ParseHash(lines[2])
		if err != nil {
			t.Fatal(err)
		}
		var p tlog.RecordProof
		for _, l := range strings.Split(head, "\n")[2:] {
			h, err := tlog.ParseHash(l)
			if err != nil {
				t.Fatal(err)
			}
			p = append(p, h)
		}
		if err := tlog.CheckRecord(p, x.Size, root, x.Index, tlog.RecordHash([]byte(x.Entry))); err != nil {
			t.Errorf("leaf %d of %d: %v", x.Index, x.Size, err)
		}
	}
	if len(v.Vectors) < 50 {
		t.Errorf("%d vectors", len(v.Vectors))
	}
}

func writeVectors(t *testing.T, file string) {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v := vectors{Key: vkey}
	for _, size := range sizes {
		var stored []tlog.Hash
		reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			out := make([]tlog.Hash, len(at))
			for i, x := range at {
				out[i] = stored[x]
			}
			return out, nil
		})
		for i := range size {
			h, err := tlog.StoredHashes(i, []byte(entry(i)), reader)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, h...)
		}
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))}, signer)
		if err != nil {
			t.Fatal(err)
		}
		for i := range size {
			if size > 9 && i%31 != 0 && i != size-1 {
				continue
			}
			p, err := tlog.ProveRecord(size, i, reader)
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			fmt.Fprintf(&text, "c2sp.org/tlog-proof@v1\nindex %d\n", i)
			for _, h := range p {
				fmt.Fprintln(&text, h)
			}
			text.WriteByte('\n')
			text.Write(signed)
			v.Vectors = append(v.Vectors, vector{size, i, entry(i), text.String()})
		}
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// entry is a leaf with characters of one to four bytes.
func entry(i int64) string {
	return fmt.Sprintf(`{"v":1,"log":%q,"seq":%d,"message":"é€𝄞 \u202e"}`, origin, i)
}
