package openai

import (
	"strings"
	"testing"

	"github.com/guardbook/guardbook/gateway/document"
)

// BenchmarkRequest is the walk over a request with a prompt of 2 kB.
func BenchmarkRequest(b *testing.B) {
	body := []byte(`{"model":"gpt-5","messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"` + strings.Repeat("What is the weather like? ", 80) + `"}],"temperature":0.5}`)
	b.ReportAllocs()
	for b.Loop() {
		doc, err := document.Parse(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := (chat{}).Request(doc); err != nil {
			b.Fatal(err)
		}
	}
}
