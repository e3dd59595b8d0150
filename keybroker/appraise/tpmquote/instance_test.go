package tpmquote

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// statedInstance is the extension as encoding/asn1 writes it, with which Google's own tools read it.
type statedInstance struct {
	Zone          string `asn1:"utf8"`
	ProjectNumber int64
	Project       string `asn1:"utf8"`
	ID            int64
	Name          string         `asn1:"utf8"`
	Security      statedSecurity `asn1:"explicit,tag:0"`
}

type statedSecurity struct {
	Version    int64 `asn1:"explicit,tag:0,optional"`
	Production bool  `asn1:"explicit,tag:1,optional"`
}

func someInstance() statedInstance {
	return statedInstance{Zone: "europe-west4-b", ProjectNumber: 4711, Project: "example", ID: 1 << 62, Name: "web-1", Security: statedSecurity{0, true}}
}

func (i statedInstance) der(tb testing.TB) []byte {
	tb.Helper()
	der, err := asn1.Marshal(i)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func instanceID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}
}

// claimsWith verifies a quote whose key's certificate has some extensions.
func claimsWith(t *testing.T, extensions ...pkix.Extension) (evidence.TPMClaims, error) {
	t.Helper()
	p, m := newPKI(t), newMaker(t)
	template := leafTemplate()
	template.ExtraExtensions = extensions
	want := m.expected()
	want.Trust = TrustCertificate(p.authorities(t), p.leaf(t, template, m.key.Public()).Raw, p.intermediate.Raw, p.root.Raw)
	if _, err := Verify(m.quote(t), want); err != nil {
		return evidence.TPMClaims{}, err
	}
	return Verify(m.quote(t), want) // from memory
}

func TestCertificateNamesItsMachine(t *testing.T) {
	c, err := claimsWith(t, pkix.Extension{Id: instanceID(), Value: someInstance().der(t)})
	if want := (evidence.CloudInstance{Zone: "europe-west4-b", ProjectNumber: 4711, Project: "example", ID: 1 << 62, Name: "web-1"}); err != nil || c.AKInstance == nil || *c.AKInstance != want {
		t.Errorf("%+v, %v", c.AKInstance, err)
	}
	for name, change := range map[string]func(*statedInstance){
		"not of production": func(i *statedInstance) { i.Security.Production = false },
		"a version alone":   func(i *statedInstance) { i.Security = statedSecurity{Version: 3} },
	} {
		i := someInstance()
		change(&i)
		if c, err := claimsWith(t, pkix.Extension{Id: instanceID(), Value: i.der(t)}); err != nil || c.AKInstance != nil {
			t.Errorf("%s: %+v, %v", name, c.AKInstance, err)
		}
	}
	if c, err := claimsWith(t); err != nil || c.AKInstance != nil {
		t.Errorf("without the extension: %+v, %v", c.AKInstance, err)
	}
}

func TestMalformedMachinesAreRefused(t *testing.T) {
	good := someInstance().der(t)
	with := func(change func(*statedInstance)) []byte {
		i := someInstance()
		change(&i)
		return i.der(t)
	}
	for name, der := range map[string][]byte{
		"nothing":         {},
		"no sequence":     {0x02, 1, 1},
		"cut short":       good[:len(good)-1],
		"more behind":     append(good[:len(good):len(good)], 0),
		"negative number": with(func(i *statedInstance) { i.ProjectNumber = -1 }),
		"negative id":     with(func(i *statedInstance) { i.ID = -1 }),
		"no name":         with(func(i *statedInstance) { i.Name = "" }),
		"a line's end":    with(func(i *statedInstance) { i.Project = "a\nb" }),
		"not ASCII":       with(func(i *statedInstance) { i.Zone = "é" }),
		"too long":        with(func(i *statedInstance) { i.Name = strings.Repeat("a", maxInstanceText+1) }),
	} {
		_, err := claimsWith(t, pkix.Extension{Id: instanceID(), Value: der})
		if got, _ := refusal.ReasonOf(err); got != ReasonCertificate {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if c, err := claimsWith(t, pkix.Extension{Id: instanceID(), Value: with(func(i *statedInstance) { i.Name = strings.Repeat("a", maxInstanceText) })}); err != nil || c.AKInstance == nil {
		t.Errorf("the longest name: %v", err)
	}
}

// TestCriticalNameOfADevice: the TCG's profile has it; any other extension that is critical and unknown is refused.
func TestCriticalNameOfADevice(t *testing.T) {
	// A directory name, of which crypto/x509 reads nothing.
	names := []byte{0x30, 0x0f, 0xa4, 0x0d, 0x30, 0x0b, 0x31, 0x09, 0x30, 0x07, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x00}
	if _, err := claimsWith(t, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: names}); err != nil {
		t.Error(err)
	}
	_, err := claimsWith(t, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
	wantReason(t, err, ReasonChain)
}

// FuzzInstance: whatever an extension holds, it is read or refused.
func FuzzInstance(f *testing.F) {
	f.Add(someInstance().der(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: instanceID(), Value: der}}}
		i, err := instanceOf(cert)
		if err != nil && i != nil || i != nil && (i.Zone == "" || i.Project == "" || len(i.Name) > maxInstanceText) {
			t.Errorf("%x: %+v, %v", der, i, err)
		}
	})
}
