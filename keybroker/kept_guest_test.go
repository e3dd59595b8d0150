//go:build !release

package keybroker_test

// BenchmarkBrokerHalf uses these as well; for an earlier build .ci/bench-release has a
// file in the place of this one.

import (
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// keeping is a broker that keeps connections.
func keeping() []brokertest.Option {
	return []brokertest.Option{brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 256 })}
}

// stay runs a correct exchange and leaves the connection open for again.
func stay(g *guest) {
	g.t.Helper()
	g.released()
	g.confirm()
}

// again runs another one on the same connection. It is false when that has carried as many
// as it may.
func again(g *guest) bool {
	g.t.Helper()
	if g.number+1 == protocol.MaxExchanges {
		return false
	}
	g.next()
	stay(g)
	return true
}

// leave closes a connection after stay, when the broker has read everything.
func leave(g *guest) {
	g.t.Helper()
	g.fatal(g.conn.CloseWrite())
	g.ended()
}
