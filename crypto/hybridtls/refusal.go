package hybridtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
)

// Codes of refusals, stable.
const (
	// CodeClassical: the peer offers no hybrid post-quantum key exchange.
	CodeClassical = "classical-key-exchange"
	// CodeVersion: the peer does not speak TLS 1.3.
	CodeVersion = "tls-version"
	// CodeALPN: the peer speaks another protocol over TLS.
	CodeALPN = "tls-alpn"
	// CodeResumed: a resumed session, which is never offered here.
	CodeResumed = "tls-resumed"
	// CodeCertificate: the server's certificate is not under the configured roots.
	CodeCertificate = "tls-certificate"
	// CodeHandshake: the handshake failed for another reason.
	CodeHandshake = "tls-handshake"
)

// Refusal says in one sentence why there is no connection.
type Refusal struct {
	// Code is stable, one of the Code constants.
	Code string
	// Sentence is for an operator.
	Sentence string
	// Offered are the groups that the peer offered, where they could be seen.
	Offered []string
	// Err is the failure underneath, if any.
	Err error
}

// Error is code and sentence.
func (r *Refusal) Error() string { return r.Code + ": " + r.Sentence }

// Unwrap returns the failure underneath.
func (r *Refusal) Unwrap() error { return r.Err }

// Advice for the one refusal that users meet in practice.
const adviceClassical = "it needs OpenSSL 3.5, Go 1.24, a current browser engine or later"

// refuseHello looks at a ClientHello before the handshake goes on. It refuses
// only what crypto/tls would refuse too, so that there is a sentence for it.
func refuseHello(h *tls.ClientHelloInfo, cfg *tls.Config) error {
	offered := groupNames(h.SupportedCurves)
	switch {
	case !slices.Contains(h.SupportedVersions, tls.VersionTLS13):
		return &Refusal{Code: CodeVersion, Offered: offered, Sentence: fmt.Sprintf("client %s speaks no TLS 1.3 (offers %s); %s", h.Conn.RemoteAddr(), versionNames(h.SupportedVersions), adviceClassical)}
	case !slices.ContainsFunc(h.SupportedCurves, func(g tls.CurveID) bool { return slices.Contains(cfg.CurvePreferences, g) }):
		return &Refusal{Code: CodeClassical, Offered: offered, Sentence: fmt.Sprintf("client %s offers only %s; this server accepts only %s; %s",
			h.Conn.RemoteAddr(), strings.Join(offered, ", "), strings.Join(groupNames(cfg.CurvePreferences), ", "), adviceClassical)}
	}
	return nil
}

// explainClient turns a failed server handshake into a refusal.
func explainClient(err error, hello *tls.ClientHelloInfo, cfg *tls.Config) error {
	if _, ok := errors.AsType[*Refusal](err); ok {
		return err
	}
	if hello == nil {
		return &Refusal{Code: CodeHandshake, Sentence: "the client sent no usable ClientHello: " + err.Error(), Err: err}
	}
	refused := refuseHello(hello, cfg)
	if refusal, ok := errors.AsType[*Refusal](refused); ok {
		refusal.Err = err
		return refusal
	}
	if !slices.Contains(hello.SupportedProtos, ALPN) {
		return &Refusal{Code: CodeALPN, Offered: groupNames(hello.SupportedCurves), Err: err,
			Sentence: fmt.Sprintf("client %s does not speak %q (ALPN offers %q): it is not an Anchorhold agent", hello.Conn.RemoteAddr(), ALPN, hello.SupportedProtos)}
	}
	return &Refusal{Code: CodeHandshake, Offered: groupNames(hello.SupportedCurves), Err: err,
		Sentence: fmt.Sprintf("handshake with client %s failed: %v", hello.Conn.RemoteAddr(), err)}
}

// TLS alerts that tell a client why it was refused (RFC 8446, 6.2).
const (
	alertHandshakeFailure      = 40
	alertIllegalParameter      = 47
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

// explainServer turns a failed client handshake into a refusal.
func explainServer(err error, peer string) error {
	if _, ok := errors.AsType[*Refusal](err); ok {
		return err
	}
	r := &Refusal{Code: CodeHandshake, Sentence: fmt.Sprintf("handshake with %s failed: %v", peer, err), Err: err}
	if verification, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		r.Code, r.Sentence = CodeCertificate, fmt.Sprintf("the certificate of %s is not under the configured roots, or not for this name: %v", peer, verification.Err)
	}
	if alert, ok := remoteAlert(err); ok {
		switch alert {
		case alertHandshakeFailure, alertInsufficientSecurity, alertIllegalParameter:
			r.Code, r.Sentence = CodeClassical, fmt.Sprintf("the server at %s and this client have no hybrid post-quantum key exchange in common; nothing was sent; %s", peer, adviceClassical)
		case alertProtocolVersion:
			r.Code, r.Sentence = CodeVersion, fmt.Sprintf("the server at %s does not speak TLS 1.3; nothing was sent", peer)
		case alertNoApplicationProtocol:
			r.Code, r.Sentence = CodeALPN, fmt.Sprintf("the server at %s does not speak %q: it is not an Anchorhold broker", peer, ALPN)
		}
	}
	return r
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
