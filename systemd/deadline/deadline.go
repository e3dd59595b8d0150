// Package deadline watches the dates on which a service would stop working: when certificates,
// epochs, policies and lists expire. It warns 30, 7 and 1 days before each date, once each, and
// reports when one has passed.
//
// It renews nothing and refuses nothing; that is the task of the code that uses whatever expired.
// When a date moves because something was renewed, it counts as a new date. The daemons call it
// ([Watch]).
package deadline

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Date is a date on which something stops.
type Date struct {
	// Kind is the kind of thing that expires, as metrics name it: "epoch", "tls_certificate".
	Kind string `json:"kind"`
	// Name says which one, if there are several.
	Name string `json:"name,omitempty"`
	// At is the time at which it expires.
	At time.Time `json:"at"`
}

const day = 24 * time.Hour

// ahead are the times before a date at which Watch warns, longest first.
func ahead() []time.Duration { return []time.Duration{30 * day, 7 * day, day, 0} }

// maxDates bounds what a Watch remembers.
const maxDates = 1024

// Watch remembers which warnings it gave. It is safe for concurrent use.
type Watch struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[key]int // how many of ahead were passed when it was said last
}

// key is a date that can be compared: a time's location does not make another date.
type key struct {
	kind, name string
	at         int64
}

// New makes a watch that writes its warnings to a log.
func New(log *slog.Logger) *Watch { return &Watch{log: log, said: map[key]int{}} }

// Look warns of the dates that came closer than 30, 7 or 1 days, or passed, since the last call.
// A date that is close when it is first seen gets one warning.
func (w *Watch) Look(now time.Time, dates []Date) {
	w.mu.Lock()
	defer w.mu.Unlock()
	current := map[key]int{}
	for _, d := range dates[:min(len(dates), maxDates)] {
		left := d.At.Sub(now)
		passed := 0
		for _, a := range ahead() {
			if left <= a {
				passed++
			}
		}
		k := key{d.Kind, d.Name, d.At.UnixNano()}
		if current[k] = passed; passed <= w.said[k] {
			current[k] = w.said[k] // a clock that was set back does not make it say the same again
			continue
		}
		if left <= 0 {
			w.log.Error("something the service needs has expired", "kind", d.Kind, "name", d.Name, "ended", d.At.UTC().Format(time.RFC3339))
			continue
		}
		w.log.Warn("something the service needs expires soon", "kind", d.Kind, "name", d.Name, "ends", d.At.UTC().Format(time.RFC3339), "days_left", int(left/day))
	}
	w.said = current // what is gone was renewed, or is not needed any more
}

// lookEvery is how often Run looks.
const lookEvery = time.Hour

// Run calls Look at once, and then every hour until ctx ends.
func (w *Watch) Run(ctx context.Context, now func() time.Time, dates func() []Date) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w.Look(now(), dates())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Earliest returns the earliest date of each kind as Unix seconds, for metrics.
func Earliest(dates []Date) map[string]int64 {
	out := map[string]int64{}
	for _, d := range dates {
		if at, ok := out[d.Kind]; !ok || d.At.Unix() < at {
			out[d.Kind] = d.At.Unix()
		}
	}
	return out
}

// Sorted returns the dates in the order in which they come.
func Sorted(dates []Date) []Date {
	order := make([]int, len(dates))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(dates[a].At.Compare(dates[b].At), a-b) })
	out := slices.Clone(dates)
	for i, from := range order {
		out[i] = dates[from]
	}
	return out
}

// TLSKind is the kind of a TLS certificate's expiry.
const TLSKind = "tls_certificate"

// OfTLS returns the expiry dates of a server's certificate and of the chain sent with it.
func OfTLS(pair *tls.Certificate) (out []Date) {
	if pair == nil {
		return nil
	}
	for _, der := range pair.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil { // it was parsed when it was loaded
			out = append(out, Date{Kind: TLSKind, Name: c.Subject.CommonName, At: c.NotAfter})
		}
	}
	return out
}
