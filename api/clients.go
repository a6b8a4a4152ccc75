package api

import (
	"net/http"

	"github.com/guardbook/guardbook/clients"
)

// listClients shows the account of the SDKs' processes: what each has numbered, and
// which numbers never arrived.
func (a *api) listClients(w http.ResponseWriter, _ *http.Request, _ string) error {
	list := []clients.Client{}
	if a.o.Clients != nil {
		list = a.o.Clients.List()
	}
	return writeJSON(w, http.StatusOK, map[string][]clients.Client{"clients": list})
}
