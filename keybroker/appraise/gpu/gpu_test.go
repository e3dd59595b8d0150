//go:build !release

package gpu

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/gpusim"
)

var asked = [32]byte{1, 31: 2}

// emulated is a device's evidence, and a verifier that believes its root.
func emulated(tb testing.TB, o gpusim.Options) (Evidence, *Verifier) {
	tb.Helper()
	g, err := gpusim.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	report, chain, err := g.Collect(asked)
	if err != nil {
		tb.Fatal(err)
	}
	v := &Verifier{}
	if err := v.AllowSoftware(g.RootPEM()); err != nil {
		tb.Fatal(err)
	}
	return Evidence{report, chain}, v
}

func TestEmulatedDevicesAreAppraisedAsRealOnesAre(t *testing.T) {
	for _, o := range []gpusim.Options{{}, {ProtectedPCIe: true}, {WithoutFWID: true}, {Chip: "GB100", Mode: 1}, {Chip: "GB20X", Debug: true}, {Chip: "GB100", Mode: 2, Driver: "595.58.03"}} {
		e, v := emulated(t, o)
		c, err := v.Appraise(t.Context(), e, asked, noon)
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			continue
		}
		want := evidence.GPUHopper
		if o.Chip != "" {
			want = evidence.GPUBlackwell
			if c.Mode != []evidence.GPUMode{"spt", "mpt", "ppcie"}[o.Mode] || c.Chip != o.Chip || !c.FlagsStated || c.SVN == nil || *c.SVN != 2 {
				t.Errorf("%+v gave %+v", o, c)
			}
		} else if *c.ProtectedPCIe != o.ProtectedPCIe {
			t.Errorf("%+v gave %+v", o, c)
		}
		if c.Architecture != want || !c.Software || c.Debug != o.Debug || c.FWIDReported == o.WithoutFWID || len(c.FWID) != 48 || len(c.Measurements) != 64 ||
			o.Driver != "" && c.Driver != o.Driver || c.NotSecure || c.Recovery || c.NotConfigured {
			t.Errorf("%+v gave %+v", o, c)
		}
	}
}

func TestReportsOverAnotherNonceAreRefused(t *testing.T) {
	e, v := emulated(t, gpusim.Options{})
	for i := range asked {
		other := asked
		other[i] ^= 0x80
		_, err := v.Appraise(t.Context(), e, other, noon)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonNonce {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func TestReportsOfAnotherKeyAreRefused(t *testing.T) {
	authority, err := gpusim.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	one, v := emulated(t, gpusim.Options{Authority: authority})
	two, _ := emulated(t, gpusim.Options{Authority: authority})
	_, err = v.Appraise(t.Context(), Evidence{one.Report, two.Chain}, asked, noon)
	if reason, _ := refusal.ReasonOf(err); reason != ReasonSignature {
		t.Error(err)
	}
	zero := bytes.Clone(one.Report)
	clear(zero[len(zero)-signatureSize:])
	_, err = v.Appraise(t.Context(), Evidence{zero, one.Chain}, asked, noon)
	if reason, _ := refusal.ReasonOf(err); reason != ReasonSignature {
		t.Error(err)
	}
}

// An emulator's chain has every name that NVIDIA's has.
func TestOtherRootsAreRefused(t *testing.T) {
	e, _ := emulated(t, gpusim.Options{})
	_, other := emulated(t, gpusim.Options{})
	for name, v := range map[string]*Verifier{"the zero value": {}, "a verifier that believes another emulator": other} {
		_, err := v.Appraise(t.Context(), e, asked, noon)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonRoot {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if new(Verifier).AllowSoftware([]byte(text)) == nil {
			t.Errorf("%q is taken for a root", text)
		}
	}
}

// putRecordSize states the size of the measurement record, three bytes.
func putRecordSize(report []byte, n int) {
	at := requestSize + 5
	report[at], report[at+1], report[at+2] = byte(n), byte(n>>8), byte(n>>16)
}

// One change to the bytes before they are signed, which that change alone makes wrong.
func TestReportsOfAnotherFormAreRefused(t *testing.T) {
	set := func(at int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = value; return b }
	}
	const response, blocks = requestSize, requestSize + 8
	opaqueAt := blocks + maxBlocks*blockSize + nonceSize
	// field replaces the opaque data by itself with one field more.
	field := func(kind uint16, value []byte) func([]byte) []byte {
		return func(b []byte) []byte {
			b = binary.LittleEndian.AppendUint16(b, kind)
			b = append(binary.LittleEndian.AppendUint16(b, uint16(len(value))), value...)
			binary.LittleEndian.PutUint16(b[opaqueAt:], uint16(len(b)-opaqueAt-2))
			return b
		}
	}
	for name, row := range map[string]struct {
		change func([]byte) []byte
		want   refusal.Reason
	}{
		"SPDM 1.2 in the request":   {set(0, 0x12), ReasonFormat},
		"another request":           {set(1, 0xe1), ReasonFormat},
		"no signature asked for":    {set(2, 0), ReasonFormat},
		"unknown attribute":         {set(2, 3), ReasonFormat},
		"one measurement asked for": {set(3, 1), ReasonFormat},
		"slot 8":                    {set(36, 8), ReasonFormat},
		"slot 8 in both": {func(b []byte) []byte {
			b[36], b[response+3] = 8, 8
			return b
		}, ReasonFormat},
		"digests of 47 bytes": {func(b []byte) []byte {
			b[blocks+2], b[blocks+5] = 50, 47
			b = slices.Delete(b, blocks+7, blocks+8)
			putRecordSize(b, maxBlocks*blockSize-1)
			return b
		}, ReasonMeasurement},
		"opaque data over SPDM's limit": {func(b []byte) []byte {
			b = slices.Delete(b, blocks+blockSize, blocks+maxBlocks*blockSize)
			b[response+4] = 1
			putRecordSize(b, blockSize)
			at := blocks + blockSize + nonceSize
			b = append(append(b, 1, 0, 0xbc, 2), make([]byte, 700)...)
			binary.LittleEndian.PutUint16(b[at:], uint16(len(b)-at-2))
			return b
		}, ReasonSize},
		"slot of the request alone":      {set(36, 1), ReasonFormat},
		"SPDM 1.2 in the response":       {set(response, 0x12), ReasonFormat},
		"an error":                       {set(response+1, 0x7f), ReasonFormat},
		"first parameter":                {set(response+2, 1), ReasonFormat},
		"no blocks":                      {set(response+4, 0), ReasonMeasurement},
		"fewer blocks":                   {set(response+4, 63), ReasonMeasurement},
		"more blocks":                    {set(response+4, 65), ReasonMeasurement},
		"size of the blocks":             {set(response+7, 1), ReasonSize},
		"size of a block":                {set(blocks+2, 52), ReasonMeasurement},
		"index 0":                        {set(blocks, 0), ReasonMeasurement},
		"index 255":                      {set(blocks, 255), ReasonMeasurement},
		"index twice":                    {set(blocks, 2), ReasonMeasurement},
		"another specification":          {set(blocks+1, 2), ReasonMeasurement},
		"unknown type":                   {set(blocks+4, 5), ReasonMeasurement},
		"a bit stream":                   {set(blocks+4, 0x81), ReasonMeasurement},
		"digest of another size":         {set(blocks+5, 47), ReasonMeasurement},
		"size of the opaque data":        {set(opaqueAt, 0), ReasonSize},
		"opaque data over the limit":     {field(12, make([]byte, 700)), ReasonSize},
		"unknown field":                  {field(26, nil), ReasonOpaque},
		"unknown field between":          {field(31, nil), ReasonOpaque},
		"newer field":                    {field(37, nil), ReasonOpaque},
		"field 0":                        {field(0, nil), ReasonOpaque},
		"invalid field":                  {field(255, nil), ReasonOpaque},
		"field twice":                    {field(14, []byte{1, 2, 3, 4}), ReasonOpaque},
		"chip not printable":             {field(35, []byte("GB\n")), ReasonOpaque},
		"chip too long":                  {field(35, bytes.Repeat([]byte("G"), 65)), ReasonOpaque},
		"text with zeros in between":     {field(35, []byte("G\x00B")), ReasonOpaque},
		"switches":                       {field(22, make([]byte, 7)), ReasonOpaque},
		"version 2 of the opaque data":   {field(34, []byte{2}), ReasonOpaque},
		"version of the data of 9 bytes": {field(34, make([]byte, 9)), ReasonOpaque},
		"no version in the field":        {field(34, nil), ReasonOpaque},
		"unknown mode":                   {field(36, []byte{3}), ReasonOpaque},
		"mode of no bytes":               {field(36, nil), ReasonOpaque},
		"status neither on nor off": {func(b []byte) []byte {
			return bytes.Replace(b, []byte{21, 0, 1, 0, 0x55}, []byte{21, 0, 1, 0, 0x54}, 1)
		}, ReasonOpaque},
		"status of two bytes": {func(b []byte) []byte {
			return bytes.Replace(b, []byte{21, 0, 1, 0, 0x55}, []byte{21, 0, 2, 0, 0x55}, 1)
		}, ReasonOpaque},
		"counts":                        {func(b []byte) []byte { return bytes.Replace(b, []byte{12, 0, 0, 1}, []byte{12, 0, 255, 0}, 1) }, ReasonOpaque},
		"VBIOS of seven bytes":          {func(b []byte) []byte { return bytes.Replace(b, []byte{6, 0, 8, 0}, []byte{6, 0, 7, 0}, 1) }, ReasonOpaque},
		"no VBIOS":                      {func(b []byte) []byte { return bytes.Replace(b, []byte{6, 0, 8, 0}, []byte{5, 0, 8, 0}, 1) }, ReasonOpaque},
		"no driver":                     {func(b []byte) []byte { return bytes.Replace(b, []byte{3, 0, 10, 0}, []byte{2, 0, 10, 0}, 1) }, ReasonOpaque},
		"empty driver":                  {func(b []byte) []byte { return bytes.Replace(b, []byte("550.90.07"), make([]byte, 9), 1) }, ReasonOpaque},
		"a byte behind the opaque data": {func(b []byte) []byte { return append(b, 0) }, ReasonSize},
	} {
		e, v := emulated(t, gpusim.Options{Change: row.change})
		_, err := v.Appraise(t.Context(), e, asked, noon)
		if reason, ok := refusal.ReasonOf(err); !ok || reason != row.want {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
	e, v := emulated(t, gpusim.Options{})
	for _, size := range []int{0, requestSize, MaxReportBytes + 1} {
		_, err := v.Appraise(t.Context(), Evidence{make([]byte, size), e.Chain}, asked, noon)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonSize {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestReportsOfOtherFirmwareThanTheCertificatesAreRefused(t *testing.T) {
	for _, chip := range []string{"GH100", "GB100"} {
		for _, at := range []int{0, 47} {
			e, v := emulated(t, gpusim.Options{Chip: chip, Change: func(b []byte) []byte {
				b[bytes.Index(b, []byte{20, 0, 48, 0})+4+at] ^= 1
				return b
			}})
			_, err := v.Appraise(t.Context(), e, asked, noon)
			if reason, _ := refusal.ReasonOf(err); reason != ReasonFirmware {
				t.Errorf("%s, byte %d: %v", chip, at, err)
			}
		}
	}
}

func TestVersionsOfTheVBIOSShowEveryByte(t *testing.T) {
	e, v := emulated(t, gpusim.Options{VBIOS: []byte{0xd9, 0, 0, 0x97, 0x35, 0, 1, 0}})
	if c, err := v.Appraise(t.Context(), e, asked, noon); err != nil || c.VBIOS != "97.00.00.d9.35.000100" {
		t.Errorf("%q, %v", c.VBIOS, err)
	}
}

// tcbInfoOf is the value of a good DiceTcbInfo.
func tcbInfoOf(tb testing.TB) []byte {
	e, _ := emulated(tb, gpusim.Options{Chip: "GB100"})
	leaf, err := x509.ParseCertificate(e.Chain[atLeaf])
	if err != nil {
		tb.Fatal(err)
	}
	for _, extension := range leaf.Extensions {
		if extension.Id.Equal(oidTCBInfo) {
			return extension.Value
		}
	}
	tb.Fatal("the emulator names no firmware")
	return nil
}

// Chains under a root that is believed, each wrong in one thing.
func TestChainsOfAnotherFormAreRefused(t *testing.T) {
	extension := func(change func([]byte) []byte) func(*gpusim.Templates) {
		return func(c *gpusim.Templates) {
			c.Firmware.ExtraExtensions[0].Value = change(bytes.Clone(c.Firmware.ExtraExtensions[0].Value))
		}
	}
	replace := func(old, new []byte) func(*gpusim.Templates) {
		return extension(func(b []byte) []byte {
			if !bytes.Contains(b, old) {
				t.Fatalf("%x has no %x", b, old)
			}
			return bytes.Replace(b, old, new, 1)
		})
	}
	tcbInfo := tcbInfoOf(t)
	for name, row := range map[string]struct {
		chip   string
		change func(*gpusim.Templates)
		want   refusal.Reason
	}{
		"a switch":                  {"", func(c *gpusim.Templates) { c.Identity.Subject.CommonName = "NVIDIA LS10 Identity" }, ReasonDevice},
		"a chip of later days":      {"", func(c *gpusim.Templates) { c.Identity.Subject.CommonName = "NVIDIA GR100 Identity" }, ReasonDevice},
		"a chip of another name":    {"", func(c *gpusim.Templates) { c.Identity.Subject.CommonName = "NVIDIA GH1000 Identity" }, ReasonDevice},
		"an identity of no vendor":  {"", func(c *gpusim.Templates) { c.Identity.Subject.CommonName = "GH100 Identity" }, ReasonDevice},
		"device of another chip":    {"", func(c *gpusim.Templates) { c.Device.Subject.CommonName = "GB100 A01 GSP BROM" }, ReasonDevice},
		"a whole chain of a switch": {"LS10A", nil, ReasonDevice},
		"device and firmware of another generation": {"", func(c *gpusim.Templates) {
			c.Device.Subject.CommonName, c.Firmware.Subject.CommonName = "GB100 A01 GSP BROM", "GB100 A01 GSP FMC LF"
		}, ReasonDevice},
		"provisioner of another name, with the same key": {"", func(c *gpusim.Templates) {
			other := *c.Provisioner
			other.Subject.CommonName = "NVIDIA GH100 Provisioner ICA 2"
			c.Reissued = &other
		}, ReasonChain},
		"device that is no boot ROM": {"", func(c *gpusim.Templates) { c.Device.Subject.CommonName = "GH100 A01" }, ReasonDevice},
		"device without a stepping":  {"", func(c *gpusim.Templates) { c.Device.Subject.CommonName = "GH100 GSP BROM" }, ReasonDevice},
		"another processor's ROM":    {"GB100", func(c *gpusim.Templates) { c.Device.Subject.CommonName = "GB100 A01 FSP BROM" }, ReasonDevice},
		"another processor's key":    {"GB100", func(c *gpusim.Templates) { c.Firmware.Subject.CommonName = "GB100 A01 FSP FMC LF" }, ReasonDevice},
		"firmware of another device": {"", func(c *gpusim.Templates) { c.Firmware.Subject.CommonName = "GH200 A01 GSP FMC LF" }, ReasonDevice},
		"device that is no authority": {"", func(c *gpusim.Templates) {
			c.Device.IsCA, c.Device.KeyUsage = false, x509.KeyUsageDigitalSignature
		}, ReasonCertificate},
		"device that may not sign": {"", func(c *gpusim.Templates) { c.Device.KeyUsage = x509.KeyUsageCRLSign }, ReasonCertificate},
		"firmware with authority":  {"", func(c *gpusim.Templates) { c.Firmware.IsCA, c.Firmware.BasicConstraintsValid = true, true }, ReasonCertificate},
		"firmware for another use": {"", func(c *gpusim.Templates) { c.Firmware.KeyUsage = x509.KeyUsageKeyAgreement }, ReasonCertificate},
		"unknown critical":         {"", func(c *gpusim.Templates) { c.Firmware.ExtraExtensions[0].Critical = true }, ReasonCertificate},
		"signed with another hash": {"", func(c *gpusim.Templates) { c.Device.SignatureAlgorithm = x509.ECDSAWithSHA512 }, ReasonCertificate},
		"over four KiB": {"", func(c *gpusim.Templates) {
			c.Device.Subject.StreetAddress = []string{string(bytes.Repeat([]byte("x"), 4096))}
		}, ReasonCertificate},
		"no firmware": {"", func(c *gpusim.Templates) { c.Firmware.ExtraExtensions = nil }, ReasonFirmware},
		"firmware named twice": {"", func(c *gpusim.Templates) {
			c.Firmware.ExtraExtensions = append(c.Firmware.ExtraExtensions, pkix.Extension{Id: oidTCBInfo, Value: tcbInfo})
		}, ReasonFirmware},
		"composite version 2":        {"", replace([]byte{2, 1, 1, 0x30}, []byte{2, 1, 2, 0x30}), ReasonFirmware},
		"composite of other device":  {"", extension(func(b []byte) []byte { b[60] ^= 1; return b }), ReasonFirmware},
		"composite with more":        {"", extension(func(b []byte) []byte { return append(b, 0) }), ReasonFirmware},
		"digest of SHA-256":          {"", replace([]byte{0x65, 3, 4, 2, 2}, []byte{0x65, 3, 4, 2, 1}), ReasonFirmware},
		"TCB info of another vendor": {"GB100", replace([]byte("NVIDIA"), []byte("NVIDIB")), ReasonFirmware},
		"TCB info out of order":      {"GB100", replace([]byte{0x84, 1, 0}, []byte{0x83, 1, 0}), ReasonFirmware},
		"TCB info of other class":    {"GB100", replace([]byte{0x84, 1, 0}, []byte{0x04, 1, 0}), ReasonFirmware},
		"TCB info with tag 10":       {"GB100", replace([]byte{0x89, 1, 0}, []byte{0x8a, 1, 0}), ReasonFirmware},
		"TCB info of digests of 256": {"GB100", replace([]byte{0x65, 3, 4, 2, 2}, []byte{0x65, 3, 4, 2, 1}), ReasonFirmware},
		"TCB info, negative SVN":     {"GB100", replace([]byte{0x83, 1, 2}, []byte{0x83, 1, 0x82}), ReasonFirmware},
		"TCB info, flags too long":   {"GB100", replace([]byte{0x87, 5, 0}, []byte{0x87, 5, 8}), ReasonFirmware},
		"TCB info, second firmware": {"GB100", extension(func(b []byte) []byte {
			b[bytes.Index(b, make([]byte, 48))+20] = 1
			return b
		}), ReasonFirmware},
		"TCB info with more": {"GB100", extension(func(b []byte) []byte { return append(b, 0) }), ReasonFirmware},
	} {
		e, v := emulated(t, gpusim.Options{Chip: row.chip, ChangeCertificates: row.change})
		_, err := v.Appraise(t.Context(), e, asked, noon)
		if reason, _ := refusal.ReasonOf(err); reason != row.want {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
}

func TestDebugFirmwareIsClaimed(t *testing.T) {
	for bit, of := range map[byte]func(evidence.GPUClaims) bool{
		0x80: func(c evidence.GPUClaims) bool { return c.NotConfigured && !c.NotSecure && !c.Recovery && !c.Debug },
		0x40: func(c evidence.GPUClaims) bool { return !c.NotConfigured && c.NotSecure && !c.Recovery && !c.Debug },
		0x20: func(c evidence.GPUClaims) bool { return !c.NotConfigured && !c.NotSecure && c.Recovery && !c.Debug },
		0x10: func(c evidence.GPUClaims) bool { return !c.NotConfigured && !c.NotSecure && !c.Recovery && c.Debug },
	} {
		e, v := emulated(t, gpusim.Options{Chip: "GB100", ChangeCertificates: func(c *gpusim.Templates) {
			value := c.Firmware.ExtraExtensions[0].Value
			value[bytes.Index(value, []byte{0x87, 5, 0})+3] = bit
		}})
		if c, err := v.Appraise(t.Context(), e, asked, noon); err != nil || !of(c) {
			t.Errorf("%#x: %+v, %v", bit, c, err)
		}
	}
}

// A key of another kind, in a certificate that the level above did sign.
func TestCertificatesOfOtherKeysAreRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon, NotAfter: noon.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{der, nil, {0x30}} {
		e, v := emulated(t, gpusim.Options{})
		for i := range e.Chain {
			changed := Evidence{e.Report, slices.Clone(e.Chain)}
			changed.Chain[i] = bad
			_, err := v.Appraise(t.Context(), changed, asked, noon)
			if reason, _ := refusal.ReasonOf(err); reason != ReasonCertificate {
				t.Errorf("certificate %d: %v", i, err)
			}
		}
	}
	if elliptic.P384().Params().BitSize/8 != signatureSize/2 {
		t.Error("the signature's size is not the curve's")
	}
}

// Signatures count at every level: a chain of one device with a level of another under the same names.
func TestEveryLevelIsSignedByTheNext(t *testing.T) {
	authority, err := gpusim.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	one, v := emulated(t, gpusim.Options{Authority: authority})
	two, _ := emulated(t, gpusim.Options{Authority: authority})
	for i := range atRoot {
		mixed := Evidence{one.Report, slices.Clone(one.Chain)}
		mixed.Chain[i] = two.Chain[i]
		_, err := v.Appraise(t.Context(), mixed, asked, noon)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonChain {
			t.Errorf("level %d: %v", i, err)
		}
	}
}

func TestTimeIsAskedAtEveryUse(t *testing.T) {
	for _, level := range []func(*gpusim.Templates) *x509.Certificate{
		func(c *gpusim.Templates) *x509.Certificate { return c.Identity }, func(c *gpusim.Templates) *x509.Certificate { return c.Provisioner },
		func(c *gpusim.Templates) *x509.Certificate { return c.Device }, func(c *gpusim.Templates) *x509.Certificate { return c.Firmware },
	} {
		e, v := emulated(t, gpusim.Options{ChangeCertificates: func(c *gpusim.Templates) {
			level(c).NotBefore, level(c).NotAfter = noon, noon.Add(time.Hour)
		}})
		for at, good := range map[time.Duration]bool{-time.Second: false, 0: true, time.Hour: true, time.Hour + time.Second: false} {
			for range 2 { // the second time from the cache
				_, err := v.Appraise(t.Context(), e, asked, noon.Add(at))
				if reason, _ := refusal.ReasonOf(err); good != (err == nil) || !good && reason != ReasonExpired {
					t.Errorf("at %s: %v", at, err)
				}
			}
		}
	}
	e, v := emulated(t, gpusim.Options{})
	if _, err := v.Appraise(t.Context(), e, asked, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Errorf("in the year 9999: %v", err)
	}
	if _, err := v.Appraise(t.Context(), e, asked, time.Time{}); err == nil {
		t.Error("no time passes")
	}
}

// A kept chain is of exactly the certificates that were verified.
func TestKeptChainsAreNotTakenForOthers(t *testing.T) {
	e, v := emulated(t, gpusim.Options{})
	if _, err := v.Appraise(t.Context(), e, asked, noon); err != nil {
		t.Fatal(err)
	}
	joined := Evidence{e.Report, [][]byte{append(bytes.Clone(e.Chain[0]), e.Chain[1]...), nil, e.Chain[2], e.Chain[3], e.Chain[4]}}
	if _, err := v.Appraise(t.Context(), joined, asked, noon); err == nil {
		t.Error("two certificates in one place pass")
	}
	v.cache.chains = map[[32]byte]*chain{}
	for i := range maxChains {
		v.cache.chains[[32]byte{byte(i), byte(i >> 8)}] = &chain{}
	}
	if _, err := v.Appraise(t.Context(), e, asked, noon); err != nil || len(v.cache.chains) > maxChains {
		t.Errorf("%d chains are kept, %v", len(v.cache.chains), err)
	}
}

func TestReportsOfOneDeviceDoNotCountTwice(t *testing.T) {
	authority, err := gpusim.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{}
	var list []Evidence
	for range 4 {
		e, each := emulated(t, gpusim.Options{Authority: authority})
		v.software = each.software
		list = append(list, e)
	}
	claims, err := v.AppraiseAll(t.Context(), list, asked, noon)
	if err != nil || len(claims) != 4 {
		t.Fatal(err)
	}
	for name, bad := range map[string][]Evidence{
		"none": nil, "one twice": append(slices.Clone(list), list[2]), "too many": make([]Evidence, MaxDevices+1),
	} {
		got, err := v.AppraiseAll(t.Context(), bad, asked, noon)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonSameDevice || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	stale := slices.Clone(list)
	stale[3].Report = bytes.Clone(stale[3].Report)
	stale[3].Report[10] ^= 1
	got, err := v.AppraiseAll(t.Context(), stale, asked, noon)
	if reason, _ := refusal.ReasonOf(err); reason != ReasonNonce || got != nil {
		t.Error(err)
	}
	if Distinct([]evidence.GPUClaims{{}}) == nil {
		t.Error("a device without a name passes")
	}
	// After an update of firmware a device has another key, and is the same device.
	updated := slices.Clone(claims[:2])
	updated[1].Device, updated[1].UEID = updated[0].Device, "7"
	if Distinct(updated) == nil {
		t.Error("one device with two keys passes for two")
	}
}

func TestAnEndedRequestIsNotAppraised(t *testing.T) {
	e, v := emulated(t, gpusim.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Appraise(ctx, e, asked, noon); err == nil {
		t.Error("appraised")
	}
}

func TestFlagsAreReadFromTheFirstBit(t *testing.T) {
	f := firmware{flags: &asn1.BitString{Bytes: []byte{0x10}, BitLength: 4}}
	if !f.flag(flagDebug) || f.flag(flagRecovery) || (&firmware{}).flag(flagDebug) {
		t.Error("bits are counted from the other end")
	}
}
