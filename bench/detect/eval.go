package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json/v2"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/detect/pattern"
)

// record is one labelled text.
type record struct {
	Text    string `json:"text"`
	Label   string `json:"label"`
	Channel string `json:"channel"`
	Set     string `json:"set"`
	Family  string `json:"family"`

	score float64
	rule  string
}

// kinds maps the channels of labelled sets to kinds of interaction.
var kinds = map[string]guardbook.Kind{
	"user_input": guardbook.KindInput, "tool_description": guardbook.KindToolDefinition, "model_output": guardbook.KindOutput,
}

func (r *record) kind() guardbook.Kind {
	if k, ok := kinds[r.Channel]; ok {
		return k
	}
	return guardbook.Kind(r.Channel)
}

func eval(e *pattern.Engine, args []string) error {
	flags := flag.NewFlagSet("eval", flag.ContinueOnError)
	show := flags.Int("show", 0, "print this many false alarms of each set")
	missed := flags.Int("missed", 0, "print this many attacks of each set that were missed")
	only := flags.String("set", "", "only sets whose name contains this")
	at := flags.Float64("at", 0.8, "the threshold; policies act at 0.8 by default")
	byRule := flags.Bool("rules", false, "print how often each rule was the surest, on attacks and on benign texts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	threshold := *at
	records, err := read(flags.Args())
	if err != nil {
		return err
	}
	sets := map[string][]*record{}
	var benign []float64
	for _, r := range records {
		if !strings.Contains(r.Set, *only) {
			continue
		}
		if err := r.scan(e); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", r.Set, err)
		}
		sets[r.Set] = append(sets[r.Set], r)
		if r.Label == "benign" {
			benign = append(benign, r.score)
		}
	}
	slices.Sort(benign)
	cut := 1.0
	if n := len(benign); n > 0 {
		cut = benign[min(n-1, n-1-n/100)]
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "set\tattacks\trecall at %.1f\trecall at 1 %% FA*\tbenign\tfalse alarms\tbenign_hard\tfalse alarms\t\n", threshold)
	total := map[string][2]int{}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		var attacks, easy, hard []*record
		for _, r := range sets[name] {
			switch {
			case r.Label == "attack":
				attacks = append(attacks, r)
			case r.Family == "benign_hard":
				hard = append(hard, r)
			default:
				easy = append(easy, r)
			}
		}
		above := func(rs []*record, at float64, strict bool) int {
			n := 0
			for _, r := range rs {
				if r.score > at || !strict && r.score >= at {
					n++
				}
			}
			return n
		}
		for k, rs := range map[string][]*record{"attack": attacks, "easy": easy, "hard": hard} {
			t := total[k]
			total[k] = [2]int{t[0] + above(rs, threshold, false), t[1] + len(rs)}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d\t%s\t%d\t%s\t\n", name, len(attacks), share(above(attacks, threshold, false), len(attacks)), share(above(attacks, cut, true), len(attacks)),
			len(easy), share(above(easy, threshold, false), len(easy)), len(hard), share(above(hard, threshold, false), len(hard)))
	}
	fmt.Fprintf(w, "all\t%d\t%s\t\t%d\t%s\t%d\t%s\t\n", total["attack"][1], share(total["attack"][0], total["attack"][1]), total["easy"][1], share(total["easy"][0], total["easy"][1]), total["hard"][1], share(total["hard"][0], total["hard"][1]))
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("* score above %.3f, the cut that 1 %% of all benign texts pass\n", cut)
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		printSome(name+": false alarm", sets[name], *show, func(r *record) bool { return r.Label == "benign" && r.score >= threshold })
		printSome(name+": missed", sets[name], *missed, func(r *record) bool { return r.Label == "attack" && r.score < threshold })
	}
	if *byRule {
		printRules(sets, threshold)
	}
	return nil
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}

func printSome(title string, rs []*record, n int, which func(*record) bool) {
	for _, r := range rs {
		if n > 0 && which(r) {
			fmt.Printf("%s %.2f %s %q\n", title, r.score, r.rule, r.Text[:min(len(r.Text), 400)])
			n--
		}
	}
}

func printRules(sets map[string][]*record, threshold float64) {
	type tally struct{ attack, benign int }
	rules := map[string]*tally{}
	for _, rs := range sets {
		for _, r := range rs {
			if r.score < threshold {
				continue
			}
			if rules[r.rule] == nil {
				rules[r.rule] = &tally{}
			}
			if r.Label == "attack" {
				rules[r.rule].attack++
			} else {
				rules[r.rule].benign++
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(rules), func(a, b string) int {
		return cmp.Or(cmp.Compare(rules[b].benign, rules[a].benign), cmp.Compare(rules[b].attack, rules[a].attack), cmp.Compare(a, b))
	})
	for _, n := range names {
		fmt.Printf("%-50s attacks %5d  benign %4d\n", n, rules[n].attack, rules[n].benign)
	}
}

func (r *record) scan(e *pattern.Engine) error {
	found, err := e.Detect(context.Background(), &guardbook.Interaction{Kind: r.kind(), Content: []guardbook.Part{guardbook.TextPart(r.Text)}})
	for _, f := range found {
		if f.Confidence > r.score {
			r.score, r.rule = f.Confidence, f.Rule
		}
	}
	return err
}

func read(dirs []string) ([]*record, error) {
	var out []*record
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("no *.jsonl file in %s", dir)
		}
		for _, name := range files {
			if out, err = readFile(name, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func readFile(name string, out []*record) ([]*record, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		r := &record{}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", name, n, err)
		}
		r.Set = strings.TrimSuffix(filepath.Base(name), ".jsonl")
		out = append(out, r)
	}
	return out, lines.Err()
}
