package registry

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Reasons why a guest is not known on a connection. It is served as a stranger then.
const (
	// ReasonNobody: the connection has nothing to be named by.
	ReasonNobody refusal.Reason = "client-identity-missing"
	// ReasonEnded: the lease by which a guest says who it is does not run.
	ReasonEnded refusal.Reason = "client-identity-expired"
)

// clockSkew is how far the clock of the broker that granted a lease, which may be another
// of the root's, may be from this one's.
const clockSkew = time.Minute

type connectionKey struct{}

// withConnection names each connection over TLS.
func withConnection(before func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		t, ok := c.(*hybridtls.Conn)
		if !ok {
			return ctx
		}
		exporter := t.Exporter()
		return context.WithValue(ctx, connectionKey{}, wire.ConnectionOf(exporter[:]))
	}
}

// takeIntroduction gives a connection a place among those of attested guests. Agent keys
// are as many as a guest likes, so that its places are its processor's, where that is known.
func (s *Service) takeIntroduction(r *http.Request, body []byte) (any, error) {
	connection, ok := r.Context().Value(connectionKey{}).(digest.Digest)
	if !ok {
		return nil, refusal.New(ReasonNobody, "this connection is not TLS, so it has no channel binding")
	}
	release, err := s.acquire(r.Context())
	if err != nil {
		return nil, err
	}
	defer release()
	a, err := wire.VerifyIntroduction(body, s.cfg.Roots, s.own(), s.live(), connection)
	if err != nil {
		return nil, err
	}
	if now := s.now(); now.Add(clockSkew) < a.Lease.NotBefore || now >= a.Lease.NotAfter.Add(clockSkew) {
		return nil, refusal.New(ReasonEnded, "the lease is valid from %s to %s, the time is %s", a.Lease.NotBefore.Time(), a.Lease.NotAfter.Time(), now.Time())
	}
	who := "agent " + digest.Digest(a.Lease.AgentKey.ID()).String()
	if p := a.Lease.Processor; p != (protocol.Processor{}) {
		who = "processor " + digest.Digest(p).String()
	}
	listen.From(r.Context()).Promote(who)
	return struct{}{}, nil
}
