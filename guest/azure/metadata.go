package azure

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// The metadata service: link-local, the host's own, without TLS. Nothing else chooses an address.
const (
	metadataAddress = "169.254.169.254:80"
	certificatesURL = "http://169.254.169.254/metadata/THIM/amd/certification"
	quoteURL        = "http://169.254.169.254/acc/tdquote"
)

// Limits of its answers.
const (
	defaultTimeout = 10 * time.Second
	maxAnswer      = 64 << 10
	maxHeader      = 16 << 10
	maxQuote       = 16 << 10
)

// Metadata asks Azure's instance metadata service. It may be used by several goroutines.
type Metadata struct {
	client http.Client
}

// NewMetadata returns a client that keeps to the one address, uses no proxy and follows no
// redirect. Of the options it takes Dial and Timeout.
func NewMetadata(o Options) *Metadata {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return &Metadata{client: http.Client{
		Transport: &http.Transport{
			Proxy: nil, // not even the environment's
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dial(ctx, "tcp", metadataAddress)
			},
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout,
	}}
}

// Certificates returns the chip's VCEK certificate and AMD's above it, in DER and in the
// canonical order of an envelope. They are a cache: whoever uses them verifies them.
func (m *Metadata) Certificates(ctx context.Context) ([]evidence.Part, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, certificatesURL, nil)
	if err != nil {
		return nil, refusal.New(ReasonMetadata, "%w", err)
	}
	var answer struct {
		VCEK  string `json:"vcekCert"`
		Chain string `json:"certificateChain"`
	}
	if err := m.ask(request, &answer); err != nil {
		return nil, err
	}
	found := map[evidence.PartType][]byte{}
	for _, part := range []struct {
		text string
		leaf bool
	}{{answer.VCEK, true}, {answer.Chain, false}} {
		if err := sortCertificates(found, []byte(part.text), part.leaf); err != nil {
			return nil, err
		}
	}
	if len(found) != 3 {
		return nil, refusal.New(ReasonMetadata, "the certificates are not a VCEK, an ASK and an ARK")
	}
	var list []evidence.Part
	for _, t := range []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASK, evidence.EndorsementVCEK} {
		list = append(list, evidence.Part{Type: t, Data: found[t]})
	}
	return list, nil
}

// sortCertificates files PEM certificates by what they are: the leaf stands alone, a root is its
// own issuer.
func sortCertificates(found map[evidence.PartType][]byte, text []byte, leaf bool) error {
	for len(bytes.TrimSpace(text)) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || block.Type != "CERTIFICATE" || len(block.Bytes) > evidence.MaxEndorsementBytes {
			return refusal.New(ReasonMetadata, "something other than PEM certificates of at most %d bytes", evidence.MaxEndorsementBytes)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return refusal.New(ReasonMetadata, "a certificate: %w", err)
		}
		kind := evidence.EndorsementASK
		if leaf {
			kind = evidence.EndorsementVCEK
		} else if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			kind = evidence.EndorsementARK
		}
		if found[kind] != nil {
			return refusal.New(ReasonMetadata, "two certificates of kind %s", kind)
		}
		found[kind] = block.Bytes
	}
	return nil
}

// Quote has a TDREPORT of this VM, 1024 bytes, signed by the host's quoting enclave. The quote
// is over the report's REPORTDATA; one over other data is refused.
func (m *Metadata) Quote(ctx context.Context, tdReport []byte) ([]byte, error) {
	if len(tdReport) != tdReportSize {
		return nil, refusal.New(ReasonReport, "a TDREPORT of %d bytes", len(tdReport))
	}
	body, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(tdReport)})
	if err != nil {
		return nil, refusal.New(ReasonMetadata, "%w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, quoteURL, bytes.NewReader(body))
	if err != nil {
		return nil, refusal.New(ReasonMetadata, "%w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	var answer struct {
		Quote string `json:"quote"`
	}
	if err := m.ask(request, &answer); err != nil {
		return nil, err
	}
	quote, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(answer.Quote, "="))
	if err != nil {
		return nil, refusal.New(ReasonMetadata, "the quote: %w", err)
	}
	if over := quotedData(quote); !bytes.Equal(over, tdReport[tdReportDataAt:tdReportDataAt+64]) {
		return nil, refusal.New(ReasonMetadata, "the answer, %d bytes, is no quote over the TDREPORT's data", len(quote))
	}
	return quote, nil
}

// quotedData is what a quote claims to be over, or nil (Intel TDX DCAP, quote versions 4 and 5: a
// header of 48 bytes, in version 5 a type and a size, then the body with REPORTDATA at 520).
func quotedData(quote []byte) []byte {
	if len(quote) < 2 || len(quote) > maxQuote {
		return nil
	}
	at := 48 + 520
	switch binary.LittleEndian.Uint16(quote) {
	case 4:
	case 5:
		at += 6
	default:
		return nil
	}
	if len(quote) < at+64 {
		return nil
	}
	return quote[at : at+64]
}

// ask sends a request and decodes the answer, which must be 200 and JSON.
func (m *Metadata) ask(request *http.Request, into any) (err error) {
	request.Header.Set("Metadata", "true") // a request that a confused program forwards does not have it
	response, err := m.client.Do(request)
	if err != nil {
		return refusal.New(ReasonMetadata, "%w", err)
	}
	defer func() {
		if closing := response.Body.Close(); closing != nil && err == nil {
			err = refusal.New(ReasonMetadata, "%w", closing)
		}
	}()
	if response.StatusCode != http.StatusOK {
		return refusal.New(ReasonMetadata, "%s answered %s", request.URL.Path, response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return refusal.New(ReasonMetadata, "%s: %w", request.URL.Path, err)
	}
	if len(text) > maxAnswer {
		return refusal.New(ReasonMetadata, "%s answered with more than %d bytes", request.URL.Path, maxAnswer)
	}
	// Members that it has besides are the service's own; what is decoded is verified elsewhere.
	if err := json.Unmarshal(text, into); err != nil {
		return refusal.New(ReasonMetadata, "%s: %w", request.URL.Path, err)
	}
	return nil
}
