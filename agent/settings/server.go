package settings

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// Server is a server that the configuration vouches for, as hybrid TLS needs it.
type Server struct {
	// Name is the name in the server's certificate.
	Name string
	// Roots may sign that certificate.
	Roots *x509.CertPool
	// Profile selects the hybrid groups.
	Profile hybridtls.Profile
}

// TLS is the configuration of a client of this server.
func (s Server) TLS() (*tls.Config, error) {
	return hybridtls.ClientConfig(s.Name, s.Roots, s.Profile)
}

// BrokerServer is the broker's server at an address: the broker itself or its registry of
// proofs.
func (c Config) BrokerServer(address string) (Server, error) {
	return c.server("broker", c.Broker.TLSRoots, c.Broker.ServerName, address)
}

// AggregatorServer is the aggregator at an address.
func (c Config) AggregatorServer(address string) (Server, error) {
	return c.server("federation", c.Federation.TLSRoots, c.Federation.ServerName, address)
}

// maxRootsBytes is many times what a system's own list of certificates has.
const maxRootsBytes = 16 << 20

// server reads the PEM file that a section names. Without a name in the section the server
// has that of its address.
func (c Config) server(section, roots, name, address string) (Server, error) {
	pem, err := config.ReadFile(roots, maxRootsBytes)
	if err != nil {
		return Server{}, fmt.Errorf("%s.tls_roots: %w", section, err)
	}
	pool, err := hybridtls.Roots(pem)
	if err != nil {
		return Server{}, fmt.Errorf("%s.tls_roots: %s: %w", section, roots, err)
	}
	if name == "" {
		if name, _, err = net.SplitHostPort(address); err != nil {
			return Server{}, fmt.Errorf("%s: %w", section, err)
		}
	}
	profile := hybridtls.ProfileDefault
	if c.Broker.Profile == "fips" {
		profile = hybridtls.ProfileFIPS
	}
	return Server{Name: name, Roots: pool, Profile: profile}, nil
}
