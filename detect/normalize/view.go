// Package normalize makes the views of a text that detectors read: what a model
// would understand of it once invisible characters, look-alike letters,
// typography and encodings are out of the way. Every view knows, byte for byte,
// where in the original text each part of it came from.
package normalize

import "sort"

// View is one reading of a text.
type View struct {
	Name string // "raw", "clean", "folded", "loose", or how it was decoded: "base64", "hex", ...
	Text string

	runs   []run // where Text came from in parent; nil: byte for byte the same
	parent *View
}

// run maps a stretch of a view, from out up to the next run, onto its parent:
// each outN bytes stem from inN bytes. Within 1:1 runs positions are exact; in
// others they widen to whole units.
type run struct {
	out, in   int
	outN, inN int
}

// Raw is the view of a text as it is.
func Raw(text string) *View { return &View{Name: "raw", Text: text} }

// Origin maps a range of the view to the range of the original text that it was
// made from. The answer never lies outside the original, and grows with its
// arguments. Ranges outside the view are cut to it.
func (v *View) Origin(start, end int) (int, int) {
	start = min(max(start, 0), len(v.Text))
	end = min(max(end, start), len(v.Text))
	if v.parent == nil {
		return start, end
	}
	if v.runs != nil {
		start, end = v.floor(start), v.ceil(end)
		end = max(start, end)
	}
	return v.parent.Origin(start, end)
}

// at finds the run that holds position pos.
func (v *View) at(pos int) run {
	i := sort.Search(len(v.runs), func(i int) bool { return v.runs[i].out > pos })
	return v.runs[max(i-1, 0)]
}

func (v *View) floor(pos int) int {
	r := v.at(pos)
	return r.in + (pos-r.out)/r.outN*r.inN
}

func (v *View) ceil(pos int) int {
	if pos == 0 {
		return v.runs[0].in
	}
	// The end of a range belongs to the run of its last byte.
	r := v.at(pos - 1)
	return r.in + (pos-r.out+r.outN-1)/r.outN*r.inN
}

// builder writes a view and its map together.
type builder struct {
	src  *View
	out  []byte
	runs []run
}

func newBuilder(src *View) *builder {
	return &builder{src: src, out: make([]byte, 0, len(src.Text)+16)}
}

// copy appends src.Text[from:to] as it is.
func (b *builder) copy(from, to int) {
	if to > from {
		b.mark(from, 1, 1)
		b.out = append(b.out, b.src.Text[from:to]...)
	}
}

// mark says that what is appended next stems from position in, inN bytes for
// each outN bytes.
func (b *builder) mark(in, outN, inN int) {
	if n := len(b.runs); n > 0 {
		last := b.runs[n-1]
		if outN == 1 && inN == 1 && last.outN == 1 && last.inN == 1 && in-last.in == len(b.out)-last.out {
			return // goes on where the last run stands
		}
		if last.out == len(b.out) {
			b.runs = b.runs[:n-1] // it was empty
		}
	}
	b.runs = append(b.runs, run{len(b.out), in, outN, inN})
}

// replace appends text in place of src.Text[from:to].
func (b *builder) replace(from, to int, text string) {
	if text == "" {
		return
	}
	if len(text) == to-from && to-from == 1 {
		b.mark(from, 1, 1)
	} else {
		b.mark(from, len(text), to-from)
	}
	b.out = append(b.out, text...)
}

// view ends the building.
func (b *builder) view(name string) *View {
	if len(b.runs) == 0 {
		b.runs = []run{{0, 0, 1, 1}}
	}
	return &View{Name: name, Text: string(b.out), runs: b.runs, parent: b.src}
}
