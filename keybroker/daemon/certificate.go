package daemon

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
)

// certificate serves the TLS certificate and can read it again.
type certificate struct {
	layout  Layout
	current atomic.Pointer[tls.Certificate]
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.layout.Certificate(), c.layout.TLSKey())
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
