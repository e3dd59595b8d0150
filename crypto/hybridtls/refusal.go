package hybridtls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons why there is no connection.
const (
	// ReasonClassical: the peer offers no hybrid post-quantum key exchange.
	ReasonClassical refusal.Reason = "classical-key-exchange"
	// ReasonVersion: the peer does not speak TLS 1.3.
	ReasonVersion refusal.Reason = "tls-version"
	// ReasonALPN: the peer speaks another protocol over TLS.
	ReasonALPN refusal.Reason = "tls-alpn"
	// ReasonResumed: a resumed session, which is never offered here.
	ReasonResumed refusal.Reason = "tls-resumed"
	// ReasonCertificate: the server's certificate is not under the configured roots.
	ReasonCertificate refusal.Reason = "tls-certificate"
	// ReasonTimeout: the peer did not finish the handshake in time.
	ReasonTimeout refusal.Reason = "tls-timeout"
	// ReasonHandshake: the handshake failed for another reason.
	ReasonHandshake refusal.Reason = "tls-handshake"
)

// ofClient is a server's refusal with the groups that the client offered.
type ofClient struct {
	error
	offered []string
}

// Unwrap returns the refusal.
func (r *ofClient) Unwrap() error { return r.error }

// Offered returns the groups that a client offered for key exchange before [Server] refused
// it, as far as they could be seen.
func Offered(err error) []string {
	if r, ok := errors.AsType[*ofClient](err); ok {
		return r.offered
	}
	return nil
}

// Advice for the one refusal that users meet in practice.
const adviceClassical = "it needs at least OpenSSL 3.5, Go 1.24 or a current browser engine"

// explainClient turns a failed server handshake into a refusal, from what the
// client's hello offered.
func explainClient(err error, hello *tls.ClientHelloInfo, peer string, cfg *tls.Config) error {
	var offered []string
	if hello != nil {
		offered = groupNames(hello.SupportedCurves)
	}
	if r, ok := errors.AsType[*refusal.Error](err); ok {
		return &ofClient{r, offered}
	}
	if hello == nil {
		return timedOut(&refusal.Error{Reason: ReasonHandshake, Detail: fmt.Sprintf("%s sent no usable ClientHello: %v", peer, err), Err: err}, peer)
	}
	r := &refusal.Error{Reason: ReasonHandshake, Err: err}
	accepts := func(g tls.CurveID) bool { return slices.Contains(cfg.CurvePreferences, g) && isHybrid(g) }
	switch {
	case !slices.Contains(hello.SupportedVersions, tls.VersionTLS13):
		r.Reason = ReasonVersion
		r.Detail = fmt.Sprintf("the client at %s does not speak TLS 1.3, only %s; %s", peer, versionNames(hello.SupportedVersions), adviceClassical)
	case !slices.ContainsFunc(hello.SupportedCurves, accepts):
		r.Reason = ReasonClassical
		r.Detail = fmt.Sprintf("the client at %s offers only %s for key exchange; this server accepts only %s; %s",
			peer, list(offered), list(groupNames(cfg.CurvePreferences)), adviceClassical)
	case !slices.ContainsFunc(cfg.NextProtos, func(p string) bool { return slices.Contains(hello.SupportedProtos, p) }):
		r.Reason = ReasonALPN
		r.Detail = fmt.Sprintf("the client at %s does not speak %s (ALPN) but offers %s: it is not an Anchorhold agent", peer, protocolNames(cfg.NextProtos), protocolNames(hello.SupportedProtos))
	default:
		r.Detail = fmt.Sprintf("the handshake with the client at %s failed: %v", peer, err)
	}
	return &ofClient{timedOut(r, peer), offered}
}

// timedOut tells a peer that went silent from one that cannot be spoken with.
func timedOut(r *refusal.Error, peer string) *refusal.Error {
	if r.Reason == ReasonHandshake && (errors.Is(r.Err, context.DeadlineExceeded) || errors.Is(r.Err, os.ErrDeadlineExceeded)) {
		r.Reason, r.Detail = ReasonTimeout, fmt.Sprintf("%s did not finish the handshake in time", peer)
	}
	return r
}

// TLS alerts that tell a client why it was refused (RFC 8446, 6.2).
const (
	alertHandshakeFailure      = 40
	alertProtocolVersion       = 70
	alertInsufficientSecurity  = 71
	alertNoApplicationProtocol = 120
)

// remoteAlert returns the alert that the peer sent, if that ended the handshake.
// crypto/tls wraps its unexported alert type, a uint8, into a net.OpError.
func remoteAlert(err error) (uint8, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}

// explainServer turns a failed client handshake into a refusal, from the alert
// that the server sent.
func explainServer(err error, peer string, cfg *tls.Config) *refusal.Error {
	offered := cfg.CurvePreferences
	if r, ok := errors.AsType[*refusal.Error](err); ok {
		return r
	}
	r := &refusal.Error{Reason: ReasonHandshake, Detail: fmt.Sprintf("the handshake with %s failed: %v", peer, err), Err: err}
	if verification, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		r.Reason = ReasonCertificate
		r.Detail = fmt.Sprintf("the certificate of %s was not issued under the configured roots, or not for this name: %v", peer, verification.Err)
	}
	if alert, ok := remoteAlert(err); ok {
		switch alert {
		case alertHandshakeFailure, alertInsufficientSecurity:
			r.Reason = ReasonClassical
			r.Detail = fmt.Sprintf("the peer at %s accepts only classical key exchange, or a hybrid other than this profile's; nothing was sent to it; %s", peer, adviceClassical)
			if !slices.ContainsFunc(offered, isHybrid) {
				r.Detail = fmt.Sprintf("this client offers only %s, and the peer at %s accepts only hybrid post-quantum key exchange; nothing was sent to it", list(groupNames(offered)), peer)
			}
		case alertProtocolVersion:
			r.Reason = ReasonVersion
			r.Detail = fmt.Sprintf("the peer at %s does not speak TLS 1.3; nothing was sent to it", peer)
		case alertNoApplicationProtocol:
			r.Reason = ReasonALPN
			r.Detail = fmt.Sprintf("the peer at %s does not speak %s: it is not the intended Anchorhold server", peer, protocolNames(cfg.NextProtos))
		}
	}
	return timedOut(r, peer)
}

func groupNames(groups []tls.CurveID) []string {
	names := make([]string, 0, len(groups))
	for _, g := range groups[:min(len(groups), 16)] { // a log line, not a megabyte
		if g&0x0f0f != 0x0a0a || g>>8 != g&0xff { // GREASE values (RFC 8701) mean nothing
			names = append(names, g.String())
		}
	}
	return names
}

func versionNames(versions []uint16) string {
	names := make([]string, 0, len(versions))
	for _, v := range versions[:min(len(versions), 8)] {
		names = append(names, tls.VersionName(v))
	}
	return strings.Join(names, ", ")
}

// protocolNames quotes what a client offered by ALPN: foreign text, so bounded.
func protocolNames(protocols []string) string {
	if len(protocols) == 0 {
		return "no protocol"
	}
	names := make([]string, 0, 4)
	for _, p := range protocols[:min(len(protocols), 4)] {
		names = append(names, strconv.Quote(p[:min(len(p), 32)]))
	}
	return strings.Join(names, ", ")
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
