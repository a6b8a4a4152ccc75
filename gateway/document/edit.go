package document

import (
	"cmp"
	"encoding/json/jsontext"
	"slices"
	"strings"
)

// edit replaces the bytes [start, end) of the source.
type edit struct {
	start, end int32
	with       string
	order      int32 // among edits at the same place, the order of asking
}

type nesting struct {
	at  Place
	doc *Document
}

// Place is where a JSON string stands in a document: a value or a member's name.
type Place struct {
	d          *Document
	start, end int32
}

// SetText replaces the string at the place.
func (p Place) SetText(text string) {
	if p.d != nil {
		p.d.replace(p.start, p.end, quote(text))
	}
}

// Place returns where a string value stands.
func (v Value) Place() Place {
	if v.d == nil {
		return Place{}
	}
	n := &v.d.nodes[v.i]
	return Place{v.d, n.start, n.end}
}

// NamePlace returns where the name of an object's member stands.
func (v Value) NamePlace() Place {
	n := &v.d.nodes[v.i]
	return Place{v.d, n.nameStart, n.nameEnd}
}

// SetText replaces a value by a string.
func (v Value) SetText(text string) { v.SetRaw(quote(text)) }

// SetRaw replaces a value by another JSON value. Edits within the old value are
// lost with it.
func (v Value) SetRaw(raw string) {
	if v.d != nil {
		n := &v.d.nodes[v.i]
		v.d.replace(n.start, n.end, raw)
	}
}

// Remove takes an element out of its array, or a member out of its object.
// The root cannot be removed.
func (v Value) Remove() {
	if v.d != nil && v.i != 0 {
		v.d.nodes[v.i].removed = true
	}
}

// Removed reports whether v was removed.
func (v Value) Removed() bool { return v.d != nil && v.d.nodes[v.i].removed }

// Left reports how many elements or members of v have not been removed.
func (v Value) Left() int {
	n := 0
	for c := v.First(); c.Exists(); c = c.Next() {
		if !c.Removed() {
			n++
		}
	}
	return n
}

// Add puts a member at the end of an object that has no member of that name.
func (v Value) Add(name, raw string) {
	if v.Kind() != '{' {
		return
	}
	member := quote(name) + ":" + raw
	if v.Left() > 0 || v.d.added(v) {
		member = "," + member
	}
	end := v.d.nodes[v.i].end - 1
	v.d.replace(end, end, member)
}

// added reports whether something was added at the end of v before.
func (d *Document) added(v Value) bool {
	end := d.nodes[v.i].end - 1
	return slices.ContainsFunc(d.edits, func(e edit) bool { return e.start == end && e.end == end })
}

// Nested reads a string value that holds JSON text of its own (the arguments of a
// call, in Chat Completions). Edits of the nested document become edits of v.
func (v Value) Nested() (*Document, error) {
	inner, err := Parse([]byte(v.Text()))
	if err != nil {
		return nil, err
	}
	v.d.nested = append(v.d.nested, nesting{v.Place(), inner})
	return inner, nil
}

func (d *Document) replace(start, end int32, with string) {
	d.edits = append(d.edits, edit{start, end, with, int32(len(d.edits))})
}

// Changed reports whether any edit was asked for.
func (d *Document) Changed() bool {
	if len(d.edits) > 0 {
		return true
	}
	for _, n := range d.nested {
		if n.doc.Changed() {
			return true
		}
	}
	return slices.ContainsFunc(d.nodes, func(n node) bool { return n.removed })
}

// String returns the text with every edit done. Without an edit it is the source.
func (d *Document) String() string { return d.render(0, int32(len(d.src))) }

// Edited returns the value with every edit done that is of it or within it.
func (v Value) Edited() string {
	if v.d == nil {
		return ""
	}
	n := &v.d.nodes[v.i]
	return v.d.render(n.start, n.end)
}

// render is the text from start to end with every edit done that lies within.
func (d *Document) render(start, end int32) string {
	edits := slices.Clone(d.edits)
	for _, n := range d.nested {
		if n.doc.Changed() {
			edits = append(edits, edit{n.at.start, n.at.end, quote(n.doc.String()), int32(len(edits))})
		}
	}
	edits = d.removals(edits)
	if len(edits) == 0 {
		return d.src[start:end]
	}
	// Of two edits where one lies within the other, the outer one wins; of two at
	// the same place, the later one. Insertions at one place all stay.
	slices.SortFunc(edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end), cmp.Compare(a.order, b.order))
	})
	var b strings.Builder
	b.Grow(int(end - start))
	at := start
	for i, e := range edits {
		if e.start < at || e.end < at || e.end > end {
			continue // within an edit already done, or beside what is asked for
		}
		if i+1 < len(edits) && edits[i+1].start == e.start && edits[i+1].end == e.end && e.start != e.end {
			continue
		}
		b.WriteString(d.src[at:e.start])
		b.WriteString(e.with)
		at = e.end
	}
	b.WriteString(d.src[at:end])
	return b.String()
}

// removals adds the edits that take removed elements out, each with one comma.
func (d *Document) removals(edits []edit) []edit {
	for i := range d.nodes {
		if k := d.nodes[i].kind; k != '{' && k != '[' {
			continue
		}
		kept, before := false, int32(0)
		for c := d.nodes[i].first; c != 0; c = d.nodes[c].next {
			n := &d.nodes[c]
			switch start := n.begin(); {
			case !n.removed:
				kept = true
			case kept:
				edits = append(edits, edit{before, n.end, "", -1})
			case n.next != 0:
				edits = append(edits, edit{start, d.nodes[n.next].begin(), "", -1})
			default:
				edits = append(edits, edit{start, n.end, "", -1})
			}
			before = n.end
		}
	}
	return edits
}

// begin is where the value begins, with its name if it has one.
func (n *node) begin() int32 {
	if n.nameEnd != 0 {
		return n.nameStart
	}
	return n.start
}

func quote(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil { // invalid UTF-8: the replacement character stands for it
		b, _ = jsontext.AppendQuote(nil, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return string(b)
}

// Quote returns s as a JSON string.
func Quote(s string) string { return quote(s) }

// Strings calls fn for every non-empty string below and including v, and for every
// member's name that is more than a plain identifier (a name is text that a model
// reads, too).
func (v Value) Strings(fn func(at Place, text string)) {
	if v.d == nil {
		return
	}
	if n := &v.d.nodes[v.i]; n.nameEnd != 0 {
		if name := v.Name(); !Plain(name) {
			fn(v.NamePlace(), name)
		}
	}
	v.values(fn)
}

// values is Strings without the name of v itself.
func (v Value) values(fn func(at Place, text string)) {
	if v.IsString() {
		if s := v.Text(); s != "" {
			fn(v.Place(), s)
		}
		return
	}
	for c := v.First(); c.Exists(); c = c.Next() {
		c.Strings(fn)
	}
}

// Plain reports whether s is empty or a plain identifier of at most 64 bytes: too
// short and too plain to carry an instruction.
func Plain(s string) bool {
	if len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '-' && c != '.' && c != ':' && c != '/' && c != '$' &&
			(c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
