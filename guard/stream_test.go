package guard_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/guard"
)

// play sends a text through a stream in pieces and returns what came out and the
// decision.
func play(t *rapid.T, s *guard.Stream, pieces []string) (string, guardbook.Decision) {
	var out strings.Builder
	for _, p := range pieces {
		release, d, err := s.Write(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(release)
		if d != nil {
			return out.String(), *d
		}
	}
	rest, d, err := s.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out.WriteString(rest)
	return out.String(), d
}

func pieces(t *rapid.T, text string) []string {
	var out []string
	for text != "" {
		n := rapid.IntRange(1, len(text)).Draw(t, "cut")
		out, text = append(out, text[:n]), text[n:]
	}
	return out
}

func TestATextInPiecesIsDecidedAsAWholeOneIs(t *testing.T) {
	h := newGuard(t, billing, &word{find: "sk-1234567890", class: guardbook.ClassSecret})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"sk-1234567890", "sk-12", "é", "the key is ", " ", "\n", "sk-"}), 1, 12).Draw(t, "text"), "")
		in := guardbook.Interaction{Kind: guardbook.KindOutput, Agent: "billing-bot", Content: []guardbook.Part{guardbook.TextPart(text)}}
		whole, err := h.Decide(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		want := text
		if whole[0].Content != nil {
			want = whole[0].Content[0].Text
		}
		got, d := play(t, h.Stream(guardbook.Interaction{Kind: guardbook.KindOutput, Agent: "billing-bot"}), pieces(t, text))
		if got != want || d.Action != whole[0].Action || d.Rule != whole[0].Rule {
			t.Fatalf("text %q\n got %q %s\nwant %q %s", text, got, d.Action, want, whole[0].Action)
		}
	})
}

func TestABlockedTextNeverGoesOut(t *testing.T) {
	blocking := strings.Replace(billing, "{class: secret, channels: [input, output, tool_call], action: redact, severity: high}",
		"{class: secret, channels: [output], action: block, severity: high}", 1)
	h := newGuard(t, blocking, &word{find: "sk-1234567890", class: guardbook.ClassSecret})
	rapid.Check(t, func(t *rapid.T) {
		text := "before " + "sk-1234567890" + " after"
		got, d := play(t, h.Stream(guardbook.Interaction{Kind: guardbook.KindOutput, Agent: "billing-bot"}), pieces(t, text))
		if d.Action != guardbook.ActionBlock || !strings.HasPrefix("before ", got) {
			t.Fatalf("%q went out, decision %s", got, d.Action)
		}
	})
}

func TestATextThatPolicyCannotStopDoesNotWait(t *testing.T) {
	none := strings.Replace(billing, "  - {class: secret, channels: [input, output, tool_call], action: redact, severity: high}\n", "", 1)
	h := newGuard(t, none, &word{find: "sk-1234567890", class: guardbook.ClassSecret})
	s := h.Stream(guardbook.Interaction{Kind: guardbook.KindOutput, Agent: "billing-bot"})
	if release, _, err := s.Write(t.Context(), "sk-12"); release != "sk-12" || err != nil {
		t.Errorf("held although nothing could come of it: %q %v", release, err)
	}
}

func TestAStreamOfAKilledAgentIsBlocked(t *testing.T) {
	h := newGuard(t, billing)
	s := h.Stream(guardbook.Interaction{Kind: guardbook.KindOutput, Agent: "billing-bot"})
	if _, _, err := s.Write(t.Context(), "first words"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.containments.Kill(t.Context(), "billing-bot", "ann", "enough", 0); err != nil {
		t.Fatal(err)
	}
	if rest, d, _ := s.Close(t.Context()); rest != "" || d.Action != guardbook.ActionBlock {
		t.Errorf("%q %s", rest, d.Action)
	}
}
