package derive

import (
	"time"
)

// Check is one check of the catalogue: what it looks for, how much it looked at
// and what it found. A check that could not be made says why; it never counts as
// one that found nothing.
type Check struct {
	ID           string
	Severity     string // critical, high, medium, low, info
	Criterion    string
	Title        string
	Examined     int64
	Unit         string // of what was examined
	NotEvaluated string // why the check could not be made; empty: it was
	Note         string
	Exceptions   []Exception
}

// Exception is one thing that a check found: a fact, not a conclusion.
type Exception struct {
	Object       string
	Start, End   time.Time
	Count        int64
	Detail       string
	Refs         []Ref
	DetectedBy   string // runtime: an entry says it itself; package build: found by looking at the entries
	StillOpen    bool
	Compensating string
}

// The sources of an exception.
const (
	byRuntime = "runtime"
	byBuild   = "package build"
)

type checks struct {
	list []*Check
	m    map[string]*Check
}

// Why a check of the catalogue is not made.
const (
	noReview   = "the book holds no reviews or approvals; show them from where they are kept"
	noForge    = "what the repository of the policies says about review, merge and tests is not read"
	noSilence  = "the program that wrote this book has no silences, suppression or automatic closing, and no entries about them"
	noIncident = "the book holds alerts and containments, and no incident records"
	noCount    = "no count from outside (provider usage, egress proxy) was given to compare with"
)

// catalogue lists every check in the order of the listing.
var catalogue = []Check{
	{ID: "COV-01", Severity: "high", Criterion: "CC7.2", Title: "time without a sign of life of an instance"},
	{ID: "COV-02", Severity: "medium", Criterion: "CC7.2", Title: "registered agent without a single decision"},
	{ID: "COV-03", Severity: "high", Criterion: "CC7.1", Title: "agent that the register does not have"},
	{ID: "COV-04", Severity: "high", Criterion: "CC7.2", Title: "layer failed or timed out, something passed because of it, or the book could not be written"},
	{ID: "COV-05", Severity: "high", Criterion: "CC7.2", Title: "not scanned, or not to the end"},
	{ID: "COV-06", Severity: "high", Criterion: "CC7.2", Title: "gap in a caller's own numbers"},
	{ID: "COV-07", Severity: "high", Criterion: "CC7.2", Title: "difference from a count from outside"},
	{ID: "COV-08", Severity: "medium", Criterion: "CC7.2", Title: "no comparison with a count from outside"},
	{ID: "COV-09", Severity: "high", Criterion: "CC7.2", Title: "test finding missed, or rule pack too old"},
	{ID: "COV-10", Severity: "medium", Criterion: "CC7.2", Title: "agent in monitor mode"},
	{ID: "COV-11", Severity: "high", Criterion: "CC7.2", Title: "only a sample was scanned", NotEvaluated: "the book does not record a sampling rate; the tie-outs of heartbeat counters with decisions are in CC7.2/population.ipe.json"},
	{ID: "COV-12", Severity: "medium", Criterion: "CC7.2", Title: "backlog of detection that runs later", NotEvaluated: "the book holds no entries about detection that runs later"},
	{ID: "COV-13", Severity: "medium", Criterion: "CC7.2", Title: "clock off by more than a second", NotEvaluated: "heartbeats do not record the clock's offset from a time server"},
	{ID: "ACC-01", Severity: "high", Criterion: "CC6.1", Title: "agent without a policy"},
	{ID: "ACC-02", Severity: "medium", Criterion: "CC6.1", Title: "grant of tools by wildcard"},
	{ID: "ACC-03", Severity: "high", Criterion: "CC6.1", Title: "tool call that went on outside policy"},
	{ID: "ACC-04", Severity: "medium", Criterion: "CC6.1", Title: "agent or policy without an owner"},
	{ID: "ACC-05", Severity: "high", Criterion: "CC6.2", Title: "events of an agent after its removal"},
	{ID: "ACC-06", Severity: "medium", Criterion: "CC6.3", Title: "review of grants overdue, grants unused", NotEvaluated: noReview},
	{ID: "ACC-07", Severity: "medium", Criterion: "CC6.1", Title: "shared administrator account, token without expiry", NotEvaluated: "the book does not record accounts' holders or tokens' lifetimes"},
	{ID: "ACC-08", Severity: "high", Criterion: "CC6.3", Title: "one person for what two must do", NotEvaluated: noReview},
	{ID: "ACC-09", Severity: "high", Criterion: "CC6.8", Title: "tool definition changed without approval", NotEvaluated: "the book does not record hashes or approvals of tool definitions"},
	{ID: "ALR-01", Severity: "high", Criterion: "CC7.3", Title: "event of high severity without an alert"},
	{ID: "ALR-02", Severity: "high", Criterion: "CC7.3", Title: "alert of high severity that nobody owned at the end of the window"},
	{ID: "ALR-03", Severity: "high", Criterion: "CC7.3", Title: "alert acknowledged late or not at all"},
	{ID: "ALR-04", Severity: "high", Criterion: "CC7.3", Title: "alert closed late or not at all"},
	{ID: "ALR-05", Severity: "medium", Criterion: "CC7.3", Title: "alert closed without disposition or comment"},
	{ID: "ALR-06", Severity: "high", Criterion: "CC7.3", Title: "notification not delivered"},
	{ID: "ALR-07", Severity: "high", Criterion: "CC7.3", Title: "alert of high severity suppressed", NotEvaluated: noSilence},
	{ID: "ALR-08", Severity: "medium", Criterion: "CC7.3", Title: "severity lowered without reason", NotEvaluated: "the program that wrote this book has no step that lowers an alert's severity"},
	{ID: "ALR-09", Severity: "medium", Criterion: "CC7.3", Title: "many alerts closed at once", NotEvaluated: "no limit for closing many at once is defined; closed_at and closed_by are in alerts/alerts.csv"},
	{ID: "ALR-10", Severity: "low", Criterion: "CC7.3", Title: "alert closed automatically", NotEvaluated: noSilence},
	{ID: "ALR-11", Severity: "medium", Criterion: "CC7.3", Title: "threshold raised", NotEvaluated: "policy texts are in policies/blobs; their meaning is not compared"},
	{ID: "ALR-12", Severity: "high", Criterion: "CC7.3", Title: "dead-man's switch missed", NotEvaluated: "the program that wrote this book sends no periodic signal to an outside receiver"},
	{ID: "ALR-13", Severity: "info", Criterion: "CC7.3", Title: "alert open at the end of the window"},
	{ID: "INC-01", Severity: "high", Criterion: "CC7.4", Title: "confirmed critical alert without an incident", NotEvaluated: noIncident},
	{ID: "INC-02", Severity: "medium", Criterion: "CC7.4", Title: "incident without root cause, impact, containment time or lessons", NotEvaluated: noIncident},
	{ID: "INC-03", Severity: "high", Criterion: "CC7.4", Title: "kill switch not used in the window, in earnest or as a drill"},
	{ID: "INC-04", Severity: "high", Criterion: "CC7.5", Title: "containment lifted by who began it"},
	{ID: "INC-05", Severity: "critical", Criterion: "CC7.4", Title: "something went on after it was stopped"},
	{ID: "INC-06", Severity: "medium", Criterion: "CC7.5", Title: "review after an incident overdue", NotEvaluated: noIncident},
	{ID: "INC-07", Severity: "high", Criterion: "CC7.3", Title: "impact on confidential or personal data not assessed", NotEvaluated: noIncident},
	{ID: "INC-08", Severity: "medium", Criterion: "CC7.5", Title: "no drill of recovery", NotEvaluated: noIncident},
	{ID: "CHG-01", Severity: "critical", Criterion: "CC8.1", Title: "decision under a bundle that was never activated, or whose text is missing"},
	{ID: "CHG-02", Severity: "high", Criterion: "CC8.1", Title: "change without independent approval", NotEvaluated: noForge},
	{ID: "CHG-03", Severity: "high", Criterion: "CC8.1", Title: "approval of other content than was activated", NotEvaluated: noForge},
	{ID: "CHG-04", Severity: "high", Criterion: "CC8.1", Title: "approval by the author or by somebody without the right", NotEvaluated: noForge},
	{ID: "CHG-05", Severity: "high", Criterion: "CC8.1", Title: "activated before approval or merge", NotEvaluated: noForge},
	{ID: "CHG-06", Severity: "medium", Criterion: "CC8.1", Title: "merged and not active", NotEvaluated: noForge},
	{ID: "CHG-07", Severity: "high", Criterion: "CC8.1", Title: "emergency change without later review", NotEvaluated: noForge},
	{ID: "CHG-08", Severity: "medium", Criterion: "CC8.1", Title: "change without tests that succeed", NotEvaluated: noForge},
	{ID: "CHG-09", Severity: "high", Criterion: "CC8.1", Title: "branch protection overridden", NotEvaluated: noForge},
	{ID: "CHG-10", Severity: "medium", Criterion: "CC8.1", Title: "change that weakens policy", NotEvaluated: "policy texts are in policies/blobs; their meaning is not compared"},
	{ID: "CHG-11", Severity: "high", Criterion: "CC8.1", Title: "model, prompt or tool changed without a record", NotEvaluated: "the book does not record versions of models, prompts or tools"},
	{ID: "CHG-12", Severity: "medium", Criterion: "CC8.1", Title: "policy refused at loading"},
	{ID: "CHG-13", Severity: "low", Criterion: "CC8.1", Title: "review known from a commit message only", NotEvaluated: noForge},
	{ID: "INT-01", Severity: "critical", Criterion: "CC7.2", Title: "entry altered or unreadable"},
	{ID: "INT-02", Severity: "critical", Criterion: "CC7.2", Title: "entry missing, inserted or out of order"},
	{ID: "INT-03", Severity: "critical", Criterion: "CC7.2", Title: "log shorter than, or different from, a checkpoint"},
	{ID: "INT-04", Severity: "critical", Criterion: "CC7.2", Title: "checkpoint not signed by the book's key"},
	{ID: "INT-05", Severity: "high", Criterion: "CC7.2", Title: "clock went back"},
	{ID: "INT-06", Severity: "high", Criterion: "CC7.2", Title: "no anchor outside the operator's reach"},
	{ID: "INT-07", Severity: "medium", Criterion: "CC7.2", Title: "checkpoint late", NotEvaluated: "a checkpoint carries no time of its own, and none was stamped by somebody else"},
	{ID: "INT-08", Severity: "medium", Criterion: "CC7.2", Title: "entries that no anchor covers"},
	{ID: "INT-09", Severity: "info", Criterion: "CC7.2", Title: "entry of the window recorded after its end"},
	{ID: "INT-10", Severity: "high", Criterion: "C1.1", Title: "entries purged outside policy", NotEvaluated: "the program that wrote this book purges nothing; the log in this package begins with entry 0"},
	{ID: "IPE-01", Severity: "high", Criterion: "CC2.1", Title: "two counts of the same thing differ"},
	{ID: "IPE-02", Severity: "medium", Criterion: "CC2.1", Title: "listing differs when it is made again"},
	{ID: "IPE-03", Severity: "medium", Criterion: "CC2.1", Title: "listing made by an unknown or modified build"},
	{ID: "IPE-04", Severity: "medium", Criterion: "CC2.1", Title: "listing by a query of the user's own"},
	{ID: "IPE-05", Severity: "medium", Criterion: "CC2.1", Title: "window had not passed when the package was built"},
	{ID: "IPE-06", Severity: "low", Criterion: "CC2.1", Title: "package built by the owner of the control", NotEvaluated: "who owns a control is not recorded"},
}

func (c *checks) init() {
	c.m = map[string]*Check{}
	for _, k := range catalogue {
		c.list = append(c.list, &k)
		c.m[k.ID] = &k
	}
}

// made notes how much a check looked at.
func (c *checks) made(id string, examined int64, unit string) *Check {
	k := c.m[id]
	k.Examined, k.Unit = examined, unit
	return k
}

func (k *Check) add(e Exception) {
	if e.DetectedBy == "" {
		e.DetectedBy = byBuild
	}
	if e.Count == 0 {
		e.Count = 1
	}
	k.Exceptions = append(k.Exceptions, e)
}

// addAll adds one exception for each episode.
func (k *Check) addAll(g *episodes, by string) {
	for _, e := range g.all() {
		k.add(Exception{Object: e.object, Start: e.start, End: e.end, Count: e.count, Detail: e.detail, Refs: e.refs, DetectedBy: by})
	}
}
