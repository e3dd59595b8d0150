// Package hybridtls makes TLS 1.3 connections that are hybrid post-quantum, or none at all.
//
// Every [Conn] that it returns uses TLS 1.3, a key exchange that combines a classical group with
// ML-KEM-768, no resumption, and our ALPN, and has an exporter value that binds later signatures to
// this very connection. The package trusts crypto/tls. It refuses everything else, with one
// sentence that says what the other side offered and what to do about it.
//
// The broker, its client and the aggregator call it. The example connects a client to a server.
package hybridtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const (
	// ALPN is the protocol that both ends must name (docs/protocol.md, Transport).
	ALPN = "anchorhold-kbp/1"
	// ALPNFederation is the protocol of uploads to an aggregator. For puts it into a
	// configuration.
	ALPNFederation = "anchorhold-fed/1"
	// ALPNProofs is the protocol of receipts, challenges and proofs sent to a broker. For puts
	// it into a configuration.
	ALPNProofs = "anchorhold-proofs/1"
	// ALPNVolumes is the protocol of generations of volumes, which a broker speaks at the address where it
	// releases keys. Also adds it to a configuration.
	ALPNVolumes = "anchorhold-volumes/1"
	// ExporterLabel is the label of the channel bindings (RFC 8446, 7.5).
	ExporterLabel = "EXPORTER-anchorhold-kbp-1"
	// ExporterSize is the channel binding's length in bytes.
	ExporterSize = 48
	// HandshakeTimeout bounds a handshake whose context has no earlier deadline.
	HandshakeTimeout = 10 * time.Second
)

// Profile is a set of key exchange groups, all of them hybrids.
type Profile int

const (
	// ProfileDefault accepts X25519MLKEM768 and SecP256r1MLKEM768. Other TLS
	// stacks offer only the first by default.
	ProfileDefault Profile = iota
	// ProfileFIPS accepts SecP256r1MLKEM768 alone.
	ProfileFIPS
)

func (p Profile) groups() ([]tls.CurveID, error) {
	switch p {
	case ProfileDefault:
		return []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768}, nil
	case ProfileFIPS:
		return []tls.CurveID{tls.SecP256r1MLKEM768}, nil
	}
	return nil, fmt.Errorf("hybridtls: unknown profile %d", p)
}

// ServerConfig returns the configuration of a server of this protocol.
func ServerConfig(cert tls.Certificate, p Profile) (*tls.Config, error) {
	if len(cert.Certificate) == 0 {
		return nil, errors.New("hybridtls: a server needs a certificate")
	}
	cfg, err := base(p)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = []tls.Certificate{cert}
	return cfg, nil
}

// ClientConfig returns the configuration of a client that trusts only roots.
func ClientConfig(serverName string, roots *x509.CertPool, p Profile) (*tls.Config, error) {
	if serverName == "" || roots == nil {
		return nil, errors.New("hybridtls: a client needs the server's name and the roots that may sign its certificate; the system's roots are never used")
	}
	cfg, err := base(p)
	if err != nil {
		return nil, err
	}
	cfg.ServerName, cfg.RootCAs = serverName, roots
	return cfg, nil
}

func base(p Profile) (*tls.Config, error) {
	groups, err := p.groups()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		CurvePreferences:       groups,
		NextProtos:             []string{ALPN},
		SessionTicketsDisabled: true, // resumption would skip authentication, and saves about 1 %
	}, nil
}

// For returns the configuration for another protocol of ours. Ends that name different protocols
// cannot connect, so a message of one protocol is never taken for one of another.
func For(cfg *tls.Config, alpn string) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{alpn}
	return cfg
}

// Also returns the configuration of a server that speaks another protocol of ours besides; the client names
// the one that it wants, and [Conn.Protocol] says which that is.
func Also(cfg *tls.Config, alpn string) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = append(slices.Clone(cfg.NextProtos), alpn)
	return cfg
}

// Conn is a connection that passed every assertion.
type Conn struct {
	*tls.Conn
	exporter [ExporterSize]byte
	group    tls.CurveID
}

// Exporter is the channel binding of the whole connection, without a context: it commits to the groups, the server's
// certificate and the whole handshake (RFC 8446, 7.5; RFC 9266).
func (c *Conn) Exporter() [ExporterSize]byte { return c.exporter }

// ExporterOf is the channel binding of one of several exchanges on the connection: the exporter
// with the exchange's number, four bytes big-endian, as its context. A value made for one
// exchange therefore fits no other.
func (c *Conn) ExporterOf(exchange uint32) (ekm [ExporterSize]byte, err error) {
	state := c.ConnectionState()
	b, err := state.ExportKeyingMaterial(ExporterLabel, binary.BigEndian.AppendUint32(nil, exchange), ExporterSize)
	if err != nil {
		return ekm, fmt.Errorf("hybridtls: channel binding of exchange %d: %w", exchange, err)
	}
	copy(ekm[:], b)
	return ekm, nil
}

// Protocol is the one protocol that both ends named.
func (c *Conn) Protocol() string { return c.ConnectionState().NegotiatedProtocol }

// Group names the key exchange, as "X25519MLKEM768".
func (c *Conn) Group() string { return c.group.String() }

// Server runs the server's half of a handshake on raw and checks the result. It owns raw: on
// failure raw is closed. A refusal is a *refusal.Error.
func Server(ctx context.Context, raw net.Conn, cfg *tls.Config) (*Conn, error) {
	var hello *tls.ClientHelloInfo
	cfg = cfg.Clone()
	cfg.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		// Only looked at: crypto/tls refuses it with the right alert, which an
		// error from here would turn into "internal error".
		hello = h
		return nil, nil
	}
	conn, err := handshake(ctx, tls.Server(raw, cfg), cfg)
	if err != nil {
		_ = raw.Close() // the refusal is what the caller needs to know
		return nil, explainClient(err, hello, raw.RemoteAddr().String(), cfg)
	}
	return conn, nil
}

// Client runs the client's half of a handshake on raw and checks the result. It owns raw: on
// failure raw is closed. A refusal is a *refusal.Error.
func Client(ctx context.Context, raw net.Conn, cfg *tls.Config) (*Conn, error) {
	conn, err := handshake(ctx, tls.Client(raw, cfg), cfg)
	if err != nil {
		_ = raw.Close() // the refusal is what the caller needs to know
		return nil, explainServer(err, raw.RemoteAddr().String(), cfg)
	}
	return conn, nil
}

// Dial connects and runs Client.
func Dial(ctx context.Context, network, address string, cfg *tls.Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandshakeTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return Client(ctx, raw, cfg)
}

func handshake(ctx context.Context, conn *tls.Conn, cfg *tls.Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, HandshakeTimeout)
	defer cancel()
	if err := within(ctx, conn); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	if err := assert(state, cfg.CurvePreferences, cfg.NextProtos); err != nil {
		return nil, err
	}
	ekm, err := state.ExportKeyingMaterial(ExporterLabel, nil, ExporterSize)
	if err != nil {
		return nil, fmt.Errorf("hybridtls: channel binding: %w", err)
	}
	c := &Conn{Conn: conn, group: state.CurveID}
	copy(c.exporter[:], ekm)
	return c, nil
}

// within runs the handshake until the context ends. It does what HandshakeContext
// does, without a goroutine for each connection.
func within(ctx context.Context, conn *tls.Conn) error {
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a closed connection has ended, too
	err := conn.Handshake()
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// isHybrid reports whether a group counts as hybrid here. "Post-quantum" is not
// enough: a later toolchain may negotiate ML-KEM alone.
func isHybrid(g tls.CurveID) bool { return g == tls.X25519MLKEM768 || g == tls.SecP256r1MLKEM768 }

// assert checks what was negotiated, whatever the configuration asked for.
func assert(state tls.ConnectionState, allowed []tls.CurveID, protocols []string) error {
	switch {
	case state.Version != tls.VersionTLS13:
		return refusal.New(ReasonVersion, "the connection uses %s; only TLS 1.3 is accepted", tls.VersionName(state.Version))
	case !isHybrid(state.CurveID) || !slices.Contains(allowed, state.CurveID):
		return refusal.New(ReasonClassical, "the key exchange %s is not a hybrid of this profile", state.CurveID)
	case state.DidResume:
		return refusal.New(ReasonResumed, "the connection was resumed, which skips authentication")
	case !slices.Contains(protocols, state.NegotiatedProtocol):
		return refusal.New(ReasonALPN, "the peer does not speak %q (ALPN)", protocols)
	}
	return nil
}
