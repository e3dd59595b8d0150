package fedwork

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"os"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/hadamard"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

func contribute(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	var task fedtask.Contribute
	if err := decode(spec, &task); err != nil {
		return nil, err
	}
	if len(in) != 2 || len(out) < 2 || task.Format.Bytes() == 0 || !(task.Norm >= 0) {
		return nil, taskInvalid("the task needs two inputs, at least two outputs, a format and a norm")
	}
	round, err := readRound(in[0])
	if err != nil {
		return nil, err
	}
	if task.Weight < 1 || task.Weight > round.MaxWeight {
		return nil, taskInvalid("weight %d is outside 1 to %d", task.Weight, round.MaxWeight)
	}
	q, err := newQuantizer(task, round)
	if err != nil {
		return nil, err
	}
	defer q.wipe()
	cipher, err := newCipher(round)
	if err != nil {
		return nil, err
	}
	defer cipher.wipe()
	outputs := 2
	if round.NormProof {
		outputs = 3
		q.proof = newNormQuantizer(out[len(out)-1], round, task)
	}
	if len(out) != outputs {
		return nil, taskInvalid("this round needs %d outputs", outputs)
	}
	c := &contribution{round: round, quantizer: q, cipher: cipher, values: fedtask.NewValues(in[1], task.Format, round.Length)}
	result, err := c.run(ctx, out[0], out[1], progress)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// contribution is one task under way.
type contribution struct {
	round     federation.Round
	quantizer *quantizer
	cipher    cipher
	values    *fedtask.Values
}

func (c *contribution) run(ctx context.Context, blocks, hashes io.Writer, progress func(string, uint64, uint64)) (fedtask.Contributed, error) {
	per := c.cipher.values()
	floats, ints, block := make([]float32, per), make([]int32, per), make([]byte, c.cipher.bytes())
	defer clear(ints)
	defer clear(floats)
	total := federation.BlockCount(c.round.Length, per)
	list := make([]digest.Digest, 0, total)
	for i := range total {
		if err := ctx.Err(); err != nil {
			return fedtask.Contributed{}, err
		}
		n, _, err := c.values.Read(floats)
		if err != nil {
			return fedtask.Contributed{}, err
		}
		places, err := c.quantizer.quantize(i, ints, floats[:n])
		if err != nil {
			return fedtask.Contributed{}, err
		}
		if err := c.cipher.encrypt(block, places); err != nil {
			return fedtask.Contributed{}, err
		}
		h := federation.BlockHash(c.round.ID, i, block)
		list = append(list, h)
		if _, err := blocks.Write(block); err != nil {
			return fedtask.Contributed{}, err
		}
		if _, err := hashes.Write(h[:]); err != nil {
			return fedtask.Contributed{}, err
		}
		progress("encrypt", i+1, total)
	}
	if err := c.values.End(); err != nil {
		return fedtask.Contributed{}, err
	}
	// The values were checked as they came, block by block; a vector that grew
	// since the agent measured it would be beyond the bound, so nothing of it is
	// used.
	if !c.quantizer.inside() {
		return fedtask.Contributed{}, dataInvalid("the vector's norm is larger than when it was measured")
	}
	return fedtask.Contributed{Blocks: total, Upload: federation.UploadDigest(c.round.ID, list), Scaled: c.quantizer.scaled, Clamped: c.quantizer.clamped}, nil
}

// quantizer turns real values into integers on the round's grid: scaled to the
// norm bound, rotated block by block where the round is, clamped, weighted,
// stochastically rounded, with the participant's share of the noise.
type quantizer struct {
	bound     float64 // of the values' norm
	scale     float32 // from a value to grid steps
	top, room int32   // largest integer of a weighted value, and with its noise
	random    *dp.Source
	share     *dp.Gaussian
	noise     []int64
	rotation  *hadamard.Rotation // nil where the round is not rotated
	wide      []float64          // a block that is rotated
	norm      dp.Norm
	scaled    bool
	clamped   uint64
	proof     *normQuantizer // nil where no norm is proven
}

func newQuantizer(task fedtask.Contribute, r federation.Round) (*quantizer, error) {
	g, err := grid(r)
	if err != nil {
		return nil, err
	}
	random, err := dp.RandomSource()
	if err != nil {
		return nil, err
	}
	weight := float64(task.Weight) / float64(r.MaxWeight)
	factor := dp.Factor(task.Norm, r.ClipL2)
	// Values are clamped before they are weighted.
	top := min(int32(math.Ceil(r.ClipLinf*weight/g.Step)), g.Top)
	q := &quantizer{top: top, room: g.Limit, random: random, scaled: factor < 1}
	q.bound = math.Max(r.ClipL2, task.Norm)
	gain := 1.0
	if r.Rotation != nil {
		if q.rotation, q.wide, err = rotationOf(r); err != nil {
			return nil, err
		}
		gain = math.Sqrt(float64(len(q.wide)))
	}
	// Rounded down, so that a vector at the bound does not pass it: by more than rotating it
	// in floating point can lengthen it.
	q.scale = math.Nextafter32(float32(factor*weight/g.Step/gain), 0)
	sigma, err := r.ShareSigma()
	if err != nil {
		return nil, err
	}
	if sigma > 0 {
		if q.share, err = dp.NewGaussian(sigma); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// quantize fills a block, or as much of it as there are values, and returns what it filled:
// all of it where it is rotated.
func (q *quantizer) quantize(block uint64, dst []int32, values []float32) ([]int32, error) {
	if err := q.norm.Add(values); err != nil {
		return nil, dataInvalid("%v", err)
	}
	if q.rotation == nil {
		dst = dst[:len(values)]
	} else if err := q.rotate(block, values); err != nil {
		return nil, err
	}
	clamped, err := q.round(dst, values)
	if err != nil {
		return nil, dataInvalid("%v", err)
	}
	q.clamped += clamped
	if q.proof != nil {
		if err := q.proof.add(values); err != nil {
			return nil, err
		}
	}
	if q.share != nil {
		q.addShare(dst)
	}
	return dst, nil
}

func (q *quantizer) round(dst []int32, values []float32) (clamped uint64, err error) {
	if q.rotation == nil {
		return dp.Round(q.random, dst, values, q.scale, q.top)
	}
	return dp.Round(q.random, dst, q.wide, q.scale, q.top)
}

// rotate puts a block of values, and zeros where it ends early, into wide.
func (q *quantizer) rotate(block uint64, values []float32) error {
	clear(q.wide[len(values):])
	for i, v := range values {
		q.wide[i] = float64(v)
	}
	return q.rotation.Spread(block, q.wide)
}

// rotationOf is a round's rotation, and room for one block.
func rotationOf(r federation.Round) (*hadamard.Rotation, []float64, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return nil, nil, err
	}
	rotation, err := hadamard.New(r.RotationKey(), set.ValuesPerBlock())
	return rotation, make([]float64, set.ValuesPerBlock()), err
}

// addShare adds the participant's noise, clamped to what the modulus leaves room
// for: six standard deviations.
func (q *quantizer) addShare(dst []int32) {
	if len(q.noise) < len(dst) {
		q.noise = make([]int64, len(dst))
	}
	noise := q.noise[:len(dst)]
	q.share.Fill(q.random, noise)
	for i, n := range noise {
		dst[i] = int32(min(max(int64(dst[i])+n, -int64(q.room)), int64(q.room)))
	}
}

// inside says whether the values were no longer than what they were scaled for,
// but for rounding in the last place.
func (q *quantizer) inside() bool { return q.norm.L2() <= q.bound*(1+1e-9) }

func (q *quantizer) wipe() {
	q.random.Wipe()
	clear(q.noise)
	clear(q.wide)
}
