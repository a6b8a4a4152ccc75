package instance_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A base URL without the provider's name is the mistake that newcomers make: the
// answer says what is missing, in the shape that their client reads.
func TestAPathWithoutADoorSaysWhereTheDoorsAre(t *testing.T) {
	i, err := start(t, config(t, filepath.Join(t.TempDir(), "data"), "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, i)()
	for _, path := range []string{"/v1/responses", "/v1/chat/completions", "/up/nobody/v1/chat/completions"} {
		resp, err := http.Post(i.URL()+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), `{"error":{"message":`) || !strings.Contains(string(body), "/openai/v1") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
