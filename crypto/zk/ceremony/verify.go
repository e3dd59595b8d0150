package ceremony

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
	cs "github.com/consensys/gnark/constraint/bn254"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
)

// Progress is called with a description of each step.
type Progress func(what string)

// contribution is what both phases have in common.
type contribution interface {
	io.WriterTo
	io.ReaderFrom
	Contribute()
}

// run is a ceremony as far as it was verified.
type run struct {
	c        *Ceremony
	tell     Progress
	circuit  *circuits.Circuit
	system   *cs.R1CS
	phase1   *mpcsetup.Phase1 // nil if it is not held
	commons  *mpcsetup.SrsCommons
	phase2   *mpcsetup.Phase2
	evals    mpcsetup.Phase2Evaluations
	pk       groth16.ProvingKey
	vk       groth16.VerifyingKey
	complete bool
}

// Verify verifies the whole transcript as far as it exists. The error is ErrTranscript, which
// names the file at fault, or a failure to read.
func (c *Ceremony) Verify(tell Progress) error { return c.VerifyContext(context.Background(), tell) }

// VerifyContext is Verify with a context that can end it.
func (c *Ceremony) VerifyContext(ctx context.Context, tell Progress) error {
	_, err := c.verify(ctx, tell)
	return err
}

// verify goes through the transcript from its beginning to where it ends now. The circuit
// comes first: it bounds what the rest may take.
func (c *Ceremony) verify(ctx context.Context, tell Progress) (*run, error) {
	if tell == nil {
		tell = func(string) {}
	}
	if err := c.State.check(); err != nil {
		return nil, err
	}
	r := &run{c: c, tell: tell}
	if err := r.step(ctx, "circuit", r.readCircuit); err != nil {
		return nil, err
	}
	if c.State.Powers != nil {
		if err := r.takePowers(ctx); err != nil {
			return nil, err
		}
		return r, r.second(ctx)
	}
	if err := r.first(ctx); err != nil || c.State.Phases[0].Beacon == "" {
		return r, err
	}
	return r, r.second(ctx)
}

// step does one thing that the library does not let us stop.
func (r *run) step(ctx context.Context, what string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.tell(what)
	if err := safely(do); err != nil {
		return err
	}
	return ctx.Err()
}

// safely turns a panic of the library into an error.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library failed: %v: %w", p, ErrTranscript)
		}
	}()
	return f()
}

// readCircuit reads the circuit and checks its digest, then what it says.
func (r *run) readCircuit() error {
	fail := func(err error) error { return fmt.Errorf("%s: %w: %w", fileCircuit, ErrTranscript, err) }
	f, err := os.Open(filepath.Join(r.c.dir, fileCircuit))
	if err != nil {
		return fail(err)
	}
	defer f.Close() // read only
	if r.circuit, err = circuits.OpenCircuit(f, r.c.State.Circuit); err != nil {
		return fail(err)
	}
	if r.system, err = system(r.circuit); err != nil {
		return fail(err)
	}
	if n := r.circuit.Constraints(); n != r.c.State.Constraints {
		return fail(fmt.Errorf("got %d constraints, %s says %d", n, fileState, r.c.State.Constraints))
	}
	return nil
}

// first verifies phase 1, and seals it if it has ended.
func (r *run) first(ctx context.Context) error {
	p := r.c.State.Phases[0]
	r.phase1 = mpcsetup.NewPhase1(r.c.State.Domain)
	want := layout1(r.c.State.Domain)
	for i := range p.Contributions {
		next := new(mpcsetup.Phase1)
		if err := r.contribution(ctx, 1, i, want, next, func() error { return r.phase1.Verify(next) }); err != nil {
			return err
		}
		r.phase1 = next
	}
	if p.Beacon == "" {
		return nil
	}
	return r.step(ctx, "beacon of phase 1", func() error {
		beacon, err := hex.DecodeString(p.Beacon)
		if err != nil {
			return err
		}
		commons := r.phase1.Seal(beacon)
		r.commons = &commons
		return nil
	})
}

// second begins phase 2, verifies it, and makes the keys if it has ended.
func (r *run) second(ctx context.Context) error {
	err := r.step(ctx, "beginning of phase 2", func() error {
		r.phase2 = new(mpcsetup.Phase2)
		r.evals = r.phase2.Initialize(r.system, r.commons)
		return nil
	})
	if err != nil {
		return err
	}
	p := r.c.State.Phases[1]
	want := layout2(r.phase2)
	for i := range p.Contributions {
		next := new(mpcsetup.Phase2)
		if err := r.contribution(ctx, 2, i, want, next, func() error { return r.phase2.Verify(next) }); err != nil {
			return err
		}
		r.phase2 = next
	}
	if p.Beacon == "" {
		return nil
	}
	return r.step(ctx, "beacon of phase 2, keys", func() error {
		beacon, err := hex.DecodeString(p.Beacon)
		if err != nil {
			return err
		}
		r.pk, r.vk = r.phase2.Seal(r.commons, &r.evals, beacon)
		r.complete = true
		return nil
	})
}

// contribution reads one and verifies it against the one before.
func (r *run) contribution(ctx context.Context, phase, i int, want layout, next contribution, verify func() error) error {
	said := r.c.State.Phases[phase-1].Contributions[i]
	what := fmt.Sprintf("contribution %d of phase %d, by %q", i+1, phase, said.Name)
	err := r.step(ctx, what, func() error { return r.readContribution(ctx, phase, i+1, said.Digest, want, next, verify) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%s: %w: %w", what, ErrTranscript, err)
	}
}

func (r *run) readContribution(ctx context.Context, phase, number int, sum digest.Digest, want layout, next contribution, verify func() error) error {
	f, err := os.Open(filepath.Join(r.c.dir, contributionFile(phase, number, sum)))
	if err != nil {
		return err
	}
	defer f.Close() // read only
	// Digest and layout come first: nothing is decoded that is not what the state names.
	h := sha256.New()
	laidOut := want.check(io.TeeReader(until(ctx, f.Read), h))
	if _, err := io.Copy(h, until(ctx, f.Read)); err != nil {
		return err
	}
	if digest.Sum(h) != sum {
		return errors.New("the file's digest does not match")
	}
	if laidOut != nil {
		return laidOut
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := next.ReadFrom(bufio.NewReaderSize(until(ctx, f.Read), 1<<20)); err != nil {
		return err
	}
	return verify()
}
