package api

import (
	"context"
	"net/http"

	"github.com/guardbook/guardbook"
	"github.com/guardbook/guardbook/respond"
)

// Alerts is where alerts are read and worked on.
type Alerts interface {
	List(f respond.Filter) []respond.Alert
	Get(id string) (respond.Alert, error)
	Open() int // how many are not closed
	Ack(ctx context.Context, id, by, comment string) (respond.Alert, error)
	Assign(ctx context.Context, id, by, owner string) (respond.Alert, error)
	Close(ctx context.Context, id, by, disposition, comment string) (respond.Alert, error)
}

func (a *api) listAlerts(w http.ResponseWriter, r *http.Request, _ string) error {
	p := query(r, "state", "agent", "class", "severity")
	f := respond.Filter{
		State: respond.State(p.oneOf("state", names(respond.States))), Agent: p.text("agent"),
		Class: guardbook.Class(p.oneOf("class", names(guardbook.Classes))),
	}
	if s := p.severity("severity"); s != nil {
		f.Severity = *s
	}
	if p.err != nil {
		return p.err
	}
	list := a.o.Alerts.List(f)
	if list == nil {
		list = []respond.Alert{}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"alerts": list})
}

func (a *api) showAlert(w http.ResponseWriter, r *http.Request, by string) error {
	x, err := a.o.Alerts.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := a.read(r.Context(), "alert_read", by, x.ID, map[string]string{"alert": x.ID}); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, x)
}

func (a *api) ackAlert(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Comment string `json:"comment"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	return answerAlert(w)(a.o.Alerts.Ack(r.Context(), r.PathValue("id"), by, in.Comment))
}

func (a *api) assignAlert(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Owner string `json:"owner"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	return answerAlert(w)(a.o.Alerts.Assign(r.Context(), r.PathValue("id"), by, in.Owner))
}

func (a *api) closeAlert(w http.ResponseWriter, r *http.Request, by string) error {
	var in struct {
		Disposition string `json:"disposition"`
		Comment     string `json:"comment"`
	}
	if err := readBody(w, r, &in); err != nil {
		return err
	}
	return answerAlert(w)(a.o.Alerts.Close(r.Context(), r.PathValue("id"), by, in.Disposition, in.Comment))
}

// answerAlert sends an alert as it is after a step.
func answerAlert(w http.ResponseWriter) func(respond.Alert, error) error {
	return func(x respond.Alert, err error) error {
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, x)
	}
}
