package aggregator

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

const drainTime = 10 * time.Second

// Serve answers on both listeners until ctx ends: participants over hybrid TLS,
// the administrator on a unix socket whose file mode says who that is.
func (a *Aggregator) Serve(ctx context.Context, participants net.Listener, tlsConfig *tls.Config, admin net.Listener) error {
	bounded, err := listen.New(participants, listen.Config{Limits: a.cfg.Limits, Logger: a.cfg.Logger})
	if err != nil {
		return errors.Join(err, participants.Close(), admin.Close())
	}
	local, err := listen.New(admin, listen.Config{Limits: listen.Limits{Connections: 64, BodyMiB: 128}, Logger: a.cfg.Logger})
	if err != nil {
		return errors.Join(err, participants.Close(), admin.Close())
	}
	listener := hybridtls.NewListener(bounded, hybridtls.For(tlsConfig, hybridtls.ALPNFederation), func(err error) {
		a.quiet.Info("connection refused", "err", err)
	})
	expiring, stopExpiring := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer stopExpiring()
	looking.Go(func() { a.expire(expiring) })
	servers := []*http.Server{bounded.Server(a.Public()), local.Server(a.Admin())}
	servers[0].ConnContext = withVisitor(servers[0].ConnContext)
	ended := make(chan error, len(servers))
	for i, l := range []net.Listener{listener, local} {
		go func() { ended <- servers[i].Serve(l) }()
	}
	var errs []error
	waiting := len(servers)
	select {
	case <-ctx.Done():
	case err := <-ended:
		waiting--
		errs = append(errs, err)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, s := range servers {
		if err := s.Shutdown(stop); err != nil {
			errs = append(errs, s.Close())
		}
	}
	for range waiting {
		errs = append(errs, <-ended)
	}
	for i, err := range errs {
		if errors.Is(err, http.ErrServerClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}
