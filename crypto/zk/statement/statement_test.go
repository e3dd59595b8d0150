package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
)

func named(label string) digest.Digest { return sha256.Sum256([]byte(label)) }

func sampleCommitment(label string) Commitment {
	e := DigestElement(named(label))
	return e.Bytes()
}

func sampleInference() *Statement {
	return &Statement{System: Groth16, Circuit: named("circuit"), Inference: &Inference{
		Model: Model{named("architecture"), named("quantization"), named("chunks"), sampleCommitment("weights")},
		Items: []Item{{digest.ReceiptID{1}, sampleCommitment("input 1"), []int32{0, -1, 1 << 30}}, {digest.ReceiptID{2}, sampleCommitment("input 2"), []int32{-1 << 31, 1<<31 - 1, 7}}},
	}}
}

func sampleGradient() *Statement {
	return &Statement{System: PLONK, Circuit: named("circuit of gradients"), Gradient: &Gradient{
		Round: named("round"), Participant: named("participant"), Ciphertext: named("ciphertext"), Commitment: sampleCommitment("gradient"),
		Coordinates: 10_000, LInf: MaxLInf, SquaredL2: 1 << 40,
	}}
}

func sampleEnvelope(s *Statement) *Envelope {
	return &Envelope{Statement: *s, Key: named("verifying key"), Proof: []byte("a proof <&> of some bytes")}
}

func sampleRecord(gradient bool) *Record {
	r := &Record{System: Groth16, Circuit: named("circuit"), VerifyingKey: named("verifying key"), ProvingKey: named("proving key"),
		Library: "gnark v0.16.1, gnark-crypto v0.22.0", Ceremony: named("ceremony")}
	if gradient {
		r.System, r.Circuit, r.Gradient = PLONK, named("circuit of gradients"), &GradientCircuit{10_000, 16}
	} else {
		r.Inference = &InferenceCircuit{named("architecture"), 2, 3}
	}
	return r
}

// golden is what this version writes. The file was written once; the encodings never
// change without a new version of the format and a new file.
type golden struct {
	Hashes []struct {
		Domain   Domain   `json:"domain"`
		Elements []string `json:"elements"`
		Hash     string   `json:"hash"`
	} `json:"hashes"`
	Weights     Commitment    `json:"weights_of_the_sample_network"`
	Input       Commitment    `json:"input_commitment"`
	Gradient    Commitment    `json:"gradient_commitment"`
	Gradient8   Commitment    `json:"gradient_commitment_of_8_bits"`
	Statements  []sealed      `json:"statements"`
	Envelopes   []encodings   `json:"envelopes"`
	Records     []encodings   `json:"records"`
	ModelID     digest.Digest `json:"model_id"`
	Description string        `json:"description"`
}

type sealed struct {
	Binary string        `json:"binary"`
	Digest digest.Digest `json:"digest"`
	Public []string      `json:"public_inputs"`
}

type encodings struct {
	Binary string          `json:"binary"`
	JSON   json.RawMessage `json:"json"`
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func hexOf(e poseidon2.Element) string { b := e.Bytes(); return hex.EncodeToString(b[:]) }

func compute(t testing.TB) *golden {
	salt := Salt{30: 1}
	for i := range salt {
		salt[i] += byte(i)
	}
	g := &golden{Description: "Poseidon2 over BN254, 16 wide, 8 full and 57 partial rounds; commitments; encodings of version 1",
		Weights: WeightsCommitment(network(t)), Input: InputCommitment(salt, []int8{-128, -1, 0, 1, 127}),
		Gradient: GradientCommitment(salt, []int16{-32768, 0, 32767}), Gradient8: GradientCommitment8(salt, []int8{-128, 0, 127}),
		ModelID: sampleInference().Inference.Model.ID()}
	for d, n := range []int{0, 1, 15, 16, 40} {
		domain := Domain(1 + d%4)
		elements, names := make([]poseidon2.Element, n), []string{}
		for i := range elements {
			elements[i] = DigestElement(named(fmt.Sprint("element ", i)))
			names = append(names, hexOf(elements[i]))
		}
		g.Hashes = append(g.Hashes, struct {
			Domain   Domain   `json:"domain"`
			Elements []string `json:"elements"`
			Hash     string   `json:"hash"`
		}{domain, names, hexOf(Hash(domain, elements))})
	}
	for i, s := range []*Statement{sampleInference(), sampleGradient()} {
		raw, err := s.MarshalBinary()
		public, err2 := s.PublicInputs()
		d, err3 := s.Digest()
		one := sealed{hex.EncodeToString(must(t, raw, err)), must(t, d, err3), nil}
		for _, e := range must(t, public, err2) {
			one.Public = append(one.Public, hexOf(e))
		}
		g.Statements = append(g.Statements, one)
		e := sampleEnvelope(s)
		raw, err = e.MarshalBinary()
		text, err2 := e.MarshalJSON()
		g.Envelopes = append(g.Envelopes, encodings{hex.EncodeToString(must(t, raw, err)), must(t, text, err2)})
		r := sampleRecord(i == 1)
		raw, err = r.MarshalBinary()
		text, err2 = r.MarshalJSON()
		g.Records = append(g.Records, encodings{hex.EncodeToString(must(t, raw, err)), must(t, text, err2)})
	}
	return g
}

func TestGolden(t *testing.T) {
	name := filepath.Join("testdata", "golden-1.json")
	want, err := os.ReadFile(name)
	got := compute(t)
	text, err2 := json.MarshalIndent(got, "", " ")
	text = append(must(t, text, err2), '\n')
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s was written; look at it and run again", name)
	}
	if !bytes.Equal(must(t, want, err), text) {
		t.Errorf("%s has other values than this version computes", name)
	}
}

func TestFormsConvert(t *testing.T) {
	for _, s := range []*Statement{sampleInference(), sampleGradient()} {
		e := sampleEnvelope(s)
		raw, err := e.MarshalBinary()
		must(t, raw, err)
		text, err := json.Marshal(*e) // by value, as inside a document
		must(t, text, err)
		var indented bytes.Buffer
		if err := json.Indent(&indented, text, "", "  "); err != nil {
			t.Fatal(err)
		}
		for _, form := range [][]byte{raw, text, indented.Bytes(), append(slices.Clone(text), '\n')} {
			if got, err := Open(form); err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("%v, %+v", err, got)
			}
		}
		var inside struct{ E Envelope }
		if err := json.Unmarshal(fmt.Appendf(nil, `{"E":%s}`, text), &inside); err != nil || !reflect.DeepEqual(&inside.E, e) {
			t.Errorf("inside a document: %v", err)
		}
	}
	for _, gradient := range []bool{false, true} {
		r := sampleRecord(gradient)
		raw, err := r.MarshalBinary()
		must(t, raw, err)
		text, err := json.Marshal(*r)
		must(t, text, err)
		for _, form := range [][]byte{raw, text} {
			if got, err := OpenRecord(form); err != nil || !reflect.DeepEqual(got, r) {
				t.Errorf("%v, %+v", err, got)
			}
		}
		var inside struct{ R Record }
		if err := json.Unmarshal(fmt.Appendf(nil, `{"R":%s}`, text), &inside); err != nil || !reflect.DeepEqual(&inside.R, r) {
			t.Errorf("inside a document: %v", err)
		}
		if d, err := r.Digest(); err != nil || d != sha256.Sum256(raw) {
			t.Error("a record's digest is not of its binary form")
		}
	}
}

// TestBytesAreCanonical cuts, prolongs and changes encodings.
func TestBytesAreCanonical(t *testing.T) {
	open := map[string]func([]byte) error{
		"envelope":  func(b []byte) error { _, err := ParseEnvelope(b); return err },
		"record":    func(b []byte) error { _, err := ParseRecord(b); return err },
		"statement": func(b []byte) error { _, err := ParseStatement(b); return err },
	}
	envelope, err := sampleEnvelope(sampleInference()).MarshalBinary()
	record, err2 := sampleRecord(true).MarshalBinary()
	gradient, err3 := sampleGradient().MarshalBinary()
	for name, raw := range map[string][]byte{"envelope": must(t, envelope, err), "record": must(t, record, err2), "statement": must(t, gradient, err3)} {
		for n := range raw {
			if err := open[name](raw[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
		if err := open[name](append(slices.Clone(raw), 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
		if err := open[name](make([]byte, MaxEnvelopeBytes+1)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s over the limit: %v", name, err)
		}
	}
	// Nothing is allocated for what a count only claims.
	at := bytes.Index(envelope, []byte{0, 2, 0, 3, 1})
	huge := slices.Clone(envelope)
	binary.BigEndian.PutUint32(huge[at:], 1<<32-1)
	if _, err := ParseEnvelope(huge); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	wide := slices.Clone(envelope)
	copy(wide[at-32:], bytes.Repeat([]byte{0xff}, 32))
	if _, err := ParseEnvelope(wide); !errors.Is(err, ErrMalformed) {
		t.Errorf("a commitment above the modulus: %v", err)
	}
}

func TestJSONHasOneSpelling(t *testing.T) {
	e := sampleEnvelope(sampleInference())
	raw, err := e.MarshalJSON()
	text := string(must(t, raw, err))
	replace := func(old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%s is not in %s", old, text)
		}
		return strings.Replace(text, old, with, 1)
	}
	model := e.Statement.Inference.Model
	for name, form := range map[string]string{
		"format":          replace("proof/1", "proof/2"),
		"system":          replace("groth16-bn254", "groth17"),
		"capital":         replace(`"verifying_key"`, `"Verifying_Key"`),
		"upper case":      replace(e.Key.String(), strings.ToUpper(e.Key.String())),
		"short digest":    replace(e.Key.String(), e.Key.String()[2:]),
		"unknown field":   replace(`{"format"`, `{"more":1,"format"`),
		"twice":           replace(`{"format"`, `{"format":"anchorhold/proof/1","format"`),
		"null":            replace(`"inference":{`, `"gradient":null,"inference":{`),
		"number":          replace("1073741824", "1.073741824e9"),
		"minus zero":      replace("[0,", "[-0,"),
		"large output":    replace("1073741824", "2147483648"),
		"model's id":      replace(model.ID().String(), named("another").String()),
		"model's part":    replace(model.Chunks.String(), named("another").String()),
		"wide commitment": replace(model.Weights.String(), strings.Repeat("f", 64)),
		"base64":          replace(`"proof":"`, `"proof":"\u0041`),
		"no proof":        text[:strings.Index(text, `"proof"`)] + `"proof":""}`,
		"trailing":        text + "{}",
		"empty":           "{}",
		"array":           "[" + text + "]",
		"long":            text + strings.Repeat(" ", MaxEnvelopeJSON),
	} {
		if _, err := ParseEnvelopeJSON([]byte(form)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "model's") {
			if _, err := ParseEnvelopeJSON([]byte(form)); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s is not a mismatch: %v", name, err)
			}
		}
	}
	raw, err = sampleRecord(false).MarshalJSON()
	record := string(must(t, raw, err))
	for _, form := range []string{strings.Replace(record, "/1", "/2", 1), record + "x", strings.Replace(record, "false", "true", 1), "{}", strings.Replace(record, "gnark v", `gnark\u0020v`, 1)} {
		if _, err := ParseRecordJSON([]byte(form)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestLimits(t *testing.T) {
	for name, change := range map[string]func(*Statement){
		"no system":       func(s *Statement) { s.System = 0 },
		"unknown system":  func(s *Statement) { s.System = 3 },
		"both kinds":      func(s *Statement) { s.Gradient = sampleGradient().Gradient },
		"neither":         func(s *Statement) { s.Inference = nil },
		"no items":        func(s *Statement) { s.Inference.Items = nil },
		"many items":      func(s *Statement) { s.Inference.Items = make([]Item, MaxItems+1) },
		"no outputs":      func(s *Statement) { s.Inference.Items = make([]Item, 2) },
		"many outputs":    func(s *Statement) { s.Inference.Items = []Item{{Outputs: make([]int32, MaxOutputs+1)}} },
		"uneven outputs":  func(s *Statement) { s.Inference.Items[1].Outputs = []int32{1} },
		"outputs of all":  func(s *Statement) { s.Inference.Items = slices.Repeat([]Item{{Outputs: make([]int32, MaxOutputs)}}, 5) },
		"weights":         func(s *Statement) { s.Inference.Model.Weights[0] = 0xff },
		"input":           func(s *Statement) { s.Inference.Items[1].Input[0] = 0xff },
		"gradient":        func(s *Statement) { *s = *sampleGradient(); s.Gradient.Commitment[0] = 0xff },
		"no coordinates":  func(s *Statement) { *s = *sampleGradient(); s.Gradient.Coordinates = 0 },
		"coordinates":     func(s *Statement) { *s = *sampleGradient(); s.Gradient.Coordinates = MaxCoordinates + 1 },
		"no bound":        func(s *Statement) { *s = *sampleGradient(); s.Gradient.LInf = 0 },
		"bound":           func(s *Statement) { *s = *sampleGradient(); s.Gradient.LInf = MaxLInf + 1 },
		"no bound of sum": func(s *Statement) { *s = *sampleGradient(); s.Gradient.SquaredL2 = 0 },
		"bound of sum":    func(s *Statement) { *s = *sampleGradient(); s.Gradient.SquaredL2 = MaxSquaredL2 + 1 },
	} {
		s := sampleInference()
		change(s)
		if err := s.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		_, err := s.PublicInputs()
		_, err2 := sampleEnvelope(s).MarshalBinary()
		_, err3 := sampleEnvelope(s).MarshalJSON()
		if err == nil || err2 == nil || err3 == nil {
			t.Errorf("%s is encoded", name)
		}
	}
	e := sampleEnvelope(sampleGradient())
	e.Proof = make([]byte, MaxProofBytes+1)
	if e.Check() == nil {
		t.Error("a long proof")
	}
	largest := sampleInference()
	largest.Inference.Items = slices.Repeat([]Item{{Outputs: slices.Repeat([]int32{-1 << 31}, 256)}}, MaxItems)
	e = sampleEnvelope(largest)
	e.Proof = make([]byte, MaxProofBytes)
	raw, err := e.MarshalBinary()
	text, err2 := e.MarshalJSON()
	if len(must(t, raw, err)) > MaxEnvelopeBytes || len(must(t, text, err2)) > MaxEnvelopeJSON {
		t.Errorf("the largest statement takes %d and %d bytes", len(raw), len(text))
	}
	if _, err := Open(raw); err != nil {
		t.Error(err)
	}
	if _, err := Open(text); err != nil {
		t.Error(err)
	}
	if public, err := largest.PublicInputs(); err != nil || len(public) != MaxPublicInputs {
		t.Errorf("%d public inputs, %v", len(public), err)
	}
}

func TestEveryFieldIsInTheDigest(t *testing.T) {
	for _, sample := range []func() *Statement{sampleInference, sampleGradient} {
		seen := map[digest.Digest]bool{}
		d, err := sample().Digest()
		seen[must(t, d, err)] = true
		fields := 0
		current := sample()
		var walk func(path []int, v reflect.Value)
		walk = func(path []int, v reflect.Value) {
			switch v.Kind() {
			case reflect.Pointer:
				if !v.IsNil() {
					walk(path, v.Elem())
				}
				return
			case reflect.Struct:
				for i := range v.NumField() {
					walk(append(slices.Clone(path), i), v.Field(i))
				}
				return
			case reflect.Slice:
				for i := range v.Len() {
					walk(append(slices.Clone(path), i), v.Index(i))
				}
				return
			case reflect.Array: // the last byte, so that a commitment stays below the modulus
				v = v.Index(v.Len() - 1)
			}
			fields++
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			switch {
			case v.CanInt():
				v.SetInt(v.Int() ^ 1)
			case v.Type() == reflect.TypeFor[System]():
				v.SetUint(3 - v.Uint())
			case v.Type().Bits() > 8: // a bound or a number of coordinates
				v.SetUint(v.Uint() - 1)
			default:
				v.SetUint(v.Uint() ^ 1)
			}
			if d, err := current.Digest(); err != nil || seen[d] {
				t.Errorf("field %v: %v", path, err)
			} else {
				seen[d] = true
			}
			v.Set(old)
		}
		walk(nil, reflect.ValueOf(current))
		if fields < 9 {
			t.Errorf("only %d fields were tried", fields)
		}
	}
}

func TestRecordsAdmit(t *testing.T) {
	if err := sampleRecord(false).Admits(sampleEnvelope(sampleInference())); err != nil {
		t.Fatal(err)
	}
	if err := sampleRecord(true).Admits(sampleEnvelope(sampleGradient())); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Record, *Envelope){
		"system":  func(r *Record, _ *Envelope) { r.System = PLONK },
		"key":     func(r *Record, _ *Envelope) { r.VerifyingKey[0]++ },
		"circuit": func(_ *Record, e *Envelope) { e.Statement.Circuit[0]++ },
		"kind": func(_ *Record, e *Envelope) {
			e.Statement = *sampleGradient()
			e.Statement.System, e.Statement.Circuit = Groth16, named("circuit")
		},
		"architecture": func(_ *Record, e *Envelope) { e.Statement.Inference.Model.Architecture[0]++ },
		"items":        func(r *Record, _ *Envelope) { r.Inference.Items = 1 },
		"outputs":      func(r *Record, _ *Envelope) { r.Inference.Outputs = 4 },
		"coordinates": func(r *Record, e *Envelope) {
			*r, e.Statement = *sampleRecord(true), *sampleGradient()
			r.Gradient.Coordinates++
		},
		"bits": func(r *Record, e *Envelope) {
			*r, e.Statement = *sampleRecord(true), *sampleGradient()
			r.Gradient.Bits = 8
		},
		"a bound of nine bits": func(r *Record, e *Envelope) {
			*r, e.Statement = *sampleRecord(true), *sampleGradient()
			r.Gradient.Bits, e.Statement.Gradient.LInf = 8, 128
		},
	} {
		r, e := sampleRecord(false), sampleEnvelope(sampleInference())
		change(r, e)
		if err := r.Admits(e); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Record){
		"system": func(r *Record) { r.System = 0 }, "library": func(r *Record) { r.Library = "" }, "long library": func(r *Record) { r.Library = strings.Repeat("x", 129) },
		"quote": func(r *Record) { r.Library = `"` }, "control": func(r *Record) { r.Library = "\n" }, "not ASCII": func(r *Record) { r.Library = "é" },
		"no circuit": func(r *Record) { r.Circuit = digest.Digest{} }, "no key": func(r *Record) { r.VerifyingKey = digest.Digest{} }, "no proving key": func(r *Record) { r.ProvingKey = digest.Digest{} },
		"development with ceremony": func(r *Record) { r.Development = true }, "no ceremony": func(r *Record) { r.Ceremony = digest.Digest{} },
		"both kinds": func(r *Record) { r.Gradient = &GradientCircuit{1, 8} }, "neither": func(r *Record) { r.Inference = nil },
		"no items": func(r *Record) { r.Inference.Items = 0 }, "outputs": func(r *Record) { r.Inference.Outputs = MaxOutputs + 1 },
		"bits": func(r *Record) { *r = *sampleRecord(true); r.Gradient.Bits = 12 }, "no coordinates": func(r *Record) { *r = *sampleRecord(true); r.Gradient.Coordinates = 0 },
	} {
		r := sampleRecord(false)
		change(r)
		_, err := r.MarshalBinary()
		_, err2 := r.MarshalJSON()
		_, err3 := r.Digest()
		if !errors.Is(err, ErrMalformed) || err2 == nil || err3 == nil || r.Admits(sampleEnvelope(sampleInference())) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if sampleRecord(false).Admits(&Envelope{}) == nil {
		t.Error("an empty envelope is admitted")
	}
}

func TestNames(t *testing.T) {
	d := named("x")
	if got, err := digest.Parse(d.String()); err != nil || got != d {
		t.Error(err)
	}
	if got, err := digest.ParseID[digest.Receipt](digest.ReceiptID{1, 2}.String()); err != nil || got != (digest.ReceiptID{1, 2}) {
		t.Error(err)
	}
	for _, bad := range []string{"", "0", strings.ToUpper(d.String()), d.String() + "00", strings.Repeat("g", 64)} {
		if _, err := digest.Parse(bad); err == nil {
			t.Errorf("digest %q", bad)
		}
		if _, err := digest.ParseID[digest.Receipt](bad); err == nil {
			t.Errorf("id %q", bad)
		}
	}
	if s := System(9); s.String() == "" {
		t.Error("an unknown system has no name")
	} else if _, err := s.MarshalText(); err == nil {
		t.Error("an unknown system is written")
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, s := range []*Statement{sampleInference(), sampleGradient()} {
		e := sampleEnvelope(s)
		raw, err := e.MarshalBinary()
		f.Add(must(f, raw, err))
		raw, err = e.MarshalJSON()
		f.Add(must(f, raw, err))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Open(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || e != nil {
				t.Fatal(err)
			}
			return
		}
		b, err := e.MarshalBinary()
		j, err2 := e.MarshalJSON()
		must(t, b, err)
		must(t, j, err2)
		again, err := ParseEnvelope(b)
		other, err2 := ParseEnvelopeJSON(j)
		if err != nil || err2 != nil || !reflect.DeepEqual(again, e) || !reflect.DeepEqual(other, e) {
			t.Fatal("forms differ", err, err2)
		}
		if !isJSON(raw) && !bytes.Equal(b, raw) {
			t.Fatal("two spellings")
		}
		if public, err := e.Statement.PublicInputs(); err != nil || len(public) > MaxPublicInputs {
			t.Fatal(err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, gradient := range []bool{false, true} {
		raw, err := sampleRecord(gradient).MarshalBinary()
		f.Add(must(f, raw, err))
		raw, err = sampleRecord(gradient).MarshalJSON()
		f.Add(must(f, raw, err))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := OpenRecord(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		b, err := r.MarshalBinary()
		if again, err2 := ParseRecord(must(t, b, err)); err2 != nil || !reflect.DeepEqual(again, r) || !isJSON(raw) && !bytes.Equal(b, raw) {
			t.Fatal("two spellings", err2)
		}
	})
}

func FuzzStatement(f *testing.F) {
	for _, s := range []*Statement{sampleInference(), sampleGradient()} {
		raw, err := s.MarshalBinary()
		f.Add(must(f, raw, err))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseStatement(raw)
		if err != nil {
			return
		}
		if b, err := s.MarshalBinary(); err != nil || !bytes.Equal(b, raw) {
			t.Fatal("two spellings", err)
		}
	})
}
