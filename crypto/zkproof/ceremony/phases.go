package ceremony

import (
	"bufio"
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

	"github.com/anchorhold/anchorhold/crypto/proofkeys"
	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/crypto/zkproof"
)

// Progress is told what is being done.
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
	circuit  *zkproof.Circuit
	phase1   *mpcsetup.Phase1
	commons  mpcsetup.SrsCommons
	phase2   *mpcsetup.Phase2
	evals    mpcsetup.Phase2Evaluations
	pk       groth16.ProvingKey
	vk       groth16.VerifyingKey
	complete bool
}

// verify goes through the transcript from its beginning to where it ends now.
func (c *Ceremony) verify(tell Progress) (*run, error) {
	if tell == nil {
		tell = func(string) {}
	}
	if err := c.State.check(); err != nil {
		return nil, err
	}
	r := &run{c: c, tell: tell, phase1: mpcsetup.NewPhase1(c.State.Domain)}
	for i := range c.State.Phases[0].Contributions {
		next := new(mpcsetup.Phase1)
		if err := r.step(1, i, next, func() error { return r.phase1.Verify(next) }); err != nil {
			return nil, err
		}
		r.phase1 = next
	}
	if c.State.Phases[0].Beacon == "" {
		return r, nil
	}
	return r, r.second()
}

// second verifies phase 2.
func (r *run) second() (err error) {
	c := r.c
	beacon, err := c.beacon(0)
	if err != nil {
		return err
	}
	r.tell("beacon of phase 1")
	if r.circuit, err = c.circuit(); err != nil {
		return err
	}
	system, ok := r.circuit.System.(*cs.R1CS)
	if !ok {
		return fmt.Errorf("a system of %T: %w", r.circuit.System, ErrTranscript)
	}
	err = safely(func() error {
		r.commons = r.phase1.Seal(beacon)
		r.phase2 = new(mpcsetup.Phase2)
		r.evals = r.phase2.Initialize(system, &r.commons)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range c.State.Phases[1].Contributions {
		next := new(mpcsetup.Phase2)
		err := r.step(2, i, next, func() error {
			// The library takes the number of these from what it verifies.
			if len(next.Sigmas) != len(r.phase2.Sigmas) || len(next.Parameters.G2.Sigma) != len(r.phase2.Parameters.G2.Sigma) {
				return errors.New("another number of commitments")
			}
			return r.phase2.Verify(next)
		})
		if err != nil {
			return err
		}
		r.phase2 = next
	}
	if c.State.Phases[1].Beacon == "" {
		return nil
	}
	if beacon, err = c.beacon(1); err != nil {
		return err
	}
	r.tell("beacon of phase 2, keys")
	r.complete = true
	return safely(func() error {
		r.pk, r.vk = r.phase2.Seal(&r.commons, &r.evals, beacon)
		return nil
	})
}

func (c *Ceremony) beacon(phase int) ([]byte, error) {
	p := c.State.Phases[phase]
	if len(p.Contributions) < MinContributions {
		return nil, fmt.Errorf("phase %d ended with %d contributions, %d are needed: %w", phase+1, len(p.Contributions), MinContributions, ErrTranscript)
	}
	return hex.DecodeString(p.Beacon)
}

// step reads one contribution and verifies it against the one before.
func (r *run) step(phase, i int, next contribution, check func() error) error {
	said := r.c.State.Phases[phase-1].Contributions[i]
	r.tell(fmt.Sprintf("contribution %d of phase %d, by %q", i+1, phase, said.Name))
	fail := func(err error) error {
		return fmt.Errorf("contribution %d of phase %d, by %q: %w: %w", i+1, phase, said.Name, ErrTranscript, err)
	}
	path := filepath.Join(r.c.dir, contributionFile(phase, i+1))
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer f.Close() // read only
	// The digest comes first: nothing is decoded that is not what the state names.
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fail(err)
	}
	if statement.Digest(h.Sum(nil)) != said.Digest {
		return fail(errors.New("the file has another digest"))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fail(err)
	}
	err = safely(func() error {
		in := bufio.NewReaderSize(f, 1<<20)
		if _, err := next.ReadFrom(in); err != nil {
			return err
		}
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			return errors.New("bytes after the end")
		}
		return check()
	})
	if err != nil {
		return fail(err)
	}
	return nil
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

// Contribute verifies what is there and adds one party's contribution to the open
// phase. What it draws is in this process's memory alone.
func (c *Ceremony) Contribute(name string, tell Progress) (Contribution, error) {
	phase := c.Phase()
	if phase > 2 {
		return Contribution{}, fmt.Errorf("both phases have ended: %w", ErrOrder)
	}
	if name == "" || len(name) > maxNameBytes {
		return Contribution{}, fmt.Errorf("a contribution has a name of 1 to %d characters: %w", maxNameBytes, ErrOrder)
	}
	r, err := c.verify(tell)
	if err != nil {
		return Contribution{}, err
	}
	p := &c.State.Phases[phase-1]
	if len(p.Contributions) >= maxContributions {
		return Contribution{}, fmt.Errorf("the phase has its %d contributions: %w", maxContributions, ErrOrder)
	}
	var mine contribution = r.phase1
	if phase == 2 {
		mine = r.phase2
	}
	r.tell("drawing and contributing")
	if err := safely(func() error { mine.Contribute(); return nil }); err != nil {
		return Contribution{}, err
	}
	h := sha256.New()
	err = c.write(contributionFile(phase, len(p.Contributions)+1), func(w io.Writer) error {
		_, err := mine.WriteTo(io.MultiWriter(w, h))
		return err
	})
	if err != nil {
		return Contribution{}, err
	}
	added := Contribution{Name: name, Digest: statement.Digest(h.Sum(nil))}
	p.Contributions = append(p.Contributions, added)
	return added, c.save()
}

// End ends the open phase with a beacon: public randomness of a time after the last
// contribution, such as a block's hash that was named in advance.
func (c *Ceremony) End(beacon []byte, tell Progress) error {
	phase := c.Phase()
	switch {
	case phase > 2:
		return fmt.Errorf("both phases have ended: %w", ErrOrder)
	case len(beacon) < minBeaconBytes:
		return fmt.Errorf("a beacon has at least %d bytes: %w", minBeaconBytes, ErrOrder)
	case len(c.State.Phases[phase-1].Contributions) < MinContributions:
		return fmt.Errorf("phase %d has %d contributions, %d are needed: %w", phase, len(c.State.Phases[phase-1].Contributions), MinContributions, ErrOrder)
	}
	if _, err := c.verify(tell); err != nil {
		return err
	}
	c.State.Phases[phase-1].Beacon = hex.EncodeToString(beacon)
	return c.save()
}

// Verify verifies the whole transcript, as far as it is.
func (c *Ceremony) Verify(tell Progress) error {
	_, err := c.verify(tell)
	return err
}

// Keys verifies a ceremony that has ended and writes the keys that come from it.
func (c *Ceremony) Keys(out string, tell Progress) (proofkeys.Set, error) {
	r, err := c.verify(tell)
	if err != nil {
		return proofkeys.Set{}, err
	}
	if !r.complete {
		return proofkeys.Set{}, fmt.Errorf("phase %d has not ended: %w", c.Phase(), ErrOrder)
	}
	verifying, err := zkproof.Encode(r.vk)
	if err != nil {
		return proofkeys.Set{}, err
	}
	record := statement.Record{System: statement.Groth16, Circuit: c.State.Circuit, Library: c.State.Library, Inference: c.State.Inference, Gradient: c.State.Gradient}
	if record.Ceremony, err = c.Digest(); err != nil {
		return proofkeys.Set{}, err
	}
	return proofkeys.Save(out, record, func(w io.Writer) error { _, err := r.circuit.WriteTo(w); return err },
		func(w io.Writer) error { _, err := r.pk.WriteRawTo(w); return err }, verifying)
}
