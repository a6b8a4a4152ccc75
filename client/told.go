package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"

	"github.com/google/uuid"

	"github.com/guardbook/guardbook"
)

// SpoolOptions say whose events a Spool keeps and how they are sent.
type SpoolOptions struct {
	Dir    string // where it is on disk: the folder "spool" of the data directory
	Client string // the id of this process
	Agent  string // the agent's name, as far as it is known
	// URL and Key are of the server that is told. Without them it is this user's own
	// server, whose address may change: Data is its data directory.
	URL, Key, Data string
	// Post sends a request to the server. An error means that it cannot be reached.
	Post func(ctx context.Context, path string, body []byte) (status int, answer []byte, err error)
	Log  *slog.Logger
}

// Spool keeps on disk what happened without a decision, and tells the server as soon
// as it can be reached; what cannot be told before the process ends, a later process
// of the same agent tells. A Guard has one; a Spool by itself is for programs that ask
// the server in another way, as `guardbook mcp wrap` does.
type Spool struct{ r *recorder }

// Told is what is told: see POST /v1/record.
type Told struct {
	Seq     int64              `json:"seq,omitzero"`
	Event   string             `json:"event"` // unguarded, refused, unanswered, degraded, dropped
	Via     string             `json:"via,omitzero"`
	Kind    guardbook.Kind     `json:"kind,omitzero"`
	Session string             `json:"session,omitzero"`
	Tool    *guardbook.ToolRef `json:"tool,omitzero"`
	Reason  string             `json:"reason,omitzero"`
	From    string             `json:"from,omitzero"` // guardbook.TimeLayout
	To      string             `json:"to,omitzero"`   // guardbook.TimeLayout
	Count   int64              `json:"count,omitzero"`
}

// NewSpool returns a spool and begins to tell what earlier processes left behind. The
// file is made when there is something to keep.
func NewSpool(o SpoolOptions) *Spool {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Client == "" {
		o.Client = uuid.NewString()
	}
	of := origin{Client: o.Client, Server: o.URL, Agent: o.Agent}
	if o.URL == "" {
		of.Server = "local:" + o.Data // its key is found again, like its address
	} else {
		sum := sha256.Sum256([]byte(o.Key))
		of.Key = hex.EncodeToString(sum[:8])
	}
	r := &recorder{dir: o.Dir, of: of, post: o.Post, log: o.Log}
	r.start()
	return &Spool{r}
}

// Add keeps an event: on disk before it returns, or counted as dropped.
func (s *Spool) Add(t Told) { s.r.add(t) }

// Flush tells the server what there is; what cannot be told before ctx ends stays on
// disk.
func (s *Spool) Flush(ctx context.Context) error { return s.r.flush(ctx) }

// Close stops telling. What is left stays on disk for a later process.
func (s *Spool) Close() error { return s.r.close() }
