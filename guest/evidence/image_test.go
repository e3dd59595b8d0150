package evidence

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
)

// TestImageVector pins the encoding that image digests are of.
func TestImageVector(t *testing.T) {
	c := Claims{Kind: KindSNP, Registers: []Measured{LaunchRegister(fill(48, 7)), {Register{"pcr5", fill(32, 1)}, CoversData}}}
	d, err := ImageOf(c.Kind, c.Image())
	want := sha256.Sum256([]byte("\x1banchorhold/evidence/image/1\x07sev-snp\x01\x06launch\x30" + string(fill(48, 7))))
	if err != nil || d.Algorithm != ImageSHA256 || d.Sum != want {
		t.Fatalf("%s, %v", d, err)
	}
	back, ok := ImageDigestOf(d.Bytes())
	if !ok || back != d {
		t.Errorf("%v %t", back, ok)
	}
	text, err := d.MarshalText()
	var named ImageDigest
	if err != nil || named.UnmarshalText(text) != nil || named != d || string(text) != d.String() {
		t.Errorf("%s: %v, %v", text, named, err)
	}
	if other, err := ImageOf(KindTDX, c.Image()); err != nil || other == d {
		t.Errorf("another kind has the same image: %v", err)
	}
}

// TestImagesAreOfSortedWholeRegisters: what a register or a list of them may not be.
func TestImagesAreOfSortedWholeRegisters(t *testing.T) {
	good := fill(48, 1)
	many := make([]Register, MaxRegisters+1)
	for i := range many {
		many[i] = Register{"r" + string(rune('a'+i/26)) + string(rune('a'+i%26)), good}
	}
	if _, err := ImageOf(KindSNP, many[:MaxRegisters]); err != nil {
		t.Error(err)
	}
	for name, list := range map[string][]Register{
		"none": nil, "too many": many, "unsorted": {{"b", good}, {"a", good}}, "twice": {{"a", good}, {"a", good}},
		"no name": {{"", good}}, "a long name": {{strings.Repeat("a", maxRegisterName+1), good}}, "another letter": {{"A", good}},
		"short": {{"a", fill(MinRegisterBytes-1, 1)}}, "long": {{"a", fill(MaxRegisterBytes+1, 1)}},
	} {
		if d, err := ImageOf(KindSNP, list); err == nil || d != (ImageDigest{}) {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, err := ImageOf("sgx", many[:1]); err == nil {
		t.Error("an image of an unknown kind")
	}
}

// TestImageDigestsHaveOneSpelling: and the zero value has none.
func TestImageDigestsHaveOneSpelling(t *testing.T) {
	hexadecimal := strings.Repeat("ab", sha256.Size)
	if _, err := ParseImageDigest("sha256:" + hexadecimal); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", hexadecimal, "sha384:" + hexadecimal, "sha256:" + hexadecimal[2:], "sha256:" + strings.ToUpper(hexadecimal), "sha256:" + hexadecimal + "ab", "none"} {
		if d, err := ParseImageDigest(bad); err == nil || d != (ImageDigest{}) {
			t.Errorf("%q is %s", bad, d)
		}
	}
	var zero ImageDigest
	if _, err := zero.MarshalText(); err == nil || zero.String() != "none" {
		t.Errorf("the zero value is %s", zero)
	}
	for _, b := range [][]byte{nil, zero.Bytes(), bytes.Repeat([]byte{2}, imageDigestBytes), bytes.Repeat([]byte{1}, imageDigestBytes+1)} {
		if d, ok := ImageDigestOf(b); ok || d != (ImageDigest{}) {
			t.Errorf("%x is %s", b, d)
		}
	}
}

// TestATPMBesideAProcessorRenamesNobody: a guest may show any machine's, so its registers and its key count only where a
// caller says so. Where the TPM is the guest's by the kind of evidence, all of them do.
func TestATPMBesideAProcessorRenamesNobody(t *testing.T) {
	shown := func(kind Kind, key byte) Claims {
		pcr := func(name string, covers Coverage) Measured { return Measured{Register{name, fill(32, key)}, covers} }
		return Claims{Kind: kind, TPM: &TPMClaims{AKName: fill(34, key), AKSubject: string(fill(4, key))}, Registers: []Measured{
			{Register{"mrtd", fill(48, 1)}, CoversFirmware}, pcr("pcr4", CoversImage), pcr("pcr5", CoversData), pcr("pcr9", CoversImage)}}
	}
	for _, kind := range Kinds() {
		image, other := shown(kind, 1).Image(), shown(kind, 2).Image()
		if same := equalImages(t, kind, image, other); same != kind.TPMBeside() {
			t.Errorf("%s: two TPMs have the same image: %t", kind, same)
		}
		if same := shown(kind, 1).Instance() == shown(kind, 2).Instance(); same != kind.TPMBeside() {
			t.Errorf("%s: two TPMs are the same guest: %t", kind, same)
		}
		if n := len(shown(kind, 1).Shown()); n != 3 {
			t.Errorf("%s: %d registers are shown", kind, n)
		}
	}
	if counted := shown(KindSNP, 1).Image("pcr5", "pcr9"); len(counted) != 2 || counted[1].Name != "pcr9" {
		t.Errorf("%v", counted)
	}
}

func equalImages(t *testing.T, kind Kind, a, b []Register) bool {
	t.Helper()
	first, err := ImageOf(kind, a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ImageOf(kind, b)
	if err != nil {
		t.Fatal(err)
	}
	return first == second
}
