package c2sp

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Edge is the right edge of a tree: the roots of the complete subtrees that its
// size is made of. It is all that an append needs to know, and it gives the root
// of the tree at any moment. The zero value is the empty tree.
type Edge struct {
	size  int64
	nodes [63]tlog.Hash // nodes[l] is in use when bit l of size is set
}

// LoadEdge reads the right edge of a tree of the given size from its stored hashes.
func LoadEdge(size int64, r tlog.HashReader) (Edge, error) {
	e := Edge{size: size}
	var levels []int
	var want []int64
	for l := range 63 {
		if size>>l&1 == 1 {
			levels = append(levels, l)
			want = append(want, tlog.StoredHashIndex(l, size>>l-1))
		}
	}
	if len(want) == 0 {
		return e, nil
	}
	got, err := r.ReadHashes(want)
	if err != nil {
		return Edge{}, err
	}
	if len(got) != len(want) {
		return Edge{}, fmt.Errorf("read %d hashes of the tree's edge, got %d", len(want), len(got))
	}
	for i, l := range levels {
		e.nodes[l] = got[i]
	}
	return e, nil
}

// Size is the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Append adds a leaf and appends to dst the hashes that it completes: the leaf's
// own, then that of each subtree which ends with it, from the lowest level up.
func (e *Edge) Append(dst []tlog.Hash, leaf tlog.Hash) []tlog.Hash {
	h, l := leaf, 0
	dst = append(dst, h)
	for ; e.size>>l&1 == 1; l++ {
		h = tlog.NodeHash(e.nodes[l], h)
		dst = append(dst, h)
	}
	e.nodes[l] = h
	e.size++
	return dst
}

// Root is the root hash of the tree; of the empty tree, the hash of nothing.
func (e *Edge) Root() tlog.Hash {
	if e.size == 0 {
		return sha256.Sum256(nil)
	}
	l := bits.TrailingZeros64(uint64(e.size))
	h := e.nodes[l]
	for l++; l < 63; l++ {
		if e.size>>l&1 == 1 {
			h = tlog.NodeHash(e.nodes[l], h)
		}
	}
	return h
}

// Completes is how many hashes the leaf with number n completes: one, and one
// more for each subtree that ends with it.
func Completes(n int64) int { return 1 + bits.TrailingZeros64(uint64(n+1)) }
