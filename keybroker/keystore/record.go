package keystore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

const (
	formatVersion = 1 // without a subject
	formatSubject = 2 // with one, after the description
	metaFormat    = "format"
	metaKEKID     = "kek-id"
	metaCommitKey = "commitment-key"
	metaAudited   = "audited"
	maxMetaBytes  = 512
)

// State is the state of one version of a secret.
type State uint8

// The states. A version moves only forward.
const (
	Active    State = 1 // released, by default or by number
	Retired   State = 2 // released only by number
	Destroyed State = 3 // gone; only the fact remains
)

// String returns the state's stable name.
func (s State) String() string {
	switch s {
	case Active:
		return "active"
	case Retired:
		return "retired"
	case Destroyed:
		return "destroyed"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's name.
func (s *State) UnmarshalText(b []byte) error {
	for v := Active; v <= Destroyed; v++ {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", b)
}

// Meta describes a secret to people. It is stored unsealed: nothing in it may
// be secret.
type Meta struct {
	// Kind says what the secret is for, for example "model-key".
	Kind string `json:"kind,omitempty"`
	// Description is for people.
	Description string `json:"description,omitempty"`
	// Subject is what the secret opens: a model's id, the digest of a signed round. It
	// goes into the certificate of every lease that is granted the secret. Zero says
	// nothing, and such a lease gives no authority over any model.
	Subject Subject `json:"subject,omitzero"`
}

// Subject is a digest that names what a secret is for; it is in hexadecimal as text.
type Subject [32]byte

// String returns the digest in lower-case hexadecimal.
func (s Subject) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes the digest in hexadecimal.
func (s Subject) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads 64 hexadecimal digits that are not all zero.
func (s *Subject) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(s) || Subject(b) == (Subject{}) {
		return errors.New("not an id: want 64 hexadecimal digits, not all zero")
	}
	copy(s[:], b)
	return nil
}

func (m Meta) check() error {
	if len(m.Kind) > maxMetaBytes || len(m.Description) > maxMetaBytes {
		return fmt.Errorf("a secret's kind and description have at most %d bytes", maxMetaBytes)
	}
	return nil
}

// Info describes one version of a secret, without the secret.
type Info struct {
	Name    string    `json:"name"`
	Version uint64    `json:"version"`
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	Meta
	// Size is the secret's length in bytes.
	Size int `json:"size"`
	// Commitment identifies the secret within this store: equal secrets have
	// equal commitments, and nobody without the store's key can test a guess.
	Commitment []byte `json:"commitment"`
}

// record is what is stored for one version.
type record struct {
	state            State
	created, changed time.Time
	meta             Meta
	size             int
	commitment       [32]byte
	sealed           []byte
}

func (r record) info(name string, version uint64) Info {
	return Info{Name: name, Version: version, State: r.state, Created: r.created, Changed: r.changed,
		Meta: r.meta, Size: r.size, Commitment: r.commitment[:]}
}

// marshal encodes version, state, times, size, commitment, meta, sealed bytes.
func (r record) marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	format := uint8(formatVersion)
	if r.meta.Subject != (Subject{}) {
		format = formatSubject
	}
	b.AddUint8(format)
	b.AddUint8(uint8(r.state))
	b.AddUint64(uint64(r.created.UnixNano()))
	b.AddUint64(uint64(r.changed.UnixNano()))
	b.AddUint32(uint32(r.size))
	b.AddBytes(r.commitment[:])
	for _, s := range []string{r.meta.Kind, r.meta.Description} {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	}
	if format == formatSubject {
		b.AddBytes(r.meta.Subject[:])
	}
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(r.sealed) })
	return b.Bytes()
}

var errRecord = errors.New("malformed record")

func parseRecord(v []byte) (record, error) {
	var r record
	var version, state uint8
	var created, changed uint64
	var size uint32
	var kind, description, sealed cryptobyte.String
	s := cryptobyte.String(v)
	if !s.ReadUint8(&version) || version < formatVersion || version > formatSubject || !s.ReadUint8(&state) ||
		!s.ReadUint64(&created) || !s.ReadUint64(&changed) || !s.ReadUint32(&size) || !s.CopyBytes(r.commitment[:]) ||
		!s.ReadUint16LengthPrefixed(&kind) || !s.ReadUint16LengthPrefixed(&description) ||
		version == formatSubject && (!s.CopyBytes(r.meta.Subject[:]) || r.meta.Subject == (Subject{})) ||
		!s.ReadUint24LengthPrefixed(&sealed) || !s.Empty() {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, errRecord)
	}
	r.state, r.size = State(state), int(size)
	if r.state < Active || r.state > Destroyed || size > MaxSecretBytes || (len(sealed) == 0) != (r.state == Destroyed) {
		return record{}, fmt.Errorf("%w: %w", ErrDamaged, errRecord)
	}
	r.created, r.changed = time.Unix(0, int64(created)).UTC(), time.Unix(0, int64(changed)).UTC()
	r.meta.Kind, r.meta.Description = string(kind), string(description)
	r.sealed = append([]byte(nil), sealed...)
	return r, r.meta.check()
}
