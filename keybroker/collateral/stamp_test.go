package collateral

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// list issues a list under a key that nobody looks at.
func list(tb testing.TB, change func(*x509.RevocationList)) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.AddDate(0, 0, 30)}
	if change != nil {
		change(t)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	der, err := x509.CreateRevocationList(rand.Reader, t, issuer, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestNeitherNumberNorDateGoesBack(t *testing.T) {
	stamp := func(number int64, day int, digest byte) Stamp {
		return Stamp{Name: "x", Number: big.NewInt(number), Issued: noon.AddDate(0, 0, day), Digest: [32]byte{digest}}
	}
	kept := stamp(5, 0, 1)
	for what, c := range map[string]struct {
		offered Stamp
		newer   bool
		reason  refusal.Reason
	}{
		"the same": {stamp(5, 0, 1), false, ""}, "a higher number": {stamp(6, 0, 2), true, ""}, "a later date": {stamp(5, 1, 2), true, ""}, "both": {stamp(6, 1, 2), true, ""},
		"a lower number": {stamp(4, 0, 2), false, ReasonRollback}, "an earlier date": {stamp(5, -1, 2), false, ReasonRollback},
		"a lower number, later": {stamp(4, 9, 2), false, ReasonRollback}, "a higher number, earlier": {stamp(6, -1, 2), false, ReasonRollback},
		"other bytes": {stamp(5, 0, 2), false, ReasonConflict}, "no number": {Stamp{Name: "x", Issued: noon.AddDate(1, 0, 0)}, false, ReasonMalformed},
		"another document": {Stamp{Name: "y", Number: big.NewInt(9), Issued: noon.AddDate(1, 0, 0)}, false, ReasonMismatch},
	} {
		newer, err := c.offered.Replaces(kept)
		if refusaltest.Want(t, what, err, c.reason); newer != c.newer {
			t.Errorf("%s: newer is %t", what, newer)
		}
	}
}

func tdxItem(tb testing.TB, tcb, qe string) Item {
	return Item{Key: mustKey(tb, keys[5]), Fetched: noon, Documents: [][]byte{[]byte(tcb), []byte("c"), []byte(qe), []byte("c"), list(tb, nil), []byte("c"),
		list(tb, func(l *x509.RevocationList) { l.Number, l.NextUpdate = big.NewInt(7), noon.AddDate(1, 0, 0) })}}
}

func document(member string, number int) string {
	return fmt.Sprintf(`{"%s":{"issueDate":"2026-06-01T12:00:00Z","nextUpdate":"2026-07-01T12:00:00Z","tcbEvaluationDataNumber":%d},"signature":"00"}`, member, number)
}

func TestIntelsDocumentsAreDated(t *testing.T) {
	it := tdxItem(t, document("tcbInfo", 18), document("enclaveIdentity", 17))
	stamps, err := it.Stamps()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"intel-tcb/90c06f000000/standard 18", "intel-qe/standard 17", "intel-pck-crl/platform 1", "intel-root-crl 7"}
	for i, s := range stamps {
		if got := fmt.Sprintf("%s %v", s.Name, s.Number); got != want[i] || !s.Issued.Equal(noon) {
			t.Errorf("got %s of %s, want %s", got, s.Issued, want[i])
		}
	}
	if e, h := Ends(stamps), HalfLife(stamps); !e.Equal(noon.AddDate(0, 0, 30)) || !h.Equal(noon.AddDate(0, 0, 15)) {
		t.Errorf("ends %s, half %s", e, h)
	}
	if !Ends(nil).IsZero() || !HalfLife(nil).IsZero() {
		t.Error("nothing ends")
	}
}

// TestOnlyTheSignedPartDatesADocument: package json takes members in any case, and the last one
// counts; a mirror could add an unsigned one and date a document as it likes.
func TestOnlyTheSignedPartDatesADocument(t *testing.T) {
	good := document("tcbInfo", 18)
	body := strings.TrimSuffix(good, "}")
	for what, doc := range map[string]string{
		"another case after it":  body + `,"TCBInfo":{"tcbEvaluationDataNumber":99}}`,
		"another case before it": `{"TCBINFO":{},` + good[1:],
		"twice":                  body + `,"tcbInfo":{"tcbEvaluationDataNumber":99}}`,
		"signature twice":        body + `,"signature":"11"}`,
		"another member":         body + `,"x":1}`,
		"no signature":           strings.Replace(good, `,"signature":"00"`, "", 1),
		"text behind it":         good + "x",
		"a second document":      good + good,
		"no dates":               `{"tcbInfo":{"tcbEvaluationDataNumber":1},"signature":""}`,
		"no number":              strings.Replace(good, `,"tcbEvaluationDataNumber":18`, "", 1),
		"not an object":          `["tcbInfo"]`,
		"a bad date":             strings.Replace(good, "2026-06-01T", "yesterday", 1),
		"a negative number":      document("tcbInfo", -1),
		"cut short":              good[:len(good)-5],
		"the other document":     document("enclaveIdentity", 18),
		"nesting without end":    `{"tcbInfo":` + strings.Repeat("[", 100000),
	} {
		_, err := tdxItem(t, doc, document("enclaveIdentity", 17)).Stamps()
		refusaltest.Want(t, what, err, ReasonMalformed)
	}
}

func FuzzSignedPart(f *testing.F) {
	f.Add([]byte(document("tcbInfo", 18)))
	f.Add([]byte(`{"tcbInfo":{},"signature":"x"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		_, _ = signedStamp("x", "tcbInfo", doc) // must not panic
	})
}

func TestListsWithoutNumberOrEndAreNotDated(t *testing.T) {
	it := Item{Key: mustKey(t, "amd-crl/Milan"), Fetched: noon, Documents: [][]byte{list(t, nil)}}
	if s, err := it.Stamps(); err != nil || s[0].Number.Int64() != 1 || s[0].Name != "amd-crl/Milan" {
		t.Errorf("%+v, %v", s, err)
	}
	it.Documents[0] = []byte("list")
	_, err := it.Stamps()
	refusaltest.Want(t, "no list", err, ReasonMalformed)
	chain := Item{Key: mustKey(t, "amd-chain/Milan/vcek"), Fetched: noon, Documents: [][]byte{{1}, {2}}}
	_, err = chain.Stamps()
	refusaltest.Want(t, "no certificate", err, ReasonMalformed)
	vcek := Item{Key: mustKey(t, keys[3]), Fetched: noon, Documents: [][]byte{{1}}}
	if s, err := vcek.Stamps(); s != nil || err != nil {
		t.Errorf("a VCEK is dated: %v, %v", s, err)
	}
}

func TestChainsAreCertificatesAndNothingElse(t *testing.T) {
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2, 3}}))
	for what, good := range map[string]string{"one": block, "two": block + block, "three": block + "\n" + block + block + "\n", "a zero byte": block + "\x00", "CRLF": strings.ReplaceAll(block, "\n", "\r\n")} {
		if _, err := Certificates([]byte(good)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))
	for what, bad := range map[string]string{"nothing": "", "four": strings.Repeat(block, 4), "text before": "x" + block, "text between": block + "x\n" + block, "text behind": block + "x",
		"a key": key, "a certificate and a key": block + key, "headers": strings.Replace(block, "-----\n", "-----\na: b\n\n", 1), "half": block[:40]} {
		_, err := Certificates([]byte(bad))
		refusaltest.Want(t, what, err, ReasonMalformed)
	}
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2, 3}})))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := Certificates(text); err == nil && (len(list) == 0 || len(list) > maxChainLength) {
			t.Errorf("%d certificates", len(list))
		}
	})
}

// TestRealDocumentsAreDated: Intel's of January 2026, all of whose lists have number 1, and AMD's.
func TestRealDocumentsAreDated(t *testing.T) {
	const dir = "collateral-tinfoil"
	it := Item{Key: mustKey(t, "intel-tdx/90c06f000000/platform/standard"), Fetched: noon, Documents: [][]byte{evidencetest.Read(t, "tdx", dir, "tcb_info_90c06f000000.json"), {1}, evidencetest.Read(t, "tdx", dir, "qe_identity.json"), {1},
		evidencetest.Read(t, "tdx", dir, "pck_crl_platform.crl"), {1}, evidencetest.Read(t, "tdx", dir, "root_ca.crl")}}
	stamps, err := it.Stamps()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"18 2026-01-12 2026-02-11", "18 2026-01-12 2026-02-11", "1 2026-01-12 2026-02-11", "1 2025-03-20 2026-04-03"}
	for i, s := range stamps {
		if got := fmt.Sprintf("%v %s %s", s.Number, s.Issued.Format(time.DateOnly), s.Ends.Format(time.DateOnly)); got != want[i] {
			t.Errorf("%s: got %s, want %s", s.Name, got, want[i])
		}
	}
	amd := Item{Key: mustKey(t, "amd-crl/Milan"), Fetched: noon, Documents: [][]byte{evidencetest.Read(t, "snp", "roots", "milan.crl")}}
	if s, err := amd.Stamps(); err != nil || s[0].Number.Int64() != 6 || s[0].Ends.Format(time.DateOnly) != "2026-05-12" {
		t.Errorf("%+v, %v", s, err)
	}
}
