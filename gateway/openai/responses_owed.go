package openai

import (
	"strings"

	"github.com/guardbook/guardbook/gateway/document"
)

// A provider that keeps a conversation waits for the result of every call that it
// made, and refuses to go on without. The client never saw a call that was blocked, so
// it cannot give one. The calls that results are owed for are therefore named in the
// id of the answer that the client is given; when the id comes back as
// previous_response_id, it is put right and the results are added.

const owedMark = ".blocked"

// owedForms are the calls that a result in text can be given for, by a letter.
var owedForms = map[string]struct{ letter, kind string }{
	"function_call":    {"f", "function_call_output"},
	"custom_tool_call": {"c", "custom_tool_call_output"},
	"shell_call":       {"s", "shell_call_output"},
	"apply_patch_call": {"a", "apply_patch_call_output"},
}

const owedText = "[Blocked by policy: this call was not carried out. Choose another approach; do not retry.]"

// owe is what the id of an answer gets for a call that was blocked.
func owe(kind, callID string) string {
	form := owedForms[kind]
	if form.letter == "" || callID == "" || !document.Plain(callID) || strings.Contains(callID, ".") {
		return ""
	}
	return "." + form.letter + callID
}

// markOwed puts what is owed into an answer's id.
func markOwed(response document.Value, owed string) {
	if id := response.Get("id"); owed != "" && id.Text() != "" {
		id.SetText(id.Text() + owedMark + owed)
	}
}

// cutOwed splits an id that was marked into the provider's own and the results that
// are owed, each with a comma behind it.
func cutOwed(id string) (own, results string) {
	own, owed, found := strings.Cut(id, owedMark+".")
	if !found {
		return id, ""
	}
	for call := range strings.SplitSeq(owed, ".") {
		for from, form := range owedForms {
			callID, ok := strings.CutPrefix(call, form.letter)
			if !ok || callID == "" {
				continue
			}
			output := itemForms[form.kind].instead(owedText)
			status := ""
			if from == "apply_patch_call" {
				status = `"status":"failed",`
			}
			results += `{"type":"` + form.kind + `","call_id":` + document.Quote(callID) + `,` + status + `"output":` + output + `},`
		}
	}
	return own, results
}

// payOwed adds results to a request's input, in front of what the client sends.
func payOwed(root document.Value, results string) {
	input := root.Get("input")
	items := ""
	switch {
	case input.IsString():
		items = `{"role":"user","content":` + input.Edited() + `}`
	case input.Kind() == '[':
		items = strings.TrimSuffix(strings.TrimPrefix(input.Edited(), "["), "]")
	}
	if strings.TrimSpace(items) == "" {
		results = strings.TrimSuffix(results, ",")
	}
	setMember(root, "input", "["+results+items+"]")
}
