package api

// RouteList lists every route as "METHOD /path".
func RouteList() []string {
	var out []string
	for _, r := range (&api{}).routes() {
		out = append(out, r.method+" "+r.path)
	}
	return out
}

// OpenAPI is the document that is served.
func OpenAPI() []byte { return openAPI }

// CounterName is counterName.
var CounterName = counterName
