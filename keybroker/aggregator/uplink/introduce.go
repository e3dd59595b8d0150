package uplink

import (
	"context"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
)

// reasonEnded is the aggregator's word that the lease by which a connection was begun is
// over.
const reasonEnded refusal.Reason = "client-identity-expired"

// introduce says on a new connection who is at this end, before anything is asked on it.
// What is signed names this connection alone.
func introduce(ctx context.Context, conn *hybridtls.Conn, guest func() (Guest, error)) error {
	g, err := guest()
	if err != nil {
		return &introduction.Refused{Err: err}
	}
	exporter := conn.Exporter()
	signed, err := federation.SignAccess(g.Key, g.Chain, federation.Access{Binding: federation.BindingOf(exporter[:]), Agent: g.Key.Public().ID(), Time: g.Now})
	if err != nil {
		return err
	}
	return introduction.Say(ctx, conn, signed)
}
