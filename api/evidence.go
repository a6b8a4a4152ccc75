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
var evidenceOps = []string{"evidence_built", "evidence_sampled", "book_exported"}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// recordEvidence writes down what the command line did with evidence on this
// machine's files.
func (a *api) recordEvidence(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Op     string `json:"op"`
		From   string `json:"from"`
		To     string `json:"to"`
		SHA256 string `json:"sha256"`
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
