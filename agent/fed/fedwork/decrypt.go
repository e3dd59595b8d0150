package fedwork

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/hadamard"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

func decrypt(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	var task fedtask.Decrypt
	if err := decode(spec, &task); err != nil {
		return nil, err
	}
	if len(in) == 0 {
		return nil, taskInvalid("input 0, the round, is missing")
	}
	round, err := readRound(in[0])
	if err != nil {
		return nil, err
	}
	sources := 1
	if round.Rule != federation.WeightedMean {
		sources = task.Count
	}
	inputs := 2 + sources
	if round.Parties != nil {
		inputs = 1 + sources + int(round.Parties.Threshold)
	}
	if len(in) != inputs || len(out) != 1 || task.Count < 2 || task.TotalWeight < uint64(task.Count) {
		return nil, taskInvalid("the task needs %d inputs and one output for a cohort of %d", inputs, task.Count)
	}
	readers := make([]io.Reader, inputs)
	for i, f := range in {
		readers[i] = bufio.NewReaderSize(f, 1<<17)
	}
	d, err := newDecryption(task, round)
	if err != nil {
		return nil, err
	}
	vectors := readers[1 : 1+sources]
	if round.Parties != nil {
		d.opener, err = newShareOpener(round, readers[1+sources:])
	} else {
		vectors = readers[2:]
		err = d.withKey(in[1])
	}
	if err != nil {
		return nil, err
	}
	defer d.wipe()
	if err := d.run(ctx, vectors, out[0], progress); err != nil {
		return nil, err
	}
	step, sigma, err := round.Published()
	if err != nil {
		return nil, err
	}
	return json.Marshal(fedtask.Decrypted{Values: digest.Sum(d.digest), Step: step, Divisor: d.divisor(), Sigma: sigma})
}

// decryption is one task under way.
type decryption struct {
	task   fedtask.Decrypt
	round  federation.Round
	grid   federation.Grid
	opener opener
	noise  []sampler // of the privacy mechanism, and what hides the decryption's own
	sigma  float64
	random *dp.Source
	// rotation is nil where the round is not rotated.
	rotation *hadamard.Rotation
	digest   hash.Hash
	per      int
	size     int
}

// sampler draws integers.
type sampler interface {
	Fill(*dp.Source, []int64)
}

// noiseLabel separates the noise's seed from the key's other uses.
const noiseLabel = "anchorhold/fed/noise/1 "

func newDecryption(task fedtask.Decrypt, r federation.Round) (*decryption, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return nil, err
	}
	d := &decryption{task: task, round: r, digest: sha256.New(), per: set.ValuesPerBlock(), size: set.BlockBytes()}
	if d.grid, err = grid(r); err != nil {
		return nil, err
	}
	if d.sigma, err = r.Sigma(); err != nil {
		return nil, err
	}
	if r.Rotation != nil {
		d.rotation, err = hadamard.New(r.RotationKey(), d.per)
	}
	return d, err
}

// withKey prepares opener and noise of a round whose whole key comes here.
func (d *decryption) withKey(in io.Reader) error {
	seed, err := readSecret(in, rlwe.SeedSize)
	if err != nil {
		return err
	}
	defer seed.Wipe()
	if err := d.prepareNoise(); err != nil {
		return err
	}
	// Noise is a function of key and ticket: decrypting the same sum again gives
	// the same values, not a second sample to average with the first.
	derived := keybuf.Derive(seed.Bytes(), d.task.Ticket[:], noiseLabel, 32)
	d.random, err = dp.NewSource([32]byte(derived))
	keybuf.Wipe(derived)
	if err != nil {
		return err
	}
	d.opener, err = newOpener(d.round, seed)
	return err
}

// prepareNoise makes the mechanism's sampler, and a Gaussian that hides the noise
// of the encryption where the mechanism alone would not.
func (d *decryption) prepareNoise() (err error) {
	r := d.round
	flood, err := r.Flood(d.task.Count)
	if err != nil {
		return err
	}
	switch r.Noise.Mechanism {
	case federation.DiscreteGaussian:
		err = d.gaussian(d.sigma)
	case federation.DiscreteLaplace:
		var l *dp.Laplace
		if l, err = dp.NewLaplace(d.sigma); err == nil {
			d.noise = append(d.noise, l)
		}
	}
	if err == nil && (r.Noise.Mechanism != federation.DiscreteGaussian || d.sigma < flood) {
		err = d.gaussian(flood)
	}
	return err
}

func (d *decryption) gaussian(sigma float64) error {
	g, err := dp.NewGaussian(sigma)
	if err == nil {
		d.noise = append(d.noise, g)
	}
	return err
}

// divisor turns the published integers into a mean.
func (d *decryption) divisor() float64 {
	r := d.round
	switch r.Rule {
	case federation.TrimmedMean:
		return float64(d.task.Count - 2*int(r.Trim))
	case federation.Median:
		return 2
	}
	return float64(d.task.TotalWeight) / float64(r.MaxWeight)
}

func (d *decryption) run(ctx context.Context, sources []io.Reader, out io.Writer, progress func(string, uint64, uint64)) error {
	total := federation.BlockCount(d.round.Length, d.per)
	block, sum, noise := make([]byte, d.size), make([]int64, d.per), make([]int64, d.per)
	opened := make([][]int32, len(sources))
	for i := range opened {
		opened[i] = make([]int32, d.per)
	}
	defer func() {
		clear(sum)
		for _, o := range opened {
			clear(o)
		}
	}()
	left := d.round.Length
	encoded := make([]byte, 8*d.per)
	for i := range total {
		if err := ctx.Err(); err != nil {
			return err
		}
		for s, r := range sources {
			if _, err := io.ReadFull(r, block); err != nil {
				return sumInvalid("input %d ends at block %d of %d: %v", s, i, total, err)
			}
			if err := d.opener.open(opened[s], block); err != nil {
				return sumInvalid("block %d: %v", i, err)
			}
		}
		n := int(min(uint64(d.per), left))
		left -= uint64(n)
		places := sum[:n]
		if d.rotation != nil {
			places = sum
		}
		d.combine(places, opened)
		if err := d.plausible(places); err != nil {
			return err
		}
		for _, g := range d.noise {
			g.Fill(d.random, noise[:len(places)])
			for j, v := range noise[:len(places)] {
				places[j] += v
			}
		}
		// Only integers with all their noise are rotated back, and integers exactly: parties on
		// processors of different kinds publish the same.
		if d.rotation != nil {
			if err := d.rotation.Gather(i, places); err != nil {
				return err
			}
		}
		for j, v := range sum[:n] {
			binary.LittleEndian.PutUint64(encoded[8*j:], uint64(v))
		}
		d.digest.Write(encoded[:8*n])
		if _, err := out.Write(encoded[:8*n]); err != nil {
			return err
		}
		progress("decrypt", i+1, total)
	}
	for s, r := range sources {
		if n, err := io.ReadFull(r, block[:1]); n != 0 || !errors.Is(err, io.EOF) {
			return sumInvalid("unexpected data after the last block of input %d", s)
		}
	}
	return nil
}

// combine applies the round's rule to one block.
func (d *decryption) combine(dst []int64, opened [][]int32) {
	if len(opened) == 1 {
		for j := range dst {
			dst[j] = int64(opened[0][j])
		}
		return
	}
	column := make([]int32, len(opened))
	low, high := int(d.round.Trim), len(opened)-int(d.round.Trim)
	if d.round.Rule == federation.Median {
		low, high = (len(opened)-1)/2, len(opened)/2+1
	}
	for j := range dst {
		for s, o := range opened {
			column[s] = o[j]
		}
		slices.Sort(column)
		dst[j] = 0
		for _, v := range column[low:high] {
			dst[j] += int64(v)
		}
		if high-low == 1 { // the median of an odd number counts twice, as two would
			dst[j] *= 2
		}
	}
}

// plausible refuses a sum that no cohort of bounded contributions can have: it was
// made of something else, or with another key.
func (d *decryption) plausible(sum []int64) error {
	_, b, err := d.round.Parameters()
	if err != nil {
		return err
	}
	bound := int64(d.task.Count)*int64(d.grid.Limit) + int64(b.NoiseBound)
	for _, v := range sum {
		if v > bound || v < -bound {
			return sumInvalid("a value of the sum exceeds what %d contributions can add up to", d.task.Count)
		}
	}
	return nil
}

func (d *decryption) wipe() {
	d.opener.wipe()
	if d.random != nil {
		d.random.Wipe()
	}
}
