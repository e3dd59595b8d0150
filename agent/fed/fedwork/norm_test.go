package fedwork

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

func proven(bits uint8) *federation.NormCircuit {
	return &federation.NormCircuit{Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Bits: bits}
}

func int16s(raw []byte) []int16 {
	list := make([]int16, len(raw)/2)
	for i := range list {
		list[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return list
}

func norm(t *testing.T, values []float32) float64 {
	t.Helper()
	var n dp.Norm
	if err := n.Add(values); err != nil {
		t.Fatal(err)
	}
	return n.L2()
}

// What is encrypted is what is proven, times the weight, but for rounding: at any weight,
// share of noise, norm and size of a value.
func TestCoordinatesAreOfTheEncryptedValues(t *testing.T) {
	w := federationtest.New(t)
	random := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		bits         uint8
		weight, most uint32
		share        float64
		clip, size   float64 // of each value, in the bound of the norm; of the values
	}{
		{8, 1, 1, 0, 1, 0.01}, {16, 1, 1, 0, 1, 0.01}, {8, 1, 1, 0, 1, 5}, {16, 1, 1, 0, 0.05, 5}, {8, 3, 10, 0, 0.05, 5}, {16, 1, 1000, 0, 0.05, 0.5},
		{16, 1, 1, 40, 0.01, 0.1}, {8, 7, 9, 1, 0.2, 1},
	} {
		r, _, _ := w.Round(t, 300, func(r *federation.Round) {
			r.ClipL2, r.ClipLinf, r.MaxWeight = 2, 2*c.clip, c.most
			r.NormProof, r.NormCircuit = true, proven(c.bits)
			if c.share > 0 {
				r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 1, Share: c.share}, 1, 1e-5
			}
		})
		g, err := r.Grid()
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float32, r.Length)
		for i := range values {
			values[i] = float32(random.NormFloat64() * c.size)
		}
		values[0] = 1e6 * float32(c.size) // one that is clamped, or scaled down
		task := fedtask.Contribute{Weight: c.weight, Format: fedtask.Float32, Norm: norm(t, values)}
		q, err := newQuantizer(task, r)
		if err != nil {
			t.Fatal(err)
		}
		q.share = nil // noise is no part of it
		var out bytes.Buffer
		q.proof = newNormQuantizer(&out, r, task)
		grid := make([]int32, r.Length)
		if _, err := q.quantize(0, grid, values); err != nil {
			t.Fatal(err)
		}
		s := r.NormStatement(&federation.Contribution{}).Gradient
		coordinates, squares := int16s(out.Bytes()), uint64(0)
		if len(coordinates) != len(values) {
			t.Fatalf("%+v: %d coordinates", c, len(coordinates))
		}
		weight := float64(c.weight) / float64(c.most)
		for i, k := range coordinates {
			squares += uint64(int64(k) * int64(k))
			encrypted, of := float64(grid[i])*g.Step, float64(k)*r.NormStep()*weight
			if math.Abs(encrypted-of) > 1.001*(r.NormStep()/2*weight+g.Step) {
				t.Fatalf("%+v: value %d, %g: %g is encrypted, %g proven", c, i, values[i], encrypted, of)
			}
			if max(k, -k) > int16(s.LInf) {
				t.Fatalf("%+v: coordinate %d is %d", c, i, k)
			}
		}
		if squares > s.SquaredL2 {
			t.Errorf("%+v: %d squares, the statement allows %d", c, squares, s.SquaredL2)
		}
		if !bytes.Equal(q.proof.buf, make([]byte, len(q.proof.buf))) {
			t.Errorf("%+v: coordinates are left in memory", c)
		}
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestCoordinatesThatNobodyTakesEndTheTask(t *testing.T) {
	r, _, _ := federationtest.New(t).Round(t, 3, func(r *federation.Round) { r.NormProof, r.NormCircuit = true, proven(8) })
	task := fedtask.Contribute{Weight: 1, Format: fedtask.Float32, Norm: 1}
	q, err := newQuantizer(task, r)
	if err != nil {
		t.Fatal(err)
	}
	q.proof = newNormQuantizer(full{}, r, task)
	if _, err := q.quantize(0, make([]int32, 3), []float32{0.1, 0.2, 0.3}); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// The third output is there exactly if the round wants proofs, and has every coordinate.
func TestCoordinatesAreAnOutputOfRoundsThatWantProofs(t *testing.T) {
	w := federationtest.New(t)
	run := func(r federation.Round, outputs int) (string, error) {
		out := []*os.File{file(t, nil), file(t, nil), file(t, nil), file(t, nil)}
		_, err := contribute(context.Background(), marshal(t, fedtask.Contribute{Weight: 1, Format: fedtask.Float32, Norm: math.Sqrt(14)}),
			[]*os.File{file(t, marshal(t, r)), file(t, halves(1, -2, 3))}, out[:outputs], nothing)
		return out[2].Name(), err
	}
	plain, _, _ := w.Round(t, 3, func(r *federation.Round) { r.ClipL2, r.ClipLinf = 10, 10 })
	wants, _, _ := w.Round(t, 3, func(r *federation.Round) {
		r.ClipL2, r.ClipLinf, r.NormProof, r.NormCircuit = 10, 10, true, proven(8)
	})
	for name, tc := range map[string]struct {
		round   federation.Round
		outputs int
		good    bool
	}{"plain": {plain, 2, true}, "plain with three": {plain, 3, false}, "proven": {wants, 3, true}, "proven with two": {wants, 2, false}, "proven with four": {wants, 4, false}} {
		path, err := run(tc.round, tc.outputs)
		if got, _ := refusal.ReasonOf(err); (err == nil) != tc.good || !tc.good && got != ReasonTask {
			t.Errorf("%s: %v", name, err)
		}
		if !tc.good || tc.outputs != 3 {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := int16s(raw); len(got) != 3 || got[0] != 13 || got[1] != -25 || got[2] != 38 { // 12.7, -25.4, 38.1
			t.Errorf("coordinates %d", got)
		}
	}
}
