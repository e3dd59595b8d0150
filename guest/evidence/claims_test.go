package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The canonical form of claims, written out by hand. It never changes under this format.
func TestClaimsVector(t *testing.T) {
	secure := true
	c := Claims{Format: ClaimsFormat, Kind: KindTDX, Challenge: Hex{1, 2}, Migratable: true, Platform: "TDX", Firmware: "UpToDate",
		Registers: []Measured{{Register{"mrtd", Hex{0xab}}, CoversFirmware}},
		TPM:       &TPMClaims{AKName: Hex{0, 0x0b}, AKTrust: AKReport, Bank: "sha256", PCRs: map[int]Hex{7: {7}, 11: {11}}, ResetCount: 3},
		EventLog:  &EventLogClaims{Format: "ccel", Events: 1, Registers: []string{"rtmr1"}, SecureBoot: &secure, Boot: []BootEvent{{Register: "rtmr1", Type: "EV_IPL", Digest: Hex{9}}}},
		GPUs:      []GPUClaims{{Architecture: "hopper", Device: "1", Driver: "d", VBIOS: "v", Measurements: map[int]Hex{1: {2}}}},
	}
	want := `{"format":2,"kind":"tdx","software_tee":false,"challenge":"0102","debug":false,"migratable":true,"platform":"TDX","firmware":"UpToDate",` +
		`"registers":[{"name":"mrtd","value":"ab","covers":"firmware"}],` +
		`"tpm":{"ak_name":"000b","ak_trust":"report","bank":"sha256","pcrs":{"11":"0b","7":"07"},"firmware_version":0,"reset_count":3,"restart_count":0,"safe":false},` +
		`"event_log":{"format":"ccel","digest":"","events":1,"registers":["rtmr1"],"secure_boot":true,"boot":[{"register":"rtmr1","type":"EV_IPL","digest":"09"}]},` +
		`"gpus":[{"architecture":"hopper","software":false,"model":"","device":"1","ueid":"","driver":"d","vbios":"v","fwid":"","fwid_reported":false,` +
		`"flags_stated":false,"debug":false,"recovery":false,"not_secure":false,"not_configured":false,"mode":"","revocation_checked":false,"measurements":{"1":"02"}}]}`
	got, err := c.Canonical()
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if c.Digest() != sha256.Sum256([]byte(want)) {
		t.Error("digest")
	}
}

func TestClaimsShowAndComeBack(t *testing.T) {
	c := Claims{Kind: KindSNP, SNP: &SNPClaims{Measurement: fill(48, 0xab), TCB: TCBs{Reported: TCB{SNP: 3}}}}
	data, err := json.Marshal(c)
	if err != nil || !strings.Contains(string(data), `"measurement":"`+strings.Repeat("ab", 48)+`"`) {
		t.Errorf("%s, %v", data, err)
	}
	var back Claims
	if err := json.Unmarshal(data, &back); err != nil || back.Digest() != c.Digest() {
		t.Errorf("%+v, %v", back, err)
	}
	if m := c.SNP.Measurement; m.String() != hex.EncodeToString(m) {
		t.Error("String")
	}
	if err := new(Hex).UnmarshalText([]byte("zz")); err == nil {
		t.Error("not hexadecimal, and accepted")
	}
}

// Every claim counts: a change of any field, however deep, changes the digest.
func TestEveryClaimIsInTheDigest(t *testing.T) {
	base := whole().Digest()
	paths := 0
	for i := 0; ; i++ {
		c, at := whole(), i
		path := touch(reflect.ValueOf(&c).Elem(), &at, "claims")
		if path == "" {
			break
		}
		if paths++; c.Digest() == base {
			t.Errorf("%s is not in the digest", path)
		}
	}
	if paths < 90 {
		t.Errorf("only %d fields were changed", paths)
	}
}

// whole are claims with every part and one item in each list.
func whole() Claims {
	var c Claims
	fillParts(reflect.ValueOf(&c).Elem())
	return c
}

func fillParts(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillParts(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillParts(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(3), reflect.ValueOf(Hex{1}))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fillParts(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fillParts(v.Index(i))
		}
	}
}

// touch changes the leaf with the number at and returns its path, or "" if there are fewer.
func touch(v reflect.Value, at *int, path string) string {
	leaf := func(change func()) string {
		if *at--; *at >= 0 {
			return ""
		}
		change()
		return path
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		return leaf(func() { v.Set(reflect.ValueOf(time.Unix(1, 0))) })
	}
	switch v.Kind() {
	case reflect.Pointer:
		return touch(v.Elem(), at, path)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if p := touch(v.Index(i), at, path+"[]"); p != "" {
				return p
			}
		}
		return ""
	case reflect.Map:
		return leaf(func() { v.SetMapIndex(reflect.ValueOf(4), reflect.ValueOf(Hex{1})) })
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if tag := f.Tag.Get("json"); tag == "-" || tag == "" && !f.Anonymous {
				return path + "." + f.Name + " has no JSON name"
			}
			if p := touch(v.Field(i), at, path+"."+f.Name); p != "" {
				return p
			}
		}
		return ""
	case reflect.String:
		return leaf(func() { v.SetString("x") })
	case reflect.Bool:
		return leaf(func() { v.SetBool(!v.Bool()) })
	case reflect.Int, reflect.Int64:
		return leaf(func() { v.SetInt(v.Int() + 1) })
	}
	return leaf(func() { v.SetUint(v.Uint() + 1) })
}

// TestGuestsAreNamedByTheirHardware: new keys and new evidence are the same guest.
func TestGuestsAreNamedByTheirHardware(t *testing.T) {
	named := func(report, chip []byte) [32]byte {
		return Claims{Kind: KindSNP, SNP: &SNPClaims{ReportID: report, ChipID: chip}}.Instance()
	}
	id := fill(32, 7)
	if named(id, []byte{1}) != named(id, []byte{2}) {
		t.Error("one report id is two guests")
	}
	zero := make([]byte, 32)
	if named(zero, []byte{1}) == named(zero, []byte{2}) {
		t.Error("two chips without report ids are one guest")
	}
}

// TestAProcessorIsNamedByItsOwnClaims: quotas are counted by it.
func TestAProcessorIsNamedByItsOwnClaims(t *testing.T) {
	for name, c := range map[string]struct {
		claims Claims
		want   []byte
	}{
		"SEV-SNP": {Claims{SNP: &SNPClaims{ChipID: fill(64, 1)}}, fill(64, 1)},
		"TDX":     {Claims{TDX: &TDXClaims{PlatformInstance: fill(16, 2)}}, fill(16, 2)},
		"another": {Claims{TDX: &TDXClaims{}}, nil}, "TPM": {Claims{TPM: &TPMClaims{}}, nil},
	} {
		if got := c.claims.Processor(); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// TestTrustDomainsAreNamedByTheirHardware: domains with one image on two platforms are two guests, and one that
// the hardware names is one guest, whatever it extends.
func TestTrustDomainsAreNamedByTheirHardware(t *testing.T) {
	domain := func(platform, id byte, registers ...Measured) Claims {
		c := Claims{Kind: KindTDX, TDX: &TDXClaims{PlatformInstance: fill(16, platform)}, Registers: registers}
		if id != 0 {
			c.TDX.Extended = &TDXExtended{TDID: fill(32, id)}
		}
		return c
	}
	register := func(covers Coverage, value byte) Measured {
		return Measured{Register{"rtmr1", fill(48, value)}, covers}
	}
	if domain(1, 0).Instance() == domain(2, 0).Instance() {
		t.Error("domains on two platforms are one guest")
	}
	if domain(1, 3).Instance() == domain(1, 4).Instance() || domain(1, 3).Instance() != domain(1, 3, register(CoversImage, 5)).Instance() {
		t.Error("the domain's own id does not name it")
	}
	if domain(1, 0, register(CoversData, 5)).Instance() != domain(1, 0, register(CoversData, 6)).Instance() {
		t.Error("a register that anybody may extend renames a guest")
	}
	if domain(1, 0, register(CoversImage, 5)).Instance() == domain(1, 0, register(CoversImage, 6)).Instance() {
		t.Error("two images on one platform are one guest")
	}
}

// TestAGuestDoesNotRenameItself: the broker counts what a guest asks for by this name (limits.per_guest), so that nothing
// that a running guest chooses may be part of it.
func TestAGuestDoesNotRenameItself(t *testing.T) {
	domain := func(change func(*Claims)) [32]byte {
		c := Claims{Kind: KindTDX, TDX: &TDXClaims{PlatformInstance: fill(16, 1)}, Registers: []Measured{{Register{"rtmr1", fill(48, 1)}, CoversImage}}}
		if change != nil {
			change(&c)
		}
		return c.Instance()
	}
	register := func(name string) func(*Claims) {
		return func(c *Claims) { c.Registers = append(c.Registers, Measured{Register{name, fill(48, 9)}, CoversImage}) }
	}
	tpm := func(trust AKTrust) func(*Claims) {
		return func(c *Claims) { c.TPM = &TPMClaims{AKName: fill(34, 9), AKTrust: trust} }
	}
	for name, change := range map[string]func(*Claims){
		"RTMR3": register("rtmr3"), "IMA": register("pcr10"), "a phase of the boot": register("pcr11"), "words": register("pcr12"),
		"extensions": register("pcr13"), "the machine's id": register("pcr15"), "a TPM of its own": tpm(AKReport),
		"a TPM that the operator knows": tpm(AKEnrolled),
	} {
		if domain(change) != domain(nil) {
			t.Errorf("%s renames a guest", name)
		}
	}
	if domain(register("rtmr2")) == domain(nil) {
		t.Error("an image names no guest")
	}
	azure := func(key byte, name Hex) [32]byte {
		return domain(func(c *Claims) {
			c.Kind, c.Azure, c.TPM = KindAzureTDX, &AzureClaims{AK: fill(32, key)}, &TPMClaims{AKName: name, AKTrust: AKReport}
		})
	}
	if azure(1, nil) != azure(1, fill(34, 9)) || azure(1, nil) == azure(2, nil) {
		t.Error("under a paravisor the key that it states names the guest, whatever comes with the quote")
	}
}
