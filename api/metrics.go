package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus reads.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
}

func (a *api) newMetrics() *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "guardbook_api_requests_total", Help: "Requests to the operators' API, by route and status.",
	}, []string{"route", "status"})}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &state{a})
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) count(r *http.Request, w *statusWriter) {
	status := w.status
	if status == 0 {
		status = http.StatusOK // net/http's answer when a handler writes nothing
	}
	m.requests.WithLabelValues(r.Pattern, strconv.Itoa(status)).Inc()
}

func (a *api) showMetrics(w http.ResponseWriter, r *http.Request, _ string) error {
	a.metrics.handler.ServeHTTP(w, r)
	return nil
}

// state tells Prometheus what the instance counts and how the book stands, at
// the moment that it asks.
type state struct{ a *api }

// Describe sends nothing: the names are not known before they are counted.
func (s *state) Describe(chan<- *prometheus.Desc) {}

// Collect sends the present values.
func (s *state) Collect(out chan<- prometheus.Metric) {
	for name, v := range s.a.o.Counters.Counters() {
		metric, label, value := counterName(name)
		var labels, values []string
		if label != "" {
			labels, values = []string{label}, []string{value}
		}
		desc := prometheus.NewDesc(metric, "Total since the start of the instance.", labels, nil)
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), values...)
	}
	gauge := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, v)
	}
	b := s.a.o.Book
	writable := 1.0
	if b.Writable() != nil {
		writable = 0
	}
	sealed := b.Checkpoint()
	gauge("guardbook_book_writable", "1 when the last append to the book succeeded.", writable)
	gauge("guardbook_book_entries", "Entries in the book's current log.", float64(b.Size()))
	gauge("guardbook_book_sealed_entries", "Entries under the last checkpoint.", float64(sealed.Size))
	if !sealed.Time.IsZero() {
		gauge("guardbook_book_sealed_time_seconds", "When the last checkpoint was signed.", float64(sealed.Time.UnixMilli())/1000)
	}
	gauge("guardbook_containments", "Containments in force.", float64(len(s.a.o.Containments.List())))
	if s.a.o.Tools != nil {
		gauge("guardbook_mcp_tools_quarantined", "Tools of MCP servers that wait for an operator.", float64(s.a.o.Tools.Waiting()))
	}
	gauge("guardbook_timeline_streams", "Open streams of the live timeline.", float64(s.a.streams.Load()))
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc("guardbook_build_info", "The program's version.", []string{"version"}, nil),
		prometheus.GaugeValue, 1, s.a.o.Version)
}

// counterName turns a counter's name into a metric with at most one label:
// "decision.block" into guardbook_decisions_total{action="block"}, "layer.L1.runs"
// into guardbook_layer_runs_total{layer="L1"}, and any other dotted name into its
// first part with the rest as the label "name".
func counterName(name string) (metric, label, value string) {
	first, rest, dotted := strings.Cut(name, ".")
	switch {
	case !dotted:
		return "guardbook_" + plain(name) + "_total", "", ""
	case first == "decision":
		return "guardbook_decisions_total", "action", rest
	case first == "kind":
		return "guardbook_kinds_total", "kind", rest
	case first == "path":
		return "guardbook_paths_total", "path", rest
	case first == "layer":
		if i := strings.LastIndexByte(rest, '.'); i >= 0 {
			return "guardbook_layer_" + plain(rest[i+1:]) + "_total", "layer", rest[:i]
		}
	}
	return "guardbook_" + plain(first) + "_total", "name", rest
}

// plain keeps what a metric's name may have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}
