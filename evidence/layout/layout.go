// Package layout is the form of an evidence package: which file is where, and
// what is in those that describe the others. The package writer and the offline
// verifier share it.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"strings"
	"time"

	"github.com/guardbook/guardbook/evidence/derive"
)

// Format names this form of package; a verifier refuses another.
const Format = "guardbook-evidence/1"

// Files with a fixed name.
const (
	Manifest  = "manifest.json"
	Sums      = "SHA256SUMS"
	Signature = "manifest.sig"
	Readme    = "README.md"
	Scope     = "00-summary/scope.json"
	Keys      = "integrity/keys.json"
)

// Narratives are the criteria that have a narrative and a population.
var Narratives = []string{"CC6.1", "CC7.2", "CC7.3", "CC7.4", "CC8.1"}

// LogDir is the directory of one epoch's log: below it lie C2SP tlog-tiles.
func LogDir(epoch int) string { return fmt.Sprintf("integrity/%d", epoch) }

// History is the file of an epoch's signed checkpoints, oldest first.
func History(epoch int) string { return LogDir(epoch) + "/checkpoints.txt" }

// Checkpoint is the file of an epoch's last signed checkpoint.
func Checkpoint(epoch int) string { return LogDir(epoch) + "/checkpoint" }

// Blob is the file of a policy text.
func Blob(sha256 string) string { return "policies/blobs/" + sha256 + ".yaml" }

// ManifestFile is the content of manifest.json. It lists every file of the
// package but itself, SHA256SUMS and the signature.
type ManifestFile struct {
	Format  string `json:"format"`
	Package string `json:"package"`
	Files   []File `json:"files"`
}

// File is one file of a package.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ScopeFile is the content of 00-summary/scope.json: what the package is about
// and everything beside the log that its listings depend on.
type ScopeFile struct {
	Format       string        `json:"format"`
	Package      string        `json:"package"`
	BuiltAt      string        `json:"built_at"`
	BuiltBy      string        `json:"built_by"`
	System       string        `json:"system"`
	Params       derive.Params `json:"params"`
	TimeZone     string        `json:"time_zone"`
	Criteria     []string      `json:"criteria"`
	Logs         []LogScope    `json:"logs"`
	Agents       []string      `json:"agents"`
	Instances    []string      `json:"instances"`
	FoundFirst   string        `json:"found_first"`
	FoundLast    string        `json:"found_last"`
	ProofsLeft   int64         `json:"proofs_left_out"`
	MissingTexts []string      `json:"missing_policy_texts"`
	// Recorded says whether the building of this package could be made an entry of
	// the book: only a running server can append one.
	Recorded string `json:"build_recorded"`
}

// LogScope is one log as far as the package holds it.
type LogScope struct {
	Epoch  int    `json:"epoch"`
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"` // base64, as in the checkpoint
}

// KeysFile is the content of integrity/keys.json. It is for reading: a verifier
// trusts only the key that it was given by another way.
type KeysFile struct {
	Note string `json:"note"`
	Keys []Key  `json:"keys"`
}

// Key is the key that signs an epoch's checkpoints.
type Key struct {
	Epoch       int    `json:"epoch"`
	Origin      string `json:"origin"`
	Verifier    string `json:"verifier"`
	Fingerprint string `json:"fingerprint"`
	FirstSize   int64  `json:"first_size"`
	LastSize    int64  `json:"last_size"`
}

// IPE is the content of population.ipe.json: how a listing was made, and what
// shows that it is complete and accurate.
type IPE struct {
	PopulationID string             `json:"population_id"`
	Title        string             `json:"title"`
	ControlIDs   []string           `json:"control_ids"`
	Source       IPESource          `json:"source"`
	Query        IPEQuery           `json:"query"`
	Window       IPEWindow          `json:"window"`
	Extracted    IPEExtracted       `json:"extracted"`
	RowCount     int64              `json:"row_count"`
	FileSHA256   map[string]string  `json:"file_sha256"`
	MinRow       *derive.RowRef     `json:"min_row"`
	MaxRow       *derive.RowRef     `json:"max_row"`
	CountByDay   []derive.DayCount  `json:"count_by_day"`
	Exclusions   []derive.Exclusion `json:"exclusions"`
	Late         int64              `json:"late_arrivals"`
	TieOuts      []derive.TieOut    `json:"tie_outs"`
	LogRange     []IPERange         `json:"log_range"`
	Rerun        IPERerun           `json:"rerun"`
	Limitations  []string           `json:"known_limitations"`
	Screenshots  []string           `json:"screenshots"`
}

// IPESource is where a listing comes from.
type IPESource struct {
	System      string   `json:"system"`
	Instance    []string `json:"instance"`
	DB          string   `json:"db"`
	LogID       []string `json:"log_id"`
	Environment string   `json:"environment"`
}

// IPEQuery is what selects the rows.
type IPEQuery struct {
	Text       string            `json:"text"`
	Language   string            `json:"language"`
	SHA256     string            `json:"sha256"`
	Version    string            `json:"version"`
	Parameters map[string]string `json:"parameters"`
	Builtin    bool              `json:"builtin"`
}

// IPEWindow is the window.
type IPEWindow struct {
	Start    string `json:"start"`
	End      string `json:"end"`
	Basis    string `json:"basis"`
	HalfOpen bool   `json:"half_open"`
	TZ       string `json:"tz"`
}

// IPEExtracted is who made the listing, when and with what.
type IPEExtracted struct {
	At          string `json:"at"`
	By          string `json:"by"`
	Role        string `json:"role"`
	AuthMethod  string `json:"auth_method"`
	Host        string `json:"host"`
	ToolVersion string `json:"tool_version"`
	Commit      string `json:"commit"`
	Dirty       bool   `json:"dirty"`
	CommandLine string `json:"command_line"`
}

// IPERange is the part of a log that was read.
type IPERange struct {
	Log      string `json:"log"`
	FirstSeq int64  `json:"first_seq"`
	LastSeq  int64  `json:"last_seq"`
	Size     int64  `json:"size"`
	Root     string `json:"root"`
}

// IPERerun is what making the listing a second time gave.
type IPERerun struct {
	At       string            `json:"at"`
	RowCount int64             `json:"row_count"`
	SHA256   map[string]string `json:"sha256"`
	Equal    bool              `json:"equal"`
}

// ManifestNote is the text that is signed over a manifest. Its first line cannot
// be a log's origin followed by a size, so it can never pass for a checkpoint.
func ManifestNote(pkg string, manifest []byte) string {
	sum := sha256.Sum256(manifest)
	return Format + " manifest\n" + pkg + "\nsha256:" + hex.EncodeToString(sum[:]) + "\n"
}

// Marshal writes a description: indented, the same for the same content.
func Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	return append(b, '\n'), err
}

// Unmarshal reads a description and refuses what it does not know: duplicate
// and unknown names, and invalid UTF-8.
func Unmarshal(b []byte, v any) error {
	return json.Unmarshal(b, v, json.RejectUnknownMembers(true))
}

// Name is the name of a package: a folder's and a zip's.
func Name(org, env string, from, to time.Time, id string) string {
	return strings.Join([]string{"evidence", slug(org), slug(env), from.UTC().Format("20060102T1504") + "_" + to.UTC().Format("20060102T1504"), id}, "-")
}

// slug keeps of a text what may stand in a file name.
func slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case r == '-' || r == '_' || r == ' ' || r == '.':
			return '-'
		}
		return -1
	}, s)
	if s = strings.Trim(s, "-"); len(s) > 40 {
		s = s[:40]
	}
	if s == "" {
		return "unnamed"
	}
	return s
}

// SafeName reports whether a file name may stand in a package: a relative path
// with forward slashes, of plain characters, that leads nowhere else.
func SafeName(name string) bool {
	if name == "" || len(name) > 240 {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.HasSuffix(part, ".") && part != "." {
			return false
		}
		for _, r := range part {
			switch {
			case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
			default:
				return false
			}
		}
	}
	return true
}
