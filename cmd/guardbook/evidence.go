package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guardbook/guardbook/book"
	"github.com/guardbook/guardbook/evidence"
	"github.com/guardbook/guardbook/evidence/derive"
	"github.com/guardbook/guardbook/evidence/layout"
	"github.com/guardbook/guardbook/evidence/verify"
)

func newEvidence(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Build evidence packages for an audit, verify them offline, draw samples",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEvidenceBuild(c), newEvidenceVerify(c), newEvidenceSample(c), newEvidenceExceptions(c))
	return cmd
}

// window is a window of time as flags give it.
type window struct{ from, to string }

func (w *window) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.from, "from", "", "beginning of the window: RFC 3339, a date (midnight UTC), or a duration before now")
	cmd.Flags().StringVar(&w.to, "to", "", "its end, which is not part of it (default now)")
}

func (w *window) parse(now time.Time) (from, to time.Time, err error) {
	if w.from == "" {
		return from, to, usageError("--from is missing: where does the window begin?")
	}
	if from, err = parseTime(w.from, now); err != nil {
		return from, to, err
	}
	to = now.UTC()
	if w.to != "" {
		to, err = parseTime(w.to, now)
	}
	return from, to, err
}

func newEvidenceBuild(c *cli) *cobra.Command {
	var w window
	var out, org, env, narratives string
	var asZip bool
	var size int64
	cmd := &cobra.Command{
		Use:   "build --from T --to T --out DIR",
		Short: "Write an evidence package for a window of time",
		Long: `Write an evidence package for a window of time, from the data directory itself.

The server may run beside it; the package then ends with the last signed checkpoint, and
the build is told to the server, which records it. The same book, window and program give
the same listings, byte for byte.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, to, err := w.parse(time.Now())
			if err != nil {
				return err
			}
			if out == "" {
				return usageError("--out is missing: where to write the package?")
			}
			o := evidence.Options{Organisation: org, Environment: env, From: from, To: to, Size: size, Tool: tool(), CommandLine: "guardbook " + strings.Join(os.Args[1:], " ")}
			if o.Narratives, err = readNarratives(narratives); err != nil {
				return err
			}
			return c.buildEvidence(cmd.Context(), o, out, asZip)
		},
	}
	w.flags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "directory to write; it must not exist or be empty")
	cmd.Flags().BoolVar(&asZip, "zip", false, "write DIR.zip beside it, too")
	cmd.Flags().StringVar(&org, "org", "", "name of the organisation, for the package")
	cmd.Flags().StringVar(&env, "env", "", "name of the environment, for the package (default production)")
	cmd.Flags().StringVar(&narratives, "narratives", "", "directory with management's texts: CC6.1.md, CC7.2.md, ...")
	cmd.Flags().Int64Var(&size, "size", 0, "build as of an earlier checkpoint of this size, to make a package once more")
	return cmd
}

func (c *cli) buildEvidence(ctx context.Context, o evidence.Options, out string, asZip bool) error {
	key := filepath.Join(c.dataDir(), "signing-key")
	if _, err := os.Stat(key); err != nil {
		return fmt.Errorf("read the signing key (is --data right?): %w", err)
	}
	k, _, err := book.LoadKey(key)
	if err != nil {
		return err
	}
	r, err := book.OpenReader(c.bookDir())
	if err != nil {
		return err
	}
	defer r.Close()
	o.Key, o.Role, o.AuthMethod = k, "operator of the server's machine", "access to the data directory"
	o.By, o.Host = localUser(), hostName()
	serving := c.serverKnowsUs(ctx)
	o.Recorded = "no: no server was running, and only a running server appends entries"
	if serving {
		o.Recorded = "yes: told to the running server when it was complete; an operator entry evidence_built holds the hash of manifest.json"
		if o.Size == 0 {
			waitSealed(ctx, r)
		}
	} else {
		fmt.Fprintln(c.err, "guardbook: no server answers: this build is not recorded in the book, and the package says so")
	}
	p, err := evidence.Build(ctx, evidence.FromBook(r, filepath.Join(c.dataDir(), "bundles", "blobs")), o, out)
	if err != nil {
		return err
	}
	if asZip {
		if err := writeZip(ctx, out, p.Name); err != nil {
			return err
		}
	}
	if serving {
		told := struct {
			Op     string `json:"op"`
			From   string `json:"from"`
			To     string `json:"to"`
			SHA256 string `json:"sha256"`
		}{"evidence_built", o.From.UTC().Format(time.RFC3339Nano), o.To.UTC().Format(time.RFC3339Nano), p.ManifestSHA256}
		if err := c.call(ctx, "POST", "/api/v1/evidence/record", told, nil); err != nil {
			return fmt.Errorf("the package is complete in %s, and could not be recorded in the book, though it says so: build it again: %w", out, err)
		}
	}
	if c.json {
		return c.printJSON(p)
	}
	fmt.Fprintf(c.out, "Package %s in %s\n", p.ID, out)
	fmt.Fprintf(c.out, "%d files, %d entries of the book, %d exceptions, %d checks that could not be made\n", p.Files, p.Entries, p.Exceptions, p.NotEvaluated)
	rows := [][]string{}
	for _, id := range layout.Narratives {
		rows = append(rows, []string{id, strconv.FormatInt(p.Rows[id], 10)})
	}
	if err := c.table([]string{"POPULATION", "ROWS"}, rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "Verify: guardbook evidence verify %s --trust %s\n", out, key+".pub")
	return err
}

// serverKnowsUs reports whether a server answers and takes this data directory's token.
func (c *cli) serverKnowsUs(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return c.call(ctx, "GET", "/api/v1/session", nil, nil) == nil
}

// waitSealed waits until a checkpoint covers what is in the book now: a running
// server seals every few seconds.
func waitSealed(ctx context.Context, r *book.Reader) {
	epochs := r.Epochs()
	last := epochs[len(epochs)-1].Number
	size, err := r.Size(ctx, last)
	for range 60 {
		if err != nil {
			return // building will say what is wrong
		}
		cp, cerr := r.Checkpoint(last)
		if err = cerr; err == nil && cp.Size >= size {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func writeZip(ctx context.Context, dir, name string) error {
	path := strings.TrimRight(dir, string(filepath.Separator)) + ".zip"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write zip: %w", err)
	}
	err = evidence.WriteZip(ctx, dir, name, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// readNarratives reads management's texts: a file for each criterion, as far as
// there is one.
func readNarratives(dir string) (map[string]string, error) {
	if dir == "" {
		return nil, nil
	}
	texts := map[string]string{}
	for _, id := range layout.Narratives {
		b, err := os.ReadFile(filepath.Join(dir, id+".md"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read narrative: %w", err)
		}
		texts[id] = string(b)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("read narratives: %s has none of CC6.1.md, CC7.2.md, CC7.3.md, CC7.4.md, CC8.1.md", dir)
	}
	return texts, nil
}

func localUser() string {
	if u, err := user.Current(); err == nil {
		return "system user " + u.Username
	}
	return "system user " + strconv.Itoa(os.Getuid())
}

func hostName() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}

func newEvidenceVerify(c *cli) *cobra.Command {
	var trust string
	var anchors []string
	cmd := &cobra.Command{
		Use:   "verify DIR|ZIP --trust KEY",
		Short: "Check a package offline: hashes, signature, the log, every listing",
		Long: `Check a package offline: hashes, signature, the log, every listing.

Exit codes: 0 intact, complete, signed by the trusted key and anchored; 1 something was
altered, is missing or does not fit; 2 could not run; 3 intact, but with gaps, or not
anchored, or signed by a key that nobody vouched for (no --trust).`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := verify.Options{}
			var err error
			if o.Trust, err = readTrust(trust); err != nil {
				return err
			}
			for _, name := range anchors {
				b, err := os.ReadFile(name)
				if err != nil {
					return fmt.Errorf("read anchor: %w", err)
				}
				o.Anchors = append(o.Anchors, b)
			}
			files, err := verify.OpenFiles(args[0])
			if err != nil {
				return err
			}
			defer files.Close()
			report, err := verify.Verify(cmd.Context(), files, o)
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(report)
			} else {
				err = report.Text(c.out)
			}
			if err == nil && report.ExitCode != verify.ExitIntact {
				err = exit(report.ExitCode)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "the key that must have signed the package: a verifier key, its fingerprint, or a file that holds one of them")
	cmd.Flags().StringArrayVar(&anchors, "anchor", nil, "a file with a signed checkpoint that was kept out of the operator's reach; can be given more than once")
	return cmd
}

// readTrust is the key itself, or what stands in the file of that name.
func readTrust(trust string) (string, error) {
	b, err := os.ReadFile(trust)
	switch {
	case err == nil:
		return strings.TrimSpace(string(b)), nil
	case trust == "" || strings.Contains(trust, "+") || strings.HasPrefix(trust, "sha256:"):
		return trust, nil
	}
	return "", fmt.Errorf("--trust is neither a verifier key, nor a fingerprint (sha256:...), nor a file: %w", err)
}

func newEvidenceSample(c *cli) *cobra.Command {
	var population, seed, out string
	var n int
	cmd := &cobra.Command{
		Use:   "sample DIR|ZIP --population CC7.2 --seed SEED --n N",
		Short: "Draw rows of a population with the auditor's seed, so that anybody can draw them again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := verify.OpenFiles(args[0])
			if err != nil {
				return err
			}
			defer files.Close()
			s, err := verify.Sample(cmd.Context(), files, population, seed, n)
			if err != nil {
				return err
			}
			if out != "" {
				if err := verify.WriteSample(cmd.Context(), files, s, out); err != nil {
					return err
				}
			}
			if c.json {
				return c.printJSON(s)
			}
			rows := make([][]string, len(s.Rows))
			for i, r := range s.Rows {
				rows[i] = []string{strconv.Itoa(i + 1), r.RowID, strconv.FormatInt(r.Seq, 10), r.Log}
			}
			return c.table([]string{"NO", "ROW_ID", "SEQ", "LOG"}, rows)
		},
	}
	cmd.Flags().StringVar(&population, "population", "", "CC6.1, CC7.2, CC7.3, CC7.4 or CC8.1")
	cmd.Flags().StringVar(&seed, "seed", "", "the auditor's seed: rows are taken in the order of SHA-256(seed || row_id)")
	cmd.Flags().IntVar(&n, "n", 25, "how many")
	cmd.Flags().StringVar(&out, "out", "", "directory for the entries, their proofs and a sheet with blank columns; not inside the package")
	return cmd
}

func newEvidenceExceptions(c *cli) *cobra.Command {
	var w window
	var all bool
	cmd := &cobra.Command{
		Use:   "exceptions DIR|ZIP | --from T --to T",
		Short: "List what the checks found, in a package or straight from the book",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := c.exceptions(cmd.Context(), args, &w)
			if err != nil {
				return err
			}
			var cells [][]string
			for _, r := range rows {
				if r.Record == "check" && !all && !c.json {
					continue
				}
				if c.json {
					if err := c.printJSON(r); err != nil {
						return err
					}
					continue
				}
				when := r.Start
				if r.Record == "check" {
					when = r.Outcome
				}
				cells = append(cells, []string{r.ID, r.Check, r.Severity, when, strconv.FormatInt(r.Count, 10), r.Object, r.Detail})
			}
			if c.json {
				return nil
			}
			if err := c.table([]string{"ID", "CHECK", "SEVERITY", "START", "COUNT", "OBJECT", "DETAIL"}, cells); err != nil {
				return err
			}
			return c.sumUp(rows)
		},
	}
	w.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "list every check, too, with what it came to")
	return cmd
}

// sumUp says how many checks there were, so that none goes unmentioned.
func (c *cli) sumUp(rows []derive.ExceptionRow) error {
	var checks, open, found int
	for _, r := range rows {
		switch {
		case r.Record == "exception":
			found++
		case r.Outcome == derive.OutcomeNotEvaluated:
			open++
			checks++
		default:
			checks++
		}
	}
	_, err := fmt.Fprintf(c.out, "%d exceptions of %d checks; %d checks could not be made (--all says why)\n", found, checks, open)
	return err
}

// exceptions reads the list of a package, or makes it for a window of the book.
func (c *cli) exceptions(ctx context.Context, args []string, w *window) ([]derive.ExceptionRow, error) {
	if len(args) == 1 {
		files, err := verify.OpenFiles(args[0])
		if err != nil {
			return nil, err
		}
		defer files.Close()
		return verify.Exceptions(files)
	}
	from, to, err := w.parse(time.Now())
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(c.dataDir(), "signing-key.pub"))
	if err != nil {
		return nil, fmt.Errorf("read the verifier key (is --data right?): %w", err)
	}
	r, err := book.OpenReader(c.bookDir())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return evidence.Exceptions(ctx, evidence.FromBook(r, filepath.Join(c.dataDir(), "bundles", "blobs")), strings.TrimSpace(string(key)), from, to, tool())
}
