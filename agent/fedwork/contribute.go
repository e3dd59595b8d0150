package fedwork

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"

	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Contribute is the task of encrypting one vector. Input 0 are the values, output
// 0 the blocks, output 1 the hash of each block, 32 bytes each.
type Contribute struct {
	Round  federation.Round `json:"round"`
	Weight uint32           `json:"weight"`
	Format Format           `json:"format"`
	// Norm is the vector's Euclidean norm as the agent measured it while it stored
	// the values. The worker measures again and refuses a vector with a larger one.
	Norm float64 `json:"norm"`
}

// Contributed is the result.
type Contributed struct {
	Blocks uint64            `json:"blocks"`
	Upload federation.Digest `json:"upload"`
	// Scaled says that the vector was longer than the bound and was scaled down;
	// Clamped counts values that were then still above the bound for one value.
	Scaled  bool   `json:"scaled"`
	Clamped uint64 `json:"clamped"`
}

func contribute(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	var task Contribute
	if err := decode(spec, &task); err != nil {
		return nil, err
	}
	if len(in) != 1 || len(out) != 2 || task.Format.Bytes() == 0 || task.Weight < 1 || task.Weight > task.Round.MaxWeight || !(task.Norm >= 0) {
		return nil, taskInvalid("one input, two outputs, a format, a weight and a norm are wanted")
	}
	q, err := newQuantizer(task)
	if err != nil {
		return nil, err
	}
	defer q.wipe()
	cipher, err := newCipher(task.Round)
	if err != nil {
		return nil, err
	}
	defer cipher.wipe()
	c := &contribution{task: task, quantizer: q, cipher: cipher, values: &valueReader{r: bufio.NewReaderSize(in[0], 1<<18), format: task.Format, left: task.Round.Length}}
	result, err := c.run(ctx, out[0], out[1], progress)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// contribution is one task under way.
type contribution struct {
	task      Contribute
	quantizer *quantizer
	cipher    cipher
	values    *valueReader
}

func (c *contribution) run(ctx context.Context, blocks, hashes io.Writer, progress func(string, uint64, uint64)) (Contributed, error) {
	per := c.cipher.values()
	floats, ints, block := make([]float32, per), make([]int32, per), make([]byte, c.cipher.bytes())
	defer clear(ints)
	defer clear(floats)
	total := federation.BlockCount(c.task.Round.Length, per)
	list := make([]federation.Digest, 0, total)
	for i := range total {
		if err := ctx.Err(); err != nil {
			return Contributed{}, err
		}
		n, err := c.values.read(floats)
		if err != nil {
			return Contributed{}, err
		}
		if err := c.quantizer.quantize(ints[:n], floats[:n]); err != nil {
			return Contributed{}, err
		}
		if err := c.cipher.encrypt(block, ints[:n]); err != nil {
			return Contributed{}, err
		}
		h := federation.BlockHash(c.task.Round.ID, i, block)
		list = append(list, h)
		if _, err := blocks.Write(block); err != nil {
			return Contributed{}, err
		}
		if _, err := hashes.Write(h[:]); err != nil {
			return Contributed{}, err
		}
		progress("encrypt", i+1, total)
	}
	if err := c.values.end(); err != nil {
		return Contributed{}, err
	}
	// The values were checked as they came, block by block; a vector that grew
	// since the agent measured it would be beyond the bound, so nothing of it is
	// used.
	if !c.quantizer.inside() {
		return Contributed{}, dataInvalid("the vector is longer than it was when it was measured")
	}
	return Contributed{Blocks: total, Upload: federation.UploadDigest(c.task.Round.ID, list), Scaled: c.quantizer.scaled, Clamped: c.quantizer.clamped}, nil
}

// quantizer turns real values into integers on the round's grid: scaled to the
// norm bound, clamped, weighted, stochastically rounded, with the participant's
// share of the noise.
type quantizer struct {
	bound, factor float64 // of the values' norm, and what they are multiplied with
	scale         float32 // from a value to grid steps
	limit         float32 // largest absolute value after factor
	top, room     int32 // largest integer of a value, and with its noise
	random        *dp.Source
	share         *dp.Gaussian
	noise         []int64
	norm          dp.Norm
	scaled        bool
	clamped       uint64
}

func newQuantizer(task Contribute) (*quantizer, error) {
	r := task.Round
	g, err := grid(r)
	if err != nil {
		return nil, err
	}
	random, err := dp.RandomSource()
	if err != nil {
		return nil, err
	}
	weight := float64(task.Weight) / float64(r.MaxWeight)
	q := &quantizer{factor: dp.Factor(task.Norm, r.ClipL2), top: g.Top, room: g.Limit, random: random}
	q.bound = math.Max(r.ClipL2, task.Norm)
	q.scaled = q.factor < 1
	q.limit = float32(r.ClipLinf)
	// Rounded down, so that a value at the bound does not pass the grid's limit.
	q.scale = math.Nextafter32(float32(weight/g.Step), 0)
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

// quantize overwrites the values that it is given.
func (q *quantizer) quantize(dst []int32, values []float32) error {
	if err := q.norm.Add(values); err != nil {
		return dataInvalid("%v", err)
	}
	factor := float32(q.factor)
	for i, v := range values {
		v *= factor
		if v > q.limit || v < -q.limit {
			q.clamped++
			v = min(max(v, -q.limit), q.limit)
		}
		values[i] = v
	}
	if err := dp.Round(q.random, dst, values, q.scale, q.top); err != nil {
		return dataInvalid("%v", err)
	}
	if q.share != nil {
		q.addShare(dst)
	}
	return nil
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
}

// valueReader reads a fixed number of values.
type valueReader struct {
	r      io.Reader
	format Format
	left   uint64
	buf    []byte
}

// read fills dst as far as values are left.
func (v *valueReader) read(dst []float32) (int, error) {
	n := int(min(uint64(len(dst)), v.left))
	size := v.format.Bytes()
	if len(v.buf) < n*size {
		v.buf = make([]byte, len(dst)*size)
	}
	b := v.buf[:n*size]
	if _, err := io.ReadFull(v.r, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, dataInvalid("the vector ends %d values early", v.left)
	} else if err != nil {
		return 0, err
	}
	v.left -= uint64(n)
	if v.format == Float16 {
		for i := range n {
			dst[i] = fromHalf(binary.LittleEndian.Uint16(b[2*i:]))
		}
		return n, nil
	}
	for i := range n {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return n, nil
}

// end makes sure that nothing follows.
func (v *valueReader) end() error {
	var b [1]byte
	if n, err := io.ReadFull(v.r, b[:]); n != 0 {
		return dataInvalid("the vector is longer than the round's")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// fromHalf converts an IEEE 754 binary16.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&0x1F), uint32(h&0x3FF)
	switch {
	case exponent == 0x1F:
		return math.Float32frombits(sign | 0x7F800000 | fraction<<13)
	case exponent != 0:
		return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
	}
	v := float32(fraction) / (1 << 24) // subnormal: an exact product
	if sign != 0 {
		return -v
	}
	return v
}
