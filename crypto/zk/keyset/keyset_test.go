package keyset_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

const items, outputs = 1, 3

var keys = sync.OnceValues(func() (*zktest.Groth16, error) {
	return zktest.NewGroth16(zktest.Shape{Inputs: items*(1+outputs) + 2, Commitment: true})
})

func groth16(t testing.TB) *zktest.Groth16 {
	t.Helper()
	g, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func verifiers() keyset.Parsers {
	return keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)}
}

func text(s string) keyset.Write {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

// save saves a set; change, if given, alters its record first.
func save(t testing.TB, dir string, change func(*statement.Record)) keyset.Set {
	t.Helper()
	g := groth16(t)
	r := g.Record(items, outputs)
	if change != nil {
		change(r)
	}
	s, err := keyset.Save(dir, *r, text("the circuit"), text("the proving key"), g.Key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func development(r *statement.Record) { r.Development, r.Ceremony = true, digest.Digest{} }

func TestWhatIsSavedIsLoaded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	first := save(t, dir, nil)
	second := save(t, dir, func(r *statement.Record) { r.Circuit = digest.Digest{1} })
	list, err := keyset.Load(dir)
	if err != nil || len(list) != 2 || list[0].Record.Circuit != second.Record.Circuit || list[1].Record.Circuit != first.Record.Circuit {
		t.Fatalf("%+v %v", list, err)
	}
	s := list[1]
	if s.Record.VerifyingKey != groth16(t).Digest || s.Record.ProvingKey == (digest.Digest{}) {
		t.Errorf("the record has other digests: %+v", s.Record)
	}
	for want, open := range map[string]func() (*os.File, error){"the circuit": s.OpenCircuit, "the proving key": s.OpenProvingKey} {
		f, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(f); string(raw) != want || err != nil {
			t.Errorf("%q %v", raw, err)
		}
		f.Close()
	}
	if raw, err := s.VerifyingKey(); !bytes.Equal(raw, groth16(t).Key) || err != nil {
		t.Error("another verifying key", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2*2+2 { // both sets have the same keys
		t.Errorf("%d files: %v", len(names), err)
	}
	for _, n := range names {
		if info, err := n.Info(); err != nil || info.Mode().Perm() != 0o644 || strings.HasPrefix(n.Name(), ".") {
			t.Errorf("%s: %v %v", n.Name(), info.Mode(), err)
		}
	}
}

func TestADirectoryWithoutRecordsIsEmpty(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if list, err := keyset.Load(dir); len(list) != 0 || err != nil {
			t.Errorf("%v %v", list, err)
		}
	}
	if _, err := keyset.Load("["); err == nil {
		t.Error("a pattern passed for a directory")
	}
}

func TestMissingAndChangedFilesAreRefused(t *testing.T) {
	name := func(d digest.Digest, ext string) string { return d.String() + ext }
	for what, c := range map[string]struct {
		file func(r statement.Record) string
		open func(s keyset.Set) error
	}{
		"verifying key": {func(r statement.Record) string { return name(r.VerifyingKey, ".vk") }, func(s keyset.Set) error { _, err := s.VerifyingKey(); return err }},
		"proving key":   {func(r statement.Record) string { return name(r.ProvingKey, ".pk") }, func(s keyset.Set) error { return closed(s.OpenProvingKey()) }},
		"circuit":       {func(r statement.Record) string { return name(r.Circuit, ".circuit") }, func(s keyset.Set) error { return closed(s.OpenCircuit()) }},
	} {
		dir := t.TempDir()
		s := save(t, dir, nil)
		path := filepath.Join(dir, c.file(s.Record))
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for change, data := range map[string][]byte{"a byte": append([]byte{raw[0] ^ 1}, raw[1:]...), "cut": raw[:len(raw)-1], "longer": append(slices.Clone(raw), 0), "empty": nil} {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			err := c.open(s)
			if what == "circuit" { // whoever reads it checks it
				if err != nil {
					t.Errorf("%s, %s: %v", what, change, err)
				}
			} else if !errors.Is(err, keyset.ErrChanged) {
				t.Errorf("%s, %s: %v", what, change, err)
			}
			if _, err := keyset.Load(dir); what == "verifying key" && !errors.Is(err, keyset.ErrChanged) {
				t.Errorf("loaded with a verifying key that is %s: %v", change, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := c.open(s); !errors.Is(err, keyset.ErrMissing) {
			t.Errorf("%s missing: %v", what, err)
		}
		if _, err := keyset.Load(dir); what == "verifying key" && !errors.Is(err, keyset.ErrMissing) {
			t.Errorf("loaded without a verifying key: %v", err)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := c.open(s); what != "circuit" && (err == nil || errors.Is(err, keyset.ErrMissing)) {
			t.Errorf("a directory as %s: %v", what, err)
		}
	}
}

func closed(f *os.File, err error) error {
	if f != nil {
		f.Close()
	}
	return err
}

func TestAVeryLongVerifyingKeyIsNotRead(t *testing.T) {
	dir := t.TempDir()
	s := save(t, dir, nil)
	if err := os.Truncate(filepath.Join(dir, s.Record.VerifyingKey.String()+".vk"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if _, err := s.VerifyingKey(); !errors.Is(err, keyset.ErrChanged) {
		t.Error(err)
	}
}

func TestRecordsThatAreNotCanonicalAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := save(t, dir, nil)
	path := filepath.Join(dir, s.Record.Circuit.String()+".record.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string]string{
		"empty": "", "no JSON": "{", "another": "{}", "two": string(raw) + string(raw), "long": string(raw) + strings.Repeat("\n", statement.MaxRecordBytes),
		"a field":      strings.Replace(string(raw), "{", `{"more":1,`, 1),
		"upper case":   strings.Replace(string(raw), s.Record.Circuit.String(), strings.ToUpper(s.Record.Circuit.String()), 1),
		"truncated":    string(raw[:len(raw)/2]),
		"both set-ups": strings.Replace(string(raw), `"development":false`, `"development":true`, 1),
	} {
		if what == "both set-ups" && data == string(raw) {
			t.Fatal("the record's JSON changed its form")
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if list, err := keyset.Load(dir); err == nil {
			t.Errorf("%s: %v", what, list)
		}
	}
	// A record under the name of another circuit would be used for it.
	if err := errors.Join(os.Remove(path), os.WriteFile(filepath.Join(dir, digest.Digest{1}.String()+".record.json"), raw, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.Load(dir); !errors.Is(err, keyset.ErrChanged) {
		t.Errorf("under another name: %v", err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.Load(dir); err == nil {
		t.Error("a directory as a record")
	}
}

// Whatever fails, the set is not there, and no part of a file is.
func TestASetAppearsWholeOrNotAtAll(t *testing.T) {
	broken := errors.New("no space")
	fail := func(w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		return broken
	}
	r := groth16(t).Record(items, outputs)
	for what, do := range map[string]func(dir string) error{
		"circuit":     func(dir string) error { _, err := keyset.Save(dir, *r, fail, text("k"), groth16(t).Key); return err },
		"proving key": func(dir string) error { _, err := keyset.Save(dir, *r, text("c"), fail, groth16(t).Key); return err },
		"record": func(dir string) error {
			bad := *r
			bad.Library = ""
			_, err := keyset.Save(dir, bad, text("c"), text("k"), groth16(t).Key)
			return err
		},
	} {
		dir := t.TempDir()
		if err := do(dir); err == nil || what != "record" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", what, err)
		}
		if list, err := keyset.Load(dir); len(list) != 0 || err != nil {
			t.Errorf("%s: %v %v", what, list, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 0 || err != nil {
			t.Errorf("%s: %v %v", what, left, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.Save(file, *r, text("c"), text("k"), groth16(t).Key); err == nil {
		t.Error("a file as a directory")
	}
}

func TestARingVerifiesWithItsKeys(t *testing.T) {
	g := groth16(t)
	set := save(t, t.TempDir(), nil)
	ring, err := keyset.NewRing([]keyset.Set{set}, false, time.Minute, verifiers())
	if err != nil {
		t.Fatal(err)
	}
	envelope := func() *statement.Envelope {
		e, err := g.Envelope(zktest.Inferences(1, items, outputs))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if r, err := ring.Verify(t.Context(), envelope()); err != nil || r.Circuit != set.Record.Circuit || r.ProvingKey != set.Record.ProvingKey {
		t.Errorf("%+v %v", r, err)
	}
	for what, change := range map[string]func(*statement.Envelope){
		"output":  func(e *statement.Envelope) { e.Statement.Inference.Items[0].Outputs[0]++ },
		"receipt": func(e *statement.Envelope) { e.Statement.Inference.Items[0].Receipt[0]++ },
		"model":   func(e *statement.Envelope) { e.Statement.Inference.Model.Chunks[0]++ },
		"proof":   func(e *statement.Envelope) { e.Proof[40] ^= 1 },
		"cut":     func(e *statement.Envelope) { e.Proof = e.Proof[:len(e.Proof)-1] },
	} {
		e := envelope()
		change(e)
		if _, err := ring.Verify(t.Context(), e); err == nil {
			t.Errorf("verified with another %s", what)
		}
	}
	for what, change := range map[string]func(*statement.Envelope){
		"circuit":      func(e *statement.Envelope) { e.Statement.Circuit[0]++ },
		"architecture": func(e *statement.Envelope) { e.Statement.Inference.Model.Architecture[0]++ },
		"shape":        func(e *statement.Envelope) { e.Statement = zktest.Inferences(1, 2, 1) },
	} {
		e := envelope()
		change(e)
		if _, err := ring.Verify(t.Context(), e); !errors.Is(err, statement.ErrMismatch) {
			t.Errorf("another %s: %v", what, err)
		}
	}
	e := envelope()
	e.Key[0]++
	if _, err := ring.Verify(t.Context(), e); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := ring.Set(e.Key); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("the set of an unknown key: %v", err)
	}
	if s, err := ring.Set(g.Digest); err != nil || s.Record.Circuit != set.Record.Circuit {
		t.Errorf("%+v %v", s, err)
	}
}

func TestVerificationEndsInTime(t *testing.T) {
	set := save(t, t.TempDir(), nil)
	e, err := groth16(t).Envelope(zktest.Inferences(1, items, outputs))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyset.NewRing([]keyset.Set{set}, false, time.Nanosecond, verifiers())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Verify(t.Context(), e); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after a nanosecond: %v", err)
	}
	if ring, err = keyset.NewRing([]keyset.Set{set}, false, 0, verifiers()); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Verify(t.Context(), e); err != nil {
		t.Errorf("without a bound: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ring.Verify(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancellation: %v", err)
	}
}

func TestDevelopmentKeysNeedConsent(t *testing.T) {
	set := save(t, t.TempDir(), development)
	if ring, err := keyset.NewRing([]keyset.Set{set}, false, 0, verifiers()); !errors.Is(err, keyset.ErrDevelopment) || ring != nil {
		t.Errorf("without consent: %v", err)
	}
	ring, err := keyset.NewRing([]keyset.Set{set}, true, 0, verifiers())
	if err != nil {
		t.Fatal(err)
	}
	e, err := groth16(t).Envelope(zktest.Inferences(1, items, outputs))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ring.Verify(t.Context(), e); err != nil || !r.Development {
		t.Errorf("%+v %v", r, err)
	}
}

func TestARingNeedsItsKeys(t *testing.T) {
	dir := t.TempDir()
	set := save(t, dir, nil)
	if err := os.Remove(filepath.Join(dir, set.Record.VerifyingKey.String()+".vk")); err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.NewRing([]keyset.Set{set}, false, 0, verifiers()); !errors.Is(err, keyset.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	s, err := keyset.Save(t.TempDir(), *groth16(t).Record(items, outputs), text("c"), text("k"), []byte("no key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.NewRing([]keyset.Set{s}, false, 0, verifiers()); err == nil {
		t.Error("no key at all")
	}
}

// Keys are saved again where they are already, and replace no others.
func TestOtherKeysOfACircuitAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	first := save(t, dir, nil)
	again := save(t, dir, nil)
	if again.Record.VerifyingKey != first.Record.VerifyingKey {
		t.Fatal("the same keys have another digest")
	}
	if _, err := keyset.Save(dir, *groth16(t).Record(items, outputs), text("c"), text("k"), []byte("other")); err == nil || !strings.Contains(err.Error(), "never replaced") {
		t.Errorf("%v", err)
	}
	sets, err := keyset.Load(dir)
	if err != nil || len(sets) != 1 || sets[0].Record.VerifyingKey != first.Record.VerifyingKey {
		t.Errorf("%v %v", sets, err)
	}
}

func TestForArchitectureFindsSingleInferences(t *testing.T) {
	dir := t.TempDir()
	one := save(t, dir, nil)
	d := one.Record.Inference.Architecture
	for what, change := range map[string]func(*statement.Record){
		"batch": func(r *statement.Record) { r.Inference.Items = 2 },
		"gradient": func(r *statement.Record) {
			r.Inference, r.Gradient = nil, &statement.GradientCircuit{Coordinates: 1, Bits: 8}
		},
	} {
		s := save(t, t.TempDir(), func(r *statement.Record) { r.Circuit = digest.Digest{2}; change(r) })
		ring, err := keyset.NewRing([]keyset.Set{s}, false, 0, verifiers())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.ForArchitecture(d); !errors.Is(err, keyset.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ring, err := keyset.NewRing([]keyset.Set{one}, false, 0, verifiers())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := ring.ForArchitecture(d); err != nil || s.Record.Circuit != one.Record.Circuit {
		t.Errorf("%+v %v", s.Record, err)
	}
	if _, err := ring.ForArchitecture(digest.Digest{9}); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("another architecture: %v", err)
	}
}

// anything stands for PLONK's verifier.
type anything struct{}

func (anything) VerifyEnvelope(context.Context, *statement.Envelope) error { return nil }

// Of several sets of an architecture it is always the same one that proves.
func TestForArchitectureChoosesOne(t *testing.T) {
	plonk := func(raw []byte) (keyset.Verifier, error) {
		if string(raw) != "of PLONK" {
			return nil, errors.New("not of PLONK")
		}
		return anything{}, nil
	}
	both := keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey), statement.PLONK: plonk}
	dir := t.TempDir()
	groth := save(t, dir, nil)
	record := groth.Record
	record.System, record.Circuit = statement.PLONK, digest.Digest{7}
	universal, err := keyset.Save(dir, record, text("c"), text("k"), []byte("of PLONK"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.NewRing([]keyset.Set{universal}, false, 0, verifiers()); !errors.Is(err, keyset.ErrSystem) {
		t.Errorf("without PLONK's verifier: %v", err)
	}
	d := record.Inference.Architecture
	for range 20 { // a map's order changes
		for _, sets := range [][]keyset.Set{{groth, universal}, {universal, groth}} {
			ring, err := keyset.NewRing(sets, false, 0, both)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := ring.ForArchitecture(d); err != nil || s.Record.System != statement.Groth16 {
				t.Fatalf("%+v, %v", s.Record, err)
			}
		}
	}
	ring, err := keyset.NewRing([]keyset.Set{universal}, false, 0, both)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := ring.ForArchitecture(d); err != nil || s.Record.System != statement.PLONK {
		t.Errorf("%+v, %v", s.Record, err)
	}
	groth = save(t, t.TempDir(), development)
	if ring, err = keyset.NewRing([]keyset.Set{groth, universal}, true, 0, both); err != nil {
		t.Fatal(err)
	}
	if s, err := ring.ForArchitecture(d); err != nil || s.Record.System != statement.PLONK {
		t.Errorf("development's before public powers': %+v, %v", s.Record, err)
	}
}

// Files that a verifier has are no sets, and what is missing of them is missed by name.
func TestARingOfFiles(t *testing.T) {
	g, dir := groth16(t), t.TempDir()
	set := save(t, dir, nil)
	files := keyset.NewFiles(1 << 20)
	if err := files.AddKeys(dir); err != nil {
		t.Fatal(err)
	}
	e, err := g.Envelope(zktest.Inferences(1, items, outputs))
	if err != nil {
		t.Fatal(err)
	}
	ring := files.Ring(keyset.Waivers{}, verifiers())
	if r, err := ring.Verify(t.Context(), e); err != nil || r.Circuit != set.Record.Circuit {
		t.Errorf("%+v %v", r, err)
	}
	first, _, err := ring.Admit(e)
	second, _, err2 := ring.Admit(e)
	if err := errors.Join(err, err2); err != nil || first != second {
		t.Errorf("two verifiers of one key: %v", err)
	}
	if _, err := ring.Set(g.Digest); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("a set of files: %v", err)
	}
	if _, err := ring.ForArchitecture(set.Record.Inference.Architecture); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("a set of files: %v", err)
	}
	if _, err := files.Ring(keyset.Waivers{}, nil).Verify(t.Context(), e); !errors.Is(err, keyset.ErrSystem) {
		t.Errorf("a program without the verifier: %v", err)
	}

	path := filepath.Join(dir, g.Digest.String()+".vk")
	if err := os.WriteFile(path, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Ring(keyset.Waivers{}, verifiers()).Verify(t.Context(), e); !errors.Is(err, keyset.ErrChanged) {
		t.Errorf("a changed key: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Ring(keyset.Waivers{}, verifiers()).Verify(t.Context(), e); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("a key that is gone: %v", err)
	}
	alone := keyset.NewFiles(1 << 20)
	if err := alone.AddRecord(filepath.Join(dir, set.Record.Circuit.String()+".record.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := alone.Ring(keyset.Waivers{}, verifiers()).Verify(t.Context(), e); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("a record without its key: %v", err)
	}
}

func TestForGradientsFindsKeysOfALength(t *testing.T) {
	gradient := func(system statement.System, coordinates uint32) keyset.Set {
		return keyset.Set{Record: statement.Record{System: system, Gradient: &statement.GradientCircuit{Coordinates: coordinates, Bits: 8}}}
	}
	sets := []keyset.Set{gradient(statement.Groth16, 650), gradient(statement.Groth16, 651), gradient(statement.PLONK, 650),
		{Record: statement.Record{System: statement.Groth16, Inference: &statement.InferenceCircuit{}}}}
	if fit := keyset.ForGradients(sets, 650); len(fit) != 1 || fit[0].Record.Gradient.Coordinates != 650 || fit[0].Record.System != statement.Groth16 {
		t.Errorf("%+v", fit)
	}
}
