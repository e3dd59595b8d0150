//go:build !release

package gpu

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"math/rand/v2"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/gpusim"
)

// FuzzGPUReport: whatever parses has every part, within its limits, and the input is left alone.
func FuzzGPUReport(f *testing.F) {
	for _, chip := range []string{"GH100", "GB100"} {
		e, _ := emulated(f, gpusim.Options{Chip: chip})
		f.Add(e.Report)
		f.Add(e.Report[:len(e.Report)-signatureSize])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		r, err := parseReport(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if _, ok := refusal.ReasonOf(err); !ok {
				t.Errorf("a refusal without a reason: %v", err)
			}
			return
		}
		if len(r.nonce) != nonceSize || len(r.measurements) == 0 || len(r.measurements) > maxBlocks || r.opaque.driver == "" || r.opaque.vbios == "" ||
			len(r.signed)+len(r.r)+len(r.s) != len(raw) {
			t.Errorf("%+v", r)
		}
	})
}

// FuzzGPUAppraise: nothing but what the device signed is accepted, whatever the chain.
func FuzzGPUAppraise(f *testing.F) {
	e, v := emulated(f, gpusim.Options{Chip: "GB100"})
	f.Add(e.Report, e.Chain[0], e.Chain[1], e.Chain[2], e.Chain[3], e.Chain[4])
	f.Add(e.Report, e.Chain[4], e.Chain[3], e.Chain[2], e.Chain[1], e.Chain[0])
	f.Fuzz(func(t *testing.T, report, leaf, device, provisioner, identity, root []byte) {
		_, err := v.Appraise(t.Context(), Evidence{report, [][]byte{leaf, device, provisioner, identity, root}}, asked, noon)
		if _, ok := refusal.ReasonOf(err); err != nil && !ok {
			t.Errorf("a refusal without a reason: %v", err)
		}
		if err == nil && !bytes.Equal(report[:len(report)-signatureSize], e.Report[:len(e.Report)-signatureSize]) {
			t.Error("a report that nobody signed was accepted")
		}
	})
}

// FuzzGPUFirmware reads extensions of certificates as they come.
func FuzzGPUFirmware(f *testing.F) {
	f.Add(tcbInfoOf(f), []byte{})
	for _, chip := range []string{"GH100", "GB100"} {
		e, _ := emulated(f, gpusim.Options{Chip: chip})
		leaf, err := x509.ParseCertificate(e.Chain[atLeaf])
		if err != nil {
			f.Fatal(err)
		}
		device, err := x509.ParseCertificate(e.Chain[atDevice])
		if err != nil {
			f.Fatal(err)
		}
		for _, extension := range leaf.Extensions {
			f.Add(extension.Value, device.RawSubjectPublicKeyInfo)
		}
	}
	f.Fuzz(func(t *testing.T, value, key []byte) {
		var a, b firmware
		if a.readTCBInfo(value) && len(a.fwid) != digestSize || b.readComposite(value, key) && len(b.fwid) != digestSize {
			t.Error("firmware without a digest")
		}
		a.flag(flagDebug)
	})
}

// FuzzGPUChainText: what is read is five blocks of PEM that encode to the same.
func FuzzGPUChainText(f *testing.F) {
	e, _ := emulated(f, gpusim.Options{})
	var text []byte
	for _, der := range e.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	f.Add(text)
	f.Add(append([]byte("\n"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseChain(text)
		if (err == nil) != (len(list) == ChainLength) {
			t.Errorf("%d certificates, %v", len(list), err)
		}
	})
}

// mutants are copies of a report with some bytes changed, the same ones at every run.
func mutants(report []byte, n int) [][]byte {
	draw := rand.New(rand.NewPCG(3, 4))
	list := make([][]byte, n)
	for i := range list {
		list[i] = bytes.Clone(report)
		for range 1 + draw.IntN(4) {
			list[i][draw.IntN(len(report))] ^= byte(1 + draw.IntN(255))
		}
	}
	return list
}

func TestMutantsAreRefusedWithAReason(t *testing.T) {
	e, v := emulated(t, gpusim.Options{Chip: "GB100"})
	for _, m := range mutants(e.Report, 1000) {
		_, err := v.Appraise(t.Context(), Evidence{m, e.Chain}, asked, noon)
		if _, ok := refusal.ReasonOf(err); !ok {
			t.Fatal(err)
		}
	}
}

func BenchmarkAppraise(b *testing.B) {
	e, v := emulated(b, gpusim.Options{Chip: "GB100"})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Appraise(b.Context(), e, asked, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cold := &Verifier{software: v.software}
			if _, err := cold.Appraise(b.Context(), e, asked, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := parseReport(e.Report); err != nil {
				b.Fatal(err)
			}
		}
	})
	list := mutants(e.Report, 1000)
	b.Run("parse-mutant", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, _ = parseReport(list[i%len(list)])
			i++
		}
	})
}
