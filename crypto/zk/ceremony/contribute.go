package ceremony

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Party is the party that contributes.
type Party struct {
	// Name is what the party calls itself: 1 to 128 bytes that can be printed.
	Name string
	// Statement is what it says about how it contributed, such as the machine that it
	// used and how that was destroyed: up to 1,024 bytes that can be printed.
	Statement string
}

// Contribute is ContributeAs without a statement and without a context.
func (c *Ceremony) Contribute(name string, tell Progress) (Contribution, error) {
	return c.ContributeAs(context.Background(), Party{Name: name}, tell)
}

// ContributeAs verifies the transcript and adds one party's contribution to the open phase. The
// party's secret is in this process's memory only. The error is ErrOrder, ErrTranscript, the
// context's, or a failure to read or write; the ceremony is then unchanged.
func (c *Ceremony) ContributeAs(ctx context.Context, party Party, tell Progress) (Contribution, error) {
	phase := c.Phase()
	if phase > 2 {
		return Contribution{}, fmt.Errorf("both phases have ended: %w", ErrOrder)
	}
	if err := checkTexts(party.Name, party.Statement); err != nil {
		return Contribution{}, fmt.Errorf("%w: %w", ErrOrder, err)
	}
	number := len(c.State.Phases[phase-1].Contributions) + 1
	if number > maxContributions {
		return Contribution{}, fmt.Errorf("the phase already has the maximum of %d contributions: %w", maxContributions, ErrOrder)
	}
	r, err := c.verify(ctx, tell)
	if err != nil {
		return Contribution{}, err
	}
	var mine contribution = r.phase1
	if phase == 2 {
		mine = r.phase2
	}
	if err := r.step(ctx, "drawing secrets and contributing", func() error { mine.Contribute(); return nil }); err != nil {
		return Contribution{}, err
	}
	added := Contribution{Name: party.Name, Statement: party.Statement}
	h := sha256.New()
	err = c.writeNamed(func(w io.Writer) error {
		out := bufio.NewWriterSize(until(ctx, io.MultiWriter(w, h).Write), 1<<20)
		_, err := mine.WriteTo(out)
		return errors.Join(err, out.Flush())
	}, func() string {
		added.Digest = digest.Sum(h)
		return contributionFile(phase, number, added.Digest)
	})
	if err != nil {
		return Contribution{}, err
	}
	return added, c.save(c.State.with(phase, func(p *Phase) { p.Contributions = append(p.Contributions, added) }))
}

// End is EndContext without a context.
func (c *Ceremony) End(beacon []byte, tell Progress) error {
	return c.EndContext(context.Background(), beacon, tell)
}

// EndContext ends the open phase with a beacon: public randomness from a time after the last
// contribution, such as the hash of a block that was named in advance. The error is ErrOrder,
// ErrTranscript, the context's, or a failure to read or write.
func (c *Ceremony) EndContext(ctx context.Context, beacon []byte, tell Progress) error {
	phase := c.Phase()
	switch {
	case phase > 2:
		return fmt.Errorf("both phases have ended: %w", ErrOrder)
	case len(beacon) < minBeaconBytes || len(beacon) > maxBeaconBytes:
		return fmt.Errorf("a beacon must have %d to %d bytes: %w", minBeaconBytes, maxBeaconBytes, ErrOrder)
	case len(c.State.Phases[phase-1].Contributions) < MinContributions:
		return fmt.Errorf("phase %d has %d contributions, want at least %d: %w", phase, len(c.State.Phases[phase-1].Contributions), MinContributions, ErrOrder)
	}
	if _, err := c.verify(ctx, tell); err != nil {
		return err
	}
	return c.save(c.State.with(phase, func(p *Phase) { p.Beacon = hex.EncodeToString(beacon) }))
}

// Keys is KeysContext without a context.
func (c *Ceremony) Keys(out string, tell Progress) (keyset.Set, error) {
	return c.KeysContext(context.Background(), out, tell)
}

// KeysContext verifies a finished ceremony and writes the resulting keys to a directory in the
// form of package keyset. The error is ErrOrder, ErrTranscript, the context's, or a failure to
// read or write.
func (c *Ceremony) KeysContext(ctx context.Context, out string, tell Progress) (keyset.Set, error) {
	if phase := c.Phase(); phase <= 2 {
		return keyset.Set{}, fmt.Errorf("phase %d has not ended: %w", phase, ErrOrder)
	}
	r, err := c.verify(ctx, tell)
	if err != nil {
		return keyset.Set{}, err
	}
	if !r.complete {
		return keyset.Set{}, fmt.Errorf("no keys: %w", ErrTranscript)
	}
	verifying, err := circuits.Encode(r.vk)
	if err != nil {
		return keyset.Set{}, err
	}
	record := statement.Record{System: statement.Groth16, Circuit: c.State.Circuit, Library: c.State.Library, Inference: c.State.Inference, Gradient: c.State.Gradient}
	if record.Ceremony, err = c.Digest(); err != nil {
		return keyset.Set{}, err
	}
	return keyset.Save(out, record,
		func(w io.Writer) error { _, err := r.circuit.WriteTo(until(ctx, w.Write)); return err },
		func(w io.Writer) error { _, err := r.pk.WriteRawTo(until(ctx, w.Write)); return err }, verifying)
}
