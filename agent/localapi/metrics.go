package localapi

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// metrics counts. Its labels are the route's name, from the table of routes, and
// the status: nothing that a client chooses becomes a label.
type metrics struct {
	mu       sync.Mutex // guards the rest
	requests map[requestKey]uint64
	seconds  map[string]float64 // by route
}

type requestKey struct {
	route  string
	status int
}

func newMetrics() *metrics {
	return &metrics{requests: map[requestKey]uint64{}, seconds: map[string]float64{}}
}

func (m *metrics) observe(route string, status int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[requestKey{route, status}]++
	m.seconds[route] += took.Seconds()
}

// writeMetrics answers in Prometheus' text format.
func (s *Server) writeMetrics(w http.ResponseWriter, _ *http.Request) error {
	var b bytes.Buffer
	s.metrics.write(&b)
	for _, m := range s.mounts {
		if m.Metrics != nil {
			m.Metrics(&b)
		}
	}
	running, waiting := s.intake.Line.Load()
	ready := 0.0
	if s.Serving() == nil {
		ready = 1
	}
	gauges := []Gauge{
		{"anchorhold_ready", "1 while requests are served, 0 while they are refused.", ready},
		{"anchorhold_answers_running", "Answers under way.", float64(running)},
		{"anchorhold_answers_waiting", "Requests that wait for a slot.", float64(waiting)},
		{"anchorhold_request_memory_bytes", "Memory that requests hold.", float64(s.intake.Budget.Used())},
	}
	if s.cfg.Gauges != nil {
		gauges = append(gauges, s.cfg.Gauges()...)
	}
	for _, m := range s.mounts {
		if m.Gauges != nil {
			gauges = append(gauges, m.Gauges()...)
		}
	}
	for _, g := range gauges {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n%s %s\n", g.Name, g.Help, g.Name, g.Name, strconv.FormatFloat(g.Value, 'g', -1, 64))
	}
	b.WriteString("# HELP anchorhold_model_requests Requests that run and wait, by model; those of classifiers have none.\n# TYPE anchorhold_model_requests gauge\n")
	for _, m := range s.intake.Line.models() { // names of the configuration, not of clients
		running, waiting := s.intake.Line.LoadOf(m.Model)
		fmt.Fprintf(&b, "anchorhold_model_requests{model=%[1]q,state=\"running\"} %[2]d\nanchorhold_model_requests{model=%[1]q,state=\"waiting\"} %[3]d\n", m.Model, running, waiting)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
	return nil
}

func (m *metrics) write(b *bytes.Buffer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := make([]*requestKey, 0, len(m.requests))
	for k := range m.requests {
		keys = append(keys, &k)
	}
	slices.SortFunc(keys, func(x, y *requestKey) int {
		return cmp.Or(cmp.Compare(x.route, y.route), cmp.Compare(x.status, y.status))
	})
	fmt.Fprintf(b, "# HELP anchorhold_requests_total Requests by route and status.\n# TYPE anchorhold_requests_total counter\n")
	for _, k := range keys {
		fmt.Fprintf(b, "anchorhold_requests_total{route=%q,status=\"%d\"} %d\n", k.route, k.status, m.requests[*k])
	}
	routes := make([]string, 0, len(m.seconds))
	for r := range m.seconds {
		routes = append(routes, r)
	}
	slices.Sort(routes)
	fmt.Fprintf(b, "# HELP anchorhold_request_seconds_total Time spent on requests.\n# TYPE anchorhold_request_seconds_total counter\n")
	for _, r := range routes {
		fmt.Fprintf(b, "anchorhold_request_seconds_total{route=%q} %s\n", r, strconv.FormatFloat(m.seconds[r], 'g', -1, 64))
	}
}
