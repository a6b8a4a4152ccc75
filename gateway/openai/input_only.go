package openai

import (
	"errors"

	"github.com/guardbook/guardbook/gateway"
	"github.com/guardbook/guardbook/gateway/document"
)

// inputOnly is what endpoints have in common that take texts and answer with numbers:
// a block can only be an error, and answers pass as they come.
type inputOnly struct {
	api
	name string
}

var _ gateway.Unread = inputOnly{}

// Path is the entry path.
func (e inputOnly) Path() string { return e.path(e.name) }

// AnswerIsUnread says that answers are no texts.
func (inputOnly) AnswerIsUnread() {}

// Answer is not called: answers are not read.
func (inputOnly) Answer(*document.Document, *gateway.Call) (*gateway.Answer, error) {
	return nil, errors.New("is not read")
}

// Blocked is not called: a block is an error.
func (inputOnly) Blocked(*gateway.Call, string) []byte { return nil }

// Stream is not called: answers are not read.
func (inputOnly) Stream(*gateway.Call, *gateway.Out) gateway.Stream { return nil }

// embeddings is POST /v1/embeddings.
type embeddings struct{ inputOnly }

// Request finds every text of a request.
func (e embeddings) Request(doc *document.Document) (*gateway.Request, error) {
	return e.request(doc, func(r *reading, v document.Value) { r.prompts(v, "/v1/embeddings") })
}

// moderations is POST /v1/moderations.
type moderations struct{ inputOnly }

// Request finds every text of a request.
func (e moderations) Request(doc *document.Document) (*gateway.Request, error) {
	r, err := e.request(doc, func(r *reading, v document.Value) { r.said(v, "user") })
	if err == nil {
		r.Calls = map[string]int64{} // no provider counts it among the calls of a model
	}
	return r, err
}

// request reads a request whose texts are in "input".
func (e inputOnly) request(doc *document.Document, input func(*reading, document.Value)) (*gateway.Request, error) {
	r, err := read(doc)
	if err != nil {
		return nil, err
	}
	r.Unanswerable, r.Model = true, e.deployment
	for v := r.root.First(); v.Exists(); v = v.Next() {
		switch v.Name() {
		case "input":
			input(r, v)
		case "model":
			r.Model = v.Text()
			r.rest.AddIdentifiers(v)
		case "encoding_format":
			r.rest.AddIdentifiers(v)
		default:
			r.rest.AddStrings(v)
		}
	}
	r.add(r.rest)
	return r.Request, nil
}

// responseTokens is POST /v1/responses/input_tokens, which counts what a request would
// cost.
type responseTokens struct{ inputOnly }

// Request finds every text of a request.
func (e responseTokens) Request(doc *document.Document) (*gateway.Request, error) {
	r, err := responses{e.api}.Request(doc)
	if err != nil {
		return nil, err
	}
	r.Unanswerable, r.Stream, r.Calls = true, false, map[string]int64{}
	return r, nil
}
