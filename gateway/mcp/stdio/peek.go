package stdio

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"io"

	"github.com/guardbook/guardbook/gateway/mcp"
)

// peeked is what a wrapper knows of a message without a server: enough to answer
// it, not enough to judge it.
type peeked struct {
	id     string // as it stands in the message; "" for a notification
	method string // "" for a response
	gone   string // of notifications/cancelled: the id that nobody waits for any more
}

func (p peeked) notification() bool { return p.method != "" && p.id == "" }
func (p peeked) response() bool     { return p.method == "" }

var errNotMessage = errors.New("this is not one JSON-RPC message")

// peek reads the outside of a message. Names that appear twice are errors, as
// everywhere: another parser might take the other one.
func peek(message []byte) (p peeked, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(message))
	if d.PeekKind() != '{' {
		return p, errNotMessage
	}
	if _, err := d.ReadToken(); err != nil {
		return p, err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return p, err
		}
		switch key := name.String(); {
		case key == "id" && d.PeekKind() != 'n':
			v, err := d.ReadValue()
			if err != nil {
				return p, err
			}
			if k := v.Kind(); k != '"' && k != '0' {
				return p, errNotMessage
			}
			p.id = string(v)
		case key == "method" && d.PeekKind() == '"':
			v, err := d.ReadToken()
			if err != nil {
				return p, err
			}
			p.method = v.String()
		case key == "params" && d.PeekKind() == '{':
			v, err := d.ReadValue()
			if err != nil {
				return p, err
			}
			var params struct {
				RequestID jsontext.Value `json:"requestId"`
			}
			if len(v) < 4096 && json.Unmarshal(v, &params) == nil { // a cancellation is short
				p.gone = string(params.RequestID)
			}
		default:
			if err := d.SkipValue(); err != nil {
				return p, err
			}
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return p, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return p, errNotMessage
	}
	if p.method == "" && p.id == "" {
		return p, errNotMessage
	}
	return p, nil
}

// codeRefused is the JSON-RPC code of what was stopped, as the core answers it.
const codeRefused = mcp.CodeBlocked

func quote(s string) []byte {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil { // not UTF-8
		b, _ = jsontext.AppendQuote(nil, string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD"))))
	}
	return b
}

// rpcError is an error response.
func rpcError(id string, code int, text string) []byte {
	if id == "" {
		id = "null"
	}
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	b = append(b, `,"error":{"code":`...)
	b = append(b, jsontext.Int(int64(code)).String()...)
	b = append(b, `,"message":`...)
	b = append(b, quote(text)...)
	return append(b, "}}"...)
}

// toolError is a result that a client hands to the model, so that the agent goes on.
// It serves both eras: older clients pass over resultType.
func toolError(id, text string) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","id":`), id...)
	b = append(b, `,"result":{"resultType":"complete","content":[{"type":"text","text":`...)
	b = append(b, quote(text)...)
	return append(b, `}],"isError":true}}`...)
}

// answerFor is the refusal of a request, in the form that its client goes on with.
func answerFor(p peeked, text string) []byte {
	if p.method == "tools/call" {
		return toolError(p.id, text)
	}
	return rpcError(p.id, codeRefused, text)
}

// withoutInstructions takes the texts for the model out of the answer to a
// handshake: nobody has read them.
func withoutInstructions(message []byte) ([]byte, error) {
	var m, result map[string]jsontext.Value
	if err := json.Unmarshal(message, &m); err != nil {
		return nil, err
	}
	if m["result"].Kind() != '{' {
		return message, nil
	}
	if err := json.Unmarshal(m["result"], &result); err != nil {
		return nil, err
	}
	if result["instructions"] == nil {
		return message, nil
	}
	delete(result, "instructions")
	b, err := json.Marshal(result)
	if err != nil {
		return nil, err
	}
	m["result"] = b
	return json.Marshal(m)
}
