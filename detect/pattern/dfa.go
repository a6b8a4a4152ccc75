package pattern

// automaton finds every occurrence of every keyword in one pass over the bytes:
// an Aho-Corasick automaton with all transitions filled in. Bytes are folded (see
// foldByte) by the class table, so that the search is blind to case and to the
// kind of white space. It is immutable and shared by all goroutines.
type automaton struct {
	class  [256]byte
	stride int        // classes, the width of a row
	next   []uint32   // next[state+class]; states are row offsets
	first  uint32     // states from here on end a keyword; they come last
	out    [][]output // by (state-first)/stride
	depth  []uint16   // bytes of some keyword that a state stands for, by state/stride
}

// output says that a keyword of one branch of a rule ends here.
type output struct {
	branch int32
	length int32
	before int32 // bytes of the window in front of the keyword
	after  int32 // and from its first byte on
	word   bool  // only when the byte before is not of a word
}

type node struct {
	edges map[byte]int
	fail  int
	depth int
	out   []output
}

// newAutomaton builds the automaton of words[i] for the branch with number i.
func newAutomaton(words map[int]need) *automaton {
	a := &automaton{}
	trie := []node{{edges: map[byte]int{}}}
	used := [256]bool{}
	for branch := range maxKey(words) + 1 {
		for _, l := range words[branch] {
			w, at := l.text, 0
			for i := range len(w) {
				used[w[i]] = true
				to, ok := trie[at].edges[w[i]]
				if !ok {
					to = len(trie)
					trie = append(trie, node{edges: map[byte]int{}, depth: i + 1})
					trie[at].edges[w[i]] = to
				}
				at = to
			}
			trie[at].out = append(trie[at].out, output{int32(branch), int32(len(w)), int32(l.before), int32(l.after), l.word})
		}
	}
	var bytes []byte // the byte of each class; class 0 is every other
	byteClass := [256]byte{}
	for c := range 256 {
		if used[c] {
			bytes = append(bytes, byte(c))
			byteClass[c] = byte(len(bytes))
		}
	}
	for c := range 256 {
		a.class[c] = byteClass[foldByte(byte(c))]
	}
	a.stride = len(bytes) + 1

	// Breadth first: a node's failure is shallower, so its row is already whole.
	order := []int{0}
	table := make([]int, len(trie)*a.stride)
	for head := 0; head < len(order); head++ {
		n := order[head]
		row := table[n*a.stride : (n+1)*a.stride]
		if n != 0 {
			copy(row, table[trie[n].fail*a.stride:])
			trie[n].out = append(trie[n].out, trie[trie[n].fail].out...)
		}
		for k, c := range bytes {
			to, ok := trie[n].edges[c]
			if !ok {
				continue
			}
			if n != 0 {
				trie[to].fail = row[k+1]
			}
			row[k+1] = to
			order = append(order, to)
		}
	}
	// Renumber so that ending states come last and one comparison tells them.
	place := make([]uint32, len(trie))
	a.depth = make([]uint16, len(trie))
	at := 0
	for pass := range 2 {
		if pass == 1 {
			a.first = uint32(at * a.stride)
		}
		for _, n := range order {
			if (len(trie[n].out) > 0) == (pass == 1) {
				place[n] = uint32(at * a.stride)
				a.depth[at] = uint16(trie[n].depth)
				if pass == 1 {
					a.out = append(a.out, trie[n].out)
				}
				at++
			}
		}
	}
	a.next = make([]uint32, len(table))
	for n := range trie {
		for k := range a.stride {
			a.next[int(place[n])+k] = place[table[n*a.stride+k]]
		}
	}
	return a
}

func maxKey(m map[int]need) int {
	most := -1
	for k := range m {
		most = max(most, k)
	}
	return most
}

// scan calls hit for every keyword that ends in text, at byte end, until hit
// answers false. It returns the state at the end of text.
func (a *automaton) scan(text string, hit func(end int, outs []output) bool) uint32 {
	state := uint32(0)
	next, class := a.next, &a.class
	for i := range len(text) {
		state = next[state+uint32(class[text[i]])]
		if state >= a.first {
			if !hit(i+1, a.out[int(state-a.first)/a.stride]) {
				break
			}
		}
	}
	return state
}
