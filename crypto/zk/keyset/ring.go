package keyset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// ErrDevelopment means keys whose maker could forge proofs, where they are not allowed.
var ErrDevelopment = errors.New("keyset: the keys come from a development setup")

// ErrSystem means keys of a proof system that this program does not verify.
var ErrSystem = errors.New("keyset: this program does not verify this proof system")

// Verifier verifies envelopes of one key.
type Verifier interface {
	VerifyEnvelope(ctx context.Context, e *statement.Envelope) error
}

// Parse makes a verifier of a verifying key's canonical bytes.
type Parse func(raw []byte) (Verifier, error)

// Parsers are the proof systems that a program verifies. It brings those that it links, or
// that it has another process verify: this package links none.
type Parsers map[statement.System]Parse

// By is a Parse that calls a verifier's own function.
func By[V Verifier](parse func(raw []byte) (V, error)) Parse {
	return func(raw []byte) (Verifier, error) {
		v, err := parse(raw)
		if err != nil {
			return nil, err // and no nil of type V
		}
		return v, nil
	}
}

// Ring verifies proofs with the keys of some sets.
type Ring struct {
	keys    map[statement.Digest]ringKey
	timeout time.Duration
}

type ringKey struct {
	set Set
	key Verifier
}

// NewRing prepares the verifying keys of sets; development allows those that were set
// up for it. timeout bounds one verification; 0 is no bound. Keys of a system that is not
// among the parsers are refused.
func NewRing(sets []Set, development bool, timeout time.Duration, parsers Parsers) (*Ring, error) {
	r := &Ring{keys: map[statement.Digest]ringKey{}, timeout: timeout}
	for _, s := range sets {
		if s.Record.Development && !development {
			return nil, fmt.Errorf("circuit %s: %w", s.Record.Circuit, ErrDevelopment)
		}
		raw, err := s.VerifyingKey()
		if err != nil {
			return nil, err
		}
		k, err := parsers.Parse(s.Record.System, raw)
		if err != nil {
			return nil, fmt.Errorf("verifying key %s: %w", s.Record.VerifyingKey, err)
		}
		r.keys[s.Record.VerifyingKey] = ringKey{s, k}
	}
	return r, nil
}

// Parse makes a verifier of a key; one of a system that is not among p is ErrSystem.
func (p Parsers) Parse(system statement.System, raw []byte) (Verifier, error) {
	parse := p[system]
	if parse == nil {
		return nil, fmt.Errorf("%s: %w", system, ErrSystem)
	}
	return parse(raw)
}

// Verify verifies an envelope, and returns the record of its key.
func (r *Ring) Verify(ctx context.Context, e *statement.Envelope) (statement.Record, error) {
	k, ok := r.keys[e.Key]
	if !ok {
		return statement.Record{}, fmt.Errorf("verifying key %s: %w", e.Key, ErrUnknown)
	}
	if err := k.set.Record.Admits(e); err != nil {
		return statement.Record{}, err
	}
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	return k.set.Record, k.key.VerifyEnvelope(ctx, e)
}

// Set is the set of a verifying key.
func (r *Ring) Set(key statement.Digest) (Set, error) {
	k, ok := r.keys[key]
	if !ok {
		return Set{}, fmt.Errorf("verifying key %s: %w", key, ErrUnknown)
	}
	return k.set, nil
}

// ForArchitecture finds the set that proves single inferences of an architecture. Of several
// it is always the same one: what nobody can forge before development's, Groth16 before PLONK,
// then by the verifying key's digest.
func (r *Ring) ForArchitecture(d statement.Digest) (Set, error) {
	var fit []Set
	for _, k := range r.keys {
		if f := k.set.Record.Inference; f != nil && f.Architecture == d && f.Items == 1 {
			fit = append(fit, k.set)
		}
	}
	if len(fit) == 0 {
		return Set{}, fmt.Errorf("architecture %s: %w", d, ErrUnknown)
	}
	return slices.MinFunc(fit, func(a, b Set) int {
		rank := func(s Set) []byte {
			development := byte(0)
			if s.Record.Development {
				development = 1
			}
			return append([]byte{development, byte(s.Record.System)}, s.Record.VerifyingKey[:]...)
		}
		return bytes.Compare(rank(a), rank(b))
	}), nil
}
