package guard

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/policy"
)

// lookBehind is how much released text is read again with what is new, so that
// words before a match can raise its confidence as they do in the whole text.
const lookBehind = 256

// holder is a detector that can say how much of a growing text must wait.
type holder interface {
	// Hold returns how many bytes at the end of text a match could still grow
	// into; no such byte may be released yet.
	Hold(kind guardbook.Kind, text string) int
}

// Stream decides on one output that arrives in pieces. Text is released only when
// no match can reach it any more; the decision that counts is made on the whole
// text by Close, through the same door as every other decision.
// A Stream belongs to one goroutine.
type Stream struct {
	g        *Guard
	in       guardbook.Interaction
	text     strings.Builder
	released int  // bytes of the text as it came that went out, redacted or not
	enforces bool // policy may stop or change this text
	over     *guardbook.Decision
}

// Stream begins a decision on an output that arrives in pieces. in.Content is
// ignored.
func (g *Guard) Stream(in guardbook.Interaction) *Stream {
	if in.Kind == "" {
		in.Kind = guardbook.KindOutput
	}
	p := g.Policy(in.Agent)
	return &Stream{g: g, in: in, enforces: p == nil || p.Mode != guardbook.ModeMonitor && enforces(p, in.Kind)}
}

// enforces reports whether a policy has a rule that could change or stop a text of
// this kind. When it has none, a stream need not wait for anything.
func enforces(p *policy.Policy, kind guardbook.Kind) bool {
	return slices.ContainsFunc(guardbook.Classes, func(c guardbook.Class) bool {
		v, ok := p.Finding(kind, guardbook.Finding{Class: c, Confidence: 1, Severity: guardbook.Critical})
		return ok && (v.Action == guardbook.ActionRedact || !v.Action.Releases())
	})
}

// Write takes the next piece. release is what may go out now, redacted where
// policy says so. A decision that is not nil blocks: it is in the book, nothing
// more may go out, and the stream must be ended. The error is that of Decide.
func (s *Stream) Write(ctx context.Context, piece string) (release string, d *guardbook.Decision, err error) {
	if s.over != nil {
		return "", s.over, nil
	}
	s.text.WriteString(piece)
	text := s.text.String()
	if !s.enforces {
		release = text[s.released:]
		s.released = len(text)
		return release, nil, nil
	}
	hold := 0
	for _, det := range s.g.o.Detectors {
		if h, ok := det.(holder); ok {
			// Nothing that was released is part of a match that could still grow, so
			// what is pending is all that there is to look at.
			hold = max(hold, h.Hold(s.in.Kind, text[s.released:]))
		} else {
			hold = len(text)
		}
	}
	safe := runeStart(text, len(text)-min(hold, len(text)))
	if safe <= s.released {
		return "", nil, nil
	}
	release, blocked := s.advance(ctx, text, safe)
	if blocked {
		d, err := s.decide(ctx)
		if d.Action.Releases() { // the whole text does not bear out what the part seemed to be
			s.over = nil
			return "", nil, err
		}
		return "", &d, err
	}
	return release, nil, nil
}

// Close ends the text: the decision on the whole of it is in the book when it
// returns, and rest is what may still go out.
func (s *Stream) Close(ctx context.Context) (rest string, d guardbook.Decision, err error) {
	if s.over != nil {
		return "", *s.over, nil
	}
	d, err = s.decide(ctx)
	if !d.Action.Releases() {
		return "", d, err
	}
	text := s.text.String()
	if d.Action != guardbook.ActionRedact {
		rest = text[s.released:]
		s.released = len(text)
		return rest, d, err
	}
	rest, _ = s.advance(ctx, text, len(text))
	return rest, d, err
}

// Released is how many bytes of the text, as it came, have gone out.
func (s *Stream) Released() int { return s.released }

// Text is the text so far, as it came.
func (s *Stream) Text() string { return s.text.String() }

// decide makes the decision on the whole text so far.
func (s *Stream) decide(ctx context.Context) (guardbook.Decision, error) {
	in := s.in
	in.Content = []guardbook.Part{guardbook.TextPart(s.text.String())}
	ds, err := s.g.Decide(ctx, &in)
	if !ds[0].Action.Releases() {
		s.over = &ds[0]
	}
	return ds[0], err
}

// advance scans the text around [released, safe) and returns it with what must be
// redacted replaced. blocked: policy stops the text for what was found there.
func (s *Stream) advance(ctx context.Context, text string, safe int) (out string, blocked bool) {
	p := s.g.Policy(s.in.Agent)
	if p == nil {
		return "", true
	}
	from := runeStart(text, max(0, s.released-lookBehind))
	window := s.in
	window.Content = []guardbook.Part{guardbook.TextPart(text[from:])}
	found, whole := s.g.scanFresh(ctx, &window)
	if !whole && p.OnError(s.in.Kind) == guardbook.ActionBlock {
		return "", true
	}
	var spans []guardbook.Span
	var findings []guardbook.Finding
	for _, f := range found.findings {
		v, ok := p.Finding(s.in.Kind, f)
		switch {
		case !ok:
		case !v.Action.Releases():
			return "", true
		case v.Action == guardbook.ActionRedact && f.Span == nil:
			return "", true // cannot say where: the whole text's decision will
		case v.Action == guardbook.ActionRedact:
			start, end := f.Span.Start+from, f.Span.End+from
			if end <= s.released {
				continue
			}
			if start < safe && end > safe { // not over yet after all: wait in front of it
				safe = max(start, s.released)
			}
			if start >= safe {
				continue
			}
			span := guardbook.Span{Path: "/content/0", Start: max(start, s.released) - s.released, End: end - s.released}
			f.Span = &span
			spans, findings = append(spans, span), append(findings, f)
		}
	}
	if safe <= s.released {
		return "", false
	}
	piece := text[s.released:safe]
	s.released = safe
	if len(spans) == 0 {
		return piece, false
	}
	return redactText(piece, spans, findings), false
}

// runeStart moves a position back to the beginning of the rune that it is in.
func runeStart(s string, at int) int {
	for at > 0 && at < len(s) && !utf8.RuneStart(s[at]) {
		at--
	}
	return at
}
