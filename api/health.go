package api

import "net/http"

// healthz says that the process answers. Its answer also tells what answers:
// guardbook doctor asks it when a port is taken.
func (a *api) healthz(w http.ResponseWriter, _ *http.Request, _ string) error {
	return writeJSON(w, http.StatusOK, struct {
		Status  string `json:"status"`
		Service string `json:"service"`
		Version string `json:"version"`
	}{"ok", "guardbook", a.o.Version})
}

// readyz says whether agents can be guarded, and if not, why.
func (a *api) readyz(w http.ResponseWriter, _ *http.Request, _ string) error {
	reasons := []string{}
	if err := a.o.Book.Writable(); err != nil {
		reasons = append(reasons, "the book cannot be written: "+err.Error())
	}
	if a.o.Policies.Current() == nil {
		reasons = append(reasons, "no policy is loaded")
	}
	if a.o.Ready != nil {
		reasons = append(reasons, a.o.Ready()...)
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}{len(reasons) == 0, reasons})
}
