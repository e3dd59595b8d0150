package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// certificate is one with a subject and, for chip keys, one of AMD's extensions.
func certificate(t *testing.T, name string, extensions ...int) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1<<32, 0)}
	for _, e := range extensions {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, e}, Value: []byte{5, 0}})
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(der)
}

// Hosts put the VLEK into either slot (CCF #8116): the certificate says what it is.
func TestCertificatesAreNamedByWhatTheySay(t *testing.T) {
	vlek, vcek := certificate(t, "SEV-VLEK", 5), certificate(t, "SEV-VCEK", 4)
	ask, asvk := certificate(t, "SEV-Genoa"), certificate(t, "SEV-VLEK-Genoa")
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(vlek)}))
	for name, c := range map[string]struct {
		table []string
		want  map[evidence.PartType]string
	}{
		"VLEK in the VCEK's slot":      {[]string{guidVCEK, vlek}, map[evidence.PartType]string{"vlek": vlek}},
		"as text":                      {[]string{guidVCEK, text}, map[evidence.PartType]string{"vlek": vlek}},
		"VCEK in the VLEK's slot":      {[]string{guidVLEK, vcek}, map[evidence.PartType]string{"vcek": vcek}},
		"each in the other's":          {[]string{guidVLEK, vcek, guidVCEK, vlek}, map[evidence.PartType]string{"vcek": vcek, "vlek": vlek}},
		"VLEK in both":                 {[]string{guidVLEK, vlek, guidVCEK, vlek}, map[evidence.PartType]string{"vlek": vlek}},
		"named by its extension alone": {[]string{guidVCEK, certificate(t, "key", 5)}, nil},
		"ASK beside a VLEK":            {[]string{guidIssuer, ask}, map[evidence.PartType]string{"ask": ask}},
		"ASVK":                         {[]string{guidIssuer, asvk}, map[evidence.PartType]string{"asvk": asvk}},
		"what nobody can read":         {[]string{guidVLEK, "leaf"}, map[evidence.PartType]string{"vlek": "leaf"}},
	} {
		found, err := parseTable(table(c.table...), evidence.EndorsementASVK)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.want == nil {
			if found[evidence.EndorsementVLEK] == nil || found[evidence.EndorsementVCEK] != nil {
				t.Errorf("%s: %d certificates, no VLEK", name, len(found))
			}
			continue
		}
		for typ, der := range c.want {
			if string(found[typ]) != der || len(found) != len(c.want) {
				t.Errorf("%s: got %d certificates, not the %s", name, len(found), typ)
			}
		}
	}
}

// mixed rewrites a table's GUIDs into the mixed order of firmware.
func mixed(aux []byte) []byte {
	out := bytes.Clone(aux)
	for at := 0; !bytes.Equal(out[at:at+16], make([]byte, 16)); at += entrySize {
		g := out[at:]
		binary.LittleEndian.PutUint32(g, binary.BigEndian.Uint32(g))
		binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(g[4:]))
		binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(g[6:]))
	}
	return out
}

func TestGUIDsAreReadInEitherOrderOfBytes(t *testing.T) {
	aux := table(guidVCEK, "leaf", guidIssuer, "issuer", guidARK, "root", guidVLEK, "loaded")
	for name, aux := range map[string][]byte{"as printed": aux, "mixed": mixed(aux)} {
		found, err := parseTable(aux, evidence.EndorsementASK)
		if err != nil || string(found["vcek"]) != "leaf" || string(found["ask"]) != "issuer" || string(found["ark"]) != "root" || string(found["vlek"]) != "loaded" {
			t.Errorf("%s: %v, %q", name, err, found)
		}
	}
}

// moved is a table whose second certificate lies elsewhere.
func moved(offset, length uint32) []byte {
	aux := table(guidVCEK, "leaf", guidARK, "root")
	binary.LittleEndian.PutUint32(aux[entrySize+16:], offset)
	binary.LittleEndian.PutUint32(aux[entrySize+20:], length)
	return aux
}

func TestAmbiguousTablesAreRefused(t *testing.T) {
	head := uint32(3 * entrySize)
	if _, err := parseTable(moved(head+4, 4), evidence.EndorsementASK); err != nil {
		t.Fatal(err)
	}
	twice := table(guidVCEK, "leaf", guidVCEK, "leaf")
	both := mixed(twice)
	copy(both, twice[:16])
	for name, aux := range map[string][]byte{
		"the same entry twice":           twice,
		"twice, in either order":         both,
		"two different VLEKs":            table(guidVLEK, certificate(t, "SEV-VLEK", 5), guidVCEK, certificate(t, "SEV-VLEK", 5)),
		"overlap of one byte":            moved(head+3, 4),
		"the same certificate":           moved(head, 4),
		"one inside the other":           moved(head+1, 2),
		"into the table":                 moved(0, 4),
		"into the table's last byte":     moved(head-1, 2),
		"unknown entry over a known one": table("00000000-0000-0000-0000-000000000001", "x", guidVCEK, "leaf"),
	} {
		if name == "unknown entry over a known one" {
			binary.LittleEndian.PutUint32(aux[16:], head+1)
		}
		_, err := parseTable(aux, evidence.EndorsementASK)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		wantReason(t, err, ReasonDevice)
	}
}
