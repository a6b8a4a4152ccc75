package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
)

func readPeriod(from, to string) (time.Time, time.Time, error) {
	f, err := readTime("from", from)
	if err != nil {
		return f, f, err
	}
	t, err := readTime("to", to)
	if err != nil {
		return f, t, err
	}
	if !f.Before(t) {
		return f, t, invalid("to: it must be later than from")
	}
	return f, t, nil
}

// buildEvidence answers with an evidence package. It is built whole before its
// first byte is sent, so that the entry that tells of it holds its hash and no
// part of it leaves without that entry.
func (a *api) buildEvidence(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	from, to, err := readPeriod(in.From, in.To)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("", "guardbook-evidence-*.zip")
	if err != nil {
		return fmt.Errorf("build evidence: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	hash := sha256.New()
	if err := a.o.Evidence.Build(r.Context(), from, to, by, io.MultiWriter(f, hash)); err != nil {
		return fmt.Errorf("build evidence: %w", err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("build evidence: %w", err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if err := a.record(r.Context(), "evidence_built", by, map[string]string{
		"from": stamp(from), "to": stamp(to), "sha256": sum, "bytes": strconv.FormatInt(size, 10), "via": "api",
	}); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="guardbook-evidence-%s-%s.zip"`, from.Format("20060102"), to.Format("20060102")))
	h.Set("X-Guardbook-SHA256", sum)
	_, _ = io.Copy(w, f) // the caller went away: nobody to tell
	return nil
}

// evidenceOps are what a program beside the server does with evidence and tells
// of here, since it cannot write into the book itself.
var evidenceOps = []string{"evidence_built", "evidence_sampled", "book_exported", opReconciled}

// opReconciled is a comparison of the book with a provider's own count.
const opReconciled = "reconciled"

// comparison is what a reconciliation came to.
type comparison struct {
	Provider    string `json:"provider"` // openai | anthropic
	Measure     string `json:"measure"`  // calls | output_tokens
	Book        int64  `json:"book"`
	Counted     int64  `json:"counted"` // by the provider
	Lines       int64  `json:"lines"`
	Unexplained int64  `json:"unexplained"` // lines
	Tolerance   string `json:"tolerance"`
}

func (c *comparison) check() error {
	if c.Provider != "openai" && c.Provider != "anthropic" {
		return invalid("comparison.provider: %.80q is not known: use openai or anthropic", c.Provider)
	}
	if c.Measure != "calls" && c.Measure != "output_tokens" {
		return invalid("comparison.measure: %.80q is not known: use calls or output_tokens", c.Measure)
	}
	if !toleranceText.MatchString(c.Tolerance) {
		return invalid("comparison.tolerance: it must be a number or a percentage")
	}
	return nil
}

var toleranceText = regexp.MustCompile(`^[0-9.]{1,20}%?$`)

func (c *comparison) detail(into map[string]string) {
	into["provider"], into["measure"], into["tolerance"] = c.Provider, c.Measure, c.Tolerance
	for name, n := range map[string]int64{"book": c.Book, "counted": c.Counted, "lines": c.Lines, "unexplained": c.Unexplained} {
		into[name] = strconv.FormatInt(n, 10)
	}
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// recordEvidence writes down what the command line did with evidence on this
// machine's files.
func (a *api) recordEvidence(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Op     string `json:"op"`
		From   string `json:"from"`
		To     string `json:"to"`
		SHA256 string `json:"sha256"`
		// Comparison is what a reconciliation came to; with op reconciled only.
		Comparison *comparison `json:"comparison"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if in.Op == "" {
		in.Op = "evidence_built"
	}
	if !slices.Contains(evidenceOps, in.Op) {
		return invalid("op: %.80q is not known: use one of %s", in.Op, strings.Join(evidenceOps, ", "))
	}
	from, to, err := readPeriod(in.From, in.To)
	if err != nil {
		return err
	}
	if in.SHA256 != "" && !sha256Hex.MatchString(in.SHA256) {
		return invalid("sha256: it must be 64 hexadecimal digits in lower case")
	}
	detail := map[string]string{"from": stamp(from), "to": stamp(to), "via": "command line"}
	if (in.Op == opReconciled) != (in.Comparison != nil) {
		return invalid("comparison: it belongs to op reconciled, and to no other")
	}
	if in.Comparison != nil {
		if err := in.Comparison.check(); err != nil {
			return err
		}
		in.Comparison.detail(detail)
	}
	if in.SHA256 != "" {
		detail["sha256"] = in.SHA256
	}
	id := uuid.Must(uuid.NewV7()).String()
	err = a.o.Recorder.Append(r.Context(), guardbook.Draft{ID: id, Type: guardbook.TypeOperator, Time: a.now(),
		Body: guardbook.OperatorEntry{Op: in.Op, By: by, Detail: detail}})
	if err != nil {
		return notRecorded{err}
	}
	return writeJSON(w, http.StatusCreated, struct {
		Entry string `json:"entry"`
	}{id})
}
