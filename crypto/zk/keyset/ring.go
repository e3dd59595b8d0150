package keyset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// ErrDevelopment means keys whose maker could forge proofs, where they are not allowed.
var ErrDevelopment = errors.New("keyset: the keys come from a development setup")

// ErrSystem means keys of a proof system that this program does not verify.
var ErrSystem = errors.New("keyset: this program does not verify this proof system")

// ErrUnregistered means a key without a record that says what it is for, where that is not
// allowed.
var ErrUnregistered = errors.New("keyset: no record says what the key is for")

// ErrKey means a file that is not a verifying key of its proof system.
var ErrKey = errors.New("keyset: not a verifying key")

// Verifier verifies envelopes of one key.
type Verifier interface {
	VerifyEnvelope(ctx context.Context, e *statement.Envelope) error
}

// Parse makes a verifier from the canonical bytes of a verifying key.
type Parse func(raw []byte) (Verifier, error)

// Parsers are the proof systems that a program verifies. The program brings those that it links,
// or that it has another process verify: this package links none.
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

// Waivers are the checks that a ring leaves out. The zero value leaves out none.
type Waivers struct {
	// Development accepts keys whose maker could forge proofs.
	Development bool
	// Unregistered accepts keys without a record, for which nobody says which circuit they are
	// for.
	Unregistered bool
}

// Ring verifies proofs with the keys of some sets, or of some files. Its methods are safe for
// concurrent use.
type Ring struct {
	keys    map[digest.Digest]*ringKey
	waivers Waivers
	timeout time.Duration
	parsers Parsers
}

// ringKey is a verifying key, and what it is for.
type ringKey struct {
	record *statement.Record // nil if it has none
	set    *Set              // nil if the key is a file of its own
	read   func() ([]byte, error)

	mu       sync.Mutex
	verifier Verifier // guarded by mu; nil until it is needed, and for good if the file holds no key
}

// NewRing prepares the verifying keys of sets; development allows keys from a development setup.
// timeout bounds one verification; 0 means no limit. Keys of a system that is not among the
// parsers are refused.
func NewRing(sets []Set, development bool, timeout time.Duration, parsers Parsers) (*Ring, error) {
	r := &Ring{keys: map[digest.Digest]*ringKey{}, waivers: Waivers{Development: development}, timeout: timeout, parsers: parsers}
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
		r.keys[s.Record.VerifyingKey] = &ringKey{record: &s.Record, set: &s, verifier: k}
	}
	return r, nil
}

// Parse makes a verifier from a key; ErrSystem means that its system is not among p.
func (p Parsers) Parse(system statement.System, raw []byte) (Verifier, error) {
	parse := p[system]
	if parse == nil {
		return nil, fmt.Errorf("%s: %w", system, ErrSystem)
	}
	return parse(raw)
}

// Verify verifies an envelope and returns the record of its key. The record is zero if the key
// has none and that is allowed, and with every error.
func (r *Ring) Verify(ctx context.Context, e *statement.Envelope) (statement.Record, error) {
	v, record, err := r.Admit(e)
	if err != nil {
		return statement.Record{}, err
	}
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	if err := v.VerifyEnvelope(ctx, e); err != nil {
		return statement.Record{}, err
	}
	return record, nil
}

// Admit checks everything in an envelope but its proof, and returns the verifier of its key, the
// same for each envelope, and the key's record.
func (r *Ring) Admit(e *statement.Envelope) (Verifier, statement.Record, error) {
	fail := func(err error) (Verifier, statement.Record, error) { return nil, statement.Record{}, err }
	k, ok := r.keys[e.Key]
	if !ok {
		return fail(unknownKey(e.Key))
	}
	var record statement.Record
	switch {
	case k.record != nil:
		record = *k.record
		if err := record.Admits(e); err != nil {
			return fail(err)
		}
		if record.Development && !r.waivers.Development {
			return fail(fmt.Errorf("verifying key %s: %w", e.Key, ErrDevelopment))
		}
	case !r.waivers.Unregistered:
		return fail(fmt.Errorf("verifying key %s: %w", e.Key, ErrUnregistered))
	default:
		if err := e.Check(); err != nil {
			return fail(err)
		}
	}
	v, err := k.open(r.parsers, e)
	if err != nil {
		return fail(err)
	}
	return v, record, nil
}

// open reads the key when an envelope first needs it.
func (k *ringKey) open(parsers Parsers, e *statement.Envelope) (Verifier, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.verifier != nil {
		return k.verifier, nil
	}
	raw, err := k.read()
	if err != nil {
		return nil, err
	}
	v, err := parsers.Parse(e.Statement.System, raw)
	if errors.Is(err, ErrSystem) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("verifying key %s: %w: %w", e.Key, ErrKey, err)
	}
	k.verifier = v
	return v, nil
}

func unknownKey(key digest.Digest) error {
	return fmt.Errorf("verifying key %s: %w", key, ErrUnknown)
}

// Set returns the set of a verifying key.
func (r *Ring) Set(key digest.Digest) (Set, error) {
	k, ok := r.keys[key]
	if !ok || k.set == nil {
		return Set{}, unknownKey(key)
	}
	return *k.set, nil
}

// ForArchitecture finds the set that proves single inferences of an architecture. Among several
// the choice is always the same: sets that nobody can forge with before development sets,
// Groth16 before PLONK, then by the verifying key's digest.
func (r *Ring) ForArchitecture(d digest.Digest) (Set, error) {
	var fit []Set
	for _, k := range r.keys {
		if k.set == nil {
			continue
		}
		if f := k.record.Inference; f != nil && f.Architecture == d && f.Items == 1 {
			fit = append(fit, *k.set)
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
