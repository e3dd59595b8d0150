package setup

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/spf13/cobra"
)

// The words of what keys are made for.
const (
	circuitTooManyArguments = "got %d arguments, want at most one sealed classifier; see '%s --help'"
	circuitFlagKey          = "file with the model key"
	circuitFlagPublisher    = "the publisher's identity (ahpub1... or a file)"
	circuitFlagBatch        = "answers that one proof covers; agents make proofs of one"
	circuitFlagGradient     = "instead of a model: the number of values in an update, at most %d"
	circuitFlagBits         = "bits of a value in the proof of an update: 8, or 16, which costs twice as much"
	circuitPLONKGradient    = "--plonk makes keys for classifiers only; keys for --gradient use Groth16"
	circuitTwoSubjects      = "name a model or give --gradient, not both"
	circuitNoSubject        = "name a sealed classifier, or give --gradient with the number of values in an update"
	circuitNoKey            = "--key is required to read the model's architecture"
	circuitNoPublisher      = "--publisher is required to read the model's architecture"
)

// circuitChoice is what keys are made for: a sealed classifier's architecture, or
// vectors of a length.
type circuitChoice struct {
	key, publisher string
	batch          int
	gradient, bits int
	plonk          bool // compile for PLONK
}

func (f *circuitChoice) flags(c *cobra.Command) {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return cli.Usage(fmt.Errorf(circuitTooManyArguments, len(args), c.CommandPath()))
		}
		return nil
	}
	c.Flags().StringVar(&f.key, "key", "", circuitFlagKey)
	c.Flags().StringVar(&f.publisher, "publisher", "", circuitFlagPublisher)
	c.Flags().IntVar(&f.batch, "batch", 1, circuitFlagBatch)
	c.Flags().IntVar(&f.gradient, "gradient", 0, fmt.Sprintf(circuitFlagGradient, circuits.MaxCoordinates))
	c.Flags().IntVar(&f.bits, "bits", 8, circuitFlagBits)
}

// compile makes the circuit, and the part of a record that says what it is about.
func (f *circuitChoice) compile(args []string) (*circuits.Circuit, statement.Record, error) {
	switch {
	case f.gradient != 0 && f.plonk:
		return nil, statement.Record{}, cli.Usage(errors.New(circuitPLONKGradient))
	case f.gradient != 0 && len(args) == 0:
		return f.compileGradient()
	case f.gradient != 0:
		return nil, statement.Record{}, cli.Usage(errors.New(circuitTwoSubjects))
	case len(args) == 0:
		return nil, statement.Record{}, cli.Usage(errors.New(circuitNoSubject))
	case f.key == "":
		return nil, statement.Record{}, cli.Usage(errors.New(circuitNoKey))
	case f.publisher == "":
		return nil, statement.Record{}, cli.Usage(errors.New(circuitNoPublisher))
	}
	a, classes, err := sealedArchitecture(args[0], f.key, f.publisher)
	if err != nil {
		return nil, statement.Record{}, err
	}
	digest, err := a.Digest()
	if err != nil {
		return nil, statement.Record{}, err
	}
	compile := circuits.CompileInference
	if f.plonk {
		compile = circuits.CompileInferencePLONK
	}
	circuit, err := compile(circuits.Inference{Architecture: a, Batch: f.batch})
	return circuit, statement.Record{Inference: &statement.InferenceCircuit{Architecture: digest, Items: uint16(f.batch), Outputs: uint16(classes)}}, err
}

func (f *circuitChoice) compileGradient() (*circuits.Circuit, statement.Record, error) {
	spec := circuits.Gradient{Coordinates: f.gradient, Bits: f.bits}
	if err := spec.Check(); err != nil {
		return nil, statement.Record{}, cli.Usage(err)
	}
	circuit, err := circuits.CompileGradient(spec)
	return circuit, statement.Record{Gradient: &statement.GradientCircuit{Coordinates: uint32(f.gradient), Bits: uint8(f.bits)}}, err
}

// sealedArchitecture reads a sealed classifier's architecture with its key.
func sealedArchitecture(path, keyFile, publisher string) (a intnet.Architecture, classes int, err error) {
	key, err := keyfile.ReadSecret(keyFile, false)
	if err != nil {
		return a, 0, err
	}
	defer key.Wipe()
	pub, err := keyfile.Public(publisher)
	if err != nil {
		return a, 0, err
	}
	m, err := classifier.Open(path, key, arena.NewBudget(256<<20), classifier.Options{Publisher: pub})
	if err != nil {
		return a, 0, fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	d := m.Description()
	return d.Architecture, d.Classes(), m.Close()
}
