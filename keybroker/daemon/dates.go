package daemon

import (
	"fmt"
	"maps"

	"github.com/anchorhold/anchorhold/systemd/deadline"
)

// dates are all dates on which this broker would stop to serve, or a guest to be served.
func (d *daemon) dates() []deadline.Date {
	var out []deadline.Date
	if number, at := d.epochs.End(); number > 0 {
		out = append(out, deadline.Date{Kind: "epoch", Name: fmt.Sprint(number), At: at})
	}
	out = append(out, deadline.OfTLS(d.certificate.current.Load())...)
	if p := d.policies.Current(); p != nil {
		_, at := p.Validity()
		out = append(out, deadline.Date{Kind: "policy", Name: fmt.Sprintf("%s version %d", p.ID(), p.Version()), At: at})
	}
	if r, ok := d.verifier.(Revocable); ok {
		for _, e := range r.Ends() {
			out = append(out, deadline.Date{Kind: e.Kind, Name: e.Name, At: e.At})
		}
	}
	return deadline.Sorted(out)
}

// metrics are the dates as Unix seconds, the earliest of each kind.
func (d *daemon) metrics() map[string]int64 {
	out := map[string]int64{}
	for kind, at := range deadline.Earliest(d.dates()) {
		out["anchorhold_broker_"+kind+"_ends_seconds"] = at
	}
	c := d.broker.Connections()
	for name, n := range map[string]int64{"accepted_total": c.Accepted, "evicted_total": c.Evicted, "out_of_descriptors_total": c.Exhausted,
		"unproven": int64(c.Unproven), "attested": int64(c.Proven), "message_bytes": c.BodyBytes,
		"kept": int64(c.Kept), "kept_evicted_total": c.KeptEvicted, "reused_total": c.Reused} {
		out["anchorhold_broker_connections_"+name] = n
	}
	maps.Copy(out, d.registry.Metrics())
	if s, ok := d.verifier.(Supplied); ok {
		maps.Copy(out, s.Metrics())
	}
	return out
}
