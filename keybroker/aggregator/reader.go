package aggregator

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Reasons why nothing is shown or taken.
const (
	// ReasonNobody: the connection has not said who is at its other end.
	ReasonNobody refusal.Reason = "client-identity-missing"
	// ReasonEnded: the lease by which it said so is over.
	ReasonEnded refusal.Reason = "client-identity-expired"
	// ReasonNotNamed: the round or set-up does not name this guest, or not for this.
	ReasonNotNamed refusal.Reason = "client-not-named"
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
	binding digest.Digest

	mu       sync.Mutex
	reader   *federation.Reader
	readings map[digest.RoundID]standing
}

// standing is what a round lets a guest do.
type standing struct {
	reads       federation.Reading
	contributes bool
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
	if !ok || v.binding == (digest.Digest{}) {
		return refusal.New(ReasonNobody, "this connection is not TLS, so it has no channel binding")
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
	if err := a.lowest.Raise(reader.Authority.Epoch.Broker, reader.Authority.Epoch.MinEpoch); err != nil {
		return err
	}
	if err := a.running(&reader.Authority); err != nil {
		return err
	}
	v.mu.Lock()
	v.reader, v.readings = &reader, map[digest.RoundID]standing{}
	v.mu.Unlock()
	// Agent keys are as many as a guest likes: its places are its processor's.
	who := "agent " + reader.Agent().String()
	if p := reader.Authority.Lease.Processor; p != (protocol.Processor{}) {
		who = "processor " + digest.Digest(p).String()
	}
	listen.From(r.Context()).Promote(who)
	reply(w, http.StatusOK, struct{}{})
	return nil
}

// running refuses a guest whose lease or epoch is over, or was retired since.
func (a *Aggregator) running(by *protocol.Authority) error {
	now, lease, epoch := protocol.Time(a.now()), &by.Lease, &by.Epoch
	if low := a.lowest.Highest(epoch.Broker); epoch.Epoch < low {
		return refusal.New(ReasonEnded, "epoch %d was retired; the lowest accepted epoch is %d", epoch.Epoch, low)
	}
	if !epoch.ValidAt(now) || now.Add(clockSkew) < lease.NotBefore || now >= lease.NotAfter.Add(clockSkew) {
		return refusal.New(ReasonEnded, "the lease expired at %s: identify yourself again under a new lease", lease.NotAfter.Time())
	}
	return nil
}

// reader is who asks. It is the first thing that a route looks at: a stranger learns not
// even which rounds there are.
func (a *Aggregator) reader(r *http.Request) (*visitor, *federation.Reader, error) {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	if !ok {
		return nil, nil, refusal.New(ReasonNobody, "identify yourself first: POST /v1/identity")
	}
	v.mu.Lock()
	reader := v.reader
	v.mu.Unlock()
	if reader == nil {
		return nil, nil, refusal.New(ReasonNobody, "identify yourself first: POST /v1/identity")
	}
	return v, reader, a.running(&reader.Authority)
}

// mayRead refuses whoever the round does not let read so much.
func (a *Aggregator) mayRead(r *http.Request, id digest.RoundID, want federation.Reading) error {
	reader, have, err := a.standing(r, id)
	if err == nil && have.reads < want {
		err = refusal.New(ReasonNotNamed, "round %s does not let agent %s read this", id, reader.Agent())
	}
	return err
}

// mayContribute refuses whoever the round does not let contribute.
func (a *Aggregator) mayContribute(r *http.Request, id digest.RoundID) error {
	reader, have, err := a.standing(r, id)
	if err == nil && !have.contributes {
		err = refusal.New(ReasonNotNamed, "round %s does not let agent %s contribute", id, reader.Agent())
	}
	return err
}

// standing is what a round lets the guest do that is at the other end of a connection.
func (a *Aggregator) standing(r *http.Request, id digest.RoundID) (*federation.Reader, standing, error) {
	v, reader, err := a.reader(r)
	if err != nil {
		return nil, standing{}, err
	}
	held, err := a.round(id)
	if err != nil {
		return nil, standing{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	have, known := v.readings[id]
	if !known {
		// What the certificate says does not change; that it still runs was just seen.
		if have.reads, err = held.def.Reading(*reader, a.cfg.Roots, protocol.Recorded(protocol.AtLeast(1))); err != nil {
			have.reads = federation.ReadNothing
		}
		have.contributes = held.def.Contributes(*reader, a.cfg.Roots, protocol.Recorded(protocol.AtLeast(1))) == nil
		if len(v.readings) >= maxReadings {
			clear(v.readings)
		}
		v.readings[id] = have
	}
	return reader, have, nil
}

// peer is who is at the other end of a request; the zero value is nobody, from nowhere.
type peer struct {
	shown  *federation.Reader
	source string
}

// shown is the guest that a connection showed, if its lease runs; nil on the
// administrator's socket, where nobody shows anything.
func (a *Aggregator) shown(r *http.Request) *federation.Reader {
	_, reader, err := a.reader(r)
	if err != nil {
		return nil
	}
	return reader
}

// mayRestate decides whether something that an agent signed under a lease counts now: while
// that lease runs, or from a connection that showed another of the same agent key, by the
// same broker: another one knows nothing of what this one took away. When it
// was signed is the signer's own word, and who lost its lease would date it back.
func (a *Aggregator) mayRestate(by *protocol.Authority, shown *federation.Reader) error {
	if err := a.running(by); err == nil || shown != nil && by.Lease.AgentKey.ID() == shown.Agent() && by.Lease.Broker == shown.Authority.Lease.Broker {
		return nil
	}
	return refusal.New(federation.ReasonOutsideLease, "the lease it was signed under expired at %s: send it on a connection of the same agent under a current lease", by.Lease.NotAfter.Time())
}

// speaker refuses what another agent signed than the one at the other end.
func (a *Aggregator) speaker(r *http.Request) func(digest.Digest) error {
	return func(agent digest.Digest) error {
		_, reader, err := a.reader(r)
		if err == nil && reader.Agent() != agent {
			err = refusal.New(ReasonNotNamed, "this connection belongs to agent %s; agent %s must send this itself", reader.Agent(), agent)
		}
		return err
	}
}

// mayReadSetup refuses whoever is no party of a set-up.
func (a *Aggregator) mayReadSetup(r *http.Request, id digest.RoundID) error {
	_, reader, err := a.reader(r)
	if err != nil {
		return err
	}
	s, err := a.board.Setup(id)
	if err == nil && s.Reads(*reader) != nil {
		err = refusal.New(ReasonNotNamed, "the setup of round %s does not name agent %s", id, reader.Agent())
	}
	return err
}

// gate decides who reads and writes. The administrator's socket has none: its file mode says who
// that is.
type gate struct {
	round func(r *http.Request, id digest.RoundID, want federation.Reading) error
	setup func(r *http.Request, id digest.RoundID) error
	adds  func(r *http.Request, id digest.RoundID) error
}

func (a *Aggregator) guests() gate { return gate{a.mayRead, a.mayReadSetup, a.mayContribute} }

func administrator() gate {
	all := func(*http.Request, digest.RoundID) error { return nil }
	return gate{func(*http.Request, digest.RoundID, federation.Reading) error { return nil }, all, all}
}

// reads puts a gate before a route.
func (g gate) reads(want federation.Reading, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		if err := g.round(r, id, want); err != nil {
			return err
		}
		return h(w, r, id)
	}
}

// contributes puts a gate before a route by which contributions come.
func (g gate) contributes(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		if err := g.adds(r, id); err != nil {
			return err
		}
		return h(w, r, id)
	}
}

// readsSetup puts a gate before a route of a set-up.
func (g gate) readsSetup(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		if err := g.setup(r, id); err != nil {
			return err
		}
		return h(w, r, id)
	}
}
