package aggregator

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
)

const drainTime = 10 * time.Second

// Serve answers on both listeners until ctx ends: participants over hybrid TLS,
// the administrator on a unix socket whose file mode says who that is.
func (a *Aggregator) Serve(ctx context.Context, participants net.Listener, tlsConfig *tls.Config, admin net.Listener) error {
	listener := hybridtls.NewListener(participants, hybridtls.For(tlsConfig, hybridtls.ALPNFederation), func(err error) {
		a.cfg.Logger.Info("connection refused", "err", err)
	})
	servers := []*http.Server{a.server(a.Public()), a.server(a.Admin())}
	ended := make(chan error, len(servers))
	for i, l := range []net.Listener{listener, admin} {
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

func (a *Aggregator) server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.cfg.Logger.Handler(), slog.LevelDebug)}
}
