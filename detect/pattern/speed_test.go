package pattern

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/rules"
)

// english is ordinary text: the comments of this repository's sources.
func english(b *testing.B) string {
	var out strings.Builder
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(src)) {
			if s, ok := strings.CutPrefix(strings.TrimSpace(line), "// "); ok && strings.Count(s, " ") > 4 {
				out.WriteString(s + "\n")
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return out.String()
}

func BenchmarkEnglish10kB(b *testing.B) {
	pack, err := Load(rules.FS)
	if err != nil {
		b.Fatal(err)
	}
	e := New(pack, Options{})
	text := english(b)
	b.SetBytes(10 << 10)
	at := 0
	for b.Loop() {
		if at+10<<10 > len(text) {
			at -= len(text) - 10<<10 // other places than the last time
		}
		if _, err := e.Detect(context.Background(), &guardbook.Interaction{Kind: guardbook.KindToolResult, Content: []guardbook.Part{guardbook.TextPart(text[at : at+10<<10])}}); err != nil {
			b.Fatal(err)
		}
		at += 10 << 10
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(rules.FS); err != nil {
			b.Fatal(err)
		}
	}
}
