package pattern

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/rules"
)

// english is distinct ordinary text: the comments of a package of the standard library.
func english(b *testing.B) string {
	var out strings.Builder
	for _, dir := range []string{"net/http", "os", "go/types", "encoding/json", "crypto/tls", "database/sql", "reflect", "runtime"} {
		files, err := filepath.Glob(filepath.Join(runtime.GOROOT(), "src", dir, "*.go"))
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range files {
			src, err := os.ReadFile(f)
			if err != nil {
				b.Fatal(err)
			}
			for line := range strings.Lines(string(src)) {
				if s, ok := strings.CutPrefix(strings.TrimSpace(line), "// "); ok && strings.Count(s, " ") > 4 && !strings.Contains(s, "opyright") {
					out.WriteString(s + "\n")
				}
			}
		}
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
			at = 0
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
