package daemon

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// certificate serves the TLS certificate and can read it again.
type certificate struct {
	layout  statedir.Layout
	current atomic.Pointer[tls.Certificate]
}

// load reads the certificate. One that every guest would refuse does not take the place of
// another; at the start there is none, and the log says that it is over.
func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.layout.Certificate(), c.layout.TLSKey())
	if err == nil && c.current.Load() != nil {
		err = hybridtls.Serves(&pair, time.Now())
	}
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

// serverConfig returns a TLS configuration that always serves the certificate
// that was loaded last.
func (c *certificate) serverConfig(profile string) (*tls.Config, error) {
	p := hybridtls.ProfileDefault
	if profile == "fips" {
		p = hybridtls.ProfileFIPS
	}
	cfg, err := hybridtls.ServerConfig(*c.current.Load(), p)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = nil
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	return cfg, nil
}
