package plonkprove

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/backend"
	plonk "github.com/consensys/gnark/backend/plonk/bn254"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/constraint"
	cs "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/frontend/cs/scs"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

const items, outputs, inputs = 1, 3, 6

// raw is one powers-of-tau file for all tests.
var raw = sync.OnceValues(func() ([]byte, error) { return ptautest.New(6, true) })

func file(t testing.TB) *ptau.File {
	t.Helper()
	b, err := raw()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ptau.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func compile(t testing.TB, c frontend.Circuit) constraint.ConstraintSystem {
	t.Helper()
	quiet()
	system, err := frontend.Compile(ecc.BN254.ScalarField(), scs.NewBuilder, c)
	if err != nil {
		t.Fatal(err)
	}
	return system
}

func newCircuit(commitment bool) *zktest.Circuit {
	return zktest.NewCircuit(zktest.Shape{Inputs: inputs, Commitment: commitment})
}

func newKeys(t testing.TB, system constraint.ConstraintSystem) *Keys {
	t.Helper()
	k, err := Setup(t.Context(), system, file(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A set of keys from the string goes to disk and back; its proofs verify as envelopes,
// and of no other statement.
func TestFromStringToProof(t *testing.T) {
	for _, commitment := range []bool{false, true} {
		circuit := newCircuit(commitment)
		system := compile(t, circuit)
		var told []string
		keys, err := Setup(t.Context(), system, file(t), func(what string) { told = append(told, what) })
		if err != nil || len(told) != 5 {
			t.Fatalf("%q: %v", told, err)
		}
		if again := newKeys(t, system); !bytes.Equal(again.Verifying(), keys.Verifying()) {
			t.Error("another set-up gives other keys")
		}
		digests, err := file(t).Digests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		record := zkRecord(digests.SHA256)
		set, err := keyset.Save(t.TempDir(), record, func(w io.Writer) error { _, err := system.WriteTo(w); return err }, keys.WriteProving, keys.Verifying())
		if err != nil {
			t.Fatal(err)
		}
		in, err := set.OpenProvingKey()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close() // read only
		read, err := ReadProving(in, system)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read.Verifying(), keys.Verifying()) {
			t.Error("the key that was read has another verifying key")
		}
		s := zktest.Inferences(1, items, outputs)
		s.System = statement.PLONK
		public, err := scalars.Public(&s)
		if err != nil {
			t.Fatal(err)
		}
		w, err := circuit.Witness(public)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := read.Prove(t.Context(), system, w, nil)
		if err != nil {
			t.Fatal(err)
		}
		vk, err := plonkverify.ParseKey(keys.Verifying())
		if err != nil {
			t.Fatal(err)
		}
		e := statement.Envelope{Statement: s, Key: set.Record.VerifyingKey, Proof: proof}
		if err := vk.VerifyEnvelope(t.Context(), &e); err != nil {
			t.Error(err)
		}
		e.Statement.Inference.Items[0].Outputs[0]++
		if err := vk.VerifyEnvelope(t.Context(), &e); !errors.Is(err, plonkverify.ErrProof) {
			t.Errorf("another output: %v", err)
		}
	}
}

func zkRecord(ceremony digest.Digest) statement.Record {
	return statement.Record{System: statement.PLONK, Circuit: sha256.Sum256([]byte("circuit")), Library: "a test", Ceremony: ceremony,
		Inference: &statement.InferenceCircuit{Architecture: sha256.Sum256([]byte("architecture")), Items: items, Outputs: outputs}}
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
	groth, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, newCircuit(false))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := frontend.Compile(ecc.BLS12_381.ScalarField(), scs.NewBuilder, newCircuit(false))
	if err != nil {
		t.Fatal(err)
	}
	k := newKeys(t, compile(t, newCircuit(false)))
	for name, system := range map[string]constraint.ConstraintSystem{
		"for Groth16": groth, "of another field": elsewhere, "of two commitments": compile(t, &twice{}), "of one constraint": compile(t, &tiny{}), "none": nil,
	} {
		_, domain := Domain(system)
		_, setup := Setup(t.Context(), system, file(t), nil)
		_, read := ReadProving(bytes.NewReader(nil), system)
		_, proved := k.Prove(t.Context(), system, nil, nil)
		for _, err := range []error{domain, setup, read, proved} {
			if !errors.Is(err, ErrCircuit) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestTooFewPowers(t *testing.T) {
	var part bytes.Buffer
	if err := file(t).Truncate(t.Context(), &part, 2); err != nil {
		t.Fatal(err)
	}
	small, err := ptau.Open(bytes.NewReader(part.Bytes()), int64(part.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Setup(t.Context(), compile(t, newCircuit(true)), small, nil); !errors.Is(err, ptau.ErrPower) {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newCircuit(true)
	system := compile(t, c)
	if _, err := Setup(ctx, system, file(t), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := newKeys(t, system).Prove(ctx, system, goodWitness(t, c), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func goodWitness(t *testing.T, c *zktest.Circuit) witness.Witness {
	t.Helper()
	public := make([]fr.Element, inputs)
	for i := range public {
		public[i].SetUint64(uint64(i + 3))
	}
	w, err := c.Witness(public)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWitnessesRefused(t *testing.T) {
	c := newCircuit(true)
	system := compile(t, c)
	k := newKeys(t, system)
	wrong := goodWitness(t, c)
	v, ok := wrong.Vector().(fr.Vector)
	if !ok {
		t.Fatal("not a vector of BN254")
	}
	v[0].SetUint64(99)
	other := zktest.NewCircuit(zktest.Shape{Inputs: 2})
	short, err := other.Witness(make([]fr.Element, 2))
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]witness.Witness{"of other inputs": wrong, "of another circuit": short, "none": nil} {
		if _, err := k.Prove(t.Context(), system, w, nil); !errors.Is(err, ErrWitness) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A circuit that is larger than the key.
	large := compile(t, zktest.NewCircuit(zktest.Shape{Inputs: 20}))
	if _, err := k.Prove(t.Context(), large, nil, nil); !errors.Is(err, ErrCircuit) {
		t.Error(err)
	}
}

func TestProvingKeysRefused(t *testing.T) {
	system := compile(t, newCircuit(true))
	var b bytes.Buffer
	if err := newKeys(t, system).WriteProving(&b); err != nil {
		t.Fatal(err)
	}
	good := b.Bytes()
	domain, err := Domain(system)
	if err != nil {
		t.Fatal(err)
	}
	second := len(good) - int(domain)*pointBytes - lengthBytes
	first := second - (int(domain)+ptau.Blinding)*pointBytes - lengthBytes
	change := func(at int, to byte) []byte { c := slices.Clone(good); c[at] = to; return c }
	for name, tc := range map[string]struct {
		want string
		raw  []byte
	}{
		"nothing":                {"EOF", nil},
		"the old form":           {"version", change(7, 1)},
		"another version":        {"version", change(15, 2)},
		"another domain":         {"domain", change(23, 1)},
		"more public inputs":     {"public inputs", change(3*8+2*32+7, 9)},
		"another list":           {"commitments", change(keyListAt+3, 200)},
		"a huge list":            {"commitments", change(keyListAt, 0xff)},
		"a huge list at its end": {"commitments", change(first-12, 0xff)},
		"a short point":          {"raw form", change(keyPointsAt+2*pointBytes, 0x80)},
		"a short point listed":   {"raw form", change(keyListAt+lengthBytes, 0xc0)},
		"a short point behind":   {"raw form", change(keyListAt+lengthBytes+2*pointBytes, 0x40)},
		"a short point of G2":    {"raw form", change(keyListAt+lengthBytes+4*pointBytes, 0x80)},
		"a point off the curve":  {"refused", change(keyPointsAt+5, good[keyPointsAt+5]^1)},
		"more powers":            {"points", change(first+3, good[first+3]+1)},
		"a huge list of powers":  {"points", change(first, 0xff)},
		"a huge second list":     {"points", change(second, 0xff)},
		"a short power":          {"bytes", change(first+lengthBytes, 0x80)},
		"trailing":               {"after the end", append(slices.Clone(good), 0)},
		"truncated":              {"EOF", good[:len(good)-1]},
		"truncated in the first": {"EOF", good[:first+100]},
		"no second list":         {"EOF", good[:second]},
	} {
		if _, err := ReadProving(bytes.NewReader(tc.raw), system); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s, want %q: %v", name, tc.want, err)
		}
	}
	if _, err := ReadProving(bytes.NewReader(good), compile(t, newCircuit(false))); !errors.Is(err, ErrKey) {
		t.Errorf("the key of another circuit: %v", err)
	}
	if _, err := ReadProving(io.MultiReader(bytes.NewReader(good), broken{}), system); !errors.Is(err, ErrKey) || !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source that fails at the end: %v", err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// counter counts what is drawn.
type counter struct{ drawn atomic.Int64 }

func (c *counter) Read(b []byte) (int, error) {
	c.drawn.Add(int64(len(b)))
	for i := range b {
		b[i] = byte(i%7 + 1) // below the prime, so that nothing is drawn again
	}
	return len(b), nil
}

// Proofs are made with the option that hides the witness statistically: two field elements
// more are drawn.
func TestStatisticalZeroKnowledge(t *testing.T) {
	c := newCircuit(true)
	system := compile(t, c)
	k := newKeys(t, system)
	w := goodWitness(t, c)
	s, ok := system.(*cs.SparseR1CS)
	if !ok {
		t.Fatal("not for PLONK")
	}
	drawn := func(prove func() error) int64 {
		source := &counter{}
		before := rand.Reader
		rand.Reader = source
		defer func() { rand.Reader = before }()
		if err := prove(); err != nil {
			t.Fatal(err)
		}
		return source.drawn.Load()
	}
	ours := drawn(func() error { _, err := k.Prove(t.Context(), system, w, nil); return err })
	hiding := drawn(func() error {
		_, err := plonk.Prove(s, k.proving, w, backend.WithStatisticalZeroKnowledge())
		return err
	})
	plain := drawn(func() error { _, err := plonk.Prove(s, k.proving, w); return err })
	if ours != hiding || ours != plain+2*fr.Bytes {
		t.Errorf("%d bytes are drawn, with the option %d, without it %d", ours, hiding, plain)
	}
}

func FuzzReadProving(f *testing.F) {
	system := compile(f, newCircuit(true))
	var b bytes.Buffer
	if err := newKeys(f, system).WriteProving(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:2000])
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := ReadProving(bytes.NewReader(raw), system)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Error(err)
			}
			return
		}
		var again bytes.Buffer
		if err := k.WriteProving(&again); err != nil || again.Len() != len(raw) {
			t.Errorf("%d bytes are written as %d: %v", len(raw), again.Len(), err)
		}
	})
}
