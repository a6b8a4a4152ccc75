package stdio

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json/jsontext"
	"fmt"
	"io"

	"github.com/guardbook/guardbook"
)

// Protocol is the name that both ends of a link upgrade an HTTP connection to.
const Protocol = "guardbook-mcp/1"

// MessageLimit is how large one MCP message may be.
const MessageLimit = 16 << 20

// frameLimit is how large a frame may be: the texts of a message, each with a name.
const frameLimit = 4 * MessageLimit

// What a frame carries.
const (
	askDecide byte = 'D' // []interaction: answered with []guardbook.Decision
	askTools  byte = 'L' // pin.Page: answered with []pin.Verdict
	askTool   byte = 'T' // a tool's name: answered with a pin.Verdict
	tellOff   byte = 'R' // refusal: not answered
	answered  byte = 'a' // what was asked for
	failed    byte = 'e' // a sentence: why there is no answer
	corrupt   byte = 'c' // a sentence: the pins cannot be trusted
	stopped   byte = 'X' // a sentence: why everything ends now
)

// frame is one unit on a link: a byte for what it is, four for the number of the
// question, four for the length, and the bytes.
type frame struct {
	kind byte
	id   uint32
	data []byte
}

func readFrame(r *bufio.Reader) (frame, error) {
	var head [9]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[5:])
	if n > frameLimit {
		return frame{}, fmt.Errorf("a frame of %d bytes is over the limit of %d", n, frameLimit)
	}
	var data bytes.Buffer
	data.Grow(int(min(n, 1<<20))) // memory is taken for what came, not for what is promised
	if _, err := io.CopyN(&data, r, int64(n)); err != nil {
		return frame{}, fmt.Errorf("a frame ends early: %w", err)
	}
	return frame{head[0], binary.BigEndian.Uint32(head[1:]), data.Bytes()}, nil
}

func writeFrame(w *bufio.Writer, f frame) error {
	if len(f.data) > frameLimit {
		return fmt.Errorf("a frame of %d bytes is over the limit of %d", len(f.data), frameLimit)
	}
	var head [9]byte
	head[0] = f.kind
	binary.BigEndian.PutUint32(head[1:], f.id)
	binary.BigEndian.PutUint32(head[5:], uint32(len(f.data)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	if _, err := w.Write(f.data); err != nil {
		return err
	}
	return w.Flush()
}

// interaction is a guardbook.Interaction on a link. Who the agent is, and which
// server it talks to, the link's other end knows.
type interaction struct {
	Kind    guardbook.Kind   `json:"kind"`
	Role    string           `json:"role,omitzero"`
	Path    string           `json:"path"`
	Tool    string           `json:"tool,omitzero"`
	HasTool bool             `json:"has_tool,omitzero"`
	CallID  string           `json:"call_id,omitzero"`
	Args    string           `json:"arguments,omitzero"` // as text: not a byte may change
	Content []guardbook.Part `json:"content,omitzero"`
	Context string           `json:"context,omitzero"`
}

func pack(in *guardbook.Interaction) interaction {
	out := interaction{Kind: in.Kind, Role: in.Role, Path: in.Path, Content: in.Content, Context: in.Context}
	if in.Tool != nil {
		out.HasTool, out.Tool, out.CallID, out.Args = true, in.Tool.Name, in.Tool.CallID, string(in.Tool.Arguments)
	}
	return out
}

func (i interaction) unpack(server string) (*guardbook.Interaction, error) {
	switch i.Kind {
	case guardbook.KindInput, guardbook.KindOutput, guardbook.KindToolCall, guardbook.KindToolResult, guardbook.KindToolDefinition, guardbook.KindMemory:
	default:
		return nil, fmt.Errorf("there is no kind of interaction by this name")
	}
	if !named(i.Path) || len(i.Role) > 64 || len(i.Tool) > 1024 || len(i.CallID) > 1024 {
		return nil, fmt.Errorf("a name is too long, or not plain")
	}
	out := &guardbook.Interaction{Kind: i.Kind, Role: i.Role, Path: i.Path, Content: i.Content, Context: i.Context}
	if i.HasTool {
		out.Tool = &guardbook.Tool{Server: server, Name: i.Tool, CallID: i.CallID, Arguments: jsontext.Value(i.Args)}
	}
	return out, nil
}

// named reports whether s is an entry path: other processes' words in the book must
// be plain.
func named(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '/', c == '-', c == '$':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 128
}
