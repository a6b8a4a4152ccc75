package main

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook"
)

// eventPage is how many entries are asked for at once.
const eventPage = 1000

// eventFilter is what the flags of events say.
type eventFilter struct {
	agent, session, class, severity, action, typ, tool, rule, since, until string
	limit                                                                  int
	follow, canaries                                                       bool
}

func newEvents(c *cli) *cobra.Command {
	var f eventFilter
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List, filter and follow what is in the book",
		Example: "  guardbook events -f --severity high\n" +
			"  guardbook events --agent billing-bot --action block --since 24h\n" +
			"  guardbook events --type containment --limit 0 --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if f.follow {
				return c.followEvents(cmd.Context(), q, f.limit)
			}
			return c.listEvents(cmd.Context(), q, f.limit)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what comes, until interrupted")
	flags.StringVar(&f.agent, "agent", "", "of this agent")
	flags.StringVar(&f.session, "session", "", "of this session")
	flags.StringVar(&f.class, "class", "", "with a finding of this class: "+strings.Join(texts(guardbook.Classes), ", "))
	flags.StringVar(&f.severity, "severity", "", "of this severity or above: "+strings.Join(guardbook.SeverityNames(), ", "))
	flags.StringVar(&f.action, "action", "", "with this decision: "+strings.Join(texts(guardbook.Actions), ", "))
	flags.StringVar(&f.typ, "type", "", "of this type, or any of several with commas between: "+strings.Join(texts(entryTypes), ", "))
	flags.StringVar(&f.tool, "tool", "", "about the tool of this name")
	flags.StringVar(&f.rule, "rule", "", "decided by this rule")
	flags.StringVar(&f.since, "since", "", "that occurred at or after: RFC 3339, a date, or a duration before now (15m, 24h, 7d)")
	flags.StringVar(&f.until, "until", "", "that occurred before, likewise")
	flags.BoolVar(&f.canaries, "canaries", false, "also the server's own test interactions (agent "+guardbook.CanaryAgent+")")
	flags.IntVar(&f.limit, "limit", 100, "the newest so many; 0: all")
	return cmd
}

// entryTypes lists the types of entry in the order of documentation.
var entryTypes = []guardbook.EntryType{
	guardbook.TypeStart, guardbook.TypeStop, guardbook.TypeHeartbeat, guardbook.TypeDecision, guardbook.TypeStream,
	guardbook.TypeRefusal, guardbook.TypePassthrough, guardbook.TypePolicy, guardbook.TypeContainment, guardbook.TypeAlert,
	guardbook.TypeNotification, guardbook.TypeAgent, guardbook.TypeOperator, guardbook.TypeDegraded, guardbook.TypeClient,
	guardbook.TypeTool, guardbook.TypeCanary,
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// query turns the flags into the API's parameters; wrong values name the allowed ones.
func (f *eventFilter) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	for _, p := range []struct {
		name, value string
		allowed     []string
	}{
		{"agent", f.agent, nil}, {"session", f.session, nil}, {"tool", f.tool, nil}, {"rule", f.rule, nil},
		{"class", f.class, texts(guardbook.Classes)}, {"severity", f.severity, guardbook.SeverityNames()},
		{"action", f.action, texts(guardbook.Actions)}, {"type", f.typ, texts(entryTypes)},
	} {
		if p.value == "" {
			continue
		}
		values := []string{p.value}
		if p.name == "type" {
			values = strings.Split(p.value, ",")
		}
		for _, v := range values {
			if p.allowed != nil && !slices.Contains(p.allowed, v) {
				return nil, usageError("--%s %q is not known: use %s", p.name, v, strings.Join(p.allowed, ", "))
			}
		}
		q.Set(p.name, p.value)
	}
	// Whoever asks for them by agent or type wants to see them.
	if !f.canaries && f.agent == "" && f.typ != string(guardbook.TypeCanary) {
		q.Set("canaries", "hide")
	}
	for name, v := range map[string]string{"since": f.since, "until": f.until} {
		if v == "" {
			continue
		}
		t, err := parseTime(v, now)
		if err != nil {
			return nil, usageError("--%s: %s", name, err)
		}
		q.Set(name, t.Format(time.RFC3339Nano))
	}
	if f.limit < 0 {
		return nil, usageError("--limit %d is less than none: use 0 for all", f.limit)
	}
	if f.follow && f.until != "" {
		return nil, usageError("--follow has no end: leave out --until")
	}
	return q, nil
}

// listEvents prints the newest entries that match, the oldest of them first.
func (c *cli) listEvents(ctx context.Context, q url.Values, limit int) error {
	if limit == 0 {
		p := &eventPrinter{c: c}
		return c.everyEvent(ctx, q, p.print)
	}
	entries, err := c.newestEvents(ctx, q, limit)
	if err != nil {
		return err
	}
	if c.json {
		return c.printRaw(entries)
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = eventRow(e)
	}
	if err := c.table(eventColumns, rows); err != nil {
		return err
	}
	if len(entries) == limit {
		fmt.Fprintf(c.err, "The newest %d are shown; --limit, --since and --until show others.\n", limit)
	}
	return nil
}

func (c *cli) printRaw(entries []guardbook.Entry) error {
	for _, e := range entries {
		if _, err := fmt.Fprintf(c.out, "%s\n", e.Raw); err != nil {
			return err
		}
	}
	return nil
}

// newestEvents returns up to limit entries that match, the oldest first. Sequence
// numbers are for paging within one log: what an earlier epoch holds is reached by
// time.
func (c *cli) newestEvents(ctx context.Context, q url.Values, limit int) ([]guardbook.Entry, error) {
	var out []guardbook.Entry
	q = with(q, "order", "desc")
	for {
		n := min(limit-len(out), eventPage)
		page, err := c.eventPage(ctx, with(q, "limit", strconv.Itoa(n)))
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if len(page) < n || len(out) == limit {
			break
		}
		last := page[len(page)-1]
		if last.Log != out[0].Log {
			fmt.Fprintf(c.err, "Older entries are in the log of an earlier epoch; --until %s shows them.\n", last.TS)
			break
		}
		q = with(q, "before", strconv.FormatInt(last.Seq, 10))
	}
	slices.Reverse(out)
	return out, nil
}

// everyEvent calls each with every entry of the newest log that matches, the
// oldest first.
func (c *cli) everyEvent(ctx context.Context, q url.Values, each func(guardbook.Entry) error) error {
	q = with(with(q, "order", "asc"), "limit", strconv.Itoa(eventPage))
	for after := int64(-1); ; {
		page, err := c.eventPage(ctx, with(q, "after", strconv.FormatInt(after, 10)))
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := each(e); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(page) < eventPage {
			return nil
		}
	}
}

// with is a copy of parameters with one set.
func with(q url.Values, name, value string) url.Values {
	out := url.Values{}
	for k, v := range q {
		out[k] = v
	}
	out.Set(name, value)
	return out
}

// eventPage asks for one page; the entries keep their bytes.
func (c *cli) eventPage(ctx context.Context, q url.Values) ([]guardbook.Entry, error) {
	var got struct {
		Events []jsontext.Value `json:"events"`
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/events?"+q.Encode(), nil, &got); err != nil {
		return nil, err
	}
	out := make([]guardbook.Entry, len(got.Events))
	for i, raw := range got.Events {
		e, err := guardbook.ParseEntry(bytes.Clone(raw))
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}
