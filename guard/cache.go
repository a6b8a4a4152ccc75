package guard

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/guardbook/guardbook"
)

// cache keeps what the detectors found in a content, by content, channel and the
// detectors' versions. It holds findings, not decisions: policy is applied afresh
// each time, so a change of policy needs no invalidation.
type cache struct {
	shards [16]*lru.Cache[cacheKey, cached]
	seed   [sha256.Size]byte // hash of the detectors' versions
}

type cacheKey [sha256.Size]byte

type cached struct {
	findings []guardbook.Finding
	layers   []guardbook.LayerRun
}

func newCache(entries int, detectors []guardbook.Detector) *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i], _ = lru.New[cacheKey, cached](max(1, entries/len(c.shards))) // fails only for sizes below 1
	}
	h := sha256.New()
	for _, d := range detectors {
		writeString(h, d.Layer())
		writeString(h, d.Version())
	}
	h.Sum(c.seed[:0])
	return c
}

// key names a content on its channel. The same bytes as user input and as a tool's
// result are two contents: detectors judge by channel.
func (c *cache) key(in *guardbook.Interaction) cacheKey {
	h := sha256.New()
	h.Write(c.seed[:])
	writeString(h, string(in.Kind))
	writeString(h, in.Role)
	if in.Tool != nil {
		writeString(h, in.Tool.Name)
	}
	writeContent(h, in)
	var k cacheKey
	h.Sum(k[:0])
	return k
}

func (c *cache) get(k cacheKey) (cached, bool) { return c.shards[k[0]&15].Get(k) }

func (c *cache) put(k cacheKey, v cached) { c.shards[k[0]&15].Add(k, v) }

// writeContent writes what an interaction carries, unambiguously: each part's type
// and text and the arguments' bytes, each after its length (64 bits, big endian).
func writeContent(h hash.Hash, in *guardbook.Interaction) {
	for _, p := range in.Content {
		writeString(h, p.Type)
		writeString(h, p.Text)
	}
	if in.Tool != nil && in.Kind == guardbook.KindToolCall {
		writeString(h, "arguments")
		writeString(h, string(in.Tool.Arguments))
	}
}

func writeString(h hash.Hash, s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	h.Write(n[:])
	h.Write([]byte(s))
}
