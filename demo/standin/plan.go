package standin

import (
	"encoding/base64"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"
	"time"
)

// planPrefix begins the script's name of a model that brings its turns along:
// "guardbook-stand-in/plan:" and the turns as JSON in unpadded base64url.
const planPrefix = "plan:"

// planned is a turn as a plan writes it.
type planned struct {
	Text  string `json:"text"`
	Calls []struct {
		Name      string         `json:"name"`
		Arguments jsontext.Value `json:"arguments"`
	} `json:"calls"`
	PaceMS int `json:"pace_ms"`
	Repeat int `json:"repeat"`
}

// plan reads the turns from a model's name, for a test whose story no script tells.
// The last turn is played for every turn after it. isPlan reports whether the name
// is one.
func plan(name string) (script Script, isPlan bool, err error) {
	code, ok := strings.CutPrefix(name, planPrefix)
	if !ok {
		return nil, false, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(code)
	if err != nil {
		return nil, true, fmt.Errorf("the plan in the model's name is not unpadded base64url: %w", err)
	}
	var list []planned
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, true, fmt.Errorf(`the plan in the model's name is not a list of {"text", "calls", "pace_ms", "repeat"}: %w`, err)
	}
	if len(list) == 0 {
		return nil, true, errors.New("the plan in the model's name has no turn")
	}
	turns := make([]Turn, len(list))
	for i, p := range list {
		turns[i] = Turn{Text: p.Text, Pace: time.Duration(p.PaceMS) * time.Millisecond, Repeat: p.Repeat}
		for _, c := range p.Calls {
			turns[i].Calls = append(turns[i].Calls, Call{Name: c.Name, Arguments: string(c.Arguments)})
		}
	}
	return func(turn int, _ string) Turn { return turns[min(turn, len(turns)-1)] }, true, nil
}
