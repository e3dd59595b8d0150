package snp

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// FuzzTable: the host writes the certificate table, and the host is not trusted.
func FuzzTable(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, entrySize))
	f.Add(table(guidVCEK, "leaf", guidIssuer, "issuer"))
	if testing.Verbose() {
		f.Log("seeded with made tables; TestTableOfARealHost covers a real one")
	}
	f.Fuzz(func(t *testing.T, aux []byte) {
		found, err := parseTable(aux, evidence.EndorsementASK)
		if err != nil {
			if reason, _ := refusal.ReasonOf(err); reason != ReasonDevice || found != nil {
				t.Errorf("%v with %d certificates", err, len(found))
			}
			return
		}
		for typ, data := range found {
			if len(data) == 0 || len(data) > maxCertificate {
				t.Errorf("%s of %d bytes", typ, len(data))
			}
		}
	})
}

func TestTableOfARealHost(t *testing.T) {
	aux := realTable(t)
	found, err := parseTable(aux, evidence.EndorsementASK)
	if err != nil || len(found) != 3 {
		t.Fatalf("%d certificates, %v", len(found), err)
	}
	for cut := 1; cut < len(aux); cut += max(1, cut/400) { // refused wherever it ends too early
		_, err := parseTable(aux[:cut], evidence.EndorsementASK)
		wantReason(t, err, ReasonDevice)
	}
	empty := append(make([]byte, 0, 4*entrySize), aux[:3*entrySize]...)
	for i := range 3 { // entries of no length, and no end behind them
		clear(empty[i*entrySize+16 : (i+1)*entrySize])
	}
	_, err = parseTable(empty, evidence.EndorsementASK)
	wantReason(t, err, ReasonDevice)
}

func TestTableLimits(t *testing.T) {
	many := make([]string, 0, 2*maxEntries)
	for range maxEntries {
		many = append(many, guidVCEK, "x")
	}
	pastEnd := table(guidVCEK, "leaf")
	pastEnd[20] = 5
	overflow := table(guidVCEK, "leaf")
	copy(overflow[16:], bytes.Repeat([]byte{0xff}, 8))
	for name, aux := range map[string][]byte{"too many entries": table(many...), "past its end": pastEnd, "overflowing": overflow, "no end": table(guidVCEK, "")[:entrySize]} {
		if _, err := parseTable(aux, evidence.EndorsementASK); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, aux := range map[string][]byte{
		"unknown entry": table("00000000-0000-0000-0000-000000000001", "x"), "empty entry": table(guidVCEK, ""),
		"oversized entry": table(guidVCEK, strings.Repeat("x", maxCertificate+1)),
		"empty PEM":       table(guidVCEK, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
	} {
		if found, err := parseTable(aux, evidence.EndorsementASK); err != nil || len(found) != 0 {
			t.Errorf("%s: %v, %d certificates", name, err, len(found))
		}
	}
}
