// Package coverage holds the matrix of everything that can pass between agents,
// models and tools, and what happens to it: matrix.yaml. The tests of this package
// drive every cell of it through a real instance, and docs/coverage.md is written
// from it.
package coverage

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/guardbook/guardbook/canary"
)

//go:generate go run ./page ../docs/coverage.md

//go:embed matrix.yaml
var source []byte

// The states of a cell.
const (
	// Guarded: it is decided on before it goes on, and the decision is in the book.
	Guarded = "guarded"
	// Refused: it is not forwarded; the refusal is in the book.
	Refused = "refused"
	// Unread: it passes within something that is guarded, and is named but not read.
	Unread = "unread"
)

// Matrix is the matrix.
type Matrix struct {
	Groups []Group `yaml:"groups"`
}

// Group is an endpoint at the server.
type Group struct {
	API      string `yaml:"api"`
	Endpoint string `yaml:"endpoint"` // METHOD PATH, or the transport
	Path     string `yaml:"path"`     // the entry path that decisions name
	// Answer and Events are what the upstream says when a cell plants nothing in the
	// answer: one JSON text, or one event a line.
	Answer string `yaml:"answer"`
	Events string `yaml:"events"`
	Done   bool   `yaml:"done"` // events end with [DONE]
	Cells  []Cell `yaml:"cells"`
}

// Cell is one thing that passes there. Its Streamed members make a row each.
type Cell struct {
	Channel  string   `yaml:"channel"` // what it is, in words
	Tools    string   `yaml:"tools"`   // function, hosted, mcp; empty: none
	Streamed []string `yaml:"streamed"`
	State    string   `yaml:"state"` // empty: Guarded
	Kind     string   `yaml:"kind"`  // of the decision
	Role     string   `yaml:"role"`
	Why      string   `yaml:"why"` // the reason for a state, or what to know of it

	// How it is driven. MARK stands for a text that a detector finds.
	Send    string            `yaml:"send"`
	Headers map[string]string `yaml:"headers"`
	Answer  string            `yaml:"answer"` // as in Group; "text" and "call": by the stand-in
	Events  string            `yaml:"events"`
	MCP     string            `yaml:"mcp"` // the play, for cells of MCP

	// What must come of it, beside the decision or refusal.
	Tool   string `yaml:"tool"`   // the tool that the decision names
	Gone   string `yaml:"gone"`   // what must not be in what goes up, instead of the marker
	Code   string `yaml:"code"`   // of the refusal; default endpoint_refused
	Policy string `yaml:"policy"` // the line of endpoints by which policy lets it pass unread
	// Passes says that the marker goes on although it is found, for the reason in Why.
	Passes bool `yaml:"passes"`
	// Canary is the cell of the running instance's own tests that plays this one.
	Canary string `yaml:"canary"`
}

// Row is one cell of the matrix, streamed or not.
type Row struct {
	Group    *Group
	Cell     *Cell
	Streamed bool
}

// Name names a row.
func (r Row) Name() string {
	name := r.Group.Endpoint + ", " + r.Cell.Channel
	if r.Streamed {
		name += ", streamed"
	}
	return name
}

// Load reads the matrix.
func Load() (*Matrix, error) {
	var m Matrix
	if err := yaml.UnmarshalWithOptions(source, &m, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("coverage/matrix.yaml: %w", err)
	}
	seen := map[string]bool{}
	for i := range m.Groups {
		for j := range m.Groups[i].Cells {
			c := &m.Groups[i].Cells[j]
			if c.State == "" {
				c.State = Guarded
			}
			if c.Streamed == nil {
				c.Streamed = []string{"no"}
			}
			if err := c.check(); err != nil {
				return nil, fmt.Errorf("coverage/matrix.yaml: %s, %s: %w", m.Groups[i].Endpoint, c.Channel, err)
			}
		}
	}
	for _, r := range m.Rows() {
		if seen[r.Name()] {
			return nil, fmt.Errorf("coverage/matrix.yaml: %s is there twice", r.Name())
		}
		seen[r.Name()] = true
	}
	return &m, nil
}

func (c *Cell) check() error {
	switch {
	case !slices.Contains([]string{Guarded, Refused, Unread}, c.State):
		return fmt.Errorf("state %q is none of guarded, refused, unread", c.State)
	case c.State != Guarded && c.Why == "":
		return fmt.Errorf("it is %s: why must say the reason", c.State)
	case c.State == Guarded && c.Kind == "":
		return fmt.Errorf("a guarded cell has a kind")
	case c.Passes && c.Why == "":
		return fmt.Errorf("the marker passes: why must say the reason")
	}
	for _, s := range c.Streamed {
		if s != "no" && s != "yes" {
			return fmt.Errorf("streamed %q is neither yes nor no", s)
		}
	}
	return nil
}

// Rows lists the rows in the order of the file.
func (m *Matrix) Rows() []Row {
	var out []Row
	for i := range m.Groups {
		g := &m.Groups[i]
		for j := range g.Cells {
			for _, s := range g.Cells[j].Streamed {
				out = append(out, Row{g, &g.Cells[j], s == "yes"})
			}
		}
	}
	return out
}

// StdioPath is the entry path of a row of MCP when the server is wrapped.
func (r Row) StdioPath() string { return "mcp/stdio/" + strings.TrimPrefix(r.Group.Path, "mcp/") }

// Method is the method of an HTTP endpoint.
func (g *Group) Method() string {
	method, _, _ := strings.Cut(g.Endpoint, " ")
	return method
}

// URL is the endpoint's path at the server.
func (g *Group) URL() string {
	_, path, _ := strings.Cut(g.Endpoint, " ")
	return path
}

// Canary is the cell of the instance's own tests that plays a row; "" if none does.
// A name in the matrix that does not speak of streaming is that of the row that is
// not streamed, or, where there is a test of that name, of both.
func (r Row) Canary() string {
	name := r.Cell.Canary
	if name == "" {
		return ""
	}
	const streamed = ", streamed"
	if r.Streamed && !strings.HasSuffix(name, streamed) {
		name += streamed
	}
	for _, t := range canary.Tests() {
		if t.Path == r.Group.Path && t.Cell == name {
			return name
		}
	}
	if r.Streamed {
		return ""
	}
	return name
}
