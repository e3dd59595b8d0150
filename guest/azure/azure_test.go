//go:build !release

package azure

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azuresim"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// chip makes SEV-SNP reports that nobody signed, with certificates of the right relations: AMD's
// RSA keys take seconds to make.
type chip struct{ certificates []evidence.Part }

func (c chip) Collect(_ context.Context, reportData [64]byte) (evidence.Envelope, error) {
	report := make([]byte, 0x4a0)
	copy(report[0x50:], reportData[:])
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: append([]evidence.Part{{Type: evidence.PartSNPReport, Data: report}}, c.certificates...)}, nil
}

var sharedChip = sync.OnceValues(func() (c chip, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	parent := &x509.Certificate{}
	for i, t := range []evidence.PartType{evidence.EndorsementARK, evidence.EndorsementASK, evidence.EndorsementVCEK} {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: string(t)}}
		if i == 0 {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
		if err != nil {
			return c, err
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			return c, err
		}
		c.certificates = append(c.certificates, evidence.Part{Type: t, Data: der})
	}
	return c, nil
})

func quoter(_ context.Context, reportData [64]byte) ([]byte, error) {
	quote := make([]byte, 48+584)
	quote[0], quote[4] = 4, 0x81
	copy(quote[48+520:], reportData[:])
	return quote, nil
}

func newVM(tb testing.TB, tdx bool) *azuresim.VM {
	tb.Helper()
	n := new(big.Int).SetBytes(bytes.Repeat([]byte{0x81}, 256))
	o := azuresim.Options{AK: &rsa.PublicKey{N: n, E: 65537}}
	if tdx {
		o.TDX = quoter
	} else {
		tee, err := sharedChip()
		if err != nil {
			tb.Fatal(err)
		}
		o.SNP = tee
	}
	vm, err := azuresim.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return vm
}

// dialTo connects to a server of the test, and to nothing but the one address.
func dialTo(tb testing.TB, s *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" || address != "169.254.169.254:80" {
			tb.Errorf("dialled %s %s", network, address)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
	}
}

func serve(tb testing.TB, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func TestASNPVMsEvidenceIsCollected(t *testing.T) {
	vm := newVM(t, false)
	c, err := New(t.Context(), Options{TPM: vm, Dial: dialTo(t, serve(t, vm))})
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Collect(t.Context())
	if err != nil || e.Missing != nil || e.Kind != evidence.KindAzureSNP || e.Quote != nil || len(e.Endorsements) != 3 {
		t.Fatalf("%+v, %v", e, err)
	}
	env := evidence.Envelope{Kind: evidence.KindSNP, Parts: append([]evidence.Part{{Type: evidence.PartSNPReport, Data: e.HCL[0x20:0x4c0]}}, e.Endorsements...)}
	if _, err := env.Marshal(); err != nil {
		t.Errorf("the certificates are in no canonical order: %v", err)
	}
}

func TestATDXVMsEvidenceIsCollected(t *testing.T) {
	vm := newVM(t, true)
	c, err := New(t.Context(), Options{TPM: vm, Dial: dialTo(t, serve(t, vm))})
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Collect(t.Context())
	if err != nil || e.Kind != evidence.KindAzureTDX || e.Endorsements != nil || !bytes.Equal(e.Quote[48+520:], e.HCL[0x20+0x80:0x20+0xc0]) {
		t.Fatalf("%+v, %v", e, err)
	}
}

// index is a TPM with one answer.
type index struct {
	data []byte
	err  error
}

func (i index) ReadNV(context.Context, uint32, int) ([]byte, error) { return i.data, i.err }

func TestElsewhereThereIsNoCollector(t *testing.T) {
	whole, err := newVM(t, true).HCL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kind := bytes.Clone(whole)
	kind[hardwareTypeAt] = 1
	for name, row := range map[string]struct {
		tpm  TPM
		want refusal.Reason
	}{
		"no TPM":       {nil, ReasonNotAzure},
		"no index":     {index{err: fmt.Errorf("handle: %w", fs.ErrNotExist)}, ReasonNotAzure},
		"failing TPM":  {index{err: io.ErrUnexpectedEOF}, ReasonReport},
		"empty":        {index{}, ReasonReport},
		"cut short":    {index{data: whole[:hardwareTypeAt+3]}, ReasonReport},
		"too large":    {index{data: append(bytes.Clone(whole), make([]byte, maxReport)...)}, ReasonReport},
		"other bytes":  {index{data: bytes.Repeat([]byte{1}, 2600)}, ReasonReport},
		"unknown kind": {index{data: kind}, ReasonReport},
	} {
		c, err := New(t.Context(), Options{TPM: row.tpm})
		if reason, _ := refusal.ReasonOf(err); reason != row.want || c != nil {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
}

// answer serves one body for everything.
func answer(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func certificates(tb testing.TB) (vcek, ask, ark string) {
	tee, err := sharedChip()
	if err != nil {
		tb.Fatal(err)
	}
	env, err := tee.Collect(tb.Context(), [64]byte{})
	if err != nil {
		tb.Fatal(err)
	}
	text := func(t evidence.PartType) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: env.Part(t)}))
	}
	return text(evidence.EndorsementVCEK), text(evidence.EndorsementASK), text(evidence.EndorsementARK)
}

func thim(vcek, chain string) string {
	text, err := json.Marshal(map[string]string{"vcekCert": vcek, "certificateChain": chain, "tcbm": "00"})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestAnswersOfAnotherFormAreRefused(t *testing.T) {
	vcek, ask, ark := certificates(t)
	if _, err := NewMetadata(Options{Dial: dialTo(t, serve(t, answer(200, thim(vcek, ark+"\n"+ask))))}).Certificates(t.Context()); err != nil {
		t.Errorf("the other order: %v", err)
	}
	for name, h := range map[string]http.Handler{
		"429":                   answer(429, thim(vcek, ask+ark)),
		"500":                   answer(500, thim(vcek, ask+ark)),
		"204":                   answer(204, ""),
		"no JSON":               answer(200, "<html>"),
		"a list":                answer(200, "[]"),
		"no certificates":       answer(200, "{}"),
		"no chain":              answer(200, thim(vcek, "")),
		"no VCEK":               answer(200, thim("", ask+ark)),
		"no root":               answer(200, thim(vcek, ask)),
		"two roots":             answer(200, thim(vcek, ask+ark+ark)),
		"two leaves":            answer(200, thim(vcek+vcek, ask+ark)),
		"text behind":           answer(200, thim(vcek, ask+ark+"x")),
		"key in place of one":   answer(200, thim(strings.ReplaceAll(vcek, "CERTIFICATE", "PRIVATE KEY"), ask+ark)),
		"damaged certificate":   answer(200, thim("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ask+ark)),
		"certificate too large": answer(200, thim(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: make([]byte, 8<<10+1)})), ask+ark)),
		"too much":              answer(200, `{"tcbm":"`+strings.Repeat("0", maxAnswer)+`",`+thim(vcek, ask+ark)[1:]),
		"hung up":               http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"cut short": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4000")
			_, _ = io.WriteString(w, thim(vcek, ask+ark)[:3000])
		}),
		"large header": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
			_, _ = io.WriteString(w, thim(vcek, ask+ark))
		}),
		"endless": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 4096)); err != nil {
					return
				}
			}
		}),
	} {
		list, err := NewMetadata(Options{Dial: dialTo(t, serve(t, h))}).Certificates(t.Context())
		if reason, _ := refusal.ReasonOf(err); reason != ReasonMetadata || list != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQuotesOfAnotherFormAreRefused(t *testing.T) {
	report := make([]byte, tdReportSize)
	report[tdReportDataAt] = 7
	quote, _ := quoter(t.Context(), [64]byte{7})
	v5 := append(append(bytes.Clone(quote[:48]), 3, 0, 0x88, 2, 0, 0), quote[48:]...)
	v5[0] = 5
	with := func(change func([]byte) []byte) string { return encoded(change(bytes.Clone(quote))) }
	for name, row := range map[string]struct {
		body string
		good bool
	}{
		"version 4":         {encoded(quote), true},
		"version 5":         {encoded(v5), true},
		"padded":            {base64.URLEncoding.EncodeToString(quote), true},
		"no quote":          {"", false},
		"not base64url":     {"!", false},
		"version 3":         {with(func(q []byte) []byte { q[0] = 3; return q }), false},
		"cut short":         {with(func(q []byte) []byte { return q[:len(q)-1] }), false},
		"over other data":   {with(func(q []byte) []byte { q[48+520] = 8; return q }), false},
		"over half of it":   {with(func(q []byte) []byte { q[len(q)-1] = 8; return q }), false},
		"larger than any":   {with(func(q []byte) []byte { return append(q, make([]byte, maxQuote)...) }), false},
		"version 5 too low": {encoded(append(bytes.Clone([]byte{5}), quote[1:]...)), false},
	} {
		text, err := json.Marshal(map[string]string{"quote": row.body})
		if err != nil {
			t.Fatal(err)
		}
		got, err := NewMetadata(Options{Dial: dialTo(t, serve(t, answer(200, string(text))))}).Quote(t.Context(), report)
		if reason, _ := refusal.ReasonOf(err); row.good != (err == nil) || !row.good && (reason != ReasonMetadata || got != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewMetadata(Options{}).Quote(t.Context(), report[:1023]); err == nil {
		t.Error("a TDREPORT that is cut short was sent")
	}
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestRedirectsAndProxiesAreNotFollowed(t *testing.T) {
	vcek, ask, ark := certificates(t)
	var elsewhere atomic.Int32
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, thim(vcek, ask+ark))
	}))
	t.Setenv("HTTP_PROXY", other.URL)
	t.Setenv("http_proxy", other.URL)
	direct := serve(t, answer(200, thim(vcek, ask+ark)))
	if _, err := NewMetadata(Options{Dial: dialTo(t, direct)}).Certificates(t.Context()); err != nil || elsewhere.Load() != 0 {
		t.Errorf("a proxy was asked %d times: %v", elsewhere.Load(), err)
	}
	for _, target := range []string{other.URL, certificatesURL, "/metadata/THIM/amd/certification"} {
		var asked atomic.Int32
		redirecting := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) > 1 {
				_, _ = io.WriteString(w, thim(vcek, ask+ark))
				return
			}
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		}))
		_, err := NewMetadata(Options{Dial: dialTo(t, redirecting)}).Certificates(t.Context())
		if reason, _ := refusal.ReasonOf(err); reason != ReasonMetadata || asked.Load() != 1 || elsewhere.Load() != 0 {
			t.Errorf("redirected to %s: %v; asked %d times there and %d elsewhere", target, err, asked.Load(), elsewhere.Load())
		}
	}
}

// A service that accepts and never answers ends at the client's own deadline, or at the caller's.
func TestAServiceThatNeverAnswersEndsAtTheDeadline(t *testing.T) {
	over := make(chan struct{}) // of a request whose body is unread, a server does not see the end
	silent := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	trickle := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	t.Cleanup(func() { close(over) }) // runs before the servers are closed
	for _, s := range []*httptest.Server{silent, trickle} {
		began := time.Now()
		_, err := NewMetadata(Options{Dial: dialTo(t, s), Timeout: 50 * time.Millisecond}).Certificates(t.Context())
		if reason, _ := refusal.ReasonOf(err); reason != ReasonMetadata {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = NewMetadata(Options{Dial: dialTo(t, s)}).Quote(ctx, make([]byte, tdReportSize))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	}
}

// A broker that has the certificates elsewhere can do without; a quote there must be.
func TestWithoutAMetadataServiceThereIsStillAReport(t *testing.T) {
	broken := dialTo(t, serve(t, answer(503, "")))
	c, err := New(t.Context(), Options{TPM: newVM(t, false), Dial: broken})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.Collect(t.Context()); err != nil || e.Missing == nil || len(e.HCL) == 0 || e.Endorsements != nil {
		t.Errorf("%+v, %v", e, err)
	}
	if c, err = New(t.Context(), Options{TPM: newVM(t, true), Dial: broken}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Collect(t.Context()); err == nil {
		t.Error("evidence of TDX without a quote")
	}
}

// FuzzMetadata: no answer makes the client panic, and certificates come three at a time.
func FuzzMetadata(f *testing.F) {
	vcek, ask, ark := certificates(f)
	f.Add([]byte(vcek), []byte(ask+ark), []byte{4, 0})
	f.Add([]byte("-----BEGIN CERTIFICATE-----"), []byte{}, make([]byte, 700))
	f.Fuzz(func(t *testing.T, leaf, chain, quote []byte) {
		found := map[evidence.PartType][]byte{}
		err := sortCertificates(found, leaf, true)
		if err == nil {
			err = sortCertificates(found, chain, false)
		}
		if _, ok := refusal.ReasonOf(err); err != nil && !ok || len(found) > 3 {
			t.Errorf("%d certificates, %v", len(found), err)
		}
		if over := quotedData(quote); over != nil && len(over) != 64 {
			t.Errorf("%d bytes", len(over))
		}
	})
}
