package ceremony

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// BeginUniversal makes a directory for a circuit whose phase 1 is a public powers-of-tau file:
// its first powers are copied and checked. The caller has compared the file's digest with the
// published one. The error is ErrCircuit, one of ptau's, the context's, or a failure to read or
// write.
func BeginUniversal(ctx context.Context, dir string, circuit *circuits.Circuit, inference *statement.InferenceCircuit, gradient *statement.GradientCircuit,
	file *ptau.File, tell Progress) (*Ceremony, error) {
	n, err := system(circuit)
	if err != nil {
		return nil, err
	}
	if _, err := file.Powers(ctx, domain(n.GetNbConstraints()), ptau.Progress(tell)); err != nil {
		return nil, err
	}
	source, err := file.Digests(ctx)
	if err != nil {
		return nil, err
	}
	c, err := begin(dir, circuit, inference, gradient)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	err = c.write(filePowers, func(w io.Writer) error { return file.Truncate(ctx, io.MultiWriter(w, h), c.power()) })
	if err != nil {
		return nil, err
	}
	s := c.State
	s.Powers = &Powers{Source: source.SHA256, Digest: digest.Sum(h)}
	return c, c.save(s)
}

// power is the domain's.
func (c *Ceremony) power() int { return bits.TrailingZeros64(c.State.Domain) }

// VerifyPowers checks that phase 1 is from this public file: the transcript names the file, and
// the directory's part of it matches the beginning of the file. Verify does not need the file,
// and trusts the part. The error is ErrOrder, ErrTranscript, the context's, or a failure to
// read.
func (c *Ceremony) VerifyPowers(ctx context.Context, file *ptau.File) error {
	if c.State.Powers == nil {
		return fmt.Errorf("phase 1 of this ceremony was not taken from a file: %w", ErrOrder)
	}
	source, err := file.Digests(ctx)
	if err != nil {
		return err
	}
	if digest.Digest(source.SHA256) != c.State.Powers.Source {
		return fmt.Errorf("%s: %w: it was taken from a different file, %s", filePowers, ErrTranscript, c.State.Powers.Source)
	}
	h := sha256.New()
	if err := file.Truncate(ctx, h, c.power()); err != nil {
		return fmt.Errorf("%s: %w: %w", filePowers, ErrTranscript, err)
	}
	if digest.Sum(h) != c.State.Powers.Digest {
		return fmt.Errorf("%s: %w: it does not match the beginning of the file", filePowers, ErrTranscript)
	}
	return nil
}

// takePowers reads the part of a public file that stands for phase 1.
func (r *run) takePowers(ctx context.Context) error {
	err := r.step(ctx, filePowers, func() error { return r.readPowers(ctx) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%s: %w: %w", filePowers, ErrTranscript, err)
	}
}

func (r *run) readPowers(ctx context.Context) error {
	f, err := os.Open(filepath.Join(r.c.dir, filePowers))
	if err != nil {
		return err
	}
	defer f.Close() // read only
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := ptau.Open(f, info.Size())
	if err != nil {
		return err
	}
	if file.Power != r.c.power() {
		return fmt.Errorf("the file has power %d, want %d", file.Power, r.c.power())
	}
	d, err := file.Digests(ctx)
	if err != nil {
		return err
	}
	if digest.Digest(d.SHA256) != r.c.State.Powers.Digest {
		return errors.New("the file's digest does not match")
	}
	r.commons, err = file.Powers(ctx, r.c.State.Domain, ptau.Progress(r.tell))
	return err
}
