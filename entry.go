package guardbook

import (
	"encoding/json/v2"
	"fmt"
	"time"
)

// EntryVersion is the version of the entry format written by this build.
const EntryVersion = 1

// TimeLayout is how entries write a time: RFC 3339, UTC, microseconds.
const TimeLayout = "2006-01-02T15:04:05.000000Z"

// EntryType says what kind of fact an entry is.
type EntryType string

// The types of entry. The struct of the same name (DecisionEntry for "decision")
// gives the members that a type adds to the Header.
const (
	TypeStart        EntryType = "start"        // an instance came up; says whether it went down cleanly
	TypeStop         EntryType = "stop"         // an instance went down on purpose
	TypeHeartbeat    EntryType = "heartbeat"    // counters, every 30 s
	TypeDecision     EntryType = "decision"     // the guard decided
	TypeStream       EntryType = "stream"       // a streamed answer began, or ended
	TypeRefusal      EntryType = "refusal"      // a request that could not become an interaction, or an upstream that failed
	TypePassthrough  EntryType = "passthrough"  // an endpoint that policy lets through unread
	TypePolicy       EntryType = "policy"       // an attempt to load policy
	TypeContainment  EntryType = "containment"  // kill, lift, expiry
	TypeAlert        EntryType = "alert"        // a step in an alert's life
	TypeNotification EntryType = "notification" // an attempt to deliver one
	TypeAgent        EntryType = "agent"        // an agent was created, rotated or removed
	TypeOperator     EntryType = "operator"     // an operator logged in, read evidence, changed access
	TypeDegraded     EntryType = "degraded"     // an interval in which the book could not be written
	TypeCanary       EntryType = "canary"       // a marked test interaction was played through an entry path
	TypeClient       EntryType = "client"       // what an SDK could not ask or tell in time, and gaps in its numbers
	TypeTool         EntryType = "tool"         // a tool of an MCP server was pinned, quarantined, approved, rejected
)

// Header is what every entry has.
type Header struct {
	V        int       `json:"v"`
	Log      string    `json:"log"` // the log's origin line
	Seq      int64     `json:"seq"` // 0, 1, 2, ... without gaps; also the leaf index
	ID       string    `json:"id"`  // UUIDv7
	TS       string    `json:"ts"`  // when it occurred, TimeLayout
	Rec      string    `json:"rec"` // when it was recorded, TimeLayout; never goes back within a log
	Instance string    `json:"instance"`
	Type     EntryType `json:"type"`
	Tenant   string    `json:"tenant"`
}

// Draft is an entry before the book gives it a place.
type Draft struct {
	ID     string // UUIDv7; empty: the book makes one
	Type   EntryType
	Time   time.Time // when it occurred; zero: now
	Tenant string    // empty: DefaultTenant
	Body   any       // one of the ...Entry structs below; its members stand beside the Header's
}

// Entry is one fact in the book.
type Entry struct {
	Header
	Raw []byte // the exact bytes that were hashed, without a line end
}

// ParseEntry reads an entry's header from its raw bytes. Duplicate names, invalid
// UTF-8 and an unknown version are errors.
func ParseEntry(raw []byte) (Entry, error) {
	e := Entry{Raw: raw}
	if err := json.Unmarshal(raw, &e.Header); err != nil {
		return e, fmt.Errorf("entry: %w", err)
	}
	if e.V != EntryVersion {
		return e, fmt.Errorf("entry: version %d is not known to this build (%d)", e.V, EntryVersion)
	}
	return e, nil
}

// Body reads the members that an entry's type adds to its header.
func Body[T any](e Entry) (T, error) {
	var b T
	if err := json.Unmarshal(e.Raw, &b); err != nil {
		return b, fmt.Errorf("%s entry %d: %w", e.Type, e.Seq, err)
	}
	return b, nil
}

// StartEntry opens an instance's run.
type StartEntry struct {
	Version   string `json:"version"`         // of the program
	Boot      string `json:"boot"`            // id of this run
	Clean     bool   `json:"clean"`           // the run before ended with a stop entry, or there was none
	Previous  int64  `json:"previous"`        // the last sequence before this one; -1 if none
	Epoch     int    `json:"epoch"`           // 1, and one more each time that the log had to begin anew
	Lost      string `json:"lost,omitzero"`   // what is known to be missing from the epoch before
	Durable   string `json:"durability"`      // strict | balanced
	Detectors string `json:"detectors"`       // layers and versions
	Key       string `json:"key"`             // verifier key of the checkpoints, C2SP note format
	Config    string `json:"config,omitzero"` // SHA-256 of the configuration, secrets left out
	// Canaries is how often test interactions are played, "5m0s" or "off"; empty in
	// the entries of programs that knew none.
	Canaries string `json:"canaries,omitzero"`
}

// StopEntry closes an instance's run.
type StopEntry struct {
	Boot   string `json:"boot"`
	Reason string `json:"reason"`
}

// HeartbeatEntry proves that an instance was there and what it had counted since
// its start.
type HeartbeatEntry struct {
	Boot     string           `json:"boot"`
	Uptime   int64            `json:"uptime_ms"` // monotonic
	Interval int64            `json:"interval_ms"`
	Bundle   string           `json:"bundle"`
	Counters map[string]int64 `json:"counters"` // see guard.Counters
	// Calls counts the model calls that a provider answered, since the start.
	Calls []ModelCalls `json:"calls,omitempty"`
}

// ModelCalls is how many calls of one model an upstream answered with success
// through one entry path, since an instance's start. Calls that were stopped before
// they were sent are not among them, and neither are canaries.
type ModelCalls struct {
	Path  string `json:"path"`
	Model string `json:"model"` // as the answer names it, else the request; at most 100 bytes; "(other)" beyond 60 pairs
	Calls int64  `json:"calls"`
	// OutputTokens are those that the answers told of.
	OutputTokens int64 `json:"output_tokens,omitzero"`
}

// DecisionEntry is a decision as the book keeps it.
type DecisionEntry struct {
	Agent      string     `json:"agent"`
	Session    string     `json:"session"`
	User       string     `json:"user,omitzero"`
	Parent     string     `json:"parent,omitzero"`
	Kind       Kind       `json:"kind"`
	Role       string     `json:"role,omitzero"`
	Path       string     `json:"path"`
	Tool       *ToolRef   `json:"tool,omitzero"`
	Layers     []LayerRun `json:"layers"`
	Findings   []Finding  `json:"findings"`
	Decision   Action     `json:"decision"`
	Would      Action     `json:"would,omitzero"`
	Rule       string     `json:"rule"`
	Severity   Severity   `json:"severity"`
	Message    string     `json:"message,omitzero"`
	Policy     string     `json:"policy"`
	Bundle     string     `json:"bundle"`
	Mode       Mode       `json:"mode"`
	Cached     bool       `json:"cached"`
	FailOpen   bool       `json:"fail_open,omitzero"` // a layer failed and on_error let it pass
	Bytes      int64      `json:"bytes"`              // size of what was read
	Micros     int64      `json:"us"`                 // from arrival at the guard to decision
	Commitment string     `json:"commitment"`         // "sha256:" + hex(SHA-256(salt || content)); see guard.Commitment
	Deferred   bool       `json:"deferred,omitzero"`  // recorded, not enforced: the client asks again before it acts
	Client     string     `json:"client,omitzero"`
	ClientSeq  int64      `json:"client_seq,omitzero"`
	Alert      string     `json:"alert,omitzero"` // receiver named by policy, when the severity reaches alerts.from
	// Containment is the id of the containment that decided, if one did.
	Containment string `json:"containment,omitzero"`
	// Truncated says how many findings were left out to keep the entry under its size limit.
	Truncated int `json:"truncated,omitzero"`
}

// ToolRef names a tool without its arguments.
type ToolRef struct {
	Server string `json:"server,omitzero"`
	Name   string `json:"name"`
	CallID string `json:"call_id,omitzero"`
}

// StreamEntry marks the beginning and the end of a streamed answer.
type StreamEntry struct {
	Agent    string `json:"agent"`
	Session  string `json:"session"`
	Path     string `json:"path"`
	Stream   string `json:"stream"`           // id that ties open and close together
	Phase    string `json:"phase"`            // open (it was asked for) | close
	Outcome  string `json:"outcome,omitzero"` // complete | blocked | contained | client_gone | upstream_failed
	Released int64  `json:"released_bytes,omitzero"`
	Detail   string `json:"detail,omitzero"`
	// Containment is the id of the containment that cut the stream, if one did.
	Containment string `json:"containment,omitzero"`
}

// RefusalEntry records a request that was refused before any decision, or an
// upstream that failed.
type RefusalEntry struct {
	Agent   string `json:"agent,omitzero"`
	Session string `json:"session,omitzero"`
	Path    string `json:"path"`
	Status  int    `json:"status"` // HTTP status that the client got
	Code    string `json:"code"`   // malformed_json, duplicate_name, too_large, bad_encoding, unauthorized, client_gone, upstream_unreachable, upstream_status, upstream_broken, endpoint_refused, not_durable, ...
	Message string `json:"message"`
	Bytes   int64  `json:"bytes,omitzero"`
	// Client and ClientSeq are the caller's process and its number of the request.
	Client    string `json:"client,omitzero"`
	ClientSeq int64  `json:"client_seq,omitzero"`
}

// PassthroughEntry records a request to an endpoint that policy passes unread.
type PassthroughEntry struct {
	Agent    string `json:"agent"`
	Session  string `json:"session,omitzero"`
	Path     string `json:"path"`
	Method   string `json:"method"`
	Endpoint string `json:"endpoint"`
	Rule     string `json:"rule"`
	Policy   string `json:"policy"`
	Bundle   string `json:"bundle"`
	// Client and ClientSeq are the caller's process and its number of the request.
	Client    string `json:"client,omitzero"`
	ClientSeq int64  `json:"client_seq,omitzero"`
}

// PolicyEntry records one attempt to load policy, whatever came of it.
type PolicyEntry struct {
	Trigger  string       `json:"trigger"` // start | file_change | api
	Outcome  string       `json:"outcome"` // applied | rejected
	Bundle   string       `json:"bundle"`  // hash in force after the attempt
	Previous string       `json:"previous,omitzero"`
	Rejected string       `json:"rejected,omitzero"` // hash of the bundle that was refused, when it could be computed
	Error    string       `json:"error,omitzero"`
	Files    []PolicyFile `json:"files"`
	Policies []PolicyRef  `json:"policies"`
}

// PolicyFile is one file of a bundle.
type PolicyFile struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// PolicyRef names a policy of a bundle.
type PolicyRef struct {
	Policy string   `json:"policy"`
	File   string   `json:"file"`
	Owner  string   `json:"owner,omitzero"`
	Mode   Mode     `json:"mode"`
	Agents []string `json:"agents"`
}

// ContainmentEntry is one step in the life of a containment.
type ContainmentEntry struct {
	Op          string `json:"op"`          // kill | lift | expire
	Containment string `json:"containment"` // id, the same for kill and lift
	Scope       string `json:"scope"`       // agent:NAME | session:ID | tool:NAME | tenant:NAME
	By          string `json:"by"`
	Reason      string `json:"reason"`
	EffectiveAt string `json:"effective_at"`     // TimeLayout
	Until       string `json:"until,omitzero"`   // TimeLayout; kill with --for
	Refused     int64  `json:"refused,omitzero"` // lift and expire: calls refused while it held
	CutStreams  int64  `json:"cut,omitzero"`     // lift and expire: running streams cut
}

// AlertEntry is one step in an alert's life.
type AlertEntry struct {
	Op          string   `json:"op"`    // opened | repeated | notified | undelivered | acknowledged | assigned | closed
	Alert       string   `json:"alert"` // id
	Key         string   `json:"key"`   // what makes two events the same alert
	Agent       string   `json:"agent,omitzero"`
	Session     string   `json:"session,omitzero"`
	Rule        string   `json:"rule,omitzero"`
	Class       Class    `json:"class,omitzero"`
	Severity    Severity `json:"severity"`
	Title       string   `json:"title,omitzero"`
	Receiver    string   `json:"receiver,omitzero"`
	Event       string   `json:"event,omitzero"` // id of the entry that opened or repeated it
	Count       int64    `json:"count,omitzero"`
	By          string   `json:"by,omitzero"`
	Owner       string   `json:"owner,omitzero"`
	Disposition string   `json:"disposition,omitzero"` // true_positive, false_positive, benign, suspicious, test, duplicate, insufficient_data
	Comment     string   `json:"comment,omitzero"`
	Reopens     string   `json:"reopens,omitzero"` // id of the closed alert with the same key
}

// NotificationEntry is one attempt to deliver an alert.
type NotificationEntry struct {
	Alert    string `json:"alert"`
	Receiver string `json:"receiver"`
	Via      string `json:"via"` // webhook
	Attempt  int    `json:"attempt"`
	Outcome  string `json:"outcome"` // delivered | failed | gave_up
	Status   int    `json:"status,omitzero"`
	Micros   int64  `json:"us"`
	Error    string `json:"error,omitzero"`
	Message  string `json:"message,omitzero"` // the delivery's own id
}

// AgentEntry records a change of the register of agents. No secret is in it.
type AgentEntry struct {
	Op      string `json:"op"` // created | rotated | removed
	Agent   string `json:"agent"`
	Owner   string `json:"owner,omitzero"`
	Purpose string `json:"purpose,omitzero"`
	Key     string `json:"key,omitzero"` // the key's public id: the beginning of its hash
	By      string `json:"by"`
	// Previous is the public id of the key that a rotation replaces.
	Previous string `json:"previous,omitzero"`
	// PreviousUntil is when the replaced key stops (TimeLayout); empty: at once.
	PreviousUntil string `json:"previous_until,omitzero"`
}

// OperatorEntry records what an operator did with access or evidence.
type OperatorEntry struct {
	Op     string            `json:"op"` // login | login_failed | logout | account_created | evidence_built | content_read | ...
	By     string            `json:"by"`
	Detail map[string]string `json:"detail,omitzero"`
}

// DegradedEntry records an interval in which the book could not be written and
// what was done meanwhile.
type DegradedEntry struct {
	From    string           `json:"from"`
	To      string           `json:"to"`
	Error   string           `json:"error"`
	Refused map[string]int64 `json:"refused"` // by kind
	Allowed map[string]int64 `json:"allowed"` // by kind: fail-open, no entry of their own
}

// ClientEntry is what an SDK tells afterwards of what it did without a decision, or
// what the server finds missing in its numbers.
type ClientEntry struct {
	Agent  string `json:"agent"`
	Client string `json:"client"` // id of the SDK's process
	// Event is one of
	//
	//	unguarded   passed without a decision, because policy of the SDK fails open
	//	refused     refused without a decision, because it fails closed
	//	unanswered  asked, and no answer came in time
	//	degraded    an interval (from, to) in which count interactions had no decision
	//	dropped     count events did not fit into the SDK's spool
	//	gap         count numbers, from first to last, never reached the server
	Event     string   `json:"event"`
	Told      string   `json:"told,omitzero"` // the client's own id of the event
	ClientSeq int64    `json:"client_seq,omitzero"`
	Session   string   `json:"session,omitzero"`
	Path      string   `json:"path,omitzero"` // entry path, as of a decision
	Kind      Kind     `json:"kind,omitzero"`
	Tool      *ToolRef `json:"tool,omitzero"`
	Reason    string   `json:"reason,omitzero"`
	From      string   `json:"from,omitzero"` // TimeLayout
	To        string   `json:"to,omitzero"`   // TimeLayout
	Count     int64    `json:"count,omitzero"`
	First     int64    `json:"first,omitzero"` // gap: the first number that is missing
	Last      int64    `json:"last,omitzero"`  // gap: the last one
}

// CanaryAgent is the name that an instance's own test interactions go by. Nobody
// can register an agent of this name, and nothing that it sends leaves the instance.
const CanaryAgent = "guardbook-canary"

// CanaryTypes lists the types of entry that a test interaction leaves, all with the
// agent CanaryAgent. An alert about a missed one is no such entry.
var CanaryTypes = []EntryType{TypeDecision, TypeStream, TypeRefusal, TypePassthrough, TypeCanary, TypeTool}

// CanaryEntry records one test interaction that the instance played through one of
// its own entry paths, and what came of it.
type CanaryEntry struct {
	Agent    string `json:"agent"`    // CanaryAgent
	Path     string `json:"path"`     // the entry path: "openai/chat"
	Cell     string `json:"cell"`     // what was played: "streamed, text in the answer"
	Expected string `json:"expected"` // what a guarded path leaves in the book
	Got      string `json:"got"`      // what was there
	OK       bool   `json:"ok"`       // false: a miss
	// Decisions are the ids of the entries that the test left.
	Decisions []string `json:"decisions"`
	Micros    int64    `json:"us"`
	// Containment is the id of the kill that stopped the test. Then nothing is known
	// about the detectors, and OK is true: it is no miss.
	Containment string `json:"containment,omitzero"`
}

// ToolEntry is one step in the life of a tool of an MCP server, whose definition is
// pinned: the fold of these entries says which tools may be offered and called. The
// definition itself is not in it.
type ToolEntry struct {
	Op string `json:"op"` // pinned | listed | quarantined | approved | rejected | removed | restored
	// Tool is the server's configured name and the tool's; its name is empty for listed:
	// a complete list was seen, and from now on a new tool is quarantined.
	Tool     ToolRef `json:"tool"`
	Identity string  `json:"identity"`          // hash of the server's URL, or of its command and arguments
	Hash     string  `json:"hash,omitzero"`     // "sha256:" + hex, of the canonical definition
	Previous string  `json:"previous,omitzero"` // the hash that was pinned before, if one was
	By       string  `json:"by"`                // "guardbook", or the operator
	Reason   string  `json:"reason,omitzero"`
	Agent    string  `json:"agent,omitzero"` // whose list showed it
	Alert    string  `json:"alert,omitzero"` // quarantined: the receiver named by the agent's policy
}
