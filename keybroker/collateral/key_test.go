package collateral

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func mustKey(tb testing.TB, text string) Key {
	tb.Helper()
	k, err := ParseKey(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

var (
	milanHWID = strings.Repeat("ab", 64)
	keys      = []string{"amd-chain/Milan/vcek", "amd-chain/Turin/vlek", "amd-crl/Genoa", "amd-vcek/Milan/" + milanHWID + "/000400181d", "amd-vcek/Turin/00112233445566ff/0102030405",
		"intel-tdx/90c06f000000/platform/standard", "intel-tdx/00a06d080000/processor/early", "intel-tdx/00a06d080000/processor/18"}
)

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	for _, text := range keys {
		k := mustKey(t, text)
		if k.String() != text {
			t.Errorf("%s is written as %s", text, k)
		}
		if back, err := ParseFileName(k.FileName()); err != nil || back != k || strings.ContainsAny(k.FileName(), "/\\\x00 ") {
			t.Errorf("%s as a file is %q, %v", text, k.FileName(), err)
		}
	}
	c := mustKey(t, keys[4]).Chip()
	if c.Product != "Turin" || !bytes.Equal(c.HWID, []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff}) || c.TCB != (evidence.TCB{FMC: 1, BootLoader: 2, TEE: 3, SNP: 4, Microcode: 5}) {
		t.Errorf("%+v", c)
	}
	p := mustKey(t, keys[7]).Platform()
	if p.FMSPC != [6]byte{0, 0xa0, 0x6d, 8} || p.CA != CAProcessor || p.EvaluationNumber() != 18 {
		t.Errorf("%+v", p)
	}
	if !mustKey(t, keys[1]).Loaded() || mustKey(t, keys[0]).Loaded() || mustKey(t, keys[2]).Product() != "Genoa" || mustKey(t, keys[5]).Product() != "" {
		t.Error("a key says something else than its name")
	}
}

// TestNothingButDigitsReachesAURL: what is no key cannot be made one.
func TestNothingButDigitsReachesAURL(t *testing.T) {
	for _, text := range []string{
		"", "amd-crl", "amd-crl/", "amd-crl/milan", "amd-crl/Milan/", "amd-crl/Naples", "amd-chain/Milan", "amd-chain/Milan/asvk", "amd-crl/../Milan", "AMD-CRL/Milan",
		"amd-vcek/Milan/" + milanHWID[2:] + "/000400181d", "amd-vcek/Milan/" + strings.ToUpper(milanHWID) + "/000400181d", "amd-vcek/Milan/" + milanHWID + "/0004001",
		"amd-vcek/Milan/" + milanHWID + "/010400181d", "amd-vcek/Milan/" + strings.Repeat("00", 64) + "/000400181d", "amd-vcek/Milan/" + milanHWID[:126] + "?x/000400181d",
		"amd-vcek/Turin/" + milanHWID + "/0102030405", "amd-vcek/Milan/00112233445566ff/0002030405", "amd-vcek/" + strings.Repeat("ab", 300) + "/x/y",
		"intel-tdx/90c06f0000/platform/standard", "intel-tdx/90c06f000000/root/standard", "intel-tdx/90c06f000000/platform/", "intel-tdx/90c06f000000/platform/0", "intel-tdx/90c06f000000/platform/018",
		"intel-tdx/90c06f000000/platform/4294967296", "intel-tdx/90c06f000000/platform/latest", "intel-tdx/90c06f00000g/platform/standard", "intel-tdx/90c06f000000/platform/standard&x=1",
	} {
		_, err := ParseKey(text)
		refusaltest.Want(t, text, err, ReasonKey)
	}
	_, err := ParseFileName("amd-crl/Milan")
	refusaltest.Want(t, "a path", err, ReasonKey)
	_, err = Chip{}.Key()
	refusaltest.Want(t, "no chip", err, ReasonKey)
	_, err = Platform{}.Key()
	refusaltest.Want(t, "no platform", err, ReasonKey)
	_, err = ParseKey(Key{}.String())
	refusaltest.Want(t, "no key", err, ReasonKey)
}

func FuzzParseKey(f *testing.F) {
	for _, text := range keys {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			return
		}
		if k.String() != text {
			t.Errorf("%q was read as %q", text, k)
		}
		if back, err := ParseFileName(k.FileName()); err != nil || back != k {
			t.Errorf("%q: %v", k.FileName(), err)
		}
	})
}

func someItem(tb testing.TB, name string, docs ...string) Item {
	it := Item{Key: mustKey(tb, name), Fetched: time.Unix(1_800_000_000, 0).UTC()}
	for _, d := range docs {
		it.Documents = append(it.Documents, []byte(d))
	}
	return it
}

func TestItemsAreReadAsTheyAreWritten(t *testing.T) {
	for _, it := range []Item{someItem(t, "amd-crl/Milan", "list"), someItem(t, "amd-chain/Genoa/vlek", "asvk", "ark"), someItem(t, keys[5], "1", "2", "3", "4", "5", "6", "7")} {
		raw, err := it.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseItem(raw)
		if err != nil || back.Key != it.Key || !back.Fetched.Equal(it.Fetched) || !slicesEqual(back.Documents, it.Documents) {
			t.Errorf("%+v, %v", back, err)
		}
		for n := range raw {
			if _, err := ParseItem(raw[:n]); err == nil {
				t.Errorf("the first %d bytes of %d are read", n, len(raw))
			}
		}
		_, err = ParseItem(append(raw, 0))
		refusaltest.Want(t, "a byte more", err, ReasonMalformed)
	}
	tdx := someItem(t, keys[5], "1", "2", "3", "4", "5", "6", "7")
	if d := tdx.TDX(); string(d.TCBInfo)+string(d.TCBInfoChain)+string(d.QEIdentity)+string(d.QEIdentityChain)+string(d.PCKCRL)+string(d.PCKCRLChain)+string(d.RootCRL) != "1234567" || !slicesEqual(d.Documents(), tdx.Documents) {
		t.Errorf("%s", d)
	}
	for what, it := range map[string]Item{
		"no key": {}, "too few documents": someItem(t, "amd-chain/Genoa/vlek", "x"), "too many": someItem(t, "amd-crl/Milan", "x", "y"), "an empty one": someItem(t, "amd-crl/Milan", ""),
		"a large one": someItem(t, "amd-crl/Milan", strings.Repeat("x", MaxDocumentBytes+1)), "no time": {Key: mustKey(t, "amd-crl/Milan"), Documents: [][]byte{{1}}},
	} {
		_, err := it.Marshal()
		refusaltest.Want(t, what, err, ReasonMalformed)
	}
	_, err := someItem(t, keys[5], slicesRepeat(strings.Repeat("x", MaxDocumentBytes), 7)...).Marshal()
	refusaltest.Want(t, "large ones together", err, ReasonTooLarge)
	_, err = ParseItem(make([]byte, MaxItemBytes+1))
	refusaltest.Want(t, "a large file", err, ReasonTooLarge)
}

func slicesEqual(a, b [][]byte) bool {
	return bytes.Equal(bytes.Join(a, []byte{0}), bytes.Join(b, []byte{0}))
}

func slicesRepeat(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}

func FuzzParseItem(f *testing.F) {
	for _, it := range []Item{someItem(f, "amd-crl/Milan", "list"), someItem(f, keys[5], "1", "2", "3", "4", "5", "6", "7")} {
		raw, err := it.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		it, err := ParseItem(raw)
		if err != nil {
			return
		}
		if back, err := it.Marshal(); err != nil || !bytes.Equal(back, raw) {
			t.Errorf("read, but written differently: %v", err)
		}
		_, _ = it.Stamps() // must not panic
	})
}
