package gpu

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

var noon = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// hopper is the evidence of a real H100, and the nonce that it is over.
func hopper(tb testing.TB) (Evidence, [32]byte) {
	tb.Helper()
	report, err := hex.DecodeString(string(bytes.TrimSpace(evidencetest.Read(tb, "nvidia", "hopper-report.hex"))))
	if err != nil {
		tb.Fatal(err)
	}
	chain, err := ParseChain(evidencetest.Read(tb, "nvidia", "hopper-chain.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	return Evidence{Report: report, Chain: chain}, [32]byte(report[4:36])
}

func TestARealH100IsAppraised(t *testing.T) {
	e, nonce := hopper(t)
	c, err := new(Verifier).Appraise(t.Context(), e, nonce, noon)
	if err != nil {
		t.Fatal(err)
	}
	// Read from the hexadecimal dump and from OpenSSL's print of the chain.
	if c.Architecture != evidence.GPUHopper || c.Software || c.Model != "GH100 A01 GSP BROM" || c.Device != "41431d480fe5e87274" ||
		c.UEID != "478176379286082186618948445787393647364802107249" || c.Driver != "550.90.07" || c.VBIOS != "96.00.9f.00.01" ||
		c.ChipSKU != "882" || c.Project != "1010" || c.ProjectSKU != "0200" || c.Mode != evidence.GPUModeUnstated || c.Chip != "" {
		t.Errorf("claims %+v", c)
	}
	if c.ProtectedPCIe == nil || *c.ProtectedPCIe || c.NVDEC0 == nil || *c.NVDEC0 || c.FlagsStated || c.Debug || c.SVN != nil || c.RevocationChecked {
		t.Errorf("states %+v", c)
	}
	if !c.FWIDReported || c.FWID.String()[:16] != "f5c384aebb579217" || len(c.Measurements) != 64 || c.Measurements[2].String()[:16] != "8048dfd18fe229bf" {
		t.Errorf("firmware %s, %d blocks, the second %s", c.FWID, len(c.Measurements), c.Measurements[2])
	}
}

// Every byte of a real report is signed, or the signature: none may change.
func TestEveryByteOfARealReportMatters(t *testing.T) {
	t.Run("some", func(t *testing.T) { bytesOfARealReportMatter(t, 13) })
	t.Run("all", func(t *testing.T) {
		longtest.Arithmetic(t, "it verifies a report for each of its bytes")
		bytesOfARealReportMatter(t, 1)
	})
}

// bytesOfARealReportMatter changes each step-th byte.
func bytesOfARealReportMatter(t *testing.T, step int) {
	t.Helper()
	e, nonce := hopper(t)
	var v Verifier
	if _, err := v.Appraise(t.Context(), e, nonce, noon); err != nil {
		t.Fatal(err)
	}
	signed := 0
	for i := 0; i < len(e.Report); i += step {
		changed := Evidence{Report: bytes.Clone(e.Report), Chain: e.Chain}
		changed.Report[i] ^= 1
		_, err := v.Appraise(t.Context(), changed, nonce, noon)
		reason, ok := refusal.ReasonOf(err)
		if !ok {
			t.Fatalf("byte %d: %v", i, err)
		}
		if reason == ReasonSignature {
			signed++
		}
	}
	if signed < 3000/step { // digests, the device's nonce, texts
		t.Errorf("the signature was the reason for %d bytes", signed)
	}
}

func TestARealReportIsCutNowhere(t *testing.T) {
	e, nonce := hopper(t)
	var v Verifier
	for n := range e.Report {
		if _, err := v.Appraise(t.Context(), Evidence{Report: e.Report[:n], Chain: e.Chain}, nonce, noon); err == nil {
			t.Fatalf("%d bytes pass", n)
		}
	}
	if _, err := v.Appraise(t.Context(), Evidence{Report: append(bytes.Clone(e.Report), 0), Chain: e.Chain}, nonce, noon); err == nil {
		t.Error("a byte behind the report passes")
	}
}

func TestARealChainStandsInOneOrder(t *testing.T) {
	e, nonce := hopper(t)
	for i := range ChainLength {
		for j := range i {
			swapped := Evidence{Report: e.Report, Chain: slices.Clone(e.Chain)}
			swapped.Chain[i], swapped.Chain[j] = swapped.Chain[j], swapped.Chain[i]
			if _, err := new(Verifier).Appraise(t.Context(), swapped, nonce, noon); err == nil {
				t.Errorf("certificates %d and %d were swapped", i, j)
			}
		}
		for _, chain := range [][][]byte{slices.Delete(slices.Clone(e.Chain), i, i+1), slices.Insert(slices.Clone(e.Chain), i, e.Chain[i])} {
			_, err := new(Verifier).Appraise(t.Context(), Evidence{Report: e.Report, Chain: chain}, nonce, noon)
			if reason, _ := refusal.ReasonOf(err); reason != ReasonChain {
				t.Errorf("%d certificates: %v", len(chain), err)
			}
		}
	}
	for i, der := range e.Chain { // a byte of the signature, at the end
		changed := Evidence{Report: e.Report, Chain: slices.Clone(e.Chain)}
		changed.Chain[i] = bytes.Clone(der)
		changed.Chain[i][len(der)-1] ^= 1
		_, err := new(Verifier).Appraise(t.Context(), changed, nonce, noon)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonChain {
			t.Errorf("signature of certificate %d: %v", i, err)
		}
	}
}

func TestThePinnedRootIsTheOneThatNVIDIAPublishes(t *testing.T) {
	e, _ := hopper(t)
	block, _ := pem.Decode(evidencetest.Read(t, "nvidia", "device-root.pem"))
	if !bytes.Equal(e.Chain[atRoot], block.Bytes) {
		t.Error("the chain ends at another certificate")
	}
}

func TestChainsAreReadWhole(t *testing.T) {
	e, _ := hopper(t)
	var text []byte
	for _, der := range e.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	got, err := ParseChain(fmt.Appendf(nil, "\n%s\r\n\n", text))
	if err != nil || !slices.EqualFunc(got, e.Chain, bytes.Equal) {
		t.Error(err)
	}
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Chain[0]})
	for name, bad := range map[string][]byte{
		"nothing":      nil,
		"four":         text[len(one):],
		"six":          append(bytes.Clone(one), text...),
		"text before":  append([]byte("x"), text...),
		"text between": bytes.Replace(text, []byte("-----\n-----"), []byte("-----\nx\n-----"), 1),
		"text behind":  append(bytes.Clone(text), "x"...),
		"a key":        bytes.Replace(text, []byte("CERTIFICATE"), []byte("PUBLIC KEY"), 2),
		"cut short":    text[:len(text)-5],
		"too large":    append(bytes.Clone(text), bytes.Repeat([]byte("\n"), maxChainText)...),
	} {
		if list, err := ParseChain(bad); err == nil || list != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
