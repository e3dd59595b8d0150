package fedwork

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// rotated is a round without privacy as a broker opens it by default: of at least so many and
// at most twice as many.
func rotated(minimum uint32) func(*federation.Round) {
	return func(r *federation.Round) {
		r.Minimum, r.Maximum = minimum, 2*minimum
		r.ClipLinf = federation.SafeClipLinf(r.ClipL2, rlwe.BlockValues)
		r.Rotation = &federation.Rotation{Seed: digest.Digest{1, 2, 3}}
	}
}

// template gives a round the template's set, under the key of a seed.
func template(t testing.TB, seed *keybuf.Buffer) func(*federation.Round) {
	t.Helper()
	set, err := params.Lookup(params.Template)
	if err != nil {
		t.Fatal(err)
	}
	secret, public, err := ckks.GenerateKey(slotParams(set), seed)
	if err != nil {
		t.Fatal(err)
	}
	secret.Wipe()
	return func(r *federation.Round) { r.Set, r.SetDigest, r.PublicKey = set.ID, set.Digest(), public }
}

// encrypted is a vector as its participant's worker leaves it.
func encrypted(t testing.TB, r federation.Round, weight uint32, values []float32) (blocks []byte, done fedtask.Contributed) {
	t.Helper()
	var n dp.Norm
	if err := n.Add(values); err != nil {
		t.Fatal(err)
	}
	task := fedtask.Contribute{Weight: weight, Format: fedtask.Float32, Norm: n.L2()}
	q, err := newQuantizer(task, r)
	if err != nil {
		t.Fatal(err)
	}
	defer q.wipe()
	enc, err := newCipher(r)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.wipe()
	var out bytes.Buffer
	c := &contribution{round: r, quantizer: q, cipher: enc, values: fedtask.NewValues(bytes.NewReader(halves(values...)), task.Format, r.Length)}
	if done, err = c.run(context.Background(), &out, io.Discard, nothing); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), done
}

// mean is weightedMean of contributions of weight 1.
func mean(t testing.TB, r federation.Round, seed *keybuf.Buffer, count int, vector func(i int) []float32) (out []float64, clamped uint64) {
	t.Helper()
	return weightedMean(t, r, seed, slices.Repeat([]uint32{1}, count), vector)
}

// weightedMean encrypts vectors of participants that make them one by one, adds them and opens the
// sum. It returns the mean as it is published, and how many values were clamped.
func weightedMean(t testing.TB, r federation.Round, seed *keybuf.Buffer, weights []uint32, vector func(i int) []float32) (out []float64, clamped uint64) {
	t.Helper()
	set, _, err := r.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	size := set.BlockBytes()
	blocks, err := r.Blocks()
	if err != nil {
		t.Fatal(err)
	}
	sums := make([]federation.Adder, blocks)
	total := uint64(0)
	for i, weight := range weights {
		b, done := encrypted(t, r, weight, vector(i))
		clamped, total = clamped+done.Clamped, total+uint64(weight)
		for k := range sums {
			if sums[k] == nil {
				if sums[k], err = federation.NewAdder(set); err != nil {
					t.Fatal(err)
				}
			}
			if err := sums[k].Add(b[k*size : (k+1)*size]); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum := make([]byte, len(sums)*size)
	for k := range sums {
		if err := sums[k].Write(sum[k*size : (k+1)*size]); err != nil {
			t.Fatal(err)
		}
	}
	values := file(t, nil)
	raw, err := decrypt(context.Background(), marshal(t, fedtask.Decrypt{Ticket: digest.Digest{9}, Count: len(weights), TotalWeight: total}),
		[]*os.File{file(t, marshal(t, r)), file(t, seed.Bytes()), file(t, sum)}, []*os.File{values}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	var done fedtask.Decrypted
	if err := json.Unmarshal(raw, &done); err != nil {
		t.Fatal(err)
	}
	integers, err := os.ReadFile(values.Name())
	if err != nil || len(integers) != 8*int(r.Length) {
		t.Fatalf("%d bytes of %d values, %v", len(integers), r.Length, err)
	}
	out = make([]float64, r.Length)
	for i := range out {
		out[i] = float64(int64(binary.LittleEndian.Uint64(integers[8*i:]))) * done.Step / done.Divisor
	}
	return out, clamped
}

// shapes are vectors of norm 1: what trained models send, what is heavy-tailed, what stands
// out, what is in one block alone.
func shapes() map[string]func(i int, random *rand.Rand, length int) float64 {
	return map[string]func(int, *rand.Rand, int) float64{
		"normal":      func(_ int, random *rand.Rand, _ int) float64 { return random.NormFloat64() },
		"heavy tails": func(_ int, random *rand.Rand, _ int) float64 { return math.Tan(math.Pi * (random.Float64() - 0.5)) },
		"one spike": func(i int, _ *rand.Rand, length int) float64 {
			if i == length/2 {
				return -1
			}
			return 0
		},
		"the last value": func(i int, _ *rand.Rand, length int) float64 {
			if i == length-1 {
				return 1
			}
			return 0
		},
		"the first block": func(i int, random *rand.Rand, _ int) float64 {
			if i < 1000 {
				return random.NormFloat64()
			}
			return 0
		},
	}
}

func shaped(shape func(int, *rand.Rand, int) float64, length int, bound float64, seed uint64) []float32 {
	random, v, norm := rand.New(rand.NewPCG(seed, 1)), make([]float64, length), 0.0
	for i := range v {
		v[i] = shape(i, random, length)
		norm += v[i] * v[i]
	}
	out := make([]float32, length)
	for i := range out {
		out[i] = float32(v[i] * bound / math.Sqrt(norm))
	}
	return out
}

// off is how far a mean is from a vector, as a part of the bound.
func off(got []float64, want []float32, bound float64) float64 {
	sum := 0.0
	for i, v := range got {
		d := v - float64(want[i])
		sum += d * d
	}
	return math.Sqrt(sum) / bound
}

// The published mean of a rotated round is as far off as the round says, and no value of any
// vector inside the bound of the norm is clamped: at every length around a block's and many blocks'
// bounds. The error's norm is that of normal values, whose deviation from what is expected is
// 1/sqrt(2d) of it: six of these are allowed, and a thousandth for vectors in float32.
func TestMeansAreAsAccurateAsTheRoundSays(t *testing.T) {
	const block = rlwe.BlockValues
	w := federationtest.New(t)
	lengths := []int{1, 100, 650, block - 1, block, block + 1, 3*block - 7}
	if longtest.All() {
		lengths = append(lengths, 131_072, 1_000_000)
	}
	for _, length := range lengths {
		r, _, seed := w.Round(t, uint64(length), rotated(8))
		said, err := r.Accuracy(8)
		if err != nil {
			t.Fatal(err)
		}
		for name, shape := range shapes() {
			if length > 60_000 && name != "one spike" {
				continue // the longest once
			}
			v := shaped(shape, length, r.ClipL2, uint64(length))
			got, clamped := mean(t, r, seed, 8, func(int) []float32 { return v })
			if clamped != 0 {
				t.Errorf("%d values, %s: %d values were clamped", length, name, clamped)
			}
			measured, slack := off(got, v, r.ClipL2), 6/math.Sqrt(2*float64(length))+1e-3
			if measured > said.Relative*(1+slack) || measured < said.Relative*(1-slack) {
				t.Errorf("%d values, %s: the mean is off by %.3g, the round says %.3g", length, name, measured, said.Relative)
			}
		}
		if length == 1_000_000 && said.Relative >= 0.01 {
			t.Errorf("%d values: %g", length, said.Relative)
		}
	}
}

// The same for the template's set, for other bounds and cohorts, without rotation, and with privacy
// noise in the guest and of the participants.
func TestOtherMeansAreAsAccurateAsTheRoundSays(t *testing.T) {
	const length = 20_000
	w := federationtest.New(t)
	spike := shapes()["one spike"]
	gauss := func(multiplier, share float64) func(*federation.Round) {
		return func(r *federation.Round) {
			r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: multiplier, Share: share}, 1, 1e-5
		}
	}
	for name, c := range map[string]struct {
		count  int
		change func(*federation.Round)
	}{
		"a cohort of 2":       {2, func(r *federation.Round) { rotated(2)(r) }},
		"a cohort of 5 of 16": {5, func(r *federation.Round) { rotated(8)(r); r.Minimum = 5 }},
		"not rotated":         {8, func(r *federation.Round) { r.ClipLinf = 1 }},
		"another bound":       {4, func(r *federation.Round) { r.ClipL2 = 300; rotated(4)(r) }},
		"noise":               {4, func(r *federation.Round) { rotated(4)(r); gauss(0.5, 0)(r) }},
		"little noise":        {4, func(r *federation.Round) { rotated(4)(r); gauss(1e-5, 0)(r) }},
		"shares":              {4, func(r *federation.Round) { rotated(4)(r); gauss(0.5, 0.3)(r) }},
		"Laplace, not rotated": {4, func(r *federation.Round) {
			gauss(0.01, 0)(r)
			r.Noise.Mechanism, r.ClipLinf = federation.DiscreteLaplace, 1
		}},
		"the template's set": {4, func(r *federation.Round) {
			rotated(4)(r)
			r.ClipLinf = federation.SafeClipLinf(r.ClipL2, 8192)
		}},
	} {
		seed := federationtest.Seed(t)
		r, _, key := w.Round(t, length, func(r *federation.Round) {
			c.change(r)
			if name == "the template's set" {
				template(t, seed)(r)
			}
		})
		if name == "the template's set" {
			key = seed
		}
		said, err := r.Accuracy(uint32(c.count))
		if err != nil {
			t.Fatal(err)
		}
		v := shaped(spike, length, r.ClipL2, 3)
		got, clamped := mean(t, r, key, c.count, func(int) []float32 { return v })
		measured := off(got, v, r.ClipL2)
		// The encryption's noise, and the rounding of what is added at random, are bounds.
		if clamped != 0 || measured > said.Relative*(1+6/math.Sqrt(2*length)) || measured < said.Relative*0.93 {
			t.Errorf("%s: %d clamped; off by %.4g, the round says %+v", name, clamped, measured, said)
		}
	}
}

// Of uneven and of light contributions the published mean is the weighted mean of the vectors, each
// scaled down to the bound, and as far off it as the round says for their weights: all zero and
// one huge value included.
func TestMeansOfAllWeightsAreAsAccurateAsTheRoundSays(t *testing.T) {
	const length = rlwe.BlockValues + 100
	w := federationtest.New(t)
	for name, c := range map[string]struct {
		weights []uint32
		rotated bool
	}{
		"the largest":         {[]uint32{1000, 1000, 1000, 1000}, true},
		"uneven":              {[]uint32{1, 10, 100, 1000}, true},
		"light":               {[]uint32{10, 10, 10, 10}, true},
		"the lightest":        {[]uint32{1, 1, 1, 1}, true},
		"uneven, not rotated": {[]uint32{1, 10, 100, 1000}, false},
	} {
		r, _, seed := w.Round(t, length, func(r *federation.Round) {
			rotated(4)(r)
			if r.MaxWeight = 1000; !c.rotated {
				r.Rotation, r.ClipLinf = nil, r.ClipL2
			}
		})
		vectors, want, total := make([][]float32, len(c.weights)), make([]float64, length), uint64(0)
		for i := range vectors {
			total += uint64(c.weights[i])
			switch vectors[i] = make([]float32, length); i {
			case 0:
				vectors[i] = shaped(shapes()["normal"], length, r.ClipL2, 11)
			case 1:
				vectors[i] = shaped(shapes()["heavy tails"], length, 3*r.ClipL2, 12)
			case 2:
				vectors[i][length/2] = math.MaxFloat32
			}
			norm := 0.0
			for _, v := range vectors[i] {
				norm += float64(v) * float64(v)
			}
			for j, v := range vectors[i] {
				want[j] += float64(v) * min(1, r.ClipL2/max(math.Sqrt(norm), 1e-300)) * float64(c.weights[i])
			}
		}
		mean := make([]float32, length)
		for j := range mean {
			mean[j] = float32(want[j] / float64(total))
		}
		said, err := r.AccuracyOf(uint32(len(c.weights)), total)
		if err != nil {
			t.Fatal(err)
		}
		got, clamped := weightedMean(t, r, seed, c.weights, func(i int) []float32 { return vectors[i] })
		if measured := off(got, mean, r.ClipL2); clamped != 0 || math.Abs(measured/said.Relative-1) > 6/math.Sqrt(2*length) {
			t.Errorf("%s: %d clamped; off by %.4g, the round says %.4g", name, clamped, measured, said.Relative)
		}
		for _, none := range []uint64{uint64(len(c.weights)) - 1, uint64(len(c.weights))*1000 + 1} {
			if _, err := r.AccuracyOf(uint32(len(c.weights)), none); err == nil {
				t.Errorf("%s: a weight of %d", name, none)
			}
		}
	}
}

// What a bound cuts off is in what the round says, too.
func TestClampedMeansAreAsAccurateAsTheRoundSays(t *testing.T) {
	const length = 4 * rlwe.BlockValues
	w := federationtest.New(t)
	for _, sigmas := range []float64{0.5, 1, 2, 3} {
		r, _, seed := w.Round(t, length, func(r *federation.Round) {
			rotated(8)(r)
			r.ClipLinf = sigmas / math.Sqrt(length)
		})
		said, err := r.Accuracy(8)
		if err != nil {
			t.Fatal(err)
		}
		v := shaped(shapes()["normal"], length, 1, 5)
		got, clamped := mean(t, r, seed, 8, func(int) []float32 { return v })
		slack := 6 / math.Sqrt(2*float64(clamped)/8) // all clamp the same values
		if measured := off(got, v, 1); clamped == 0 || math.Abs(measured/said.Relative-1) > slack {
			t.Errorf("%g sigmas: %d clamped, off by %.4g, the round says %.4g", sigmas, clamped, measured, said.Relative)
		}
	}
}

// Noise of privacy is drawn on every place of a block, the empty ones too: what is published of
// the last block is no less noisy than the rest.
func TestTheLastBlockHasItsNoise(t *testing.T) {
	const length = rlwe.BlockValues + 300
	r, _, seed := federationtest.New(t).Round(t, length, func(r *federation.Round) {
		rotated(2)(r)
		r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 2}, 1, 1e-5
	})
	got, _ := mean(t, r, seed, 2, func(int) []float32 { return make([]float32, length) })
	_, sigma, err := r.Published()
	if err != nil {
		t.Fatal(err)
	}
	step, _, _ := r.Published()
	sum := 0.0
	for _, v := range got[rlwe.BlockValues:] {
		sum += v * v
	}
	if sd := math.Sqrt(sum / 300); math.Abs(sd/(sigma*step/2)-1) > 6/math.Sqrt(2*300) {
		t.Errorf("the last block's values have a deviation of %g, want %g", sd, sigma*step/2)
	}
}

// BenchmarkPublishedError is the figure of docs/performance.md: how far a published mean is off
// beside what its round says, of 8 contributions of at most 16, rotated; and what the broker
// refused to open: the defaults of before, of at most 1,024 and not rotated.
func BenchmarkPublishedError(b *testing.B) {
	for _, length := range []int{16_384, 131_072, 1_000_000, 10_000_000} {
		for name, change := range map[string]func(*federation.Round){
			"rotated": rotated(8),
			"before":  func(r *federation.Round) { r.Minimum, r.Maximum, r.ClipLinf = 8, 1024, r.ClipL2 },
		} {
			b.Run(fmt.Sprintf("values=%d/%s", length, name), func(b *testing.B) {
				w := federationtest.New(b)
				r, _, seed := w.Round(b, uint64(length), change)
				said, err := r.Accuracy(8)
				if err != nil {
					b.Fatal(err)
				}
				v := shaped(shapes()["heavy tails"], length, r.ClipL2, 7)
				measured := 0.0
				for b.Loop() {
					got, _ := mean(b, r, seed, 8, func(int) []float32 { return v })
					measured = off(got, v, r.ClipL2)
				}
				b.ReportMetric(said.Relative, "stated")
				b.ReportMetric(measured, "measured")
			})
		}
	}
}
