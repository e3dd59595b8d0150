package sourcetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// PCS is Intel's service. It signs its JSON documents with a keyed hash, which [PCS.Check]
// verifies; its lists are signed by an authority of its own.
type PCS struct {
	// Hook sees each request first; a status that is not 0 is the answer.
	Hook func(r *http.Request) (status int, header http.Header)
	// At is the service's clock; time.Now by default. Documents are issued once in Every, and
	// last for Life.
	At          func() time.Time
	Every, Life time.Duration
	// Evaluation is the TCB evaluation data number.
	Evaluation int

	key  *ecdsa.PrivateKey
	root *x509.Certificate

	mu    sync.Mutex
	lists map[time.Time][]byte
}

// NewPCS returns a service whose authority is valid from a year before a time on.
func NewPCS(tb testing.TB, begin time.Time) *PCS {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "Intel SGX Root CA"}, SerialNumber: big.NewInt(1), NotBefore: begin.AddDate(-1, 0, 0), NotAfter: begin.AddDate(30, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &PCS{At: time.Now, Every: 24 * time.Hour, Life: 30 * 24 * time.Hour, Evaluation: 18, key: key, root: root, lists: map[time.Time][]byte{}}
}

func (p *PCS) mac(body []byte) string {
	m := hmac.New(sha256.New, p.root.Raw)
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

// issued is when the documents that are served now were issued.
func (p *PCS) issued() time.Time { return p.At().UTC().Truncate(p.Every) }

func (p *PCS) signed(member string, more string) []byte {
	body := fmt.Sprintf(`{"id":"TDX",%s"issueDate":%q,"nextUpdate":%q,"tcbEvaluationDataNumber":%d}`, more,
		p.issued().Format(time.RFC3339), p.issued().Add(p.Life).Format(time.RFC3339), p.Evaluation)
	return fmt.Appendf(nil, `{%q:%s,"signature":%q}`, member, body, p.mac([]byte(body)))
}

// list is issued once and served again.
func (p *PCS) list() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.issued()
	if der := p.lists[from]; der != nil {
		return der
	}
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.Add(p.Life)}
	der, err := x509.CreateRevocationList(rand.Reader, t, p.root, p.key)
	if err != nil {
		panic(err) // of a fixed template
	}
	p.lists[from] = der
	return der
}

// RoundTrip implements http.RoundTripper.
func (p *PCS) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := &answer{header: http.Header{}}
	p.ServeHTTP(w, r)
	return w.response(r), nil
}

// ServeHTTP implements http.Handler.
func (p *PCS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.Hook != nil {
		if status, header := p.Hook(r); status != 0 {
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
			return
		}
	}
	chain := url.PathEscape(string(encode(p.root)))
	var body []byte
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/tdx/certification/v4/tcb"):
		w.Header().Set("TCB-Info-Issuer-Chain", chain)
		body = p.signed("tcbInfo", fmt.Sprintf(`"fmspc":%q,`, r.URL.Query().Get("fmspc")))
	case strings.HasSuffix(path, "/tdx/certification/v4/qe/identity"):
		w.Header().Set("SGX-Enclave-Identity-Issuer-Chain", chain)
		body = p.signed("enclaveIdentity", "")
	case strings.HasSuffix(path, "/sgx/certification/v4/pckcrl"):
		w.Header().Set("SGX-PCK-CRL-Issuer-Chain", chain)
		body = p.list()
	case strings.HasSuffix(path, "/IntelSGXRootCA.der"):
		body = p.list()
	case strings.HasSuffix(path, "/sgx/certification/v4/rootcacrl"):
		body = []byte(hex.EncodeToString(p.list()))
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(body) // the client sees what is missing
}

// Check verifies the service's documents, as package appraise's verifier does Intel's.
func (p *PCS) Check(of collateral.Platform, d collateral.TDXDocuments, now time.Time) error {
	for member, doc := range map[string][]byte{"tcbInfo": d.TCBInfo, "enclaveIdentity": d.QEIdentity} {
		var parts map[string]json.RawMessage
		var signature string
		var body struct {
			FMSPC                 string
			IssueDate, NextUpdate time.Time
		}
		if err := errors.Join(json.Unmarshal(doc, &parts), json.Unmarshal(parts["signature"], &signature), json.Unmarshal(parts[member], &body)); err != nil {
			return err
		}
		if signature != p.mac(parts[member]) {
			return errors.New(member + " is not signed")
		}
		if member == "tcbInfo" && body.FMSPC != hex.EncodeToString(of.FMSPC[:]) {
			return errors.New("of another platform")
		}
		if now.Before(body.IssueDate) || now.After(body.NextUpdate) {
			return fmt.Errorf("%s is of %s to %s", member, body.IssueDate, body.NextUpdate)
		}
	}
	for _, chain := range [][]byte{d.TCBInfoChain, d.QEIdentityChain, d.PCKCRLChain} {
		if !bytes.Equal(chain, encode(p.root)) {
			return errors.New("another chain")
		}
	}
	for _, der := range [][]byte{d.PCKCRL, d.RootCRL} {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		if err := l.CheckSignatureFrom(p.root); err != nil {
			return err
		}
		if now.Before(l.ThisUpdate) || now.After(l.NextUpdate) {
			return errors.New("list out of time")
		}
	}
	return nil
}

// Hosts sends each request to the service of its host.
type Hosts map[string]http.RoundTripper

// RoundTrip implements http.RoundTripper.
func (h Hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	if to := h[r.URL.Host]; to != nil {
		return to.RoundTrip(r)
	}
	return nil, errors.New("no such host: " + r.URL.Host)
}
