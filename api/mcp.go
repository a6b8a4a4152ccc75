package api

import (
	"context"
	"encoding/json/jsontext"
	"net/http"

	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

// Tools are the pinned tools of MCP servers.
type Tools interface {
	List(server string) ([]pin.Tool, error)
	Definitions(t pin.Tool) (pinned, offered []byte)
	Approve(ctx context.Context, j pin.Judgement) (pin.Tool, error)
	Reject(ctx context.Context, j pin.Judgement) (pin.Tool, error)
	// Waiting counts the tools that are quarantined.
	Waiting() int
}

// toolJSON is a tool with its definitions, as far as their texts were kept.
type toolJSON struct {
	pin.Tool
	Definition        jsontext.Value `json:"definition,omitzero"`
	OfferedDefinition jsontext.Value `json:"offered_definition,omitzero"`
}

// listTools shows how every tool of every MCP server stands; with definitions, also
// what the server says of it.
func (a *api) listTools(w http.ResponseWriter, r *http.Request, _ string) error {
	p := query(r, "server", "tool", "state", "definitions")
	server, name := p.text("server"), p.text("tool")
	state := p.oneOf("state", []string{string(pin.Pinned), string(pin.Quarantined), string(pin.Rejected)})
	full := p.oneOf("definitions", []string{"show", "hide"}) == "show"
	if p.err != nil {
		return p.err
	}
	out := []toolJSON{}
	if a.o.Tools == nil {
		return writeJSON(w, http.StatusOK, map[string]any{"tools": out})
	}
	list, err := a.o.Tools.List(server)
	if err != nil {
		return err
	}
	for _, t := range list {
		if name != "" && t.Tool != name || state != "" && string(t.State) != state {
			continue
		}
		x := toolJSON{Tool: t}
		if full {
			x.Definition, x.OfferedDefinition = a.o.Tools.Definitions(t)
		}
		out = append(out, x)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"tools": out})
}

func (a *api) approveTool(w http.ResponseWriter, r *http.Request, by string) error {
	return a.judgeTool(w, r, by, Tools.Approve)
}

func (a *api) rejectTool(w http.ResponseWriter, r *http.Request, by string) error {
	return a.judgeTool(w, r, by, Tools.Reject)
}

func (a *api) judgeTool(w http.ResponseWriter, r *http.Request, by string, judge func(Tools, context.Context, pin.Judgement) (pin.Tool, error)) error {
	var in struct {
		Server   string `json:"server"`
		Tool     string `json:"tool"`
		Identity string `json:"identity"`
		Hash     string `json:"hash"`
		Reason   string `json:"reason"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	if in.Server == "" || in.Tool == "" {
		return invalid("name the server and the tool")
	}
	if a.o.Tools == nil {
		return notFound("this server pins no tools")
	}
	t, err := judge(a.o.Tools, r.Context(), pin.Judgement{Server: in.Server, Tool: in.Tool, Identity: in.Identity, Hash: in.Hash, By: by, Reason: in.Reason})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, toolJSON{Tool: t})
}
