package clients

import "slices"

// span is a run of numbers, both ends in it.
type span struct{ first, last int64 }

// Numbers is a set of numbers from 1 on, as runs in ascending order that do not touch.
// The zero value is empty.
type Numbers struct{ list []span }

// Add puts one number in.
func (r *Numbers) Add(n int64) { r.add(span{n, n}) }

// Count is how many numbers there are.
func (r *Numbers) Count() int64 { return r.count() }

// First and Last are the lowest and the highest number; 0 when there is none.
func (r *Numbers) First() int64 {
	if len(r.list) == 0 {
		return 0
	}
	return r.list[0].first
}

// Last is the highest number; 0 when there is none.
func (r *Numbers) Last() int64 { return r.highest() }

// add puts a run in.
func (r *Numbers) add(s span) {
	i, _ := slices.BinarySearchFunc(r.list, s.first, func(x span, first int64) int {
		switch {
		case x.last+1 < first:
			return -1
		case x.last+1 > first:
			return 1
		}
		return 0
	})
	j := i
	for j < len(r.list) && r.list[j].first <= s.last+1 {
		s.first, s.last = min(s.first, r.list[j].first), max(s.last, r.list[j].last)
		j++
	}
	r.list = slices.Replace(r.list, i, j, s)
	if len(r.list) > maxRanges { // beyond it the oldest holes are forgotten, not the numbers
		r.list[1].first = r.list[0].first
		r.list = slices.Delete(r.list, 0, 1)
	}
}

// gaps lists the runs below the highest number that are not in the set.
func (r *Numbers) gaps() []span {
	var out []span
	next := int64(1)
	for _, s := range r.list {
		if s.first > next {
			out = append(out, span{next, s.first - 1})
		}
		next = s.last + 1
	}
	return out
}

// covers reports whether every number of a run is in the set.
func (r *Numbers) covers(s span) bool {
	for _, x := range r.list {
		if x.first <= s.first && s.last <= x.last {
			return true
		}
	}
	return false
}

func (r *Numbers) highest() int64 {
	if len(r.list) == 0 {
		return 0
	}
	return r.list[len(r.list)-1].last
}

func (r *Numbers) count() (n int64) {
	for _, s := range r.list {
		n += s.last - s.first + 1
	}
	return n
}
