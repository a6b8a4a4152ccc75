package evidence_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/evidence/verify"
)

// Whoever holds the key can seal a package again. What they still cannot do is
// change a single byte of the log or of anything that is made from it.
func TestAnyFlippedByteIsFoundThoughThePackageIsSealedAgain(t *testing.T) {
	s := newScenario(t)
	s.play()
	clean := s.build(nil)
	var names []string
	for name := range tree(t, clean) {
		info, err := os.Stat(filepath.Join(clean, name))
		if err != nil {
			t.Fatal(err)
		}
		own := strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, "walkthrough.md") || strings.HasSuffix(name, ".json") && !strings.HasSuffix(name, "metrics.json") ||
			strings.Contains(name, "checkpoint") || strings.Contains(name, "proofs/") || !strings.Contains(name, "/")
		if !own && info.Size() > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		name := names[random.IntN(len(names))]
		dir := filepath.Join(t.TempDir(), "p")
		if err := os.CopyFS(dir, os.DirFS(clean)); err != nil {
			t.Fatal(err)
		}
		at, bit := 0, byte(1)<<random.IntN(8)
		edit(t, dir, name, func(b []byte) []byte {
			b = slices.Clone(b)
			at = random.IntN(len(b))
			b[at] ^= bit
			return b
		})
		reseal(t, dir, s.key)
		if r := check(t, s, dir); r.ExitCode != verify.ExitBroken {
			t.Errorf("%s, byte %d, bit %d: exit %d", name, at, bit, r.ExitCode)
		}
	}
}
