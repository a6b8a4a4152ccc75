package pin_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/gateway/document"
	"github.com/guardbook/guardbook/gateway/mcp/internal/bed"
	"github.com/guardbook/guardbook/gateway/mcp/pin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	crm   = pin.Server{Name: "crm", Identity: pin.URLIdentity("https://crm.example/mcp")}
	files = pin.Server{Name: "files", Identity: pin.CommandIdentity([]string{"npx", "files", "/srv"})}
)

func define(t *testing.T, entry string) pin.Definition {
	t.Helper()
	doc, err := document.Parse([]byte(entry))
	if err != nil {
		t.Fatal(err)
	}
	d, err := pin.Define(doc.Root())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tool(t *testing.T, name, description string) pin.Definition {
	return define(t, `{"name":"`+name+`","description":"`+description+`","inputSchema":{"type":"object"}}`)
}

// list has a whole list of tools judged.
func list(t *testing.T, s *pin.Store, agent string, of pin.Server, tools ...pin.Definition) string {
	t.Helper()
	all := []string{}
	for _, d := range tools {
		all = append(all, d.Name)
	}
	vs, err := s.Page(t.Context(), agent, guardbook.DefaultTenant, of, pin.Page{Tools: tools, Complete: true, All: all})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range vs {
		out = append(out, string(v.State))
	}
	return strings.Join(out, " ")
}

func TestAHashIsOfTheMeaningAndOfNothingElse(t *testing.T) {
	a := define(t, `{"name":"a","description":"d","inputSchema":{"type":"object","maximum":1.0},"_meta":{"x":1},"icons":[]}`)
	b := define(t, `{"inputSchema": {"maximum":1, "type":"\u006fbject"}, "description":"d", "name":"a", "execution":{}}`)
	if a.Hash != b.Hash || string(a.JSON) != `{"description":"d","inputSchema":{"maximum":1,"type":"object"},"name":"a"}` {
		t.Errorf("%s\n%s", a.JSON, b.JSON)
	}
	for _, other := range []string{
		`{"name":"b","description":"d","inputSchema":{"type":"object","maximum":1}}`,
		`{"name":"a","description":"D","inputSchema":{"type":"object","maximum":1}}`,
		`{"name":"a","title":"t","description":"d","inputSchema":{"type":"object","maximum":1}}`,
		`{"name":"a","description":"d","inputSchema":{"type":"object","maximum":2}}`,
		`{"name":"a","description":"d","inputSchema":{"type":"object","maximum":1},"outputSchema":{}}`,
		`{"name":"a","description":"d","inputSchema":{"type":"object","maximum":1},"annotations":{"readOnlyHint":true}}`,
	} {
		if define(t, other).Hash == a.Hash {
			t.Errorf("%s has the same hash", other)
		}
	}
}

func TestTheLifeOfATool(t *testing.T) {
	b := bed.New(t, "")
	s := b.Pins
	one, two := tool(t, "time", "tells the time"), tool(t, "time", "tells another time")
	if got := list(t, s, bed.Agent, crm, one); got != "pinned" {
		t.Fatal(got)
	}
	if got := list(t, s, bed.Agent, crm, two); got != "quarantined" {
		t.Fatal(got)
	}
	if s.Waiting() != 1 {
		t.Errorf("%d wait", s.Waiting())
	}
	tools, _ := s.List("crm")
	pinned, offered := s.Definitions(tools[0])
	if string(pinned) != string(one.JSON) || string(offered) != string(two.JSON) {
		t.Errorf("%s\n%s", pinned, offered)
	}
	_, err := s.Approve(t.Context(), pin.Judgement{Server: "crm", Tool: "time", Hash: one.Hash, By: "ann", Reason: "seen"})
	if !errors.Is(err, pin.ErrConflict) {
		t.Errorf("approved what was not seen: %v", err)
	}
	if _, err := s.Approve(t.Context(), pin.Judgement{Server: "crm", Tool: "time", By: "ann"}); !errors.Is(err, pin.ErrInvalid) {
		t.Errorf("approved without a reason: %v", err)
	}
	if _, err := s.Approve(t.Context(), pin.Judgement{Server: "crm", Tool: "nothing", By: "ann", Reason: "x"}); !errors.Is(err, pin.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if x, err := s.Approve(t.Context(), pin.Judgement{Server: "crm", Tool: "time", Hash: two.Hash, By: "ann", Reason: "release notes"}); err != nil || x.State != pin.Pinned || x.Hash != two.Hash {
		t.Fatalf("%+v %v", x, err)
	}
	if got := list(t, s, bed.Agent, crm, two) + ", back: " + list(t, s, bed.Agent, crm, one); got != "pinned, back: quarantined" {
		t.Error(got)
	}
	if x, err := s.Reject(t.Context(), pin.Judgement{Server: "crm", Tool: "time", By: "ann", Reason: "no"}); err != nil || x.State != pin.Rejected {
		t.Fatalf("%+v %v", x, err)
	}
	// A rejected definition stays rejected without another alarm; the pinned one is good.
	if got := list(t, s, bed.Agent, crm, one) + ", " + list(t, s, bed.Agent, crm, one) + ", " + list(t, s, bed.Agent, crm, two); got != "rejected, rejected, pinned" {
		t.Error(got)
	}
	// What was pinned can be rejected, and is not trusted again for having been.
	if _, err := s.Reject(t.Context(), pin.Judgement{Server: "crm", Tool: "time", By: "ann", Reason: "it leaks"}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, bed.Agent, crm, two); got != "rejected" {
		t.Error(got)
	}
	if v, err := s.Call(bed.Agent, crm, "time"); err != nil || v.Passes() {
		t.Errorf("%+v %v", v, err)
	}
	var ops []string
	for _, e := range b.Steps(t) {
		ops = append(ops, e.Op)
	}
	if got := strings.Join(ops, " "); got != "pinned listed quarantined approved quarantined rejected restored rejected" {
		t.Error(got)
	}
}

func TestTheStateIsAFoldOfTheBook(t *testing.T) {
	b := bed.New(t, "")
	one, two := tool(t, "time", "a"), tool(t, "time", "b")
	list(t, b.Pins, bed.Agent, crm, one, tool(t, "query", "q"))
	list(t, b.Pins, bed.Agent, crm, two, tool(t, "new", "n"))
	list(t, b.Pins, bed.Agent, files, tool(t, "read", "r"))
	if _, err := b.Pins.Approve(t.Context(), pin.Judgement{Server: "crm", Tool: "new", By: "ann", Reason: "fine"}); err != nil {
		t.Fatal(err)
	}
	again := b.NewPins()
	for _, e := range b.All(t, "") {
		if err := again.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := b.Pins.List("")
	got, err := again.List("")
	if err != nil || len(got) != len(want) || len(got) != 4 {
		t.Fatalf("%v\n%+v\n%+v", err, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v\n%+v", got[i], want[i])
		}
	}
	before := len(b.Steps(t))
	if got := list(t, again, bed.Agent, crm, two, tool(t, "new", "n")); got != "quarantined pinned" || len(b.Steps(t)) != before {
		t.Errorf("%s, %d steps more", got, len(b.Steps(t))-before)
	}
}

func TestWhatComesAndGoesIsNotedOnce(t *testing.T) {
	b := bed.New(t, "")
	a, c := tool(t, "a", "x"), tool(t, "c", "for some users only")
	for range 5 {
		if got := list(t, b.Pins, bed.Agent, crm, a, c) + ", " + list(t, b.Pins, bed.Agent, crm, a); got != "pinned pinned, pinned" {
			t.Fatal(got)
		}
	}
	var ops []string
	for _, e := range b.Steps(t) {
		ops = append(ops, e.Op)
	}
	if got := strings.Join(ops, " "); got != "pinned pinned listed removed restored" {
		t.Error(got)
	}
}

func TestAServerThatMakesUpToolsWithoutEndFillsNothing(t *testing.T) {
	b := bed.New(t, "")
	list(t, b.Pins, bed.Agent, crm, tool(t, "a", "x"))
	for page := range 12 {
		p := pin.Page{Complete: true}
		for i := range 1000 {
			p.Tools = append(p.Tools, pin.Definition{Name: fmt.Sprint(page, "-", i), Hash: fmt.Sprint("sha256:", page, "-", i)})
		}
		vs, err := b.Pins.Page(t.Context(), bed.Agent, "", crm, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			if v.Passes() {
				t.Fatalf("%+v", v)
			}
		}
	}
	if tools, _ := b.Pins.List(""); len(tools) > 10_000 {
		t.Errorf("%d tools are remembered", len(tools))
	}
}

func TestNoAgentChangesWhatAnotherTrusts(t *testing.T) {
	s := bed.New(t, "").Pins
	list(t, s, bed.Agent, files, tool(t, "read", "an evil text"))
	if got := list(t, s, bed.Other, files, tool(t, "read", "reads")); got != "pinned" {
		t.Errorf("what %s told of its own server counts for %s: %s", bed.Agent, bed.Other, got)
	}
	// A server that Guardbook itself talks to is the same for all.
	list(t, s, bed.Agent, crm, tool(t, "time", "a"))
	if got := list(t, s, bed.Other, crm, tool(t, "time", "b")); got != "quarantined" {
		t.Error(got)
	}
	if _, err := s.Reject(t.Context(), pin.Judgement{Server: "files", Tool: "read", By: "ann", Reason: "x"}); !errors.Is(err, pin.ErrConflict) || !strings.Contains(err.Error(), "--identity") {
		t.Errorf("two servers of one name: %v", err)
	}
}

func TestAStoreThatCannotBeRebuiltLetsNothingPass(t *testing.T) {
	b := bed.New(t, "")
	list(t, b.Pins, bed.Agent, crm, tool(t, "time", "a"))
	for name, body := range map[string]guardbook.ToolEntry{
		"an operation that is not known": {Op: "blessed", Tool: guardbook.ToolRef{Server: "crm", Name: "time"}, Identity: crm.Identity},
		"no server":                      {Op: pin.OpPinned, Tool: guardbook.ToolRef{Name: "time"}},
		"no tool":                        {Op: pin.OpPinned, Identity: crm.Identity},
	} {
		s := b.NewPins()
		if _, err := b.Book.Append(t.Context(), guardbook.Draft{Type: guardbook.TypeTool, Body: body}); err != nil {
			t.Fatal(err)
		}
		list := b.All(t, guardbook.TypeTool)
		_ = s.Apply(list[0])
		_ = s.Apply(list[len(list)-1])
		_, err := s.Page(t.Context(), bed.Agent, "", crm, pin.Page{Complete: true})
		_, err2 := s.Call(bed.Agent, crm, "time")
		if !errors.Is(err, pin.ErrCorrupt) || !errors.Is(err2, pin.ErrCorrupt) || !strings.Contains(err.Error(), "guardbook book verify") {
			t.Errorf("%s: %v, %v", name, err, err2)
		}
	}
}

func TestWhatCannotBeRecordedTakesNoEffect(t *testing.T) {
	b := bed.New(t, "")
	b.Broken.Store(true)
	if _, err := b.Pins.Page(t.Context(), bed.Agent, "", crm, pin.Page{Tools: []pin.Definition{tool(t, "time", "a")}, Complete: true}); !errors.Is(err, pin.ErrNotRecorded) {
		t.Errorf("%v", err)
	}
	b.Broken.Store(false)
	if v, err := b.Pins.Call(bed.Agent, crm, "time"); err != nil || v.State != pin.Unlisted {
		t.Errorf("%+v %v", v, err)
	}
}

func TestADefinitionThatWasTamperedWithIsNotShown(t *testing.T) {
	b := bed.New(t, "")
	list(t, b.Pins, bed.Agent, crm, tool(t, "time", "a"))
	found, err := filepath.Glob(filepath.Join(b.Texts, "*.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v %v", found, err)
	}
	if info, err := os.Stat(found[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := os.WriteFile(found[0], []byte(`{"name":"time"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tools, _ := b.Pins.List("")
	if pinned, _ := b.Pins.Definitions(tools[0]); pinned != nil {
		t.Errorf("%s", pinned)
	}
	if got := list(t, b.Pins, bed.Agent, crm, tool(t, "time", "a")); got != "pinned" {
		t.Errorf("the kept text decides: %s", got)
	}
}

func TestIdentities(t *testing.T) {
	if pin.CommandIdentity([]string{"a", "b c"}) == pin.CommandIdentity([]string{"a", "b", "c"}) || pin.CommandIdentity([]string{"ab"}) == pin.CommandIdentity([]string{"a", "b"}) {
		t.Error("two commands have one identity")
	}
	if err := pin.CheckCommand(files.Identity); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", crm.Identity, "stdio:abc", files.Identity + "@x", strings.ToUpper(files.Identity)} {
		if pin.CheckCommand(s) == nil {
			t.Errorf("%q passes", s)
		}
	}
}
