package publication

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/crypto/signednote"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

var update = flag.Bool("update", false, "write vectors that are missing")

func publisher(tb testing.TB, level identity.Level) *identity.Private {
	tb.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Wipe)
	return k
}

// sample is a statement with a value of each kind and a gap.
func sample() *Statement {
	hex := func(digit string, bytes int) string { return strings.Repeat(digit, 2*bytes) }
	return &Statement{
		Format: 1, Name: "images/web-7", Made: "2026-12-01T17:00:00Z",
		Inputs: []Input{{"image.uki web.efi", hex("a", 32), 12900000}, {"sev_snp[0].firmware OVMF.fd", hex("b", 32), 4194304}},
		Values: []Value{
			{"images/web-7/vtpm/ready", "vtpm", "image", "a TPM 2.0, bank sha256; after phase ready",
				map[string]string{"pcr4": hex("1", 32), "pcr11": hex("2", 32), "pcr12": hex("0", 32)},
				map[string]Check{"pcr4": CheckVectors, "pcr11": CheckBoot, "pcr12": CheckFormula}},
			{"images/web-7/sev-snp/qemu/epyc-milan/4", "sev-snp", "image", "SEV-SNP, qemu, processors: 4",
				map[string]string{"launch": hex("3", 48)}, map[string]Check{"launch": CheckVectors}},
			{"images/web-7/tdx/qemu", "tdx", "firmware", "TDX, machine qemu",
				map[string]string{"mrtd": hex("4", 48), "rtmr0": hex("5", 48), "rtmr3": hex("0", 48)},
				map[string]Check{"mrtd": CheckNot, "rtmr0": CheckReplay, "rtmr3": CheckFormula}},
		},
		Gaps: []Gap{{"TDX, machine qemu", "tdx", []string{"rtmr1"}, "no disk was given", "require.event_log.boot"}},
	}
}

func sign(tb testing.TB, k *identity.Private, s *Statement) []byte {
	tb.Helper()
	signed, err := Sign(k, s)
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

// signBody signs a body that no statement has, under the publisher's name.
func signBody(tb testing.TB, k *identity.Private, origin, body string) []byte {
	tb.Helper()
	signed, err := signednote.Sign(k, origin, []byte(origin+"\n"+body))
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

func TestWhatWasSignedOpens(t *testing.T) {
	k, s := publisher(t, identity.LevelEpoch), sample()
	signed := sign(t, k, s)
	got, err := Open(signed, k.Public())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(s) || !Is(signed) {
		t.Errorf("got %+v, %v", got, err)
	}
	values := got.ReferenceValues("the file")
	if len(values) != 3 || values[1].Source != "the file" || values[1].Description != "SEV-SNP, qemu, processors: 4; checked: launch: vectors" {
		t.Errorf("%+v", values)
	}
	file, err := json.Marshal(map[string]any{"format": 2, "reference_values": values})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.ParseReferenceValues(file); err != nil {
		t.Error(err)
	}
}

// TestOnlyThePublisherIsBelieved: with both halves of the key that the reader gave.
func TestOnlyThePublisherIsBelieved(t *testing.T) {
	k, other := publisher(t, identity.LevelEpoch), publisher(t, identity.LevelEpoch)
	signed := sign(t, k, sample())
	_, err := Open(signed, other.Public())
	refusaltest.Want(t, "another publisher's", err, ReasonPublisher)
	if got, want := SaysPublisher(signed), PublisherID(k.Public()); got != want {
		t.Errorf("it says that it is by %s, want %s", got, want)
	}
	if got := SaysPublisher([]byte(originPrefix + strings.Repeat("x", 1000))); len(got) != 64 {
		t.Errorf("a long first line: %d bytes", len(got))
	}
	_, err = Open(signed, identity.Public{})
	refusaltest.Want(t, "no key", err, ReasonPublisher)
	body := string(signed[bytes.IndexByte(signed, '\n')+1 : bytes.Index(signed, []byte("\n\n"))+1])
	_, err = Open(signBody(t, other, Origin(k.Public()), body), k.Public())
	refusaltest.Want(t, "signed by another under its name", err, ReasonInvalid)
	_, err = Open(signBody(t, k, "anchorhold/release/"+strings.TrimPrefix(Origin(k.Public()), originPrefix), body), k.Public())
	refusaltest.Want(t, "another kind of note of the same key", err, ReasonInvalid)
	lines := strings.SplitAfter(string(signed), "\n")
	for _, half := range []int{len(lines) - 2, len(lines) - 3} {
		_, err := Open([]byte(strings.Join(slices.Delete(slices.Clone(lines), half, half+1), "")), k.Public())
		refusaltest.Want(t, "half a signature", err, ReasonInvalid)
	}
	_, err = Open([]byte(Origin(k.Public())+"\n"+body), k.Public())
	refusaltest.Want(t, "no signature", err, ReasonInvalid)
	_, err = Sign(publisher(t, identity.LevelRoot), sample())
	if err == nil {
		t.Error("a root key signs values")
	}
}

func TestEveryByteOfAStatementCounts(t *testing.T) {
	k := publisher(t, identity.LevelEpoch)
	signed := sign(t, k, sample())
	text := bytes.Index(signed, []byte("\n\n"))
	for at := range text {
		changed := bytes.Clone(signed)
		changed[at] ^= 1
		if s, err := Open(changed, k.Public()); err == nil || s != nil {
			t.Fatalf("byte %d changed: accepted", at)
		}
	}
}

// TestOneFormAlone: a signed text that says the same in another way is refused.
func TestOneFormAlone(t *testing.T) {
	k := publisher(t, identity.LevelEpoch)
	body, err := sample().marshal()
	if err != nil {
		t.Fatal(err)
	}
	compact := new(bytes.Buffer)
	if err := json.Compact(compact, body); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"compact":       compact.String() + "\n",
		"unknown field": strings.Replace(string(body), `"format": 1`, `"format": 1, "x": 1`, 1),
		"a field twice": strings.Replace(string(body), `"format": 1`, `"format": 1, "format": 1`, 1),
		"more behind":   string(body) + "{}\n",
		"not JSON":      "format: 1\n",
		"nothing":       "",
		"a long list":   `{"values": [` + strings.Repeat("{},", MaxValues) + "{}]}\n",
	} {
		s, err := Open(signBody(t, k, Origin(k.Public()), text), k.Public())
		if refusaltest.Want(t, what, err, ReasonInvalid); s != nil {
			t.Errorf("%s: something is returned", what)
		}
	}
	_, err = Open(make([]byte, MaxBytes+1), k.Public())
	refusaltest.Want(t, "above the limit", err, ReasonInvalid)
}

// TestStatementsAreChecked before they are signed and after: each has one fault.
func TestStatementsAreChecked(t *testing.T) {
	k := publisher(t, identity.LevelEpoch)
	many := func(n int) (all []Value) {
		for i := range n {
			v := sample().Values[1]
			v.ID = fmt.Sprintf("images/web-7/%d", i)
			all = append(all, v)
		}
		return all
	}
	for what, change := range map[string]func(*Statement){
		"format 2":             func(s *Statement) { s.Format = 2 },
		"no name":              func(s *Statement) { s.Name = "" },
		"a long name":          func(s *Statement) { s.Name = strings.Repeat("n", maxNameBytes+1) },
		"a name of two lines":  func(s *Statement) { s.Name = "a\nb" },
		"no time":              func(s *Statement) { s.Made = "" },
		"a local time":         func(s *Statement) { s.Made = "2026-12-01T17:00:00+01:00" },
		"a part of a second":   func(s *Statement) { s.Made = "2026-12-01T17:00:00.5Z" },
		"nothing":              func(s *Statement) { s.Values, s.Gaps = nil, nil },
		"too many values":      func(s *Statement) { s.Values = many(MaxValues + 1) },
		"too many inputs":      func(s *Statement) { s.Inputs = make([]Input, maxInputs+1) },
		"too many gaps":        func(s *Statement) { s.Gaps = make([]Gap, MaxValues+1) },
		"inputs out of order":  func(s *Statement) { slices.Reverse(s.Inputs) },
		"an input twice":       func(s *Statement) { s.Inputs[1].Name = s.Inputs[0].Name },
		"an input's digest":    func(s *Statement) { s.Inputs[0].SHA256 = "00" },
		"an input's size":      func(s *Statement) { s.Inputs[0].Bytes = -1 },
		"an input's name":      func(s *Statement) { s.Inputs[0].Name = "" },
		"another's id":         func(s *Statement) { s.Values[0].ID = "images/web-8/vtpm/ready" },
		"an id twice":          func(s *Statement) { s.Values[1].ID = s.Values[0].ID },
		"no kind":              func(s *Statement) { s.Values[1].Kind = "" },
		"an unknown kind":      func(s *Statement) { s.Values[1].Kind = "sgx" },
		"no coverage":          func(s *Statement) { s.Values[1].Covers = "" },
		"an unknown coverage":  func(s *Statement) { s.Values[1].Covers = "all" },
		"no platform":          func(s *Statement) { s.Values[1].Platform = "" },
		"a long platform":      func(s *Statement) { s.Values[1].Platform = strings.Repeat("x", maxTextBytes+1) },
		"an escape":            func(s *Statement) { s.Values[1].Platform = "\x1b[2J" },
		"no anchor":            func(s *Statement) { delete(s.Values[0].Registers, "pcr4"); delete(s.Values[0].Checked, "pcr4") },
		"upper case":           func(s *Statement) { s.Values[1].Registers["launch"] = strings.Repeat("A", 96) },
		"a short digest":       func(s *Statement) { s.Values[1].Registers["launch"] = "33" },
		"a digest of zeros":    func(s *Statement) { s.Values[1].Registers["launch"] = strings.Repeat("0", 96) },
		"an unmarked register": func(s *Statement) { delete(s.Values[0].Checked, "pcr12") },
		"a mark for nothing":   func(s *Statement) { s.Values[0].Checked["pcr7"] = CheckNot },
		"an unknown mark":      func(s *Statement) { s.Values[1].Checked["launch"] = "hardware" },
		"a gap's kind":         func(s *Statement) { s.Gaps[0].Kind = "" },
		"a gap of nothing":     func(s *Statement) { s.Gaps[0].Registers = nil },
		"a gap without why":    func(s *Statement) { s.Gaps[0].Why = "" },
		"a gap without advice": func(s *Statement) { s.Gaps[0].Instead = "" },
	} {
		s := sample()
		change(s)
		_, err := Sign(k, s)
		refusaltest.Want(t, what, err, ReasonInvalid)
		body, err := s.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > MaxBytes { // note itself takes no more
			continue
		}
		_, err = Open(signBody(t, k, Origin(k.Public()), string(body)), k.Public())
		refusaltest.Want(t, what+", signed", err, ReasonInvalid)
	}
	most := sample()
	most.Values = many(MaxValues)
	if _, err := Sign(k, most); err != nil {
		t.Errorf("%d values: %v", MaxValues, err)
	}
	for i := range most.Values {
		most.Values[i].Platform = strings.Repeat("x", maxTextBytes)
	}
	_, err := Sign(k, most)
	refusaltest.Want(t, "a file above the limit", err, ReasonInvalid)
	if c := Checks(); len(c) != 5 || slices.Contains(c, "") {
		t.Errorf("%v", c)
	}
}

func FuzzPublication(f *testing.F) {
	body, err := sample().marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"format": 1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := parse(body)
		if err != nil {
			if s != nil {
				t.Error("something beside the error")
			}
			return
		}
		if again, err := s.marshal(); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%q becomes %q, %v", body, again, err)
		}
	})
}
