package instance_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatWasJustDecidedIsFoundAtOnce(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	i, err := start(t, config(t, data, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, i)()
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, body string, header ...string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, i.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(header[0], header[1])
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	operator := []string{"Authorization", "Bearer " + strings.TrimSpace(string(token))}
	_, key, _ := strings.Cut(send(http.MethodPost, "/api/v1/agents", `{"name":"steady"}`, operator...), `"key":"`)
	key, _, _ = strings.Cut(key, `"`)
	for n := range 20 {
		session := fmt.Sprintf("s-%d", n)
		answer := send(http.MethodPost, "/v1/inspect", fmt.Sprintf(`{"kind":"input","session":%q,"content":"hello"}`, session), "X-Guardbook-Key", key)
		if got := send(http.MethodGet, "/api/v1/events?session="+session, "", operator...); !strings.Contains(got, `"type":"decision"`) {
			t.Fatalf("the decision of %s is not found:\n%s\n%s", session, got, answer)
		}
	}
}
