package attested

import (
	"context"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// Opened makes what tells this guest's broker which generation of a volume was opened, under the lease that runs
// then and by the configuration in force then.
func (g *Guest) Opened(held func() (*client.Lease, error), inForce func() *settings.Config) func(context.Context, generation.Holding) (generation.State, error) {
	return func(ctx context.Context, h generation.Holding) (generation.State, error) {
		lease, err := held()
		if err != nil {
			return generation.State{}, err
		}
		cfg := inForce()
		server, err := cfg.BrokerServer(cfg.Broker.Address)
		if err != nil {
			return generation.State{}, err
		}
		tlsConfig, err := hybridtls.ClientConfig(server.Name, server.Roots, server.Profile)
		if err != nil {
			return generation.State{}, err
		}
		roots, err := cfg.RootIdentities()
		if err != nil {
			return generation.State{}, err
		}
		asks := generation.Client{Address: cfg.Broker.Address, TLS: tlsConfig, Roots: roots}
		s := g.Signer(lease, time.Now())
		return asks.Opened(ctx, generation.Guest{Key: s.Key, Chain: s.Chain, Now: s.Now, Broker: s.Broker, Lowest: s.Lowest}, h)
	}
}
