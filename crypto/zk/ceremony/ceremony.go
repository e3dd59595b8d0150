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
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/consensys/gnark/constraint"
	cs "github.com/consensys/gnark/constraint/bn254"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Errors of this package.
var (
	// ErrTranscript means a directory that is not a complete, unchanged ceremony.
	ErrTranscript = errors.New("ceremony: the transcript does not verify")
	// ErrOrder means a step that is not the next one.
	ErrOrder = errors.New("ceremony: not the next step")
	// ErrCircuit means a circuit that cannot have a ceremony: not for Groth16 over BN254, with
	// more than one commitment, or too small or too large.
	ErrCircuit = errors.New("ceremony: circuit refused")
)

// Limits.
const (
	// MinContributions is the number of contributions that each phase held here needs.
	MinContributions = 2
	// MaxConstraints bounds a circuit.
	MaxConstraints = 1 << 24

	maxContributions  = 64
	maxCommitments    = 1
	minBeaconBytes    = 16
	maxBeaconBytes    = 128
	maxStateBytes     = 1 << 20
	maxNameBytes      = 128
	maxStatementBytes = 1024
)

// The files of a ceremony, beside those of contributions.
const (
	fileState   = "ceremony.json"
	fileCircuit = "circuit"
	filePowers  = "powers.ptau"
)

// Contribution is one party's part in one phase.
type Contribution struct {
	// Name is what the party calls itself, Statement what it says about how it
	// contributed; neither proves anything.
	Name      string        `json:"name"`
	Statement string        `json:"statement,omitempty"`
	Digest    digest.Digest `json:"digest"` // SHA-256 of its file
}

// Phase is one half of a ceremony.
type Phase struct {
	Contributions []Contribution `json:"contributions"`
	// Beacon ends the phase; hexadecimal.
	Beacon string `json:"beacon,omitempty"`
}

// Powers say where phase 1 comes from, if it was taken from a file.
type Powers struct {
	Source digest.Digest `json:"source"` // SHA-256 of the public file
	Digest digest.Digest `json:"digest"` // SHA-256 of its part that is in the directory
}

// State is the contents of ceremony.json.
type State struct {
	Format string `json:"format"`
	// Circuit and what follows say what the keys will be for.
	Circuit     digest.Digest               `json:"circuit"`
	Library     string                      `json:"library"`
	Inference   *statement.InferenceCircuit `json:"inference,omitempty"`
	Gradient    *statement.GradientCircuit  `json:"gradient,omitempty"`
	Constraints int                         `json:"constraints"`
	// Domain is the power of two that the powers of tau are for.
	Domain uint64 `json:"domain"`
	// Powers stand in for phase 1; nil if the phase takes place here.
	Powers *Powers  `json:"powers,omitempty"`
	Phases [2]Phase `json:"phases"`
}

const format = "anchorhold/ceremony/1"

// Ceremony is an open directory. It is not safe for concurrent use.
type Ceremony struct {
	State State
	dir   string
}

// Begin makes a directory for a circuit. The error is ErrCircuit, or a failure to write.
func Begin(dir string, circuit *circuits.Circuit, inference *statement.InferenceCircuit, gradient *statement.GradientCircuit) (*Ceremony, error) {
	c, err := begin(dir, circuit, inference, gradient)
	if err != nil {
		return nil, err
	}
	return c, c.save(c.State)
}

// begin makes a directory without its state.
func begin(dir string, circuit *circuits.Circuit, inference *statement.InferenceCircuit, gradient *statement.GradientCircuit) (*Ceremony, error) {
	if _, err := system(circuit); err != nil {
		return nil, err
	}
	n := circuit.Constraints()
	c := &Ceremony{dir: dir, State: State{Format: format, Circuit: circuit.Digest, Library: circuits.Library, Inference: inference, Gradient: gradient,
		Constraints: n, Domain: domain(n)}}
	if err := c.State.check(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return c, c.write(fileCircuit, func(w io.Writer) error { _, err := circuit.WriteTo(w); return err })
}

// domain is the power of two that has room for n constraints.
func domain(n int) uint64 { return 1 << bits.Len64(uint64(n-1)) }

// system is the circuit as the library has it for Groth16.
func system(c *circuits.Circuit) (*cs.R1CS, error) {
	// The library has one Go type for systems of both kinds.
	s, ok := c.System.(*cs.R1CS)
	if !ok || s.Type != constraint.SystemR1CS {
		return nil, fmt.Errorf("%w: want one compiled for Groth16 over BN254", ErrCircuit)
	}
	if n := len(s.CommitmentInfo.CommitmentIndexes()); n > maxCommitments {
		return nil, fmt.Errorf("%w: %d commitments, want at most %d", ErrCircuit, n, maxCommitments)
	}
	if n := s.GetNbConstraints(); n < 2 || n > MaxConstraints {
		return nil, fmt.Errorf("%w: %d constraints, want 2 to %d", ErrCircuit, n, MaxConstraints)
	}
	return s, nil
}

// Open reads a directory's state and verifies nothing else. The error is ErrTranscript, or a
// failure to read.
func Open(dir string) (*Ceremony, error) {
	f, err := os.Open(filepath.Join(dir, fileState))
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	raw, err := io.ReadAll(io.LimitReader(f, maxStateBytes))
	if err != nil {
		return nil, err
	}
	c := &Ceremony{dir: dir}
	if c.State, err = parseState(raw); err != nil {
		return nil, err
	}
	return c, nil
}

// parseState reads ceremony.json, in the one form in which it is written.
func parseState(raw []byte) (s State, err error) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, badState("%w", err)
	}
	if err := s.check(); err != nil {
		return s, err
	}
	if again, err := s.encode(); err != nil || !bytes.Equal(raw, again) {
		return s, badState("it is not in the form in which it was written")
	}
	return s, nil
}

func badState(format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", fileState, ErrTranscript, fmt.Errorf(format, args...))
}

func (s *State) encode() ([]byte, error) {
	raw, err := json.MarshalIndent(s, "", "  ")
	return append(raw, '\n'), err
}

func (s *State) check() error {
	switch {
	case s.Format != format:
		return badState("unknown format %.40q", s.Format)
	case s.Library != circuits.Library:
		return badState("the circuit was compiled by %.40q, this program uses %q", s.Library, circuits.Library)
	case s.Constraints < 2 || s.Constraints > MaxConstraints || s.Domain != domain(s.Constraints):
		return badState("%d constraints do not match the domain %d", s.Constraints, s.Domain)
	case (s.Inference == nil) == (s.Gradient == nil):
		return badState("the circuit must be about either inferences or a gradient")
	case s.Powers != nil && (len(s.Phases[0].Contributions) > 0 || s.Phases[0].Beacon != ""):
		return badState("phase 1 has contributions of its own although it was taken from a file")
	}
	for i, p := range s.Phases {
		if err := p.check(); err != nil {
			return badState("phase %d: %w", i+1, err)
		}
	}
	first, second := s.Phases[0], s.Phases[1]
	if s.Powers == nil && first.Beacon == "" && (len(second.Contributions) > 0 || second.Beacon != "") {
		return badState("phase 2 began before phase 1 ended")
	}
	return nil
}

func (p *Phase) check() error {
	if len(p.Contributions) > maxContributions {
		return fmt.Errorf("%d contributions, want at most %d", len(p.Contributions), maxContributions)
	}
	for i, c := range p.Contributions {
		if err := checkTexts(c.Name, c.Statement); err != nil {
			return fmt.Errorf("contribution %d: %w", i+1, err)
		}
	}
	if p.Beacon == "" {
		return nil
	}
	if b, err := hex.DecodeString(p.Beacon); err != nil || len(b) < minBeaconBytes || len(b) > maxBeaconBytes {
		return errors.New("the beacon is malformed")
	}
	if len(p.Contributions) < MinContributions {
		return fmt.Errorf("it ended with %d contributions, want at least %d", len(p.Contributions), MinContributions)
	}
	return nil
}

// checkTexts admits what terminals and logs show as it is.
func checkTexts(name, said string) error {
	if name == "" || len(name) > maxNameBytes || len(said) > maxStatementBytes {
		return fmt.Errorf("a name must have 1 to %d bytes, and a statement at most %d", maxNameBytes, maxStatementBytes)
	}
	for _, text := range []string{name, said} {
		if !utf8.ValidString(text) || slices.ContainsFunc([]rune(text), func(r rune) bool { return !unicode.IsPrint(r) }) {
			return errors.New("a name or statement contains characters that cannot be printed")
		}
	}
	return nil
}

// Phase is the phase that is open, 1 or 2; 3 after the end.
func (c *Ceremony) Phase() int {
	for i, p := range c.State.Phases {
		if p.Beacon == "" && (i > 0 || c.State.Powers == nil) {
			return i + 1
		}
	}
	return 3
}

// Digest names the whole transcript: the SHA-256 of its state, which has the digest of
// every contribution. It is what a record of keys names.
func (c *Ceremony) Digest() (digest.Digest, error) {
	raw, err := json.Marshal(c.State)
	return sha256.Sum256(raw), err
}

// save makes s the ceremony's state, on disk and then here.
func (c *Ceremony) save(s State) error {
	raw, err := s.encode()
	if err != nil {
		return err
	}
	if err := c.write(fileState, func(w io.Writer) error { _, err := w.Write(raw); return err }); err != nil {
		return err
	}
	c.State = s
	return nil
}

// with is the state with one phase changed.
func (s State) with(phase int, change func(*Phase)) State {
	p := &s.Phases[phase-1]
	p.Contributions = slices.Clone(p.Contributions)
	change(p)
	return s
}

// write writes a whole file or nothing.
func (c *Ceremony) write(name string, f func(io.Writer) error) error {
	return c.writeNamed(f, func() string { return name })
}

// writeNamed does the same with a file whose name is known when it is written.
func (c *Ceremony) writeNamed(f func(io.Writer) error, name func() string) error {
	out, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return err
	}
	err = errors.Join(f(out), out.Chmod(0o644), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), filepath.Join(c.dir, name()))
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return c.sync()
}

// sync has the directory's entries survive a crash.
func (c *Ceremony) sync() error {
	d, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// contributionFile names a file by its place and its digest. The name is for people: a
// file counts by its digest.
func contributionFile(phase, number int, d digest.Digest) string {
	return fmt.Sprintf("phase%d-%02d-%s", phase, number, d)
}
