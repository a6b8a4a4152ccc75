package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/pattern"
	"github.com/guardbook/guardbook/rules"
	"github.com/spf13/cobra"
)

// blockThreshold is the confidence at which policies act unless they say otherwise.
const blockThreshold = 0.8

// maxScanLine bounds one line of JSON and one plain text, in bytes.
const maxScanLine = 64 << 20

// scanInput is one line that scan --jsonl reads.
type scanInput struct {
	ID      jsontext.Value `json:"id"`
	Text    string         `json:"text"`
	Channel string         `json:"channel"`
	Context string         `json:"context"`
}

// scanOutput is what scan says of one text.
type scanOutput struct {
	ID       jsontext.Value      `json:"id,omitzero"`
	Score    float64             `json:"score"`          // the highest confidence of any finding
	Class    guardbook.Class     `json:"class"`          // of that finding; "" when there is none
	Action   guardbook.Action    `json:"action"`         // what a policy with the usual thresholds would do
	Findings []guardbook.Finding `json:"findings"`       // surest first
	Micros   int64               `json:"micros"`         // time of the detectors
	Error    string              `json:"error,omitzero"` // why the detectors did not read everything
	File     string              `json:"file,omitzero"`  // of a plain text
}

// channelAliases are other names for kinds in the --jsonl input.
var channelAliases = map[string]guardbook.Kind{
	"": guardbook.KindInput, "user_input": guardbook.KindInput, "model_output": guardbook.KindOutput, "tool_description": guardbook.KindToolDefinition,
}

func newScan(c *cli) *cobra.Command {
	var jsonl bool
	var channel string
	cmd := &cobra.Command{
		Use:   "scan [--jsonl] [FILE...]",
		Short: "Run the detectors alone, without a server: text in, findings out",
		Long: "Scan reads texts, one a file (or standard input), or one a line of JSON with --jsonl, and prints what the detectors find.\n" +
			"--jsonl reads {\"id\",\"text\",\"channel\",\"context\"} and writes {\"id\",\"score\",\"class\",\"action\",\"findings\",\"micros\"}, in the same order.\n" +
			"Exit code: 0 nothing found at or above 0.8, 1 something found, 2 a line or file could not be read.",
		RunE: func(cmd *cobra.Command, files []string) error {
			kind, err := parseChannel(channel)
			if err != nil {
				return err
			}
			pack, err := pattern.Load(rules.FS)
			if err != nil {
				return err
			}
			s := &scanner{cli: c, detectors: []guardbook.Detector{pattern.New(pack, pattern.Options{})}, kind: kind, out: bufio.NewWriter(c.out)}
			read := s.plain
			if jsonl {
				read = s.lines
			}
			return s.all(cmd.Context(), files, read)
		},
	}
	cmd.Flags().BoolVar(&jsonl, "jsonl", false, "read and write JSON, one text a line")
	cmd.Flags().StringVar(&channel, "channel", "input", "what plain texts are: input, output, tool_call, tool_result, tool_definition or memory")
	return cmd
}

func parseChannel(s string) (guardbook.Kind, error) {
	if k, ok := channelAliases[s]; ok {
		return k, nil
	}
	if k := guardbook.Kind(s); slices.Contains(guardbook.Kinds, k) {
		return k, nil
	}
	return "", usageError("unknown channel %q: use one of %v", s, guardbook.Kinds)
}

// scanner is one run of the scan command.
type scanner struct {
	cli       *cli
	detectors []guardbook.Detector
	kind      guardbook.Kind
	out       *bufio.Writer
	found     bool // something at or above blockThreshold
	broken    bool // something could not be read
}

// all reads standard input or each file and turns what happened into an exit code.
func (s *scanner) all(ctx context.Context, files []string, read func(context.Context, string, io.Reader) error) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		in, file := s.cli.in, "standard input"
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				s.complain("%v", err)
				continue
			}
			defer f.Close()
			in, file = f, name
		}
		if err := read(ctx, file, in); err != nil {
			return errors.Join(err, s.out.Flush())
		}
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	switch {
	case s.broken:
		return exitUsage
	case s.found:
		return exitFinding
	}
	return nil
}

// complain says on standard error what could not be read, and goes on.
func (s *scanner) complain(format string, args ...any) {
	s.broken = true
	fmt.Fprintln(s.cli.err, "guardbook: "+printable(fmt.Sprintf(format, args...)))
}

// plain reads one text.
func (s *scanner) plain(ctx context.Context, file string, in io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(in, maxScanLine+1))
	switch {
	case err != nil:
		s.complain("read %s: %v", file, err)
		return nil
	case len(b) > maxScanLine:
		s.complain("read %s: larger than %d MB", file, maxScanLine>>20)
		return nil
	}
	o, err := s.detect(ctx, scanInput{Text: string(b)}, s.kind)
	if err != nil {
		return err
	}
	o.File = file
	if s.cli.json {
		return s.write(o)
	}
	return s.show(file, o)
}

// lines reads one text a line of JSON.
func (s *scanner) lines(ctx context.Context, file string, in io.Reader) error {
	r := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, tooLong, err := readLine(r)
		if tooLong {
			s.complain("%s line %d: longer than %d MB", file, n, maxScanLine>>20)
		} else if len(bytes.TrimSpace(line)) > 0 {
			if err := s.line(ctx, file, n, line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.complain("read %s line %d: %v", file, n, err)
			return nil
		}
		if r.Buffered() == 0 { // whoever feeds line by line gets answers line by line
			if err := s.out.Flush(); err != nil {
				return fmt.Errorf("write findings: %w", err)
			}
		}
	}
}

// readLine reads up to a newline; what goes beyond maxScanLine is passed over.
func readLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxScanLine {
			line, tooLong = nil, true
		} else if !tooLong {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

func (s *scanner) line(ctx context.Context, file string, n int, line []byte) error {
	var in scanInput
	if err := json.Unmarshal(line, &in); err != nil {
		s.complain("%s line %d: %v", file, n, err)
		return nil
	}
	kind, err := parseChannel(in.Channel)
	if err != nil {
		s.complain("%s line %d: %v", file, n, err)
		return nil
	}
	o, err := s.detect(ctx, in, kind)
	if err != nil {
		return err
	}
	return s.write(o)
}

func (s *scanner) write(o scanOutput) error {
	b, err := json.Marshal(o)
	if err == nil {
		_, err = s.out.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}

// show prints findings for people.
func (s *scanner) show(file string, o scanOutput) error {
	if o.Error != "" {
		s.complain("%s: %s", file, o.Error)
	}
	if len(o.Findings) == 0 {
		_, err := fmt.Fprintf(s.out, "%s: nothing found\n", printable(file))
		return err
	}
	for _, f := range o.Findings {
		at := ""
		if f.Span != nil {
			at = fmt.Sprintf(" at bytes %d-%d", f.Span.Start, f.Span.End)
		}
		if _, err := fmt.Fprintf(s.out, "%s: %s %s %.2f %s%s: %s\n", printable(file), f.Severity, f.Class, f.Confidence, f.Rule, at, printable(f.Excerpt)); err != nil {
			return err
		}
	}
	return nil
}

// detect runs every detector over one text. Only a broken-off run is an error.
func (s *scanner) detect(ctx context.Context, in scanInput, kind guardbook.Kind) (scanOutput, error) {
	o := scanOutput{ID: in.ID, Action: guardbook.ActionAllow, Findings: []guardbook.Finding{}}
	it := &guardbook.Interaction{Kind: kind, Tenant: guardbook.DefaultTenant, Content: []guardbook.Part{guardbook.TextPart(in.Text)}, Context: in.Context, Path: "scan"}
	start := time.Now()
	var problems []string
	for _, d := range s.detectors {
		found, err := d.Detect(ctx, it)
		if ctx.Err() != nil {
			return o, context.Cause(ctx)
		}
		if err != nil {
			problems = append(problems, d.Layer()+": "+err.Error())
		}
		o.Findings = append(o.Findings, found...)
	}
	o.Micros = time.Since(start).Microseconds()
	o.Error = strings.Join(problems, "; ")
	slices.SortStableFunc(o.Findings, func(a, b guardbook.Finding) int {
		switch {
		case a.Confidence > b.Confidence:
			return -1
		case a.Confidence < b.Confidence:
			return 1
		}
		return 0
	})
	if len(o.Findings) > 0 {
		o.Score, o.Class = o.Findings[0].Confidence, o.Findings[0].Class
	}
	o.Action = usualAction(o.Findings)
	s.found = s.found || o.Score >= blockThreshold
	if !utf8.ValidString(in.Text) {
		o.Error = strings.TrimPrefix(o.Error+"; the text is not valid UTF-8", "; ")
	}
	return o, nil
}

// usualAction is what a policy with the usual findings rules would do: secrets and
// personal data are redacted, everything else that is sure enough is blocked, and
// what is less sure is logged.
func usualAction(found []guardbook.Finding) guardbook.Action {
	action := guardbook.ActionAllow
	for _, f := range found {
		a := guardbook.ActionLog
		if f.Confidence >= blockThreshold {
			a = guardbook.ActionBlock
			if f.Class == guardbook.ClassSecret || f.Class == guardbook.ClassPII {
				a = guardbook.ActionRedact
			}
		}
		action = guardbook.Stricter(action, a)
	}
	return action
}
