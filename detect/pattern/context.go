package pattern

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/normalize"
)

// What is left of a confidence in something that documentation shows as an
// example. An address at example.com still is an address: a policy that wants
// every one redacted reaches it with a threshold of 0.4.
const (
	exampleConfidence = 0.3
	exampleAddress    = 0.45
)

// confidence is a rule's confidence in one match: the channel's, changed by the
// words nearby, by quotation and by being a known example.
func (s *scan) confidence(r *Rule, v *normalize.View, start, end, from, to int) float64 {
	c := r.ConfidenceOn(s.kind)
	if r.Raise.on(s.kind) && r.Raise.near(v.Text, start, end) {
		c = max(c, r.Raise.To)
	}
	if r.Lower.on(s.kind) && r.Lower.near(v.Text, start, end) {
		c = min(c, r.Lower.To)
	}
	if (r.Class == guardbook.ClassSecret || r.Class == guardbook.ClassPII) && isExample(v.Text[start:end]) {
		if r.Scanner == "email" {
			c = min(c, exampleAddress)
		} else {
			c = min(c, exampleConfidence)
		}
	}
	if r.Quotable {
		c *= discount(s.orig, from, to)
	}
	return c
}

// on reports whether there are such words for a kind of interaction.
func (n *Nearby) on(k guardbook.Kind) bool {
	return n != nil && (len(n.Channels) == 0 || slices.Contains(n.Channels, k))
}

// near reports whether one of the words starts a word around the match.
func (n *Nearby) near(text string, start, end int) bool {
	within := n.Within
	if within == 0 {
		within = 64
	}
	return hasWord(foldString(text[max(0, start-within):start]), n.Words) || hasWord(foldString(text[end:min(len(text), end+within)]), n.Words)
}

func hasWord(text string, words []string) bool {
	for _, w := range words {
		for at := 0; ; {
			k := strings.Index(text[at:], w)
			if k < 0 {
				break
			}
			k += at
			if k == 0 || !alnum(text[k-1]) || !alnum(w[0]) {
				return true
			}
			at = k + 1
		}
	}
	return false
}

// Words by which people show that they speak of an attack and do not make one.
var (
	strongDiscussion = []string{
		"phrases like", "phrases such as", "prompt injection", "prompt-injection", "injection attack", "injection attempt", "jailbreak attempt", "jailbreak prompt", "attack pattern", "attack string", "attackers", "an attacker", "adversar",
		"red team", "red-team", "threat model", "owasp", "guardrail", "classifier", "detector", "detection", "blocklist", "regex", "security note", "security team", "postmortem", "phishing", "malicious", "untrusted", "test case", "unit test",
		"never follow", "do not follow instructions", "don't follow instructions", "never obey", "treat it as data", "treat as data", "should be treated", "must be treated", "are examples", "is an example", "suspicious",
		"training material", "benchmark", "false positive", "researchers", "the paper", "this paper", "tricked", "trick the", "tries to trick", "attempts to", "if a user", "if the user says", "if someone", "when a user", "if a message", "if a document", "if an email", "if any", "text that says", "messages that say", "anything that says", "anyone who", "telling you to", "telling it to", "tells you to", "asks you to", "asking you to", "asks it to",
	}
	weakDiscussion = []string{"such as", "e.g.", "for example", "for instance", "example", "attack", "injection", "jailbreak", "quoted", "quotes", "quote", "the phrase", "the words", "the string", "the sentence", "says", "said", "wrote", "reads", "called", "titled", "headline", "like", "refuse", "blocked", "flagged", "reported", "warn", "beware", "lesson", "scam", "spam", "novel", "character", "lyrics"}
)

// discount is what quotation and discussion leave of a confidence: 1 when the
// text says it in earnest.
func discount(text string, start, end int) float64 {
	const reach = 220
	before := foldString(text[max(0, start-reach):start])
	after := foldString(text[end:min(len(text), end+reach/2)])
	strong := count(before, strongDiscussion) + count(after, strongDiscussion)
	weak := count(before[max(0, len(before)-80):], weakDiscussion)
	quoted := isQuoted(text, start, end)
	switch {
	case strong >= 2 || strong == 1 && quoted:
		return 0.35
	case quoted && weak > 0:
		return 0.45
	case strong == 1:
		return 0.6
	case quoted:
		return 0.7
	}
	return 1
}

func count(text string, words []string) int {
	n := 0
	for _, w := range words {
		if hasWord(text, []string{w}) {
			n++
		}
	}
	return n
}

// isQuoted reports whether a range stands inside quotation marks or code marks
// that open and close within the same line, close by.
func isQuoted(text string, start, end int) bool {
	const reach = 120
	before, after := text[max(0, start-reach):start], text[end:min(len(text), end+reach)]
	if i := strings.LastIndexByte(before, '\n'); i >= 0 {
		before = before[i+1:]
	}
	if i := strings.IndexByte(after, '\n'); i >= 0 {
		after = after[:i]
	}
	for _, q := range []struct{ open, close string }{{`"`, `"`}, {"“", "”"}, {"‘", "’"}, {"«", "»"}, {"„", "“"}, {"`", "`"}, {"'", "'"}, {"「", "」"}} {
		i, j := strings.LastIndex(before, q.open), strings.Index(after, q.close)
		if i < 0 || j < 0 {
			continue
		}
		if q.open == q.close {
			// An opening mark follows a space or bracket and touches what it quotes;
			// an apostrophe does not.
			r, _ := utf8.DecodeLastRuneInString(before[:i])
			if i > 0 && r < utf8.RuneSelf && alnum(byte(r)) || i+1 < len(before) && before[i+1] == ' ' || strings.Count(before, q.open)%2 == 0 && q.open != "'" {
				continue
			}
			if k := j + 1; k < len(after) && alnum(after[k]) {
				continue
			}
		}
		return true
	}
	return false
}

// isExample reports whether a secret or a piece of personal data is one that
// documentation shows: made-up domains, test cards, keys that say so.
func isExample(s string) bool {
	low := strings.ToLower(s)
	if i := strings.LastIndexByte(low, '@'); i >= 0 {
		return exampleDomain(low[i+1:])
	}
	for _, w := range []string{"example", "xxxxxx", "your_", "your-", "placeholder", "changeme", "dummy", "redacted", "123456789012345678", "abcdefghijklmnop"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	d := digitsOf(s)
	switch d {
	case "4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", "5555555555554444", "5105105105105100", "5200828282828210", "2223003122003222", "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "3056930009020004", "30569309025904", "38520000023237", "3566002020360505", "4222222222222",
		"GB82WEST12345698765432", "DE89370400440532013000", "GB29NWBK60161331926819", "FR1420041010050500013M02606", "NL91ABNA0417164300",
		"078051120", "123456789", "987654321", "111111111":
		return true
	}
	return fictionalPhone(d)
}

// exampleDomain reports whether a domain is set aside for examples (RFC 2606,
// RFC 6761).
func exampleDomain(d string) bool {
	for _, e := range []string{"example.com", "example.org", "example.net", "example.edu", "domain.com", "email.com", "test.com"} {
		if d == e || strings.HasSuffix(d, "."+e) {
			return true
		}
	}
	for _, e := range []string{".example", ".test", ".invalid", ".localhost", ".local"} {
		if strings.HasSuffix(d, e) {
			return true
		}
	}
	return d == "test"
}

// fictionalPhone reports whether a number is of a block set aside for fiction:
// 555-0100 to 555-0199 in North America, and Ofcom's 01632 960, 07700 900 and
// 020 7946 0 in the United Kingdom.
func fictionalPhone(d string) bool {
	d = strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, d)
	for _, block := range []string{"55501", "1632960", "7700900", "2079460", "8081570", "5550"} {
		if i := strings.Index(d, block); i >= 0 && len(d)-i-len(block) <= 4 && len(d) <= 13 && (block != "5550" || len(d) <= 8) {
			return true
		}
	}
	return len(d) >= 7 && strings.HasSuffix(d, "4567890") || strings.HasSuffix(d, "4567891")
}
