package hadamard

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

func rotation(t testing.TB, n int) *Rotation {
	t.Helper()
	r, err := New([32]byte{1, 2, 3}, n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// naive is the definition: a sign for each value, and the sign of the parity of i AND j.
func naive(signs []uint64, x []float64) []float64 {
	out := make([]float64, len(x))
	for i := range out {
		for j, v := range x {
			if signs[j/64]>>(j%64)&1 == 1 {
				v = -v
			}
			if bits.OnesCount(uint(i&j))%2 == 1 {
				v = -v
			}
			out[i] += v
		}
	}
	return out
}

func TestSpreadIsTheDefinition(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for n := 16; n <= 1<<11; n *= 2 {
		r, x := rotation(t, n), make([]float64, n)
		for i := range x {
			x[i] = float64(random.IntN(1<<20) - 1<<19) // sums are exact
		}
		r.draw(7)
		want := naive(r.words, x)
		if err := r.Spread(7, x); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if x[i] != want[i] {
				t.Fatalf("%d values: place %d is %g, want %g", n, i, x[i], want[i])
			}
		}
	}
}

// Gathering what was spread gives n times the values, to the bit for integers, at every length
// and of the largest integers that are allowed.
func TestGatherUndoesSpread(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for n := 16; n <= MaxValues; n *= 2 {
		r, x, ints := rotation(t, n), make([]float64, n), make([]int64, n)
		for i := range ints {
			ints[i] = random.Int64N(1<<20) - 1<<19
			x[i] = float64(ints[i])
		}
		if err := r.Spread(3, x); err != nil {
			t.Fatal(err)
		}
		got := make([]int64, n)
		for i, v := range x {
			got[i] = int64(v)
		}
		if err := r.Gather(3, got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i] != int64(n)*ints[i] {
				t.Fatalf("%d values: %d came back as %d", n, ints[i], got[i])
			}
		}
		for i := range got { // all at the limit, whatever their signs
			got[i] = 1<<46 - 1
			if random.IntN(2) == 0 {
				got[i] = -got[i]
			}
		}
		want := append([]int64(nil), got...)
		if err := errors.Join(r.Gather(9, got)); err != nil {
			t.Fatal(err)
		}
		var sum int64 // the first place before its sign is the sum
		for _, v := range want {
			sum += v
		}
		r.draw(9)
		if r.words[0]&1 == 1 {
			sum = -sum
		}
		if got[0] != sum {
			t.Errorf("%d values at the limit: place 0 is %d, want %d", n, got[0], sum)
		}
	}
}

// Norms stay: what noise, clipping and sensitivity rest on.
func TestSpreadKeepsTheNorm(t *testing.T) {
	for n := 16; n <= MaxValues; n *= 4 {
		for name, draw := range map[string]func(i int, random *rand.Rand) float64{
			"normal": func(_ int, random *rand.Rand) float64 { return random.NormFloat64() },
			"heavy":  func(_ int, random *rand.Rand) float64 { return math.Pow(random.Float64()+1e-9, -0.7) },
			"spike": func(i int, _ *rand.Rand) float64 {
				if i == n/3 {
					return 5
				}
				return 0
			},
		} {
			r, x, before, random := rotation(t, n), make([]float64, n), 0.0, rand.New(rand.NewPCG(3, uint64(n)))
			for i := range x {
				x[i] = draw(i, random)
				before += x[i] * x[i]
			}
			if err := r.Spread(uint64(n), x); err != nil {
				t.Fatal(err)
			}
			after := 0.0
			for _, v := range x {
				after += v * v / float64(n)
			}
			if math.Abs(after-before) > 1e-12*before {
				t.Errorf("%s, %d values: the square of the norm went from %g to %g", name, n, before, after)
			}
		}
	}
}

// What stood out does not any more: of any block of norm 1 no place is beyond 6/sqrt(n), but
// with the probability that Hoeffding's bound gives.
func TestSpreadLeavesNothingStandingOut(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	const n = 1 << 14
	r := rotation(t, n)
	for _, spikes := range []int{1, 2, 14, 50, 1000, n} {
		for block := range uint64(20) {
			x := make([]float64, n)
			for range spikes {
				x[random.IntN(n)] = 1 - 2*float64(random.IntN(2))
			}
			norm := 0.0
			for _, v := range x {
				norm += v * v
			}
			if err := r.Spread(block, x); err != nil {
				t.Fatal(err)
			}
			for i, v := range x {
				if math.Abs(v)/math.Sqrt(n) > 6*math.Sqrt(norm)/math.Sqrt(n) {
					t.Fatalf("%d spikes: place %d of block %d has %.1f times its part", spikes, i, block, math.Abs(v)/math.Sqrt(norm))
				}
			}
		}
	}
}

func TestLengthsThatAreRefused(t *testing.T) {
	for _, n := range []int{-16, 0, 1, 8, 17, 1000, 2 * MaxValues} {
		if _, err := New([32]byte{}, n); !errors.Is(err, ErrLength) {
			t.Errorf("%d: %v", n, err)
		}
	}
	r := rotation(t, 32)
	for _, n := range []int{0, 16, 31, 64} {
		if err := r.Spread(0, make([]float64, n)); !errors.Is(err, ErrLength) {
			t.Errorf("spread of %d: %v", n, err)
		}
		if err := r.Gather(0, make([]int64, n)); !errors.Is(err, ErrLength) {
			t.Errorf("gather of %d: %v", n, err)
		}
	}
}

// The signs of a seed never change: rounds that were opened are opened by later versions.
// Each line was computed with OpenSSL: printf '%032x' | xxd -r -p ... | openssl enc -aes-256-ctr.
func TestSignsNeverChange(t *testing.T) {
	seed := [32]byte(sha256.Sum256([]byte("signs")))
	r, err := New(seed, 1<<14)
	if err != nil {
		t.Fatal(err)
	}
	for block, want := range map[uint64]string{
		0:       "b9441be3ee65db534a272ce34a42be01483e52d07986ba5abdc9369ce9bcbefa",
		1:       "2834c08fdc76aebb423ff02025c93e5f167aadac3b95dda94c8f2c016bed6903",
		1 << 40: "c9c61afad921b91160d3e91c10e2e95336038cb715deadde167197e611e2df49",
	} {
		r.draw(block)
		raw := make([]byte, 0, 2048)
		for _, w := range r.words {
			raw = binary.LittleEndian.AppendUint64(raw, w)
		}
		if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != want {
			t.Errorf("block %d: %x", block, sum)
		}
	}
}

func BenchmarkSpread(b *testing.B) {
	for _, n := range []int{1 << 13, 1 << 14} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, x, scale := rotation(b, n), make([]float64, n), 1/math.Sqrt(float64(n)) // the values stay as large as they were
			for i := range x {
				x[i] = float64(i%100) / 100
			}
			for b.Loop() {
				if err := r.Spread(1, x); err != nil {
					b.Fatal(err)
				}
				for i := range x {
					x[i] *= scale
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
		})
	}
}

func BenchmarkGather(b *testing.B) {
	const n = 1 << 14
	r, x := rotation(b, n), make([]int64, n)
	for b.Loop() {
		if err := r.Gather(1, x); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
}
