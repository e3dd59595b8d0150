//go:build !release

package hcl

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/azuresim"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// chip makes SEV-SNP reports that nobody signed; quoter does the same with quotes.
type chip struct{}

func (chip) Collect(_ context.Context, reportData [64]byte) (evidence.Envelope, error) {
	report := make([]byte, 0x4a0)
	report[0] = 3
	copy(report[0x50:], reportData[:])
	copy(report[0x140:], bytes.Repeat([]byte{7}, 32))
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}, nil
}

func quoter(_ context.Context, reportData [64]byte) ([]byte, error) {
	quote := make([]byte, 48+584)
	quote[0], quote[4] = 4, 0x81
	for i := range 520 {
		quote[48+i] = byte(i)
	}
	copy(quote[48+520:], reportData[:])
	return quote, nil
}

// publicKey is the public half of a key that nobody has.
func publicKey(seed byte) *rsa.PublicKey {
	n := bytes.Repeat([]byte{seed | 0x80}, 256)
	n[255] |= 1
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
}

func blobOf(tb testing.TB, o azuresim.Options) []byte {
	tb.Helper()
	if o.TDX == nil {
		o.SNP = chip{}
	}
	if o.AK == nil {
		o.AK, o.EK = publicKey(1), publicKey(2)
	}
	vm, err := azuresim.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	blob, err := vm.HCL(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return blob
}

// snpClaims are those of a report as the appraisal would give them.
func snpClaims(r *Report) evidence.SNPClaims {
	return evidence.SNPClaims{ReportData: r.hardware[0x50:0x90], ReportID: r.hardware[0x140:0x160]}
}

func TestEveryVersionAndHashIsRead(t *testing.T) {
	for version := uint32(1); version <= 2; version++ {
		for request := uint32(1); request <= 3; request++ {
			for hash := uint32(1); hash <= 3; hash++ {
				o := azuresim.Options{HeaderVersion: version, RequestVersion: request, Hash: hash, VMID: "vm", UserData: [64]byte{63: 9}, SecureBoot: true}
				r, err := Parse(blobOf(t, o))
				if err != nil {
					t.Fatal(err)
				}
				got, err := r.ConfirmSNP(snpClaims(r))
				if c := got.Claims; err != nil || c.HCLVersion != version || c.RequestVersion != request || c.Hash != []string{"", "sha256", "sha384", "sha512"}[hash] ||
					c.VMID != "vm" || c.UserData[63] != 9 || !*c.SecureBoot || !got.AK.Equal(publicKey(1)) || !got.EK.Equal(publicKey(2)) {
					t.Errorf("%d, %d, %d: %+v, %v", version, request, hash, got, err)
				}
				o.TDX = quoter
				if r, err = Parse(blobOf(t, o)); err != nil || r.Kind() != evidence.KindTDX {
					t.Errorf("%d, %d, %d: %v", version, request, hash, err)
				}
			}
		}
	}
}

func put32(at int, v uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

// runtimeEnd is where the runtime data of a blob with request version 1 ends.
func runtimeEnd(b []byte) int { return 0x4d4 + int(binary.LittleEndian.Uint32(b[0x4d0:])) }

// In each row one thing is wrong, and it alone.
func TestContainersThatAreNotWholeAreRefused(t *testing.T) {
	rows := map[string]struct {
		change func([]byte) []byte
		want   refusal.Reason
	}{
		"empty":                      {func([]byte) []byte { return nil }, ReasonSize},
		"cut in the request":         {func(b []byte) []byte { return b[:0x4d3] }, ReasonSize},
		"cut in the runtime data":    {func(b []byte) []byte { return b[:runtimeEnd(b)-1] }, ReasonSize},
		"over the limit":             {func(b []byte) []byte { return append(b, make([]byte, MaxBytes-len(b)+1)...) }, ReasonSize},
		"no signature":               {flip(0), ReasonHeader},
		"header version 0":           {put32(4, 0), ReasonHeader},
		"header version 3":           {put32(4, 3), ReasonHeader},
		"size in the header smaller": {func(b []byte) []byte { return put32(8, uint32(runtimeEnd(b)-1))(b) }, ReasonSize},
		"size in the header huge":    {put32(8, 1<<31), ReasonSize},
		"request for a key":          {put32(12, 1), ReasonHeader},
		"status":                     {flip(16), ReasonReserved},
		"reserved in the header":     {flip(31), ReasonReserved},
		"request version 0":          {put32(0x4c4, 0), ReasonHeader},
		"request version 4":          {put32(0x4c4, 4), ReasonHeader},
		"request size":               {func(b []byte) []byte { return put32(0x4c0, uint32(runtimeEnd(b)-0x4c0+1))(b) }, ReasonSize},
		"report of a VBS guest":      {put32(0x4c8, 1), ReasonHardware},
		"no report":                  {put32(0x4c8, 3), ReasonHardware},
		"hash 0":                     {put32(0x4cc, 0), ReasonHardware},
		"hash 4":                     {put32(0x4cc, 4), ReasonHardware},
		"another hash":               {put32(0x4cc, 2), ReasonBinding},
		"runtime size huge":          {put32(0x4d0, 1<<32-1), ReasonSize},
		"runtime data changed":       {flip(0x4f0), ReasonBinding},
		"first byte of REPORT_DATA":  {flip(0x20 + 0x50), ReasonBinding},
		"last byte of REPORT_DATA":   {flip(0x20 + 0x8f), ReasonBinding},
		"byte after the data":        {func(b []byte) []byte { return flip(runtimeEnd(b))(b) }, ReasonReserved},
		"last byte of the index":     {flip(2599), ReasonReserved},
	}
	for name, row := range rows {
		r, err := Parse(row.change(blobOf(t, azuresim.Options{})))
		if reason, _ := refusal.ReasonOf(err); reason != row.want || r != nil {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
}

func TestTDREPORTsThatContradictThemselvesAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		change func([]byte) []byte
		want   refusal.Reason
	}{
		"type":                    {flip(0x20), ReasonTDReport},
		"subtype":                 {flip(0x21), ReasonTDReport},
		"version 2":               {func(b []byte) []byte { b[0x22] = 2; return b }, ReasonTDReport},
		"reserved at 3":           {flip(0x23), ReasonReserved},
		"reserved in the MAC":     {flip(0x20 + 0xc0), ReasonReserved},
		"reserved after the TCB":  {flip(0x20 + 0x1ff), ReasonReserved},
		"TEE_TCB_INFO":            {flip(0x20 + 0x110), ReasonTDReport},
		"TDINFO_STRUCT":           {flip(0x20 + 0x210), ReasonTDReport},
		"byte after the TDREPORT": {flip(0x20 + 0x400), ReasonReserved},
		"REPORTDATA":              {flip(0x20 + 0x80), ReasonBinding},
		"last byte of REPORTDATA": {flip(0x20 + 0xbf), ReasonBinding},
	} {
		_, err := Parse(row.change(blobOf(t, azuresim.Options{TDX: quoter})))
		if reason, _ := refusal.ReasonOf(err); reason != row.want {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
}

// Runtime data that the CPU's report is over, and that no paravisor writes.
func TestRuntimeDataOfAnotherFormIsRefused(t *testing.T) {
	change := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("%s has no %q", b, old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	for name, row := range map[string]struct {
		change func([]byte) []byte
		want   refusal.Reason
	}{
		"nothing":                    {func([]byte) []byte { return nil }, ReasonRuntimeData},
		"not JSON":                   {func([]byte) []byte { return []byte("{") }, ReasonRuntimeData},
		"a list":                     {func([]byte) []byte { return []byte("[]") }, ReasonRuntimeData},
		"two values":                 {func(b []byte) []byte { return append(b, "{}"...) }, ReasonRuntimeData},
		"not UTF-8":                  {change(`"vm"`, "\"v\xff\""), ReasonRuntimeData},
		"name twice":                 {change(`"secure-boot":true`, `"secure-boot":false,"secure-boot":true`), ReasonRuntimeData},
		"name twice, once escaped":   {change(`"secure-boot":true`, `"secure-boot":false,"secure\u002dboot":true`), ReasonRuntimeData},
		"two lists of keys":          {change(`{"keys":`, `{"keys":[],"keys":`), ReasonRuntimeData},
		"no keys":                    {change(`"keys":`, `"Keys":`), ReasonRuntimeData},
		"no configuration":           {change(`"vm-configuration":`, `"vm-config":`), ReasonRuntimeData},
		"too deep":                   {change(`{"keys":`, `{"x":[[[[[[[]]]]]]],"keys":`), ReasonRuntimeData},
		"too many values":            {change(`{"keys":`, `{"x":[`+strings.Repeat("0,", 128)+`0],"keys":`), ReasonRuntimeData},
		"name too long":              {change(`{"keys":`, `{"`+strings.Repeat("x", 65)+`":0,"keys":`), ReasonRuntimeData},
		"name not printable":         {change(`{"keys":`, `{"\u0007":0,"keys":`), ReasonRuntimeData},
		"too many unknown":           {change(`{"keys":`, "{"+manyNames(33)+`"keys":`), ReasonRuntimeData},
		"five keys":                  {change(`"keys":[`, `"keys":[{"kid":"a"},{"kid":"b"},{"kid":"c"},`), ReasonRuntimeData},
		"key without a name":         {change(`"keys":[`, `"keys":[{},`), ReasonKey},
		"key that is no object":      {change(`"keys":[`, `"keys":[1,`), ReasonKey},
		"two keys of one name":       {change(`"keys":[`, `"keys":[{"kid":"a"},{"kid":"a"},`), ReasonKey},
		"modulus with a zero before": {change(encodedModulus(nil), encodedModulus([]byte{0})), ReasonKey},
		"attestation key twice":      {change("HCLEkPub", "HCLAkPub"), ReasonKey},
		"no attestation key":         {change("HCLAkPub", "HCLAkPriv"), ReasonKey},
		"key of another type":        {change(`"kty":"RSA"`, `"kty":"EC"`), ReasonKey},
		"key for encryption":         {change(`"key_ops":["sign"]`, `"key_ops":["encrypt"]`), ReasonKey},
		"key for two uses":           {change(`"key_ops":["sign"]`, `"key_ops":["sign","encrypt"]`), ReasonKey},
		"exponent 3":                 {change(`"e":"AQAB"`, `"e":"Aw"`), ReasonKey},
		"exponent missing":           {change(`"e":"AQAB"`, `"f":"AQAB"`), ReasonKey},
		"modulus padded":             {change(`gQ"`, `gQ=="`), ReasonKey},
		"modulus with a line end":    {change(`gQ"`, `g\nQ"`), ReasonKey},
		"modulus not canonical":      {change(`gQ"`, `gR"`), ReasonKey},
		"modulus even":               {change(`gQ"`, `gA"`), ReasonKey},
		"flag that is a text":        {change(`"secure-boot":true`, `"secure-boot":"true"`), ReasonRuntimeData},
		"flag that is null":          {change(`"secure-boot":true`, `"secure-boot":null`), ReasonRuntimeData},
		"text that is a number":      {change(`"vmUniqueId":"vm"`, `"vmUniqueId":1`), ReasonRuntimeData},
		"text too long":              {change(`"vmUniqueId":"vm"`, `"vmUniqueId":"`+strings.Repeat("v", 129)+`"`), ReasonRuntimeData},
		"text not printable":         {change(`"vmUniqueId":"vm"`, `"vmUniqueId":"v\u001b[m"`), ReasonRuntimeData},
		"time that is no number":     {change(`"vm-configuration":{`, `"vm-configuration":{"current-time":1.5,`), ReasonRuntimeData},
		"user data too long":         {change(`"user-data":"`, `"user-data":"00`), ReasonRuntimeData},
		"user data not hexadecimal":  {change(`"user-data":"00`, `"user-data":"0g`), ReasonRuntimeData},
		"user data that is a number": {change(`"user-data":"`, `"user-data":7,"u":"`), ReasonRuntimeData},
	} {
		_, err := Parse(blobOf(t, azuresim.Options{VMID: "vm", SecureBoot: true, Change: row.change}))
		if reason, _ := refusal.ReasonOf(err); reason != row.want {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
	for _, n := range []*big.Int{new(big.Int).Rsh(publicKey(1).N, 1), new(big.Int).Lsh(publicKey(1).N, 8)} {
		_, err := Parse(blobOf(t, azuresim.Options{AK: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}}))
		if reason, _ := refusal.ReasonOf(err); reason != ReasonKey {
			t.Errorf("a modulus of %d bits: %v", n.BitLen(), err)
		}
	}
}

// encodedModulus is the attestation key's, with bytes before it.
func encodedModulus(before []byte) string {
	return base64.RawURLEncoding.EncodeToString(append(before, publicKey(1).N.Bytes()...))
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"n` + strings.Repeat("i", i) + `":0,`)
	}
	return b.String()
}

func TestUnknownMembersAreNamedAndNotBelieved(t *testing.T) {
	r, err := Parse(blobOf(t, azuresim.Options{Change: func(b []byte) []byte {
		b = bytes.Replace(b, []byte(`"secure-boot":false`), []byte(`"secure-boot":false,"Secure-Boot":true,"current-time":1700000000`), 1)
		b = bytes.Replace(b, []byte(`"kid":"HCLAkPub"`), []byte(`"kid":"HCLAkPub","alg":"none"`), 1)
		return bytes.Replace(b, []byte(`"keys":[`), []byte(`"extra":{"a":null},"keys":[{"kid":"HCLTransferKey"},`), 1)
	}}))
	if err != nil {
		t.Fatal(err)
	}
	c := r.runtime.Claims
	if want := []string{"extra", "keys.HCLAkPub.alg", "keys.HCLTransferKey", "vm-configuration.Secure-Boot"}; !slices.Equal(c.Unknown, want) {
		t.Errorf("%q, want %q", c.Unknown, want)
	}
	if *c.SecureBoot || *c.CurrentTime != 1700000000 {
		t.Error("a member of another name was believed")
	}
}

// The library's own encoding of the same key.
func TestKeyDigestsAreOfTheUsualEncoding(t *testing.T) {
	for seed := byte(1); seed < 9; seed++ {
		der, err := x509.MarshalPKIXPublicKey(publicKey(seed))
		if err != nil {
			t.Fatal(err)
		}
		want := sha256.Sum256(der)
		if got, err := keyDigest(publicKey(seed)); err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("%s, %v, want %x", got, err, want)
		}
	}
}

// A guest below the paravisor can have reports over what it likes, from its own level.
func TestRuntimeDataOfAGuestBelowTheParavisorIsRefused(t *testing.T) {
	r, err := Parse(blobOf(t, azuresim.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for vmpl := uint32(1); vmpl <= 3; vmpl++ {
		c := snpClaims(r)
		c.VMPL = vmpl
		if got, err := r.ConfirmSNP(c); err == nil || got.AK != nil {
			t.Errorf("VMPL %d: accepted", vmpl)
		} else if reason, _ := refusal.ReasonOf(err); reason != ReasonPrivilege {
			t.Error(err)
		}
	}
}

func TestRuntimeDataNeedsTheClaimsOfItsOwnReport(t *testing.T) {
	snp, err := Parse(blobOf(t, azuresim.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, got Runtime, err error) {
		t.Helper()
		if reason, _ := refusal.ReasonOf(err); reason != ReasonUnconfirmed || got.AK != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*evidence.SNPClaims){
		"no claims":        func(c *evidence.SNPClaims) { *c = evidence.SNPClaims{} },
		"other data":       func(c *evidence.SNPClaims) { c.ReportData = bytes.Repeat([]byte{1}, 64) },
		"no data":          func(c *evidence.SNPClaims) { c.ReportData = nil },
		"half of the data": func(c *evidence.SNPClaims) { c.ReportData = c.ReportData[:32] },
		"another guest":    func(c *evidence.SNPClaims) { c.ReportID = make([]byte, 32) },
		"no guest":         func(c *evidence.SNPClaims) { c.ReportID = nil },
	} {
		c := snpClaims(snp)
		change(&c)
		got, err := snp.ConfirmSNP(c)
		refused(name, got, err)
	}
	got, err := (&Report{}).ConfirmSNP(snpClaims(snp))
	refused("the zero value", got, err)
	got, err = (&Report{}).ConfirmTDX(evidence.TDXClaims{}, [64]byte{})
	refused("the zero value", got, err)
	got, err = snp.ConfirmTDX(evidence.TDXClaims{}, snp.ReportData())
	refused("a quote for an SEV-SNP report", got, err)
}

func TestEveryFieldOfAQuoteIsComparedWithTheTDREPORT(t *testing.T) {
	r, err := Parse(blobOf(t, azuresim.Options{TDX: quoter}))
	if err != nil {
		t.Fatal(err)
	}
	quote, _ := quoter(t.Context(), r.ReportData())
	fresh := func() evidence.TDXClaims {
		c, _ := quoteClaims(bytes.Clone(quote))
		c.TEETCBSVN2, c.MRServiceTD = bytes.Clone(r.td.teeTCBSVN2), bytes.Clone(r.td.mrServiceTD)
		return c
	}
	for _, body := range []uint16{2, 3, 4} {
		c := fresh()
		c.BodyType = body
		if got, err := r.ConfirmTDX(c, r.ReportData()); err != nil || got.AK == nil {
			t.Fatal(err)
		}
	}
	if _, err := r.ConfirmTDX(fresh(), [64]byte{}); err == nil {
		t.Error("a quote over other data confirms")
	}
	snp, err := Parse(blobOf(t, azuresim.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ConfirmSNP(snpClaims(snp)); err == nil {
		t.Error("an SEV-SNP report confirms a TDREPORT")
	}
	for name, change := range map[string]func(*evidence.TDXClaims){
		"TEE_TCB_SVN":    func(c *evidence.TDXClaims) { c.TEETCBSVN[15] ^= 1 },
		"MRSEAM":         func(c *evidence.TDXClaims) { c.MRSEAM[0] ^= 1 },
		"MRSIGNERSEAM":   func(c *evidence.TDXClaims) { c.MRSignerSEAM[47] ^= 1 },
		"SEAMATTRIBUTES": func(c *evidence.TDXClaims) { c.SEAMAttributes ^= 1 },
		"TDATTRIBUTES":   func(c *evidence.TDXClaims) { c.TDAttributes ^= 1 },
		"XFAM":           func(c *evidence.TDXClaims) { c.XFAM ^= 1 << 63 },
		"MRTD":           func(c *evidence.TDXClaims) { c.MRTD[0] ^= 1 },
		"MRCONFIGID":     func(c *evidence.TDXClaims) { c.MRConfigID[0] ^= 1 },
		"MROWNER":        func(c *evidence.TDXClaims) { c.MROwner[0] ^= 1 },
		"MROWNERCONFIG":  func(c *evidence.TDXClaims) { c.MROwnerConfig[0] ^= 1 },
		"RTMR0":          func(c *evidence.TDXClaims) { c.RTMR[0][0] ^= 1 },
		"RTMR1":          func(c *evidence.TDXClaims) { c.RTMR[1][0] ^= 1 },
		"RTMR2":          func(c *evidence.TDXClaims) { c.RTMR[2][0] ^= 1 },
		"RTMR3":          func(c *evidence.TDXClaims) { c.RTMR[3][47] ^= 1 },
		"TEE_TCB_SVN2":   func(c *evidence.TDXClaims) { c.BodyType = 3; c.TEETCBSVN2[0] ^= 1 },
		"MRSERVICETD":    func(c *evidence.TDXClaims) { c.BodyType = 4; c.MRServiceTD = nil },
	} {
		c := fresh()
		change(&c)
		_, err := r.ConfirmTDX(c, r.ReportData())
		if reason, _ := refusal.ReasonOf(err); reason != ReasonUnconfirmed || !strings.Contains(err.Error(), name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
