package main

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/pattern"
	"github.com/guardbook/guardbook/policies"
	"github.com/guardbook/guardbook/policy"
	"github.com/guardbook/guardbook/rules"
)

// newPolicy is the command for policies: what files say, and what was in force.
func newPolicy(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check policies, explain what they decide, and see which were in force",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyLint(c), newPolicyExplain(c), newPolicyRender(c), newPolicyAt(c), newPolicyHistory(c))
	return cmd
}

func newPolicyLint(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "lint [FILE|DIR...]",
		Short: "Tell every problem of policy files, with its place and what is allowed",
		Long: `Checks policy files (*.yaml, *.yml) and prints every problem with file, line and
column. A folder is checked as a whole, as the server loads it: two of its
policies may have neither the same name nor the same agents. Without an argument
the server's own folder is checked. Exit code 1: there are problems.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{c.policyDir("")}
			}
			return c.lint(args)
		},
	}
}

// lintProblem is a problem as `policy lint --json` prints it.
type lintProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

func (c *cli) lint(args []string) error {
	var problems []*policy.Error
	read := 0
	for _, arg := range args {
		files, err := policyFiles(arg)
		if err != nil {
			return err
		}
		read += len(files)
		_, err = policy.NewBundle(files)
		if errs, ok := errors.AsType[*policy.Errors](err); ok {
			problems = append(problems, errs.List...)
		} else if err != nil {
			return fmt.Errorf("%s: %w", arg, err)
		}
	}
	for _, p := range problems {
		if c.json {
			if err := c.printJSON(lintProblem{p.File, p.Line, p.Column, p.Message}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(c.out, "%s:%d:%d: %s\n", printable(p.File), p.Line, p.Column, printable(p.Message))
		for line := range strings.SplitSeq(p.Excerpt, "\n") {
			fmt.Fprintln(c.out, printable(line))
		}
	}
	if len(problems) > 0 {
		if !c.json {
			fmt.Fprintf(c.out, "%s in %s\n", count(len(problems), "problem"), count(read, "file"))
		}
		return exitFinding
	}
	if !c.json {
		fmt.Fprintf(c.out, "%s: no problem\n", count(read, "file"))
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// policyFiles reads one file, or the policy files of a folder; names are paths.
func policyFiles(path string) ([]policy.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		src, err := os.ReadFile(path)
		return []policy.File{{Name: path, Source: src}}, err
	}
	files, err := policy.ReadDir(path)
	for i := range files {
		files[i].Name = filepath.Join(path, files[i].Name)
	}
	return files, err
}

// policyDir is the folder of the server's policies: flag, environment, default.
func (c *cli) policyDir(flag string) string {
	return firstOf(flag, os.Getenv("GUARDBOOK_POLICIES"), filepath.Join(c.dataDir(), "policies"))
}

// localBundle reads the policies of a folder. The server's own folder that does
// not exist yet stands for the starter policies, with which a server would fill it.
func (c *cli) localBundle(flag string) (*policy.Bundle, error) {
	dir := c.policyDir(flag)
	files, err := policy.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && flag == "" {
		fmt.Fprintf(c.err, "%s does not exist: these are the starter policies\n", printable(dir))
		files, err = starterFiles()
	}
	if err != nil {
		return nil, err
	}
	b, err := policy.NewBundle(files)
	if err != nil {
		return nil, fmt.Errorf("policies in %s: %w", dir, err)
	}
	return b, nil
}

func starterFiles() (files []policy.File, err error) {
	names, err := fs.Glob(policies.FS, "*.yaml")
	for _, name := range names {
		src, readErr := fs.ReadFile(policies.FS, name)
		err = errors.Join(err, readErr)
		files = append(files, policy.File{Name: name, Source: src})
	}
	return files, err
}

func newPolicyExplain(c *cli) *cobra.Command {
	var dir, agent, server, tool, args, kind, text, class string
	var confidence float64
	cmd := &cobra.Command{
		Use:   "explain --agent A (--tool T --args JSON | --kind K --text T)",
		Short: "Say what a policy decides on a tool call or a finding, and by which rule",
		Long: `Evaluates the policies of a folder without a server. With --tool: a call of that
tool with these arguments. With --kind and --text: what the detectors find in the
text, and what the policy makes of each finding. With --kind and --class: what
the policy makes of a finding of that class and confidence. Exit code 1: the
interaction would be held or blocked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case agent == "":
				return usageError("--agent is missing")
			case kind != "" && !slices.Contains(guardbook.Kinds, guardbook.Kind(kind)):
				return usageError("unknown kind %q: use one of %v", kind, guardbook.Kinds)
			case class != "" && !slices.Contains(guardbook.Classes, guardbook.Class(class)):
				return usageError("unknown class %q: use one of %v", class, guardbook.Classes)
			}
			b, err := c.localBundle(dir)
			if err != nil {
				return err
			}
			p := b.For(agent)
			if p == nil {
				return refused{fmt.Errorf("no policy is for agent %q: everything that it does is blocked", agent)}
			}
			switch {
			case tool != "" && kind == "":
				return c.explainTool(cmd.Context(), p, &guardbook.Tool{Server: server, Name: tool, Arguments: jsontext.Value(args)})
			case tool == "" && kind != "" && cmd.Flags().Changed("text"):
				return c.explainText(cmd.Context(), p, kind, text)
			case tool == "" && kind != "" && class != "":
				return c.explainFindings(p, kind, []guardbook.Finding{{Class: guardbook.Class(class), Confidence: confidence, Severity: guardbook.Medium}})
			}
			return usageError("give either --tool (and --args), or --kind with --text or --class")
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "policies", "", "folder of the policies (GUARDBOOK_POLICIES; default DATA/policies)")
	f.StringVar(&agent, "agent", "", "the agent")
	f.StringVar(&tool, "tool", "", "the tool's name")
	f.StringVar(&server, "server", "", "the server that offers the tool")
	f.StringVar(&args, "args", "{}", "the call's arguments, a JSON object")
	f.StringVar(&kind, "kind", "", "the kind of interaction: input, output, tool_call, tool_result, tool_definition, memory")
	f.StringVar(&text, "text", "", "a text for the detectors")
	f.StringVar(&class, "class", "", "the threat class of a finding")
	f.Float64Var(&confidence, "confidence", 1, "the confidence of that finding, 0 to 1")
	return cmd
}

// explanation is what `policy explain --json` prints.
type explanation struct {
	Policy   string             `json:"policy"`
	File     string             `json:"file"`
	Mode     guardbook.Mode     `json:"mode"`
	Decision guardbook.Action   `json:"decision"`
	Rule     string             `json:"rule,omitzero"`
	Severity guardbook.Severity `json:"severity"`
	Class    guardbook.Class    `json:"class,omitzero"`
	Found    string             `json:"found,omitzero"` // the detector's rule
	Message  string             `json:"message,omitzero"`
}

func explain(p *policy.Policy, v policy.Verdict) explanation {
	return explanation{p.Name, p.File, p.Mode, v.Action, v.Rule, v.Severity, v.Class, "", v.Message}
}

func (c *cli) explainTool(ctx context.Context, p *policy.Policy, t *guardbook.Tool) error {
	return c.printExplanations(explain(p, p.Tool(ctx, &guardbook.Interaction{Kind: guardbook.KindToolCall, Tool: t})))
}

func (c *cli) explainText(ctx context.Context, p *policy.Policy, kind, text string) error {
	pack, err := pattern.Load(rules.FS)
	if err != nil {
		return err
	}
	in := &guardbook.Interaction{Kind: guardbook.Kind(kind), Content: []guardbook.Part{guardbook.TextPart(text)}}
	findings, err := pattern.New(pack, pattern.Options{}).Detect(ctx, in)
	if err != nil {
		return fmt.Errorf("detect: %w", err)
	}
	return c.explainFindings(p, kind, findings)
}

func (c *cli) explainFindings(p *policy.Policy, kind string, findings []guardbook.Finding) error {
	if len(findings) == 0 {
		return c.printExplanations(explanation{Policy: p.Name, File: p.File, Mode: p.Mode, Decision: guardbook.ActionAllow, Message: "the detectors found nothing"})
	}
	out := make([]explanation, len(findings))
	for i, f := range findings {
		v, ok := p.Finding(guardbook.Kind(kind), f)
		if !ok {
			v = policy.Verdict{Action: guardbook.ActionAllow, Severity: f.Severity, Class: f.Class, Message: fmt.Sprintf("no findings rule applies to %s with confidence %.2f", f.Class, f.Confidence)}
		}
		out[i] = explain(p, v)
		out[i].Found = f.Rule
	}
	return c.printExplanations(out...)
}

// printExplanations prints each, and fails if the strictest of them holds back.
func (c *cli) printExplanations(list ...explanation) error {
	var strictest guardbook.Action
	for i, e := range list {
		strictest = guardbook.Stricter(strictest, e.Decision)
		if c.json {
			if err := c.printJSON(e); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		for _, row := range [][2]string{
			{"decision", string(e.Decision)}, {"rule", e.Rule}, {"severity", e.Severity.String()}, {"class", string(e.Class)},
			{"found by", e.Found}, {"policy", e.Policy + " (" + e.File + ", " + string(e.Mode) + ")"}, {"message", e.Message},
		} {
			if row[1] != "" {
				fmt.Fprintf(c.out, "%-9s %s\n", row[0], printable(row[1]))
			}
		}
	}
	if !strictest.Releases() {
		return exitFinding
	}
	return nil
}

func newPolicyRender(c *cli) *cobra.Command {
	var dir, agent string
	cmd := &cobra.Command{
		Use:   "render [--agent A]",
		Short: "Print the policy that applies to an agent, with every default written out",
		Args:  cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			b, err := c.localBundle(dir)
			if err != nil {
				return err
			}
			if agent == "" {
				if c.json {
					for _, p := range b.Policies {
						if err := c.printJSON(p.RenderJSON()); err != nil {
							return err
						}
					}
					return nil
				}
				rows := make([][]string, len(b.Policies))
				for i, p := range b.Policies {
					rows[i] = []string{p.Name, p.File, string(p.Mode), p.Owner, strings.Join(p.Agents, ", ")}
				}
				fmt.Fprintf(c.out, "bundle %s\n", b.Hash)
				return c.table([]string{"POLICY", "FILE", "MODE", "OWNER", "AGENTS"}, rows)
			}
			p := b.For(agent)
			if p == nil {
				return refused{fmt.Errorf("no policy is for agent %q: everything that it does is blocked", agent)}
			}
			if c.json {
				return c.printJSON(p.RenderJSON())
			}
			fmt.Fprintf(c.out, "# agent %s: policy %s of %s, bundle %s\n%s", printable(agent), p.Name, printable(p.File), b.Hash, p.Render())
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "policies", "", "folder of the policies (GUARDBOOK_POLICIES; default DATA/policies)")
	cmd.Flags().StringVar(&agent, "agent", "", "the agent; without it the policies are listed")
	return cmd
}
