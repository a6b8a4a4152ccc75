package guard

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/guardbook/guardbook"
)

// errUnredactable means that a span lies where no text can be put: in a member's
// name.
var errUnredactable = errors.New("a member's name cannot be redacted")

// Redact returns an interaction's content and arguments with the spans replaced by
// "[REDACTED:class]". Bytes outside the spans stay as they are; overlapping spans
// become one.
func Redact(in *guardbook.Interaction, spans []guardbook.Span, findings []guardbook.Finding) ([]guardbook.Part, jsontext.Value, error) {
	byPath := map[string][]guardbook.Span{}
	for _, s := range spans {
		if strings.HasSuffix(s.Path, "#name") {
			return nil, nil, errUnredactable
		}
		byPath[s.Path] = append(byPath[s.Path], s)
	}
	var content []guardbook.Part
	if len(in.Content) > 0 {
		content = slices.Clone(in.Content)
		for i := range content {
			if s := byPath["/content/"+strconv.Itoa(i)]; s != nil {
				content[i].Text = redactText(content[i].Text, s, findings)
			}
		}
	}
	if in.Kind != guardbook.KindToolCall || in.Tool == nil {
		return content, nil, nil
	}
	args, err := redactArguments(in.Tool.Arguments, byPath, findings)
	return content, args, err
}

// redactText replaces spans of one text.
func redactText(text string, spans []guardbook.Span, findings []guardbook.Finding) string {
	slices.SortFunc(spans, func(a, b guardbook.Span) int { return a.Start - b.Start })
	var b strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		start, end := clamp(spans[i].Start, len(text)), clamp(spans[i].End, len(text))
		first := spans[i]
		for i++; i < len(spans) && spans[i].Start < end; i++ {
			end = max(end, clamp(spans[i].End, len(text)))
		}
		if start < at || start >= end {
			continue
		}
		b.WriteString(text[at:start])
		b.WriteString(Mask(classOf(first, findings)))
		at = end
	}
	b.WriteString(text[at:])
	return b.String()
}

// Mask is what stands where something of a class was redacted.
func Mask(c guardbook.Class) string { return "[REDACTED:" + string(c) + "]" }

func classOf(s guardbook.Span, findings []guardbook.Finding) guardbook.Class {
	for _, f := range findings {
		if f.Span != nil && *f.Span == s {
			return f.Class
		}
	}
	return guardbook.ClassSecret
}

// redactArguments splices redacted strings into a JSON value; every other byte
// stays where it was.
func redactArguments(v jsontext.Value, byPath map[string][]guardbook.Span, findings []guardbook.Finding) (jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	var out []byte
	at := 0
	for {
		tok, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return append(out, v[at:]...), nil
		}
		if err != nil {
			return nil, fmt.Errorf("tool arguments: %w", err)
		}
		if tok.Kind() != '"' {
			continue
		}
		kind, n := dec.StackIndex(dec.StackDepth())
		spans := byPath["/arguments"+string(dec.StackPointer())]
		if spans == nil || kind == '{' && n%2 == 1 {
			continue
		}
		end := int(dec.InputOffset())
		text := tok.String()
		quoted, err := jsontext.AppendQuote(nil, redactText(text, spans, findings))
		if err != nil {
			return nil, fmt.Errorf("tool arguments: %w", err)
		}
		start := stringStart(v, at, end)
		out = append(append(out, v[at:start]...), quoted...)
		at = end
	}
}

// stringStart finds where the JSON string that ends at end begins, by walking back
// over its bytes to the opening quote.
func stringStart(v []byte, from, end int) int {
	for i := end - 2; i >= from; i-- {
		if v[i] != '"' {
			continue
		}
		slashes := 0
		for k := i - 1; k >= from && v[k] == '\\'; k-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return from
}

func clamp(n, limit int) int { return max(0, min(n, limit)) }
