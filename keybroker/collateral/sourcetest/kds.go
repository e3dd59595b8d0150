// Package sourcetest has AMD's and Intel's services in miniature, for tests: they issue under keys
// of their own, throttle, fail and roll back as a test wants.
//
// [KDS] and [PCS] are http.RoundTrippers, so that a test can run them on simulated time, and
// http.Handlers for tests over a socket.
package sourcetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

//go:embed testdata/authorities.pem
var authorityKeys []byte

// KDS is a key distribution service.
type KDS struct {
	// Hook sees each request first; a status that is not 0 is the answer.
	Hook func(r *http.Request) (status int, header http.Header)
	// ListLife is how long a list lasts, ListEvery how often one is issued; a year and half a
	// year by default, from Begin on.
	Begin               time.Time
	ListLife, ListEvery time.Duration
	// ChipEnd, if set, is when chips' certificates end.
	ChipEnd time.Time
	// Spoil changes a document before it is served.
	Spoil func(path string, body []byte) []byte

	tb     testing.TB
	keys   [3]*rsa.PrivateKey // ARK, ASK, ASVK
	chip   *ecdsa.PrivateKey
	mu     sync.Mutex
	asked  map[string]int // by URL, answered with a document
	revoke atomic.Bool
	certs  map[string]*x509.Certificate // made by NewKDS
	lists  map[string][]byte
}

// NewKDS returns a service whose authorities are valid from a year before a time on.
func NewKDS(tb testing.TB, begin time.Time) *KDS {
	tb.Helper()
	k := &KDS{Begin: begin, ListLife: 365 * 24 * time.Hour, ListEvery: 180 * 24 * time.Hour, tb: tb, asked: map[string]int{}, certs: map[string]*x509.Certificate{}, lists: map[string][]byte{}}
	rest := authorityKeys
	for i := range k.keys {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			tb.Fatal(err)
		}
		k.keys[i] = key
	}
	var err error
	if k.chip, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		tb.Fatal(err)
	}
	for _, p := range collateral.Products() {
		root := k.issue("ARK-"+string(p), 1, nil, k.keys[0], &k.keys[0].PublicKey, nil)
		k.certs["ark/"+string(p)] = root
		k.certs["vcek/"+string(p)] = k.issue("SEV-"+string(p), serialASK, root, k.keys[0], &k.keys[1].PublicKey, nil)
		k.certs["vlek/"+string(p)] = k.issue("SEV-VLEK-"+string(p), 3, root, k.keys[0], &k.keys[2].PublicKey, nil)
	}
	return k
}

func (k *KDS) issue(name string, serial int64, parent *x509.Certificate, signer *rsa.PrivateKey, public crypto.PublicKey, extra []pkix.Extension) *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serial), NotBefore: k.Begin.AddDate(-1, 0, 0), NotAfter: k.Begin.AddDate(25, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extra}
	if extra != nil && !k.ChipEnd.IsZero() {
		t.NotAfter = k.ChipEnd
	}
	if extra == nil {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, signer)
	if err != nil {
		panic(err) // of fixed templates
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

// RootsPEM are the authorities, for a verifier that believes software TEEs.
func (k *KDS) RootsPEM() (out []byte) {
	for _, p := range collateral.Products() {
		out = append(out, encode(k.certs["ark/"+string(p)])...)
	}
	return out
}

func encode(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// Served is how often each URL was answered with a document.
func (k *KDS) Served() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[string]int{}
	for u, n := range k.asked {
		out[u] = n
	}
	return out
}

// VCEK issues a chip's certificate (57230, table 8).
func (k *KDS) VCEK(c collateral.Chip) []byte {
	oid := func(tail ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, tail...)
	}
	marshal := func(v any, params string) []byte {
		der, err := asn1.MarshalWithParams(v, params)
		if err != nil {
			panic(err) // of fixed types
		}
		return der
	}
	list := []pkix.Extension{{Id: oid(1), Value: marshal(0, "")}, {Id: oid(2), Value: marshal(string(c.Product)+"-B1", "ia5")}, {Id: oid(4), Value: c.HWID}}
	parts := map[int]uint8{1: c.TCB.BootLoader, 2: c.TCB.TEE, 3: c.TCB.SNP, 8: c.TCB.Microcode}
	if c.Product == "Turin" {
		parts[9] = c.TCB.FMC
	}
	for n, v := range parts {
		list = append(list, pkix.Extension{Id: oid(3, n), Value: marshal(int(v), "")})
	}
	return k.issue("SEV-VCEK", 0, k.certs["vcek/"+string(c.Product)], k.keys[1], k.chip.Public(), list).Raw
}

// RevokeASK has lists that are issued from now on revoke every ASK.
func (k *KDS) RevokeASK() { k.revoke.Store(true) }

// List issues a product line's list.
func (k *KDS) List(p evidence.Product, number int64, from, to time.Time) []byte {
	t := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: to, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	if k.revoke.Load() {
		t.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(serialASK), RevocationTime: from}}
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, k.certs["ark/"+string(p)], k.keys[0])
	if err != nil {
		panic(err) // of a fixed template
	}
	return der
}

// serialASK is the serial number of every ASK.
const serialASK = 2

// Report is a report of version 3 of a Genoa chip, over REPORT_DATA, signed by the key of the
// service's certificates.
func (k *KDS) Report(c collateral.Chip, data [64]byte) []byte {
	r := make([]byte, 1184)
	r[0], r[0x34], r[0x188], r[0x189] = 3, 1, 0x19, 0x11
	copy(r[0x50:], data[:])
	for _, at := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		r[at], r[at+1], r[at+6], r[at+7] = c.TCB.BootLoader, c.TCB.TEE, c.TCB.SNP, c.TCB.Microcode
	}
	copy(r[0x1a0:], c.HWID)
	digest := sha512.Sum384(r[:0x2a0])
	x, y, err := ecdsa.Sign(rand.Reader, k.chip, digest[:])
	if err != nil {
		panic(err) // of a good key
	}
	for i, n := range []*big.Int{x, y} {
		le := n.FillBytes(make([]byte, 72))
		slices.Reverse(le)
		copy(r[0x2a0+72*i:], le)
	}
	return r
}

// Chain is a product line's ASK or ASVK, and ARK, in PEM.
func (k *KDS) Chain(p evidence.Product, loaded bool) []byte {
	if loaded {
		return encode(k.certs["vlek/"+string(p)], k.certs["ark/"+string(p)])
	}
	return encode(k.certs["vcek/"+string(p)], k.certs["ark/"+string(p)])
}

// RoundTrip implements http.RoundTripper.
func (k *KDS) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := &answer{header: http.Header{}}
	k.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.response(r), nil
}

// ServeHTTP implements http.Handler.
func (k *KDS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if k.Hook != nil {
		if status, header := k.Hook(r); status != 0 {
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
			return
		}
	}
	body := k.document(r.URL)
	if body == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if k.Spoil != nil {
		body = k.Spoil(r.URL.Path, body)
	}
	k.mu.Lock()
	k.asked[r.URL.String()]++
	k.mu.Unlock()
	_, _ = w.Write(body) // the client sees what is missing
}

func (k *KDS) document(u *url.URL) []byte {
	parts := strings.Split(u.Path, "/")
	if len(parts) != 5 || parts[2] != "v1" {
		return nil
	}
	p := evidence.Product(parts[3])
	switch {
	case k.certs["ark/"+parts[3]] == nil:
		return nil
	case parts[4] == "cert_chain":
		return k.Chain(p, parts[1] == "vlek")
	case parts[4] == "crl":
		n := int64(time.Since(k.Begin) / k.ListEvery)
		from := k.Begin.Add(time.Duration(n) * k.ListEvery)
		return k.list(p, n+1, from)
	}
	hwid, err := hex.DecodeString(parts[4])
	if err != nil {
		return nil
	}
	c := collateral.Chip{Product: p, HWID: hwid}
	for name, to := range map[string]*uint8{"fmcSPL": &c.TCB.FMC, "blSPL": &c.TCB.BootLoader, "teeSPL": &c.TCB.TEE, "snpSPL": &c.TCB.SNP, "ucodeSPL": &c.TCB.Microcode} {
		text := u.Query().Get(name)
		if name == "fmcSPL" && p != "Turin" && text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return nil
		}
		*to = uint8(n)
	}
	return k.VCEK(c)
}

// list is issued once and served again.
func (k *KDS) list(p evidence.Product, number int64, from time.Time) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := string(p) + "/" + strconv.FormatInt(number, 10)
	if k.lists[name] == nil {
		k.lists[name] = k.List(p, number, from, from.Add(k.ListLife))
	}
	return k.lists[name]
}

// answer is an http.ResponseWriter for a RoundTripper.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *answer) response(r *http.Request) *http.Response {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return &http.Response{StatusCode: a.status, Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), Header: a.header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r}
}

// Throttle is what AMD's service does: it answers 429 to more than so many requests in a window,
// and says when the next may come.
func Throttle(most int, window time.Duration) func(*http.Request) (int, http.Header) {
	var mu sync.Mutex
	var served []time.Time
	return func(*http.Request) (int, http.Header) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		for len(served) > 0 && now.Sub(served[0]) >= window {
			served = served[1:]
		}
		if len(served) >= most {
			left := window - now.Sub(served[0])
			return http.StatusTooManyRequests, http.Header{"Retry-After": {strconv.Itoa(int(left/time.Second) + 1)}}
		}
		served = append(served, now)
		return 0, nil
	}
}
