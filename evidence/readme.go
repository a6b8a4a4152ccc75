package evidence

import (
	"fmt"
	"strings"
	"time"

	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
)

// readme is the auditor's guide to the package.
func (b *builder) readme() string {
	var w strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&w, format, args...) }
	v, fingerprint, err := derive.DescribeKey(b.o.Key.Verifier(), b.logs[0].Origin)
	if err != nil {
		v, fingerprint = b.o.Key.Verifier(), "unknown"
	}
	from, to := b.o.From.Format(time.RFC3339), b.o.To.Format(time.RFC3339)
	p("# Evidence package %s\n\n", b.scope.Package)
	p("Records of Guardbook, runtime security for AI agents, of **%s**, environment **%s**, for the window **%s** to **%s** (UTC; the end is not part of it). ",
		derive.Plain(b.o.Organisation), derive.Plain(b.o.Environment), from, to)
	p("Built %s by %s with guardbook %s (commit %s).\n\n", b.scope.BuiltAt, derive.Plain(b.o.By), b.o.Tool.Version, b.o.Tool.Commit)
	p("The package holds facts, counts and exceptions. It holds no conclusion: whether a control was suitable and did its work is for the auditor to say, and the columns for that are blank.\n\n")
	p("> **Untrusted content.** Names and excerpts in these files can come from AI agents and from whoever talked to them. They are data. Do not give these files to a language model as instructions.\n\n")
	if when := b.facts.Found.Last; when != "" {
		p("The log in the package begins %s and ends %s. ", b.facts.Found.First, when)
	}
	p("It is the whole log, from its first entry on, so that everything can be computed again; the listings are about the window only. Making of this package recorded in the book: %s.\n\n", derive.Plain(b.o.Recorded))

	p("## Verify in three commands\n\n")
	p("Take the program and the key from another source than this package: the key from who runs Guardbook, by a way that you trust (it is in `signing-key.pub` on the server; fingerprint `%s`).\n\n", fingerprint)
	p("```\nsha256sum --quiet -c SHA256SUMS\nguardbook evidence verify . --trust signing-key.pub\nguardbook evidence exceptions .\n```\n\n")
	p("The first needs no program of ours. The second recomputes the log's Merkle tree from the raw entries, compares it with every signed checkpoint, makes every listing again and compares the bytes. ")
	p("Exit codes: 0 intact, complete and anchored; 1 something was altered, is missing or does not fit; 3 intact, and something is incomplete, not anchored or not pinned; 2 it could not run.\n\n")
	p("A checkpoint that you took earlier, or were sent, anchors everything before it: add `--anchor FILE`. Without one, nothing outside the operator's reach fixes the log before this package left the house.\n\n")
	p("The directory `integrity/1` (one for each epoch of the book) follows the public C2SP specifications tlog-tiles, tlog-checkpoint and tlog-proof, so that other programs can check it, too. The key that the package itself names, for reading only: `%s`.\n\n", v)

	p("## Files\n\n")
	p("| file | what |\n|---|---|\n")
	for _, row := range [][2]string{
		{"00-summary/exceptions.csv, .jsonl", "every check with what it examined, every exception; start here"},
		{"00-summary/coverage.csv", "agent and interval: covered, gap, degraded, monitor-only, no-policy; with or without traffic"},
		{"00-summary/scope.json, metrics.json, control-matrix.csv", "what the package is about; counts and times; controls and their files"},
		{"CC*/population.csv", "the population: a row for each occurrence, row_id is the entry's id"},
		{"CC*/population.jsonl", "the raw entries of it, byte for byte: authoritative where the CSV had to be made safe"},
		{"CC*/population.ipe.json", "source, query, parameters, counts and tie-outs of the population"},
		{"CC*/dictionary.csv", "what each column means"},
		{"CC*/narrative.md", "the control in words: management's text"},
		{"CC*/walkthrough.md", "one operation end to end"},
		{"CC7.2/daily.csv", "decisions summed by day"},
		{"detectors/selftests.csv", "test interactions that the instances played to themselves: expected and got"},
		{"policies/", "what policy was in force when, and its text by hash"},
		{"registry/", "the register of agents; what each agent was allowed, with the time for which it held"},
		{"alerts/, containment/, admin/", "alerts and notifications; what was stopped; what operators did"},
		{"integrity/", "the log: entries, tiles, signed checkpoints, inclusion proofs, keys"},
		{"manifest.json, manifest.sig, SHA256SUMS", "every file with size and hash; the signature over that"},
	} {
		p("| %s | %s |\n", row[0], row[1])
	}
	p("\nCSV: UTF-8, comma, LF, RFC 4180 quoting, times in UTC as in the entries (microseconds). A cell that a spreadsheet would run as a formula begins with an apostrophe; control and direction characters are taken out; a cell ends after 8 kB. ")
	p("Files are split after %d rows.\n\n", b.o.RowsPerFile)

	p("## Words\n\n")
	for _, row := range [][2]string{
		{"interaction", "one thing that an agent takes in or puts out: input, output, tool call, tool result, tool definition, memory. A text that is sent again is a new interaction; the decision then says cached"},
		{"decision", "what was done with an interaction: allow, log, flag, redact, hold or block"},
		{"bundle", "all policies at one content hash; every decision names the one in force"},
		{"book, entry", "the append-only record, and one fact in it"},
		{"checkpoint", "a signed statement of what the book held: size and Merkle root"},
		{"heartbeat", "an entry that an instance writes at a fixed interval, so that silence is visible"},
		{"containment", "a block on an agent, session, tool or tenant: the kill switch"},
		{"monitor", "a mode of a policy: decisions are recorded and not obeyed"},
		{"fail-open", "something passed although a layer had failed, because policy says so"},
	} {
		p("- **%s**: %s.\n", row[0], row[1])
	}

	p("\n## What is not here\n\n")
	p("- What agents did without Guardbook. No log can show what it was never told; compare with the provider's usage figures or an egress log.\n")
	p("- What agents said. The entries hold salted commitments and short masked excerpts, no content.\n")
	p("- Anything that was false before it was recorded.\n")
	p("- Reviews and approvals of policy changes, incident records, training, access reviews: show them from where they are kept.\n")
	p("- Checks that could not be made: they stand in the exceptions as NOT_EVALUATED, with the reason.\n")
	if n := b.facts.ProofsLeft; n > 0 {
		p("- %d further inclusion proofs: more than %d are not written out. `guardbook evidence sample` writes them for the entries it draws.\n", n, b.o.MaxProofs)
	}
	p("\n## Changing texts\n\nThe package is sealed: a changed file no longer fits its hash. Management writes its narratives beforehand (`guardbook evidence build --narratives DIR`, files such as CC6.1.md) and answers exceptions in a copy of exceptions.csv. ")
	p("Samples are written beside the package: `guardbook evidence sample DIR --population CC7.2 --seed SEED --n 25 --out OTHER`.\n")
	return w.String()
}

// narratives writes management's text for each criterion: the one that was given,
// or a draft to be edited.
func (b *builder) narratives() error {
	for _, id := range layout.Narratives {
		content := b.o.Narratives[id]
		if content == "" {
			content = draftNarrative(id)
		}
		if err := b.f.put(id+"/narrative.md", []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

type narrative struct {
	title, statement, design, owner, frequency, kind, failure string
}

var drafts = map[string]narrative{
	"CC6.1": {"Access of AI agents to tools",
		"AGT-AC-01: An AI agent can use a tool, with the arguments that it gives, only where its policy allows that; everything else is denied.",
		"Each agent has a key of its own and is entered in a register with owner and purpose. Guardbook decides on each tool call before it runs, by the policy that covers the agent: tools that are not named are denied, arguments are checked by type, an explicit deny wins. The decision is recorded before the call is released.",
		"[name the role that owns the register and the policies]", "Each tool call", "Automated, preventive",
		"Where a detector fails, the policy's on_error decides; for tool calls the default is to block. Where the book cannot be written, calls are refused unless the policy says otherwise. Both are recorded and listed as exceptions (COV-04, ACC-03)."},
	"CC7.2": {"Detection in what AI agents take in and put out",
		"AGT-MON-01: What agents take in and put out through Guardbook is examined for attacks, secrets and personal data, and every decision is recorded.",
		"Each interaction passes the detectors before it goes on. Findings lead to the action that policy names. Each decision names the layers that ran, their errors and the bundle in force. Heartbeats with counters show that the guard was there; entries are numbered without gaps and sealed in a Merkle tree.",
		"[name the role that owns detection]", "Each interaction; heartbeats at a fixed interval", "Automated, preventive and detective",
		"A detector that times out, fails or is absent is recorded on the decision; the policy's on_error decides whether the interaction passes. Listed as exceptions (COV-01, COV-04, COV-05)."},
	"CC7.3": {"Alerts and their handling",
		"AGT-ALR-01: Decisions from a set severity on raise an alert, which is sent to a named receiver, taken up by a person and closed with a disposition.",
		"The policy names the severity and the receiver. Alerts about the same thing are gathered. Each attempt to deliver is recorded with its result. Acknowledging, assigning and closing are entries with name and time.",
		"[name the role on call]", "Each decision of that severity", "Raising automated; handling manual",
		"A delivery that fails is tried again and, when given up, recorded as undelivered (ALR-06). Alerts that nobody takes up are listed (ALR-02, ALR-03)."},
	"CC7.4": {"Stopping an AI agent",
		"AGT-IR-01: An agent, session, tool or tenant can be stopped at once by an authorised person; new calls are refused and running streams are cut.",
		"The order is recorded with name and reason before it takes effect. Every refused attempt names it. Lifting is recorded in the same way.",
		"[name the role that may stop agents]", "On demand; [state how often it is drilled]", "Manual decision, automated effect",
		"When the book cannot be written, the stop is in force all the same and is recorded later. Whatever went on in spite of a stop is listed (INC-05)."},
	"CC8.1": {"Changes of policy",
		"AGT-CHG-01: Every change of policy is recorded before the first decision under it; invalid policy is refused and the policy before stays in force.",
		"Policies are files. Each attempt to load them is an entry with the hashes of all files. Each decision names the bundle that it was made under, and the text of every bundle is kept by hash.",
		"[name the role that approves changes]", "Each change", "[state how changes are reviewed and approved before they are loaded]; recording automated",
		"A bundle that cannot be loaded is refused and recorded (CHG-12). Decisions under a bundle without an activation are listed (CHG-01)."},
}

func draftNarrative(id string) string {
	n := drafts[id]
	return fmt.Sprintf(`# %s: %s

> **Management text: a draft to be edited.** These words come with the program. They become a statement only when management has
> read, changed and adopted them. What stands in [brackets] only you can say.

**Control statement.** %s

**Design.** %s

**Owner.** %s

**Frequency.** %s

**Automated or manual.** %s

**When it fails.** %s
`, id, n.title, n.statement, n.design, n.owner, n.frequency, n.kind, n.failure)
}
