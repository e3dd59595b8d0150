package federation_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// fixed is a round whose every field is known.
func fixed(t *testing.T) federation.Round {
	t.Helper()
	set, err := params.Lookup(params.Default)
	if err != nil {
		t.Fatal(err)
	}
	return federation.Round{ID: digest.RoundID{1}, Broker: digest.Digest{2}, Epoch: 3, Model: "digits", Account: federation.BrokerAccount, Contributors: federationtest.Tenants("a", "b"),
		Decryptors: federationtest.Tenants("c"), Set: set.ID, SetDigest: set.Digest(), Length: 650, ClipL2: 3, ClipLinf: 0.5, MaxWeight: 1, Minimum: 8, Maximum: 16, PerGuest: 1, NoiseBits: 8,
		Rule: federation.WeightedMean, Noise: federation.Noise{Mechanism: federation.NoNoise}, Rate: 1, Opened: begin, Closes: begin + 1000, PublicKey: []byte{4, 5}}
}

// Rounds of before are encoded as they were, and rotation is one more field behind them: what was signed
// keeps its meaning, and whoever does not know the field refuses the round.
func TestRoundsKeepTheirEncoding(t *testing.T) {
	for name, change := range map[string]func(*federation.Round){
		"testdata/round-plain.json":   func(*federation.Round) {},
		"testdata/round-rotated.json": func(r *federation.Round) { r.Rotation = &federation.Rotation{Seed: digest.Digest{6, 7}} },
	} {
		r := fixed(t)
		change(&r)
		got, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, bytes.TrimSpace(want)) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		if strings.Contains(string(got), "rotation") != (r.Rotation != nil) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The key of a rotation is SHA-256 over label, round and seed, and never changes.
func TestRotationKeysNeverChange(t *testing.T) {
	r := fixed(t)
	r.Rotation = &federation.Rotation{Seed: digest.Digest{6, 7}}
	key := r.RotationKey()
	// printf 'anchorhold/fed/rotation/1\0\1' ; 15 zeros, 6, 7, 30 zeros; by sha256sum
	if got := hex.EncodeToString(key[:]); got != "3887dae412d4c73d65c88298d99a769ac597de99725795310634dd125eae5717" {
		t.Errorf("%s", got)
	}
	other := r
	other.ID[5] ^= 1
	if other.RotationKey() == key {
		t.Error("another round has the same rotation")
	}
}

// What would mean something else of rotated values is refused by name, when the round is signed
// and by whoever verifies it.
func TestRotationGoesWithMeansAlone(t *testing.T) {
	w := federationtest.New(t)
	for name, c := range map[string]struct {
		change func(*federation.Round)
		want   refusal.Reason
	}{
		"no seed": {func(r *federation.Round) { r.Rotation.Seed = digest.Digest{} }, federation.ReasonRound},
		"proofs": {func(r *federation.Round) {
			r.NormProof, r.NormCircuit = true, &federation.NormCircuit{Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Bits: 16}
		}, federation.ReasonRotation},
		"a median": {func(r *federation.Round) { r.Rule = federation.Median }, federation.ReasonRotation},
		"a trimmed mean": {func(r *federation.Round) {
			r.Rule, r.Trim, r.Minimum = federation.TrimmedMean, 1, 4
		}, federation.ReasonRotation},
		"Laplace": {func(r *federation.Round) {
			r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteLaplace, Multiplier: 1}, 1, 1e-5
		}, federation.ReasonRotation},
	} {
		r, _, _ := w.Round(t, 100, nil)
		r.Rotation = &federation.Rotation{Seed: digest.Digest{1}}
		if _, err := federation.SignRound(w.EpochKey, w.EpochSigned, r); err != nil {
			t.Fatal(err)
		}
		c.change(&r)
		_, err := federation.SignRound(w.EpochKey, w.EpochSigned, r)
		wantReason(t, name, err, c.want)
	}
}

// Rotation changes no length: of two rounds alike, the bound of the norm in steps differs by
// what rounding the padding adds, and the published noise is the same in the mean.
func TestRotationKeepsTheSensitivity(t *testing.T) {
	w := federationtest.New(t)
	for _, id := range []string{params.Default, params.Template} {
		set, err := params.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []uint64{10, uint64(set.ValuesPerBlock()), 1_000_001} {
			plain, _, _ := w.Round(t, length, func(r *federation.Round) {
				r.Set, r.SetDigest = set.ID, set.Digest()
				r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 2}, 3, 1e-5
			})
			turned := plain
			turned.Rotation = &federation.Rotation{Seed: digest.Digest{1}}
			a, errA := plain.Grid()
			b, errB := turned.Grid()
			if errA != nil || errB != nil || a.Step != b.Step || a.Top != b.Top || a.Limit != b.Limit {
				t.Fatalf("%+v, %+v, %v, %v", a, b, errA, errB)
			}
			blocks, err := turned.Blocks()
			if err != nil {
				t.Fatal(err)
			}
			places := float64(blocks) * float64(set.ValuesPerBlock())
			if want := math.Sqrt(places) - math.Sqrt(float64(length)); math.Abs(b.L2-a.L2-want) > 1e-6*a.L2 || b.L2 < a.L2 {
				t.Errorf("%s, %d values: %g steps, %g rotated", id, length, a.L2, b.L2)
			}
			stepA, sigmaA, errA := plain.Published()
			stepB, sigmaB, errB := turned.Published()
			if errA != nil || errB != nil || stepA != a.Step || sigmaB*stepB < sigmaA*stepA || sigmaB*stepB > sigmaA*stepA*1.01 || math.Abs(stepB*math.Sqrt(float64(set.ValuesPerBlock()))/stepA-1) > 1e-12 {
				t.Errorf("%s, %d values: %g*%g, %g*%g rotated", id, length, stepA, sigmaA, stepB, sigmaB)
			}
		}
	}
}

// The figures of docs/performance.md and of the mail that began them: what a round says of itself.
func TestWhatRoundsSayOfTheirMeans(t *testing.T) {
	w := federationtest.New(t)
	for _, c := range []struct {
		length         uint64
		maximum        uint32
		linf           float64
		rotated        bool
		least, most    float64
		cohort         uint32
		whatItIsCalled string
	}{
		{16_384, 1024, 1, false, 0.9, 1.1, 8, "the defaults of before"},
		{10_000_000, 1024, 1, false, 24, 26, 8, "the defaults of before, long"},
		{131_072, 8, 1, false, 0.015, 0.03, 8, "of at most 8"},
		{1_000_000, 16, 6.0 / 128, true, 0.005, 0.01, 8, "of at most 16, rotated"},
		{1_000_000, 8, 0.006, true, 0.0003, 0.0005, 8, "of at most 8, as fine as vectors that are even allow"},
		{10_000_000, 16, 6.0 / 128, true, 0.01, 0.02, 8, "of at most 16, rotated, long"},
	} {
		r, _, _ := w.Round(t, c.length, func(r *federation.Round) {
			r.Minimum, r.Maximum, r.ClipLinf = 8, c.maximum, c.linf
			if c.rotated {
				r.Rotation = &federation.Rotation{Seed: digest.Digest{1}}
			}
		})
		a, err := r.Accuracy(c.cohort)
		if err != nil || a.Relative < c.least || a.Relative > c.most {
			t.Errorf("%s: %+v, %v", c.whatItIsCalled, a, err)
		}
		parts := math.Sqrt(a.Rounding*a.Rounding + a.Encryption*a.Encryption + a.Added*a.Added + a.Privacy*a.Privacy + a.Clamping*a.Clamping)
		if math.Abs(parts/a.Relative-1) > 1e-9 {
			t.Errorf("%s: the parts are %g, the whole %g", c.whatItIsCalled, parts, a.Relative)
		}
	}
	r, _, _ := w.Round(t, 100, nil)
	_, err := r.Accuracy(5000)
	wantReason(t, "more than the set adds", err, federation.ReasonSet)
}
