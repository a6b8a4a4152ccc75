package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/guardbook/guardbook/book/c2sp"
)

// Options say what a book is verified against.
type Options struct {
	Book    string    // what the report calls the book, such as its directory
	Trust   Trust     // the key that must have signed it
	Anchors []Anchor  // checkpoints that the book must agree with, read before the book is
	Now     time.Time // zero: time.Now; tells an unsigned tail that is new from one that was left behind
}

// sealGrace is how long records may be without a signature before that counts: a
// running instance signs every few seconds.
const sealGrace = time.Minute

// maxHole is the largest hole that is taken for missing records. A row beyond it
// was put there to keep a verifier busy for ever.
const maxHole = 1 << 28

// Verify recomputes every log of a book. Its error is the context's; everything
// else is in the report. Records and tiles stream through: memory doesn't grow
// with the book.
func Verify(ctx context.Context, logs []Log, o Options) (*Report, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	r := &Report{Book: o.Book, Counts: map[string]int{}, Logs: []*LogReport{}, Problems: []Problem{}, Gaps: []Gap{}, Notices: []string{}}
	if len(logs) == 0 {
		r.problem(Problem{Kind: "empty", Message: "there is no log here: a book without one is not a valid book"})
	}
	r.Pinned = o.Trust.given() && len(logs) > 0
	r.Anchors.Given = len(o.Anchors)
	if len(logs) > 0 && !o.Trust.given() {
		r.gap(Gap{Kind: "unpinned", Message: "the signing key was taken from the book itself: whoever replaced the book could have replaced the key"})
	}
	for i := range logs {
		if want := i + 1; logs[i].Epoch != 0 && logs[i].Epoch != want {
			r.problem(Problem{Kind: "epoch", Message: fmt.Sprintf("the log of epoch %d is missing: the next one found is %d", want, logs[i].Epoch)})
			logs = logs[i:] // go on with those that are there
			break
		}
	}
	for i := range logs {
		v := &verifier{report: r, log: &logs[i], o: o, out: &LogReport{Epoch: logs[i].Epoch}}
		r.Logs = append(r.Logs, v.out)
		v.loadKey()
		o.Anchors = v.takeAnchors(o.Anchors)
		v.verify(ctx)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("verify: %w", context.Cause(ctx))
		}
	}
	for i := 1; i < len(r.Logs); i++ {
		if a, b := r.Logs[i-1], r.Logs[i]; a.Epoch != 0 && b.Epoch != a.Epoch+1 {
			r.problem(Problem{Kind: "epoch", Message: fmt.Sprintf("the log of epoch %d is missing: the next one found is %d", a.Epoch+1, b.Epoch)})
		}
	}
	r.strayAnchors(o.Anchors, o.Trust)
	r.conclude()
	return r, nil
}

// verifier verifies one log.
type verifier struct {
	report *Report
	log    *Log
	o      Options
	out    *LogReport
	key    note.Verifier // nil: checkpoints cannot be checked

	pull    func() (signed, bool) // the history's next checkpoint
	next    signed                // read ahead
	more    bool
	last    signed // of the largest checkpoint whose signature is good
	newest  signed // the published one
	alone   bool   // there is no history beside it
	sizes   int64  // the size that the tiles on the disk are for
	records func(context.Context) iter.Seq2[Record, error]
	anchors []*anchored // smallest first

	want  int64     // the next place in the log
	edge  c2sp.Edge // the tree of the records' hashes
	other *doubt    // a second opinion on the tree since a tile disagreed
	tiles tiles
	chron chronicle

	unsignedSince time.Time // when the first unsigned record was recorded
}

// signed is a checkpoint with the place where it was found.
type signed struct {
	c2sp.Checkpoint
	note   []byte
	file   string
	offset int64
}

// doubt is the tree as it would be if the hash tiles were right and the journal's
// hashes were not. The next checkpoint tells which one was signed.
type doubt struct {
	edge  c2sp.Edge
	since []int64 // records on which they differ; the first ones
	count int64
}

func (v *verifier) file(name string) string { return v.log.Path + name }

func (v *verifier) problem(kind string, seq int64, file string, offset int64, expected, actual any, format string, args ...any) {
	p := Problem{Kind: kind, Log: v.out.Origin, Message: fmt.Sprintf(format, args...)}
	if seq != none {
		p.Seq = &seq
	}
	if file != "" {
		p.File = v.file(file)
	}
	if offset >= 0 {
		p.Offset = &offset
	}
	if expected != nil || actual != nil {
		p.Expected, p.Actual = fmt.Sprint(expected), fmt.Sprint(actual)
	}
	v.report.problem(p)
}

func (v *verifier) verify(ctx context.Context) {
	if v.log.Broken != "" {
		v.problem("file", none, "", -1, nil, nil, "%s", v.log.Broken)
	}
	closeHistory := v.openHistory()
	defer closeHistory()
	if v.records = v.log.Records; v.records == nil {
		size := v.sizes
		v.records = func(context.Context) iter.Seq2[Record, error] { return v.log.bundles(size) }
	}
	v.tiles = tiles{v: v, compare: v.log.Records != nil}
	v.chron = chronicle{v: v}
	v.reached()
	for c := range checkAll(ctx, v.records(ctx)) {
		v.record(c)
	}
	if ctx.Err() != nil {
		return
	}
	v.finish()
}

func (v *verifier) loadKey() {
	key, fp, err := keyOf(v.log, v.o.Trust)
	if err != nil {
		v.problem("key", none, keyFile, -1, nil, nil, "%v", err)
		return
	}
	v.key = key
	v.out.Origin, v.out.Fingerprint = key.Name(), fp
	if public, err := publicKey(v.log.Key); err == nil && fingerprint(public) != fp {
		v.report.Notices = append(v.report.Notices, "the key that lies beside "+v.out.Origin+" is not the trusted one; the trusted one was used")
	}
	if v.o.Trust.public != nil {
		v.out.Key, _ = note.NewEd25519VerifierKey(key.Name(), v.o.Trust.public)
	} else {
		v.out.Key = v.log.Key
	}
}

// openHistory reads the published checkpoint and prepares to read the history
// beside the records.
func (v *verifier) openHistory() (stop func()) {
	b, err := readFile(v.log.Files, checkpointFile, 1<<16)
	if err != nil {
		v.problem("checkpoint", none, checkpointFile, -1, nil, nil, "the published checkpoint cannot be read: %v", pathless(err))
	} else if c, ok := v.open(b, checkpointFile, 0); ok {
		v.newest = c
		v.last, v.sizes = c, c.Size
	}
	f, err := v.log.Files.Open(historyFile)
	if err != nil {
		if v.log.Records == nil && errors.Is(err, fs.ErrNotExist) {
			v.report.Notices = append(v.report.Notices, v.out.Origin+" comes without a history of checkpoints: only the newest was checked")
			v.out.Checkpoints = 1
		} else {
			v.problem("checkpoint", none, historyFile, -1, nil, nil, "the history of checkpoints cannot be read: %v", pathless(err))
		}
		v.alone = true
		v.pull = func() (signed, bool) { return signed{}, false }
		return func() {}
	}
	// Only as far as it is now: the journal is read later and holds all of that.
	size := int64(1 << 62)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	pull, stopPull := iter.Pull2(c2sp.History(io.LimitReader(f, size)))
	var previous signed
	v.pull = func() (signed, bool) {
		for {
			s, err, ok := pull()
			switch {
			case !ok:
				v.compareNewest(previous)
				return signed{}, false
			case errors.Is(err, c2sp.ErrTorn):
				v.report.Notices = append(v.report.Notices, fmt.Sprintf("%s ends inside a checkpoint (offset %d), as it does when an instance is cut off while it signs", v.file(historyFile), s.Offset))
				v.compareNewest(previous)
				return signed{}, false
			case err != nil:
				v.problem("checkpoint", none, historyFile, s.Offset, nil, nil, "%v", err)
				return signed{}, false
			}
			v.out.Checkpoints++
			c, ok := v.open(s.Note, historyFile, s.Offset)
			if !ok {
				continue
			}
			if c.Size < previous.Size {
				v.problem("checkpoint", none, historyFile, s.Offset, fmt.Sprintf("size of at least %d", previous.Size), c.Size, "the log went back: a checkpoint signs fewer records than the one before it")
				continue
			}
			if c.Size > v.last.Size || v.last.note == nil {
				v.last = c
			}
			previous = c
			return c, true
		}
	}
	v.next, v.more = v.pull()
	return func() { stopPull(); f.Close() }
}

// compareNewest checks that the published checkpoint is in the history.
func (v *verifier) compareNewest(last signed) {
	if v.newest.note == nil {
		return
	}
	if v.newest.Size > last.Size || last.note == nil {
		v.problem("checkpoint", none, historyFile, -1, fmt.Sprintf("a checkpoint of size %d", v.newest.Size), fmt.Sprintf("%d", last.Size), "the history ends before the published checkpoint")
	}
}

// open checks a checkpoint's signature and origin.
func (v *verifier) open(b []byte, file string, offset int64) (signed, bool) {
	if v.key == nil {
		return signed{}, false
	}
	c, err := c2sp.Open(b, v.key)
	if err != nil {
		v.problem("checkpoint", none, file, offset, nil, nil, "signature: %v", notSignedBy(err, v.out.Key))
		return signed{}, false
	}
	return signed{Checkpoint: c, note: b, file: file, offset: offset}, true
}

// notSignedBy says of a note that lacks the signature which one that is.
func notSignedBy(err error, key string) error {
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return fmt.Errorf("it is not signed by %s (its origin is %.80q)", key, strings.SplitN(unverified.Note.Text, "\n", 2)[0])
	}
	return err
}

// reached compares the tree with every anchor and checkpoint of its present size.
func (v *verifier) reached() {
	v.meetAnchors()
	size := v.edge.Size()
	if size == v.sizes && v.newest.note != nil {
		v.tiles.end()
		if v.compare(v.newest) && v.alone {
			v.out.CheckpointsGood++
			v.out.Signed = size
		}
	}
	for v.more && v.next.Size <= size {
		if v.compare(v.next) {
			v.out.CheckpointsGood++
			v.out.Signed = max(v.out.Signed, v.next.Size)
		}
		v.next, v.more = v.pull()
	}
}

func (v *verifier) compare(c signed) bool {
	if v.agrees(c.Checkpoint) {
		return true
	}
	v.problem("checkpoint", none, c.file, c.offset, c.Root, v.edge.Root(), "the first %d records are not those that were signed: some record between %d and %d", c.Size, v.out.Signed, c.Size-1)
	return false
}

// agrees reports whether the tree is the one that was signed, and settles what is
// in doubt.
func (v *verifier) agrees(c c2sp.Checkpoint) bool {
	if v.edge.Root() == c.Root {
		v.other = nil
		return true
	}
	if v.other == nil || v.other.edge.Root() != c.Root {
		return false
	}
	// The tiles hold what was signed: the journal's records and their stored hashes
	// were altered together.
	v.out.Altered += v.other.count
	for _, seq := range v.other.since {
		v.problem("altered", seq, "", -1, nil, nil, "the record was altered and its stored hash with it: the checkpoint of size %d signs the hash that is in the tile", c.Size)
	}
	v.edge, v.other = v.other.edge, nil
	return true
}

// record takes the next record into the tree.
func (v *verifier) record(c checked) {
	if c.err != nil {
		v.problem("file", seqOrNone(c.Seq), c.File, c.Offset, nil, nil, "%v", c.err)
		return
	}
	if c.Seq < v.want || c.Seq-v.want > maxHole {
		v.out.Inserted++
		v.problem("inserted", c.Seq, c.File, c.Offset, v.want, c.Seq, "a record stands where none belongs")
		return
	}
	if c.Seq > v.want {
		v.missing(c.Seq, c.File, c.Offset)
	}
	v.out.Records++
	v.inspect(c)

	tile, inTile := v.tiles.leaf(c.Seq)
	leaf := c.leaf
	switch {
	case c.Hashes != nil:
		if len(c.Hashes) != c2sp.Completes(c.Seq)*len(leaf) {
			v.problem("stored_hash", c.Seq, c.File, c.Offset, c2sp.Completes(c.Seq)*len(leaf), len(c.Hashes), "the stored hashes have a wrong length in bytes")
			c.Hashes = nil
			break
		}
		copy(leaf[:], c.Hashes)
		if leaf != c.leaf && inTile && tile == c.leaf {
			v.problem("stored_hash", c.Seq, c.File, c.Offset, c.leaf, leaf, "the stored leaf hash was altered; the record is the one that was published")
			leaf, c.Hashes = c.leaf, nil
		}
	case inTile:
		leaf = tile
	}
	if leaf != c.leaf {
		v.out.Altered++
		v.problem("altered", c.Seq, c.File, c.Offset, leaf, c.leaf, "the record was altered: its bytes have another hash than the one it was written with")
	}
	v.grow(c.Seq, leaf, tile, inTile, c.Hashes, c.File)
	v.tiles.entry(c, leaf)
	if c.Seq == v.last.Size {
		v.unsignedSince = c.rec
	}
	v.reached()
}

// grow adds a leaf to the tree and compares what it completes with the hashes
// stored beside the record (nil: there are none).
func (v *verifier) grow(seq int64, leaf, tile hash, inTile bool, stored []byte, file string) {
	if inTile && tile != leaf {
		if v.other == nil {
			v.other = &doubt{edge: v.edge}
		}
		if v.other.count++; len(v.other.since) < 10 {
			v.other.since = append(v.other.since, seq)
		}
	}
	if v.other != nil {
		h := leaf
		if inTile {
			h = tile
		}
		v.other.edge.Append(nil, h)
	}
	done := v.edge.Append(v.tiles.scratch[:0], leaf)
	v.tiles.scratch = done
	if stored != nil {
		for l := 1; l < len(done); l++ {
			if !bytes.Equal(done[l][:], stored[l*len(leaf):(l+1)*len(leaf)]) {
				v.problem("stored_hash", seq, file, -1, done[l], hash(stored[l*len(leaf):]), "the stored hash of the subtree of level %d that ends here is wrong", l)
				break
			}
		}
	}
	v.tiles.grow(seq, leaf, done)
	v.want = seq + 1
}

// missing notes that records are absent and goes on with the hashes that the
// tiles have of them, so that what follows can still be checked.
func (v *verifier) missing(until int64, file string, offset int64) {
	v.out.Missing += until - v.want
	v.problem("missing", v.want, file, offset, v.want, until, "%s missing", numbers(v.want, until-1))
	for v.want < until {
		tile, ok := v.tiles.leaf(v.want)
		v.grow(v.want, tile, tile, ok, nil, "")
		v.tiles.skip()
		v.reached()
	}
}

// inspect checks what a record says about itself.
func (v *verifier) inspect(c checked) {
	if c.bad != nil {
		v.problem("format", c.Seq, c.File, c.Offset, nil, nil, "%v", c.bad)
		return
	}
	h := c.header
	if h.Seq != c.Seq {
		v.out.Reordered++
		v.problem("reordered", c.Seq, c.File, c.Offset, c.Seq, h.Seq, "the record calls itself by another number")
	}
	if v.out.Origin == "" {
		v.out.Origin = h.Log
	}
	if h.Log != v.out.Origin {
		v.problem("header", c.Seq, c.File, c.Offset, v.out.Origin, fmt.Sprintf("%.100q", h.Log), "the record belongs to another log")
	}
	if v.out.First == "" {
		v.out.First = h.Rec
	}
	v.chron.record(c)
	v.out.Last = h.Rec
}

// finish checks what can only be said at the end of the log.
func (v *verifier) finish() {
	if v.want < v.sizes || v.want < v.last.Size {
		until := max(v.sizes, v.last.Size)
		n := until - v.want
		v.out.Missing += n
		v.problem("missing", v.want, v.last.file, v.last.offset, fmt.Sprintf("size %d", until), fmt.Sprintf("size %d", v.want), "%s missing: they were signed and are not there", numbers(v.want, until-1))
	}
	end := max(v.want, v.sizes, v.last.Size)
	for v.more { // checkpoints beyond the end: their signatures were checked by pull
		v.next, v.more = v.pull()
	}
	if v.want > v.last.Size {
		v.out.Unsigned = v.want - v.last.Size
		if age := v.o.Now.Sub(v.unsignedSince); age > sealGrace {
			v.report.gap(Gap{Kind: "unsigned", Log: v.out.Origin, Message: fmt.Sprintf("%s are not signed, the first for %s", numbers(v.last.Size, v.want-1), age.Round(time.Second))})
		}
	}
	if v.want == 0 && v.last.Size == 0 {
		if v.last.note == nil {
			v.problem("empty", none, "", -1, nil, nil, "the log holds no record and no valid checkpoint: an empty log is not a valid one")
		} else {
			v.report.gap(Gap{Kind: "empty", Log: v.out.Origin, Message: "the log is empty: nothing was recorded"})
		}
	}
	v.judgeAnchors(end)
	v.chron.finish()
}

func numbers(from, to int64) string {
	if from == to {
		return fmt.Sprintf("record %d", from)
	}
	return fmt.Sprintf("records %d to %d", from, to)
}

func seqOrNone(seq int64) int64 {
	if seq < 0 {
		return none
	}
	return seq
}
