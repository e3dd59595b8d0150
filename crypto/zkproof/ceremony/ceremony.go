// Package ceremony makes Groth16 keys with several parties, so that proofs are sound if
// one of them was honest and forgot what it drew.
//
// A ceremony is a directory: the circuit, a file for each contribution, and
// ceremony.json, which lists them with their digests. It has two phases: powers of
// tau, then what the circuit needs; each ends with a public beacon that nobody could
// have known before the last contribution. The directory goes from party to party.
//
// It guarantees that keys which it hands out come from a transcript that it verified
// from the first contribution to the last; that a contribution which was changed,
// left out or put elsewhere is found and named; and that two contributions at least
// are in each phase. It trusts gnark's implementation of the protocol (ePrint
// 2017/1050, with keys of commitments). It refuses to go on with a directory that does
// not verify.
//
// The command line runs it; verifiers run Verify again by themselves.
package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/crypto/zkproof"
)

// Errors of this package.
var (
	// ErrTranscript means a directory that is not an unbroken ceremony.
	ErrTranscript = errors.New("ceremony: the transcript does not verify")
	// ErrOrder means a step that is not the next one.
	ErrOrder = errors.New("ceremony: not the next step")
)

// Limits.
const (
	// MinContributions are needed in each phase.
	MinContributions = 2
	maxContributions = 64
	minBeaconBytes   = 16
	maxStateBytes    = 1 << 20
	maxNameBytes     = 128
)

// The files of a ceremony, beside those of contributions.
const (
	fileState   = "ceremony.json"
	fileCircuit = "circuit"
)

// Contribution is one party's part in one phase.
type Contribution struct {
	// Name is what the party calls itself; it proves nothing.
	Name   string           `json:"name"`
	Digest statement.Digest `json:"digest"` // SHA-256 of its file
}

// Phase is one half of a ceremony.
type Phase struct {
	Contributions []Contribution `json:"contributions"`
	// Beacon ends the phase; hexadecimal.
	Beacon string `json:"beacon,omitempty"`
}

// State is what ceremony.json says.
type State struct {
	Format string `json:"format"`
	// Record is what the keys will be for; without their digests.
	Circuit     statement.Digest            `json:"circuit"`
	Library     string                      `json:"library"`
	Inference   *statement.InferenceCircuit `json:"inference,omitempty"`
	Gradient    *statement.GradientCircuit  `json:"gradient,omitempty"`
	Constraints int                         `json:"constraints"`
	// Domain is the power of two that the powers of tau are for.
	Domain uint64   `json:"domain"`
	Phases [2]Phase `json:"phases"`
}

const format = "anchorhold/ceremony/1"

// Ceremony is an open directory.
type Ceremony struct {
	State State
	dir   string
}

// Begin makes a directory for a circuit.
func Begin(dir string, circuit *zkproof.Circuit, inference *statement.InferenceCircuit, gradient *statement.GradientCircuit) (*Ceremony, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	n := circuit.Constraints()
	c := &Ceremony{dir: dir, State: State{Format: format, Circuit: circuit.Digest, Library: zkproof.Library, Inference: inference, Gradient: gradient,
		Constraints: n, Domain: 1 << bits.Len64(uint64(n-1))}}
	if err := c.write(fileCircuit, func(w io.Writer) error { _, err := circuit.WriteTo(w); return err }); err != nil {
		return nil, err
	}
	return c, c.save()
}

// Open reads a directory's state; it verifies nothing.
func Open(dir string) (*Ceremony, error) {
	f, err := os.Open(filepath.Join(dir, fileState))
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	raw, err := io.ReadAll(io.LimitReader(f, maxStateBytes+1))
	if err != nil {
		return nil, err
	}
	c := &Ceremony{dir: dir}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c.State); err != nil || len(raw) > maxStateBytes {
		return nil, fmt.Errorf("%s: %w: %w", fileState, ErrTranscript, err)
	}
	return c, c.State.check()
}

func (s *State) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: "+format+": %w", append(append([]any{fileState}, args...), ErrTranscript)...)
	}
	switch {
	case s.Format != format:
		return bad("format %.40q", s.Format)
	case s.Library != zkproof.Library:
		return bad("the circuit is of %q, this is %q", s.Library, zkproof.Library)
	case s.Constraints < 1 || s.Domain != 1<<bits.Len64(uint64(s.Constraints-1)):
		return bad("%d constraints do not have the domain %d", s.Constraints, s.Domain)
	case (s.Inference == nil) == (s.Gradient == nil):
		return bad("it is not said what the circuit is about")
	}
	for i, p := range s.Phases {
		if len(p.Contributions) > maxContributions {
			return bad("%d contributions", len(p.Contributions))
		}
		if p.Beacon != "" {
			if b, err := hex.DecodeString(p.Beacon); err != nil || len(b) < minBeaconBytes {
				return bad("beacon of phase %d", i+1)
			}
		}
	}
	if s.Phases[0].Beacon == "" && len(s.Phases[1].Contributions) > 0 || s.Phases[1].Beacon != "" && s.Phases[0].Beacon == "" {
		return bad("phase 2 before the end of phase 1")
	}
	return nil
}

// Phase is the phase that is open, 1 or 2; 3 after the end.
func (c *Ceremony) Phase() int {
	for i, p := range c.State.Phases {
		if p.Beacon == "" {
			return i + 1
		}
	}
	return 3
}

// Digest names the whole transcript: the SHA-256 of its state, which has the digest of
// every contribution. It is what a record of keys names.
func (c *Ceremony) Digest() (statement.Digest, error) {
	raw, err := json.Marshal(c.State)
	return sha256.Sum256(raw), err
}

func (c *Ceremony) save() error {
	return c.write(fileState, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(c.State)
	})
}

// write writes a whole file or nothing.
func (c *Ceremony) write(name string, f func(io.Writer) error) error {
	out, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return err
	}
	err = errors.Join(f(out), out.Chmod(0o644), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

func contributionFile(phase, number int) string {
	return fmt.Sprintf("phase%d-%02d", phase, number)
}

// circuit reads the circuit and checks its digest.
func (c *Ceremony) circuit() (*zkproof.Circuit, error) {
	f, err := os.Open(filepath.Join(c.dir, fileCircuit))
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	circuit, err := zkproof.ReadCircuit(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	if statement.Digest(circuit.Digest) != c.State.Circuit || circuit.Constraints() != c.State.Constraints {
		return nil, fmt.Errorf("the circuit is not the one of the ceremony: %w", ErrTranscript)
	}
	return circuit, nil
}
