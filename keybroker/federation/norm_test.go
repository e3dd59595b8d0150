package federation_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	zk "github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// demand has a round demand proofs, by keys that nobody has.
func demand(bits uint8) func(*federation.Round) {
	return func(r *federation.Round) {
		r.NormProof, r.NormCircuit = true, &federation.NormCircuit{Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Bits: bits}
	}
}

func TestRoundsThatNobodyCouldProveForAreRefused(t *testing.T) {
	w := federationtest.New(t)
	verify := func(length uint64, change func(*federation.Round)) error {
		r, _, _ := w.Round(t, 100, demand(8))
		r.Length = length
		change(&r)
		signed, err := federation.SignRound(w.EpochKey, w.EpochSigned, r)
		if err != nil {
			return err
		}
		_, err = federation.VerifyRound(signed, w.Roots(), w.Broker(), w.Floor())
		return err
	}
	for name, change := range map[string]func(*federation.Round){
		"8 bits":                     func(*federation.Round) {},
		"16 bits":                    func(r *federation.Round) { r.NormCircuit.Bits = 16 },
		"no proof":                   func(r *federation.Round) { r.NormProof, r.NormCircuit = false, nil },
		"a bound of exactly a step":  func(r *federation.Round) { r.ClipLinf, r.ClipL2 = 127, 1 },
		"a bound that no sum passes": func(r *federation.Round) { r.ClipL2 = math.MaxFloat32 },
	} {
		if err := verify(federation.MaxNormLength, change); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*federation.Round){
		"a flag without a circuit":  func(r *federation.Round) { r.NormCircuit = nil },
		"a circuit without a flag":  func(r *federation.Round) { r.NormProof = false },
		"no bits":                   func(r *federation.Round) { r.NormCircuit.Bits = 0 },
		"9 bits":                    func(r *federation.Round) { r.NormCircuit.Bits = 9 },
		"32 bits":                   func(r *federation.Round) { r.NormCircuit.Bits = 32 },
		"too long":                  func(r *federation.Round) { r.Length = federation.MaxNormLength + 1 },
		"no circuit's digest":       func(r *federation.Round) { r.NormCircuit.Circuit = digest.Digest{} },
		"no key's digest":           func(r *federation.Round) { r.NormCircuit.VerifyingKey = digest.Digest{} },
		"a bound below a step":      func(r *federation.Round) { r.ClipLinf, r.ClipL2 = 127, 0.999 },
		"a step that vanishes":      func(r *federation.Round) { r.ClipLinf = math.SmallestNonzeroFloat64 },
		"a bound that is no number": func(r *federation.Round) { r.ClipL2 = math.NaN() },
	} {
		err := verify(federation.MaxNormLength, change)
		if got, _ := refusal.ReasonOf(err); err == nil || name != "a bound that is no number" && got != federation.ReasonRound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each part of the statement is that of round and contribution, and nothing else moves it.
func TestAStatementIsOfOneRoundAgentAndUpload(t *testing.T) {
	r, _, _ := federationtest.New(t).Round(t, 100, demand(8)) // L2 1, each value 0.5
	c := federation.Contribution{RoundDigest: digest.Digest{3}, Agent: digest.Digest{4}, Upload: digest.Digest{5}, Commitment: digest.Digest{6}, Weight: 1}
	got := r.NormStatement(&c)
	want := zk.Gradient{Round: digest.Digest{3}, Participant: digest.Digest{4}, Ciphertext: digest.Digest{5}, Commitment: zk.Commitment{6},
		Coordinates: 100, LInf: 127, SquaredL2: 67081} // (254*1.000001 + sqrt(100)/2)^2, rounded down
	if got.System != zk.Groth16 || got.Circuit != (digest.Digest{1}) || *got.Gradient != want {
		t.Errorf("%+v of %s, want %+v", got.Gradient, got.Circuit, want)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	encode := func(r federation.Round, c federation.Contribution) []byte {
		s := r.NormStatement(&c)
		raw, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	before := encode(r, c)
	for name, change := range map[string]func(*federation.Round, *federation.Contribution){
		"round":      func(_ *federation.Round, c *federation.Contribution) { c.RoundDigest[0]++ },
		"agent":      func(_ *federation.Round, c *federation.Contribution) { c.Agent[0]++ },
		"upload":     func(_ *federation.Round, c *federation.Contribution) { c.Upload[0]++ },
		"commitment": func(_ *federation.Round, c *federation.Contribution) { c.Commitment[0]++ },
		"circuit":    func(r *federation.Round, _ *federation.Contribution) { r.NormCircuit.Circuit[0]++ },
		"bits":       func(r *federation.Round, _ *federation.Contribution) { r.NormCircuit.Bits = 16 },
		"length":     func(r *federation.Round, _ *federation.Contribution) { r.Length-- },
		"L2":         func(r *federation.Round, _ *federation.Contribution) { r.ClipL2 *= 1.01 },
		"each value": func(r *federation.Round, _ *federation.Contribution) { r.ClipLinf *= 1.01 },
	} {
		r, c := r, c
		n := *r.NormCircuit
		r.NormCircuit = &n
		change(&r, &c)
		if bytes.Equal(encode(r, c), before) {
			t.Errorf("%s: the same statement", name)
		}
	}
	// Coordinates are of the vector before it is weighted, and the weight is signed.
	c.Weight = 7
	if !bytes.Equal(encode(r, c), before) {
		t.Error("the weight moves the statement")
	}
}

// A vector inside the bounds has coordinates inside the proven ones, however it rounds; and
// coordinates that are proven are of a vector inside NormBound.
func TestTheProvenBoundFollowsFromTheRound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	w := federationtest.New(t)
	for _, bits := range []uint8{8, 16} {
		for _, length := range []uint64{1, 3, 650, 5000} {
			for _, clip := range []float64{1, 0.2, 0.03} { // of each value; 1 of the norm
				r, _, _ := w.Round(t, length, func(r *federation.Round) {
					demand(bits)(r)
					r.ClipL2, r.ClipLinf = 1, clip
				})
				s := r.NormStatement(&federation.Contribution{}).Gradient
				if s.SquaredL2 > zk.MaxSquaredL2 || s.LInf > zk.MaxLInf {
					t.Fatalf("%+v is outside the limits of statements", s)
				}
				slack := r.NormBound() / min(r.ClipL2, r.ClipLinf*math.Sqrt(float64(length)))
				if slack < 1 || slack > 1.00001+math.Sqrt(float64(length))*r.NormStep()*1.0001/min(r.ClipL2, r.ClipLinf*math.Sqrt(float64(length))) {
					t.Errorf("%d bits, %d values up to %g: the proven bound is %.5f of the round's", bits, length, clip, slack)
				}
				each := math.Floor(r.ClipL2/r.NormStep()/math.Sqrt(float64(length)) - 0.51)
				for try := range 20 {
					v := make([]float64, length)
					var norm float64
					for i := range v {
						// Half a step above a coordinate rounds farthest.
						v[i] = (each + 0.5000001) * r.NormStep()
						if try > 0 {
							v[i] = (math.Floor(random.NormFloat64()*3) + 0.5000001) * r.NormStep()
						}
						norm += v[i] * v[i]
					}
					var squares uint64
					for _, x := range v {
						x *= min(1, r.ClipL2/math.Sqrt(norm))
						q := math.Round(min(max(x/r.NormStep(), -float64(s.LInf)), float64(s.LInf)))
						squares += uint64(q * q)
					}
					if squares > s.SquaredL2 {
						t.Fatalf("%d bits, %d values up to %g: %d squares, the statement allows %d", bits, length, clip, squares, s.SquaredL2)
					}
				}
			}
		}
	}
}

func TestAKeyFitsTheRoundThatNamesIt(t *testing.T) {
	r, _, _ := federationtest.New(t).Round(t, 100, demand(8))
	record := zk.Record{System: zk.Groth16, Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Gradient: &zk.GradientCircuit{Coordinates: 100, Bits: 8}}
	if err := r.NormFits(record); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*zk.Record){
		"system":        func(k *zk.Record) { k.System = zk.PLONK },
		"of answers":    func(k *zk.Record) { k.Gradient, k.Inference = nil, &zk.InferenceCircuit{} },
		"circuit":       func(k *zk.Record) { k.Circuit[0]++ },
		"verifying key": func(k *zk.Record) { k.VerifyingKey[0]++ },
		"fewer values":  func(k *zk.Record) { k.Gradient = &zk.GradientCircuit{Coordinates: 99, Bits: 8} },
		"more values":   func(k *zk.Record) { k.Gradient = &zk.GradientCircuit{Coordinates: 101, Bits: 8} },
		"bits":          func(k *zk.Record) { k.Gradient = &zk.GradientCircuit{Coordinates: 100, Bits: 16} },
	} {
		k := record
		change(&k)
		if r.NormFits(k) == nil {
			t.Errorf("%s: fits", name)
		}
	}
}

// A contribution without commitment and proof does not follow a round that wants them.
func TestAContributionNamesItsProof(t *testing.T) {
	w := federationtest.New(t)
	r, signed, _ := w.Round(t, 100, demand(8))
	a := w.Agent(t, nil)
	c := federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signed), Agent: a.Key.Public().ID(), Weight: 1, Blocks: 1, Time: federationtest.Begin + 1,
		Commitment: digest.Digest{1}, ProofDigest: digest.Digest{2}}
	if err := c.Follows(r, digest.Of(signed)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*federation.Contribution){
		"no commitment": func(c *federation.Contribution) { c.Commitment = digest.Digest{} },
		"no proof":      func(c *federation.Contribution) { c.ProofDigest = digest.Digest{} },
	} {
		d := c
		change(&d)
		if err := d.Follows(r, digest.Of(signed)); err == nil {
			t.Errorf("%s: it follows", name)
		}
	}
}
