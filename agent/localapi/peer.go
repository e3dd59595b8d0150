package localapi

import (
	"context"
	"net"
	"slices"

	"github.com/anchorhold/anchorhold/systemd/listen"
)

// peer is who stands at the other end of a connection.
type peer struct {
	uid, gid uint32
	groups   []uint32
}

type peerKey struct{}

// withPeer makes a connection and its peer known to requests. A connection that has no
// peer, as one that is not a unix socket, is refused.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	ctx = listen.WithConn(ctx, c)
	if p, ok := listen.Of(c).Peer(); ok {
		return context.WithValue(ctx, peerKey{}, peer{p.UID, p.GID, p.Groups})
	}
	return ctx
}

func peerOf(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey{}).(peer)
	return p, ok
}

func (s *Server) allowed(ctx context.Context) bool {
	p, ok := peerOf(ctx)
	return ok && s.allows(listen.Peer{UID: p.uid, GID: p.gid, Groups: p.groups})
}

func (s *Server) allows(p listen.Peer) bool {
	return slices.Contains(s.cfg.AllowedUIDs, p.UID) || slices.ContainsFunc(s.cfg.AllowedGIDs, p.In)
}
