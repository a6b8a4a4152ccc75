package verify

import (
	"encoding/binary"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/guardbook/guardbook/book/c2sp"
)

type hash = tlog.Hash

const maxLevels = 8 // of tiles: 256^8 leaves

// tiles compares the tiles and bundles on the disk with the tree as it grows. At
// any time it holds one tile of each level and one bundle.
type tiles struct {
	v       *verifier
	compare bool // the bundles are to be compared; otherwise the records are from them
	scratch []hash

	block   int64  // the block whose level 0 tile is loaded, plus one
	leaves  []byte // that tile
	bundle  []byte // that block's bundle; nil: nothing to compare
	name    string // of the bundle
	at      int    // how far the bundle was compared
	unequal bool   // it was reported

	levels [maxLevels][]byte // the hashes that belong into the current tile of each level
}

// width is how many leaves of a block are in the published tree.
func (t *tiles) width(block int64) int {
	return int(max(0, min(t.v.sizes-block*c2sp.TileWidth, c2sp.TileWidth)))
}

// leaf is the hash that the level 0 tile has for a record.
func (t *tiles) leaf(seq int64) (hash, bool) {
	block := seq / c2sp.TileWidth
	if t.block != block+1 {
		t.load(block)
	}
	i := int(seq % c2sp.TileWidth)
	if i >= t.width(block) || (i+1)*len(hash{}) > len(t.leaves) {
		return hash{}, false
	}
	return hash(t.leaves[i*len(hash{}):]), true
}

func (t *tiles) load(block int64) {
	t.block, t.leaves, t.bundle, t.at, t.unequal = block+1, nil, nil, 0, false
	width := t.width(block)
	if width == 0 {
		return
	}
	t.leaves = t.read(0, block, width, width*len(hash{}))
	if !t.compare {
		return
	}
	data, name, err := t.v.log.readTile(c2sp.Entries, block, width)
	t.v.out.Tiles++
	if err != nil {
		t.v.problem("bundle", block*c2sp.TileWidth, name, -1, nil, nil, "the entry bundle cannot be read: %v", pathless(err))
		return
	}
	t.bundle, t.name = data, name
}

// read reads a hash tile whose content is compared later.
func (t *tiles) read(level int, n int64, width, size int) []byte {
	t.v.out.Tiles++
	data, name, err := t.v.log.readTile(level, n, width)
	first := n * c2sp.TileWidth << (level * c2sp.TileHeight)
	switch {
	case err != nil:
		t.v.problem("tile", first, name, -1, nil, nil, "the hash tile cannot be read: %v", pathless(err))
		return nil
	case len(data) != size:
		t.v.problem("tile", first, name, -1, size, len(data), "the hash tile has a wrong length in bytes")
		return nil
	}
	return data
}

// entry compares a record with its place in the bundle. Where the record was
// altered, the bundle is right if its entry has the hash that is in the tree.
func (t *tiles) entry(c checked, leaf hash) {
	if t.bundle == nil || c.Seq >= t.v.sizes {
		return
	}
	defer t.endBundle(c.Seq)
	if t.unequal {
		return
	}
	rest := t.bundle[t.at:]
	if entry, after, err := c2sp.NextEntry(rest); err == nil && leaf != c.leaf && tlog.RecordHash(entry) == leaf {
		t.at = len(t.bundle) - len(after)
		return
	}
	if len(rest) < 2+len(c.Raw) || int(binary.BigEndian.Uint16(rest)) != len(c.Raw) || string(rest[2:2+len(c.Raw)]) != string(c.Raw) {
		t.unequal = true
		t.v.problem("bundle", c.Seq, t.name, int64(t.at), c.leaf, bundleHash(rest), "the entry bundle has another entry here")
		return
	}
	t.at += 2 + len(c.Raw)
}

func bundleHash(rest []byte) any {
	entry, _, err := c2sp.NextEntry(rest)
	if err != nil {
		return err
	}
	return tlog.RecordHash(entry)
}

// skip steps over the entry of a record that is missing from the journal.
func (t *tiles) skip() {
	if t.bundle == nil || t.unequal {
		return
	}
	if _, rest, err := c2sp.NextEntry(t.bundle[t.at:]); err == nil {
		t.at = len(t.bundle) - len(rest)
	}
	t.endBundle(t.v.want - 1)
}

// endBundle counts a bundle that was compared to its end.
func (t *tiles) endBundle(seq int64) {
	block := seq / c2sp.TileWidth
	width := t.width(block)
	if int(seq%c2sp.TileWidth) != width-1 {
		return
	}
	switch {
	case t.unequal:
	case t.at != len(t.bundle) && isPartial(t.name, width):
		t.v.problem("bundle", seq, t.name, int64(t.at), nil, nil, "%d bytes follow the last entry of the bundle", len(t.bundle)-t.at)
	default:
		t.v.out.TilesGood++
	}
	t.bundle = nil
}

// grow takes a leaf, and what it completes, into the tiles' levels.
func (t *tiles) grow(seq int64, leaf hash, done []hash) {
	if seq >= t.v.sizes {
		return
	}
	t.levels[0] = append(t.levels[0], leaf[:]...)
	if len(t.levels[0]) == maxTile {
		t.same(0, seq/c2sp.TileWidth, t.levels[0], t.leaves)
		t.levels[0] = t.levels[0][:0]
	}
	for l := 1; l < maxLevels && l*c2sp.TileHeight < len(done); l++ {
		h := done[l*c2sp.TileHeight]
		t.levels[l] = append(t.levels[l], h[:]...)
		if len(t.levels[l]) == maxTile {
			n := seq >> ((l + 1) * c2sp.TileHeight)
			t.same(l, n, t.levels[l], t.read(l, n, c2sp.TileWidth, maxTile))
			t.levels[l] = t.levels[l][:0]
		}
	}
}

// end compares the partial tiles of the published tree.
func (t *tiles) end() {
	size := t.v.sizes
	for l := range maxLevels {
		if len(t.levels[l]) == 0 {
			continue
		}
		n := size >> ((l + 1) * c2sp.TileHeight)
		got := t.leaves
		if l > 0 {
			got = t.read(l, n, len(t.levels[l])/len(hash{}), len(t.levels[l]))
		}
		t.same(l, n, t.levels[l], got)
	}
}

// same compares a tile with the hashes that belong into it; nil was reported.
func (t *tiles) same(level int, n int64, want, got []byte) {
	if got == nil {
		return
	}
	const size = len(hash{})
	for i := 0; i < len(want); i += size {
		if string(want[i:i+size]) == string(got[i:i+size]) {
			continue
		}
		first := (n*c2sp.TileWidth + int64(i/size)) << (level * c2sp.TileHeight)
		t.v.problem("tile", first, c2sp.TilePath(level, n, len(want)/size), int64(i), hash(want[i:i+size]), hash(got[i:i+size]), "the hash tile has another hash here")
		return
	}
	t.v.out.TilesGood++
}
