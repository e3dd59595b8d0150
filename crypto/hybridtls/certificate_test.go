package hybridtls

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

// TestCertificatesAreIssuedAnewUnderOneRoot: peers that hold the root accept each, and
// nothing else that it might be taken for.
func TestCertificatesAreIssuedAnewUnderOneRoot(t *testing.T) {
	rootPEM, rootKey, err := NewRoot("test root", 48*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ParseRoot(rootPEM, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := Roots(rootPEM)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(certPEM, keyPEM []byte, host string) error {
		t.Helper()
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	for range 2 {
		certPEM, keyPEM, err := root.Issue([]string{"broker.example.org", "192.0.2.1"}, time.Hour)
		if err != nil || verify(certPEM, keyPEM, "broker.example.org") != nil || verify(certPEM, keyPEM, "192.0.2.1") != nil {
			t.Fatal(err, verify(certPEM, keyPEM, "broker.example.org"))
		}
		if verify(certPEM, keyPEM, "other.example.org") == nil {
			t.Error("verified for another host")
		}
		if _, err := ParseRoot(certPEM, keyPEM); err == nil {
			t.Error("what was issued signs others")
		}
	}
	own, ownKey, err := NewCertificate([]string{"broker.example.org"}, time.Hour)
	if err != nil || verify(own, ownKey, "broker.example.org") == nil {
		t.Error("a certificate that the root did not sign verifies", err)
	}
	if verify(rootPEM, rootKey, "broker.example.org") == nil {
		t.Error("the root serves")
	}
	if _, _, err := root.Issue([]string{"h"}, 49*time.Hour); err == nil || !strings.Contains(err.Error(), "its root expires") {
		t.Errorf("a certificate outlives its root: %v", err)
	}
	if _, _, err := root.Issue(nil, time.Hour); err == nil {
		t.Error("issued for no host")
	}
	if _, _, err := NewRoot("", time.Hour); err == nil {
		t.Error("a root without a name")
	}
	if _, err := ParseRoot(rootPEM, ownKey); err == nil {
		t.Error("a root with another key")
	}
}

// TestEveryRootOfAFileIsWhole: one that is passed over would be missed when the server shows it.
func TestEveryRootOfAFileIsWhole(t *testing.T) {
	one, key, err := NewRoot("one", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := NewRoot("two", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	both := string(one) + "# the next one\n" + string(two)
	if pool, err := Roots([]byte(both)); err != nil || !pool.Equal(mustPool(t, one, two)) {
		t.Errorf("two roots: %v", err)
	}
	for name, text := range map[string]string{
		"nothing":           "",
		"text":              "no certificate",
		"a key":             string(key),
		"root and key":      string(one) + string(key),
		"the second cut":    both[:len(both)-80],
		"the first cut":     string(one[:len(one)-60]) + "\n" + string(two),
		"a changed one":     strings.Replace(both, "\nMII", "\nAAA", 1),
		"more than are few": strings.Repeat(string(one), maxRoots+1),
	} {
		if _, err := Roots([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Roots([]byte(strings.Repeat(string(one), maxRoots))); err != nil {
		t.Error(err)
	}
}

func mustPool(t *testing.T, list ...[]byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, c := range list {
		if !pool.AppendCertsFromPEM(c) {
			t.Fatal("no certificate")
		}
	}
	return pool
}

func FuzzRoots(f *testing.F) {
	one, _, err := NewRoot("one", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(append(one[:len(one):len(one)], one...))
	f.Fuzz(func(t *testing.T, text []byte) {
		pool, err := Roots(text)
		if (err == nil) != (pool != nil) {
			t.Fatal(pool, err)
		}
	})
}

// What every peer would refuse is found before it takes the place of what they accept.
func TestServes(t *testing.T) {
	make := func(validity time.Duration) *tls.Certificate {
		t.Helper()
		certPEM, keyPEM, err := NewCertificate([]string{"broker.example", "*.example", "10.0.0.1"}, validity)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
	now, day := time.Now(), make(24*time.Hour)
	rootPEM, rootKey, err := NewRoot("root", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	root, err := tls.X509KeyPair(rootPEM, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(time.Hour)
	chain := tls.Certificate{Certificate: [][]byte{day.Certificate[0], ended.Certificate[0]}}
	for name, c := range map[string]struct {
		pair *tls.Certificate
		at   time.Time
		says string
	}{
		"valid":               {day, now, ""},
		"over":                {day, now.Add(25 * time.Hour), "expired on"},
		"not yet valid":       {day, now.Add(-time.Hour), "is not valid before"},
		"a root":              {&root, now, "names no host"},
		"the one above ended": {&chain, now.Add(2 * time.Hour), "expired on"},
		"malformed":           {&tls.Certificate{Certificate: [][]byte{{1}}}, now, "certificate 1"},
	} {
		if err := Serves(c.pair, c.at); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestACertificateIsForHosts(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, host := range []string{"", "bad host", "https://a.example", "a.example:8443", "a.example/", "a..example", ".example", "ünï.example", "a\n.example", long + ".example",
		strings.Repeat("a.", 130) + "example", "-a.example", "*.*.example"} {
		if _, _, err := NewCertificate([]string{"good.example", host}, time.Hour); err == nil {
			t.Errorf("a certificate was made for %q", host)
		}
	}
	for _, host := range []string{"localhost", "a.example", "*.example", "xn--n-bga6k.example", "key_broker.default.svc", "::1", "10.0.0.1"} {
		if _, _, err := NewCertificate([]string{host}, time.Hour); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}
