package standin_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/guardbook/guardbook/demo/standin"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(standin.New(nil))
	t.Cleanup(srv.Close)
	ask := func(plan, messages string) (int, string) {
		t.Helper()
		model := standin.Model + "/plan:" + plan
		resp, err := http.Post(srv.URL+"/openai/v1/chat/completions", "application/json", // a server of this test
			strings.NewReader(`{"model":"`+model+`","messages":[`+messages+`]}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	const user, assistant = `{"role":"user","content":"hi"}`, `,{"role":"assistant","content":"x"}`
	good := base64.RawURLEncoding.EncodeToString([]byte(`[{"calls":[{"name":"look","arguments":{"at":1}}]},{"text":"done"}]`))
	if code, body := ask(good, user); code != http.StatusOK || !strings.Contains(body, `"name":"look","arguments":"{\"at\":1}"`) {
		t.Errorf("first turn: %d %s", code, body)
	}
	for _, turns := range []int{1, 4} { // the last turn is played on
		if code, body := ask(good, user+strings.Repeat(assistant, turns)); code != http.StatusOK || !strings.Contains(body, `"content":"done"`) {
			t.Errorf("after %d turns: %d %s", turns, code, body)
		}
	}
	for name, bad := range map[string]string{"not base64": "***", "not a list": "e30", "empty": "W10"} {
		if code, body := ask(bad, user); code != http.StatusBadRequest || !strings.Contains(body, "the plan in the model's name") {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
}
