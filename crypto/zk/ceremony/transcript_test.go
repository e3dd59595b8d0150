package ceremony

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/frontend/cs/scs"

	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

// begun is a ceremony with so many contributions to phase 1.
func begun(t testing.TB, parties ...string) string {
	t.Helper()
	circuit, about := small(t)
	dir := filepath.Join(t.TempDir(), "ceremony")
	if _, err := Begin(dir, circuit, about, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range parties {
		contribute(t, dir, name)
	}
	return dir
}

// A contribution that is good by itself, made upon another one than the transcript has, is
// refused, whatever the state says about its digest.
func TestContributionOfAnotherBranchRefused(t *testing.T) {
	dir := begun(t, "Alice", "Bob")
	branch := copyDir(t, dir)
	contribute(t, branch, "Mallory")
	contribute(t, branch, "Carol") // upon Mallory's
	contribute(t, dir, "Eve")
	there, here := mustOpen(t, branch), mustOpen(t, dir)
	carol := there.State.Phases[0].Contributions[3]
	here.State.Phases[0].Contributions = append(here.State.Phases[0].Contributions, carol)
	put(t, at(dir, here, 1, 4), read(t, at(branch, there, 1, 4)))
	if err := here.Verify(nil); !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), `4 of phase 1, by "Carol"`) {
		t.Error(err)
	}
}

// A contribution that anybody could have made at this place stands for the one that was:
// its digest alone tells.
func TestSwappedContributionRefused(t *testing.T) {
	dir := begun(t, "Alice", "Bob")
	branch := copyDir(t, dir)
	contribute(t, dir, "Carol")
	contribute(t, branch, "Mallory")
	here, there := mustOpen(t, dir), mustOpen(t, branch)
	put(t, at(dir, here, 1, 3), read(t, at(branch, there, 1, 3)))
	if err := here.Verify(nil); !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), `"Carol"`) || !strings.Contains(err.Error(), "digest does not match") {
		t.Error(err)
	}
	if err := here.End(make([]byte, 32), nil); !errors.Is(err, ErrTranscript) {
		t.Errorf("the phase ended: %v", err)
	}
}

// set replaces the file of a contribution, and has the state name it by its new digest.
func set(t *testing.T, dir string, c *Ceremony, phase, number int, data []byte) {
	t.Helper()
	c.State.Phases[phase-1].Contributions[number-1].Digest = sha256.Sum256(data)
	put(t, at(dir, c, phase, number), data)
}

// Whoever makes a directory also makes its digests: what the files say about lengths is
// not believed, and would be an allocation of 256 GiB.
func TestLengthsAreNotBelieved(t *testing.T) {
	dir := begun(t, "Alice", "Bob")
	end(t, dir, 1)
	contribute(t, dir, "Alice")
	contribute(t, dir, "Bob")
	c := mustOpen(t, dir)
	one, two := read(t, at(dir, c, 1, 2)), read(t, at(dir, c, 2, 2))
	const domainAt = 3 * (g1Bytes + g2Bytes)
	number := func(data []byte, at int, n uint32) []byte {
		b := slices.Clone(data)
		binary.BigEndian.PutUint32(b[at:], n)
		return b
	}
	raw := func(data []byte, at int) []byte { b := slices.Clone(data); b[at] &^= formBits; return b }
	// A point in the long form moves everything behind it.
	long := func(data []byte, at int) []byte {
		var p curve.G1Affine
		if _, err := p.SetBytes(data[at : at+g1Bytes]); err != nil {
			t.Fatal(err)
		}
		b := p.RawBytes()
		return slices.Concat(data[:at], b[:], data[at+g1Bytes:])
	}
	for name, tc := range map[string]struct {
		want  string
		phase int
		data  []byte
	}{
		"nothing":              {"too short", 1, nil},
		"a huge domain":        {"a length", 1, number(one, domainAt, 1<<8)},
		"another domain":       {"a length", 1, number(one, domainAt+4, 4)},
		"truncated":            {"too short", 1, one[:len(one)-1]},
		"trailing":             {"after the end", 1, append(slices.Clone(one), 0)},
		"no challenge":         {"a length", 1, append(slices.Clone(one[:len(one)-33]), 0)},
		"a long challenge":     {"a length", 1, func() []byte { b := slices.Clone(one); b[len(b)-33] = 255; return b }()},
		"a raw point":          {"compressed form", 1, raw(one, domainAt+8+g2Bytes)},
		"a long point":         {"compressed form", 1, long(one, domainAt+8+g2Bytes)},
		"a raw proof":          {"compressed form", 1, raw(one, 0)},
		"nothing, phase 2":     {"too short", 2, nil},
		"no commitments":       {"a length", 2, func() []byte { b := slices.Clone(two); b[1] = 0; return b }()},
		"many commitments":     {"a length", 2, func() []byte { b := slices.Clone(two); b[0] = 255; return b }()},
		"a huge list":          {"a length", 2, number(two, 2+g1Bytes, 1<<31)},
		"a raw point, phase 2": {"compressed form", 2, raw(two, 2)},
		"trailing, phase 2":    {"after the end", 2, append(slices.Clone(two), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			copied := copyDir(t, dir)
			c := mustOpen(t, copied)
			set(t, copied, c, tc.phase, 2, tc.data)
			if err := c.Verify(nil); !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `"Bob"`) {
				t.Errorf("want %q: %v", tc.want, err)
			}
		})
	}
	if err := c.Verify(nil); err != nil {
		t.Errorf("what was not changed: %v", err)
	}
}

// idle has a private wire in no constraint, whose point is at infinity.
type idle struct{ A, B, C, Idle frontend.Variable }

func (c *idle) Define(api frontend.API) error {
	api.AssertIsEqual(api.Mul(c.A, c.B), c.C)
	api.AssertIsEqual(api.Mul(c.A, c.C), c.B)
	return nil
}

// There is one file for a contribution: the library takes no other bytes for a point.
func TestOneFormOfAContribution(t *testing.T) {
	system, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, &idle{}, frontend.IgnoreUnconstrainedInputs())
	if err != nil {
		t.Fatal(err)
	}
	_, about := small(t)
	dir := filepath.Join(t.TempDir(), "ceremony")
	if _, err := Begin(dir, reread(t, system), about, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		contribute(t, dir, "Alice")
	}
	end(t, dir, 1)
	contribute(t, dir, "Alice")
	c := mustOpen(t, dir)
	data := read(t, at(dir, c, 2, 1))
	infinity := make([]byte, g1Bytes)
	infinity[0] = 0x40
	i := bytes.Index(data, infinity)
	if i < 0 {
		t.Fatal("no point at infinity")
	}
	if err := c.Verify(nil); err != nil {
		t.Fatal(err)
	}
	for _, where := range []int{0, g1Bytes - 1} {
		changed := slices.Clone(data)
		changed[i+where] |= 1
		set(t, dir, c, 2, 1, changed)
		if err := c.Verify(nil); !errors.Is(err, ErrTranscript) {
			t.Error(err)
		}
	}
}

func TestLayoutsAreWhatTheLibraryWrites(t *testing.T) {
	for _, domain := range []uint64{2, 4, 64} {
		p := mpcsetup.NewPhase1(domain)
		p.Contribute()
		var b bytes.Buffer
		if _, err := p.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if err := layout1(domain).check(&b); err != nil {
			t.Errorf("domain %d: %v", domain, err)
		}
	}
	if err := layout1(2).check(broken{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := (layout{}).check(broken{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// A context ends each step at the next thing that is told, and nothing is left behind.
func TestCancelled(t *testing.T) {
	dir := begun(t, "Alice", "Bob")
	end(t, dir, 1)
	contribute(t, dir, "Alice")
	contribute(t, dir, "Bob")
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for stop := range 7 { // circuit, two contributions, beacon, beginning, two contributions
		for name, do := range map[string]func(context.Context, *Ceremony, Progress) error{
			"verify": func(ctx context.Context, c *Ceremony, tell Progress) error { return c.VerifyContext(ctx, tell) },
			"contribute": func(ctx context.Context, c *Ceremony, tell Progress) error {
				_, err := c.ContributeAs(ctx, Party{Name: "Carol"}, tell)
				return err
			},
			"end": func(ctx context.Context, c *Ceremony, tell Progress) error {
				return c.EndContext(ctx, make([]byte, 32), tell)
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			told := 0
			err := do(ctx, mustOpen(t, dir), func(string) {
				if told == stop {
					cancel()
				}
				told++
			})
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrTranscript) || told != stop+1 {
				t.Errorf("%s, stopped at step %d of %d: %v", name, stop, told, err)
			}
			after, err := os.ReadDir(dir)
			if err != nil || len(after) != len(before) {
				t.Fatalf("%s: %d files, there were %d (%v)", name, len(after), len(before), err)
			}
		}
	}
}

// A step that cannot be written leaves the ceremony as it was.
func TestStateIsKeptWhenAWriteFails(t *testing.T) {
	dir := begun(t, "Alice", "Bob")
	c := mustOpen(t, dir)
	want, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	// A directory stands where the state would go.
	remove(t, filepath.Join(dir, fileState))
	if err := os.Mkdir(filepath.Join(dir, fileState), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Contribute("Carol", nil); err == nil {
		t.Error("contributed")
	}
	if err := c.End(make([]byte, 32), nil); err == nil {
		t.Error("ended")
	}
	if got, err := c.Digest(); err != nil || got != want || c.Phase() != 1 {
		t.Error("the state has changed")
	}
}

// reread is a system with its digest.
func reread(t *testing.T, system constraint.ConstraintSystem) *circuits.Circuit {
	t.Helper()
	var raw bytes.Buffer
	if _, err := system.WriteTo(&raw); err != nil {
		t.Fatal(err)
	}
	c, err := circuits.ReadCircuit(&raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compiled(t *testing.T, field frontend.NewBuilder, c frontend.Circuit) *circuits.Circuit {
	t.Helper()
	system, err := frontend.Compile(ecc.BN254.ScalarField(), field, c)
	if err != nil {
		t.Fatal(err)
	}
	return &circuits.Circuit{System: system, Digest: [32]byte{1}}
}

// twice has two commitments.
type twice struct{ A, B frontend.Variable }

func (c *twice) Define(api frontend.API) error {
	committer, ok := api.Compiler().(frontend.Committer)
	if !ok {
		return errors.New("no committer")
	}
	for range 2 {
		x, err := committer.Commit(c.A, c.B)
		if err != nil {
			return err
		}
		api.AssertIsDifferent(x, c.A)
	}
	return nil
}

// tiny has one constraint.
type tiny struct{ A frontend.Variable }

func (c *tiny) Define(api frontend.API) error { api.AssertIsBoolean(c.A); return nil }

func TestCircuitsRefused(t *testing.T) {
	_, about := small(t)
	elsewhere, err := frontend.Compile(ecc.BLS12_381.ScalarField(), r1cs.NewBuilder, zktest.NewCircuit(shape))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*circuits.Circuit{
		"for PLONK":        compiled(t, scs.NewBuilder, zktest.NewCircuit(shape)),
		"of two":           compiled(t, r1cs.NewBuilder, &twice{}),
		"of one":           compiled(t, r1cs.NewBuilder, &tiny{}),
		"of another field": {System: elsewhere},
		"of nothing":       {System: constraint.ConstraintSystem(nil)},
	} {
		dir := filepath.Join(t.TempDir(), "c")
		if _, err := Begin(dir, c, about, nil); !errors.Is(err, ErrCircuit) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a directory was made", name)
		}
	}
	circuit, _ := small(t)
	if _, err := Begin(filepath.Join(t.TempDir(), "c"), circuit, nil, nil); !errors.Is(err, ErrTranscript) {
		t.Errorf("about nothing: %v", err)
	}
}

func TestPartiesRefused(t *testing.T) {
	dir := begun(t)
	for name, p := range map[string]Party{
		"nobody": {}, "a long name": {Name: strings.Repeat("x", maxNameBytes+1)}, "a line": {Name: "a\nb"}, "not UTF-8": {Name: "\xff"},
		"a long statement": {"Alice", strings.Repeat("x", maxStatementBytes+1)}, "a statement in two directions": {"Alice", "\u202e"},
	} {
		if _, err := mustOpen(t, dir).ContributeAs(t.Context(), p, nil); !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := mustOpen(t, dir)
	for range maxContributions {
		c.State.Phases[0].Contributions = append(c.State.Phases[0].Contributions, Contribution{Name: "A"})
	}
	if _, err := c.Contribute("B", nil); !errors.Is(err, ErrOrder) {
		t.Errorf("one too many: %v", err)
	}
}

func publicFile(t testing.TB, power int) *ptau.File {
	t.Helper()
	raw, err := ptautest.New(power, false)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ptau.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Phase 1 from a public file, phase 2 by three parties; a proof under the keys verifies.
func TestUniversal(t *testing.T) {
	circuit, about := small(t)
	file := publicFile(t, 6)
	dir := filepath.Join(t.TempDir(), "ceremony")
	var told []string
	c, err := BeginUniversal(t.Context(), dir, circuit, about, nil, file, func(what string) { told = append(told, what) })
	if err != nil || c.Phase() != 2 || len(told) != 6 {
		t.Fatalf("%q, %v", told, err)
	}
	for _, name := range []string{"Alice", "Bob", "Carol"} {
		contribute(t, dir, name)
	}
	end(t, dir, 2)
	c = mustOpen(t, dir)
	keys, err := c.KeysContext(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	prove(t, circuit, keys)
	if err := c.VerifyPowers(t.Context(), file); err != nil {
		t.Error(err)
	}
	if err := c.VerifyPowers(t.Context(), publicFile(t, 6)); !errors.Is(err, ErrTranscript) {
		t.Errorf("another ceremony's file: %v", err)
	}
	source := c.State.Powers.Source
	c.State.Powers.Source[0] ^= 1
	if err := c.VerifyPowers(t.Context(), file); !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), "from a different file") {
		t.Errorf("a file that begins alike: %v", err)
	}
	c.State.Powers.Source = source
	part := c.State.Powers.Digest
	c.State.Powers.Digest[0] ^= 1
	if err := c.VerifyPowers(t.Context(), file); !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), "beginning of the file") {
		t.Errorf("another part of the file: %v", err)
	}
	c.State.Powers.Digest = part
	held := mustOpen(t, begun(t))
	if err := held.VerifyPowers(t.Context(), file); !errors.Is(err, ErrOrder) {
		t.Errorf("a ceremony that holds phase 1: %v", err)
	}
	if _, err := BeginUniversal(t.Context(), filepath.Join(t.TempDir(), "c"), circuit, about, nil, publicFile(t, 2), nil); !errors.Is(err, ptau.ErrPower) {
		t.Errorf("a small file: %v", err)
	}
	if _, err := BeginUniversal(t.Context(), filepath.Join(t.TempDir(), "c"), compiled(t, scs.NewBuilder, zktest.NewCircuit(shape)), about, nil, file, nil); !errors.Is(err, ErrCircuit) {
		t.Errorf("a circuit for PLONK: %v", err)
	}
	tamperPowers(t, dir)
}

func tamperPowers(t *testing.T, dir string) {
	other := func(power int) []byte {
		raw, err := ptautest.New(power, false)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, tc := range map[string]struct {
		want   string
		change func(t *testing.T, path string, p *Powers)
	}{
		"changed":      {"powers.ptau: ", func(t *testing.T, path string, _ *Powers) { flip(t, path) }},
		"missing":      {"powers.ptau: ", func(t *testing.T, path string, _ *Powers) { remove(t, path) }},
		"no such file": {"powers.ptau: ", func(t *testing.T, path string, _ *Powers) { put(t, path, []byte("ptau")) }},
		"another power": {"has power 6", func(t *testing.T, path string, p *Powers) {
			b := other(6)
			put(t, path, b)
			p.Digest = sha256.Sum256(b)
		}},
		"powers that are none": {"refused", func(t *testing.T, path string, p *Powers) {
			b := read(t, path)
			const at = 12 + 12 + 44 + 12 // the first power in G1
			copy(b[at+3*64:at+4*64], b[at+2*64:at+3*64])
			put(t, path, b)
			p.Digest = sha256.Sum256(b)
		}},
		"those of another ceremony": {`phase 2, by "Alice"`, func(t *testing.T, path string, p *Powers) {
			b := other(powerOf(t, path))
			put(t, path, b)
			p.Digest = sha256.Sum256(b)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			copied := copyDir(t, dir)
			c := mustOpen(t, copied)
			tc.change(t, filepath.Join(copied, filePowers), c.State.Powers)
			if err := c.Verify(nil); !errors.Is(err, ErrTranscript) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q: %v", tc.want, err)
			}
		})
	}
}

func powerOf(t *testing.T, path string) int {
	t.Helper()
	b := read(t, path)
	f, err := ptau.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f.Power
}

// ceremony.json has one form.
func TestStatesRefused(t *testing.T) {
	good := read(t, filepath.Join(begun(t, "Alice"), fileState))
	if _, err := parseState(good); err != nil {
		t.Fatal(err)
	}
	replace := func(old, now string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("no %q in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(now), 1)
	}
	for name, raw := range map[string][]byte{
		"nothing": nil, "trailing": append(slices.Clone(good), ' '), "two": append(slices.Clone(good), good...), "other spaces": replace("  ", " "),
		"an unknown field": replace(`"format"`, `"secret": 1, "format"`), "a field twice": replace(`"library"`, `"library": "x", "library"`),
		"another case": replace(`"format"`, `"Format"`), "another spelling": replace("Alice", `\u0041lice`),
		"a word for a number": replace(`"domain": `, `"domain": "x`),
	} {
		if _, err := parseState(raw); !errors.Is(err, ErrTranscript) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzState(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join(begun(f, "Alice"), fileState))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseState(raw)
		if err != nil {
			if !errors.Is(err, ErrTranscript) {
				t.Error(err)
			}
			return
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(raw, again) {
			t.Errorf("%q is written as %q, %v", raw, again, err)
		}
	})
}

// What has the layout is decoded without a panic, and takes as much memory as it is long.
func FuzzContribution(f *testing.F) {
	one := mpcsetup.NewPhase1(4)
	one.Contribute()
	var b bytes.Buffer
	if _, err := one.WriteTo(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if layout1(4).check(bytes.NewReader(raw)) != nil {
			return
		}
		in := bytes.NewReader(raw)
		if _, err := new(mpcsetup.Phase1).ReadFrom(in); err == nil && in.Len() != 0 {
			t.Errorf("%d bytes were not used", in.Len())
		}
	})
}
