package aggregator

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Reasons why nothing is shown.
const (
	// ReasonNobody: the connection has not said who is at its other end.
	ReasonNobody evidence.Reason = "client-identity-missing"
	// ReasonEnded: the lease by which it said so is over.
	ReasonEnded evidence.Reason = "client-identity-expired"
	// ReasonNotNamed: the round or set-up does not name this guest, or not for this.
	ReasonNotNamed evidence.Reason = "client-not-named"
)

const (
	// maxAccessBody bounds the statement by which a guest says who it is.
	maxAccessBody = 64 << 10
	// clockSkew is how far this machine's clock and the broker's may be apart where a
	// lease is looked at by this one's.
	clockSkew = time.Minute
	// maxReadings bounds the rounds of which a connection's readings are remembered.
	maxReadings = 64
)

// visitor is one connection of a guest: who is at its other end, once it said so.
type visitor struct {
	binding federation.Digest

	mu       sync.Mutex
	reader   *federation.Reader
	readings map[federation.ID]federation.Reading
}

type visitorKey struct{}

// withVisitor gives each connection over TLS its visitor.
func withVisitor(before func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		v := &visitor{}
		if t, ok := c.(*hybridtls.Conn); ok {
			exporter := t.Exporter()
			v.binding = federation.BindingOf(exporter[:])
		}
		return context.WithValue(ctx, visitorKey{}, v)
	}
}

// identify takes a guest's word about who it is, for this connection.
func (a *Aggregator) identify(w http.ResponseWriter, r *http.Request) error {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	if !ok || v.binding == (federation.Digest{}) {
		return evidence.Refuse(ReasonNobody, "this connection has nothing to be named by")
	}
	body, release, err := listen.ReadBody(w, r, maxAccessBody)
	if err != nil {
		return err
	}
	defer release()
	reader, err := federation.VerifyAccess(body, a.cfg.Roots, a.floor(), v.binding)
	if err != nil {
		return err
	}
	if err := a.lowest.raise(reader.Authority.Epoch.MinEpoch); err != nil {
		return err
	}
	if err := a.running(&reader); err != nil {
		return err
	}
	v.mu.Lock()
	v.reader, v.readings = &reader, map[federation.ID]federation.Reading{}
	v.mu.Unlock()
	listen.From(r.Context()).Promote("agent " + reader.Agent().String())
	reply(w, http.StatusOK, struct{}{})
	return nil
}

// running refuses a reader whose lease or epoch is over, or was retired since.
func (a *Aggregator) running(reader *federation.Reader) error {
	now, lease, epoch := protocol.Time(a.now()), &reader.Authority.Lease, &reader.Authority.Epoch
	if low := a.lowest.epoch(); epoch.Epoch < low {
		return evidence.Refuse(ReasonEnded, "epoch %d was retired, the lowest accepted is %d", epoch.Epoch, low)
	}
	if !epoch.ValidAt(now) || now.Add(clockSkew) < lease.NotBefore || now >= lease.NotAfter.Add(clockSkew) {
		return evidence.Refuse(ReasonEnded, "the lease ran until %s: say again who you are, under a new one", lease.NotAfter.Time())
	}
	return nil
}

// reader is who asks. It is the first thing that a route looks at: a stranger learns not
// even which rounds there are.
func (a *Aggregator) reader(r *http.Request) (*visitor, *federation.Reader, error) {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	if !ok {
		return nil, nil, evidence.Refuse(ReasonNobody, "say who you are first: POST /v1/identity")
	}
	v.mu.Lock()
	reader := v.reader
	v.mu.Unlock()
	if reader == nil {
		return nil, nil, evidence.Refuse(ReasonNobody, "say who you are first: POST /v1/identity")
	}
	return v, reader, a.running(reader)
}

// mayRead refuses whoever the round does not let read so much.
func (a *Aggregator) mayRead(r *http.Request, id federation.ID, want federation.Reading) error {
	v, reader, err := a.reader(r)
	if err != nil {
		return err
	}
	held, err := a.round(id)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	have, known := v.readings[id]
	if !known {
		// What the certificate says does not change; that it still runs was just seen.
		if have, err = held.def.Reading(*reader, a.cfg.Roots, protocol.Recorded(1)); err != nil {
			have = federation.ReadNothing
		}
		if len(v.readings) >= maxReadings {
			clear(v.readings)
		}
		v.readings[id] = have
	}
	if have < want {
		return evidence.Refuse(ReasonNotNamed, "round %s does not let agent %s read this", id, reader.Agent())
	}
	return nil
}

// mayReadSetup refuses whoever is no party of a set-up.
func (a *Aggregator) mayReadSetup(r *http.Request, id federation.ID) error {
	_, reader, err := a.reader(r)
	if err != nil {
		return err
	}
	s, err := a.board.Setup(id)
	if err == nil && s.Reads(*reader) != nil {
		err = evidence.Refuse(ReasonNotNamed, "the set-up of round %s does not name agent %s", id, reader.Agent())
	}
	return err
}

// gate decides who reads. The administrator's socket has none: its file mode says who
// that is.
type gate struct {
	round func(r *http.Request, id federation.ID, want federation.Reading) error
	setup func(r *http.Request, id federation.ID) error
}

func (a *Aggregator) guests() gate { return gate{a.mayRead, a.mayReadSetup} }

func administrator() gate {
	return gate{func(*http.Request, federation.ID, federation.Reading) error { return nil }, func(*http.Request, federation.ID) error { return nil }}
}

// reads puts a gate before a route.
func (g gate) reads(want federation.Reading, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, id federation.ID) error {
		if err := g.round(r, id, want); err != nil {
			return err
		}
		return h(w, r, id)
	}
}

// readsSetup puts a gate before a route of a set-up.
func (g gate) readsSetup(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, id federation.ID) error {
		if err := g.setup(r, id); err != nil {
			return err
		}
		return h(w, r, id)
	}
}
