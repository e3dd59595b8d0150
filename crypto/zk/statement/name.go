package statement

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// ErrMalformed means bytes that are not in their only encoding, or values outside the limits.
var ErrMalformed = errors.New("statement: malformed")

// ErrMismatch means parts that are well-formed but are not about the same thing.
var ErrMismatch = errors.New("statement: mismatch")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMismatch, fmt.Errorf(format, args...))
}

// String is the commitment in hexadecimal.
func (c Commitment) String() string { return hex.EncodeToString(c[:]) }

// MarshalText writes lower-case hexadecimal.
func (c Commitment) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, c[:]), nil }

// UnmarshalText reads what MarshalText writes, if it is canonical.
func (c *Commitment) UnmarshalText(text []byte) error {
	var v Commitment
	if err := digest.Decode(v[:], text); err != nil {
		return malformed("a commitment: %w", err)
	}
	if err := v.check(); err != nil {
		return err
	}
	*c = v
	return nil
}

func (c Commitment) check() error {
	if _, err := c.Element(); err != nil {
		return malformed("a commitment is not below the field's modulus")
	}
	return nil
}

// System is a proof system with its curve.
type System uint8

// The systems.
const (
	Groth16 System = 1 // Groth16 over BN254, at most one commitment to witnesses
	PLONK   System = 2 // PLONK over BN254 with a universal reference string
)

var systemNames = map[System]string{Groth16: "groth16-bn254", PLONK: "plonk-bn254"}

// String is the system's name.
func (s System) String() string {
	if name, known := systemNames[s]; known {
		return name
	}
	return fmt.Sprintf("unknown system %d", uint8(s))
}

func (s System) check() error {
	if _, known := systemNames[s]; !known {
		return malformed("proof system %d is unknown", uint8(s))
	}
	return nil
}

// MarshalText writes the name; an unknown system is an error.
func (s System) MarshalText() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads a name.
func (s *System) UnmarshalText(text []byte) error {
	for system, name := range systemNames {
		if name == string(text) {
			*s = system
			return nil
		}
	}
	return malformed("proof system %.40q is unknown", text)
}
