package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Vector is a vector that was stored.
type Vector struct {
	// Name is a keyed hash of the values, so that the same vector has the same name, and the
	// name tells nobody what it is.
	Name string
	// Norm is the vector's Euclidean norm; Peak is the amount of its largest value, as it will
	// be held against the round's bound, if that was asked for.
	Norm, Peak float64
}

// vectorName is the spool files' name inside their encryption. A file is found
// under its keyed hash, which is known only when it is written.
const vectorName = "vector"

// Incoming is a vector on its way in.
type Incoming struct {
	Owner  uint32 // whose room it takes
	Format fedtask.Format
	// Upload is how many bytes of ciphertext it will become: they take room from now on.
	Upload int64
	// Peak asks for the vector's largest value.
	Peak bool
	Body io.Reader
}

// Take stores a vector of a round, sealed, and measures it on its way. Room is reserved before a
// byte of it is read; release gives that back, once a job that names the vector is queued and
// counts, or the vector is dropped.
func (s *Store) Take(r federation.Round, in Incoming) (v Vector, release func(), err error) {
	if release, err = s.reserve(in.Owner, spool.Size(int64(in.Format.Bytes())*int64(r.Length))+in.Upload); err != nil {
		return v, nil, err
	}
	if v, err = s.take(r, in); err != nil {
		release()
		return v, nil, err
	}
	return v, release, nil
}

func (s *Store) take(r federation.Round, in Incoming) (v Vector, err error) {
	f, err := disk.Create(s.path(vectors, ""))
	if err != nil {
		return v, err
	}
	if v, err = seal(f, s.key(r), r, in); err != nil {
		return v, errors.Join(err, f.Discard())
	}
	return v, f.Keep(s.path(vectors, v.Name))
}

// seal writes a vector under a key and measures it.
func seal(f io.Writer, key vectorKey, r federation.Round, in Incoming) (v Vector, err error) {
	out, err := spool.NewWriter(f, key, vectorName)
	if err != nil {
		return v, err
	}
	name, err := vectorHash(key, r.ID)
	if err != nil {
		return v, err
	}
	m := &measure{values: fedtask.NewValues(leased{in.Body, key}, in.Format, r.Length)}
	if in.Peak {
		if m.peak, err = newPeak(r); err != nil {
			return v, err
		}
	}
	if err := m.copy(io.MultiWriter(out, name)); err != nil {
		return v, err
	}
	return Vector{Name: hex.EncodeToString(name.Sum(nil)), Norm: m.norm.L2(), Peak: m.peak.most()}, out.Close()
}

func vectorHash(under spool.Key, round digest.RoundID) (hash.Hash, error) {
	var key []byte
	if err := under.Use(func(secret []byte) error {
		key = keybuf.Derive(secret, nil, "anchorhold/federate/vector/1", 32)
		return nil
	}); err != nil {
		return nil, err
	}
	defer keybuf.Wipe(key)
	h := hmac.New(sha256.New, key)
	h.Write(round[:])
	return h, nil
}

// Reader reads a stored vector.
type Reader struct {
	*spool.Reader
	f *os.File
}

// Close wipes the plaintext that was read last, and closes the file.
func (r Reader) Close() error {
	r.Wipe()
	return r.f.Close()
}

// Open opens a stored vector of a round. One that an earlier run stored under a key of its own
// is removed, and refused with [ReasonVectorLost].
func (s *Store) Open(r federation.Round, name, run string) (Reader, error) {
	if run != s.RunOf(r) {
		return Reader{}, errors.Join(refusal.New(ReasonVectorLost, "the agent has restarted since the vector was stored, and for a round whose key is held by parties the storage key lasts for one run only; submit the vector again"), s.Drop(name))
	}
	f, err := os.Open(s.path(vectors, name))
	if err != nil {
		return Reader{}, refusal.New(fedtask.ReasonVector, "the stored vector is gone; submit it again")
	}
	plain, err := spool.NewReader(f, s.key(r), vectorName)
	if err != nil {
		return Reader{}, errors.Join(err, f.Close())
	}
	return Reader{plain, f}, nil
}

// Drop removes a stored vector, which need not be there.
func (s *Store) Drop(name string) error {
	if err := os.Remove(s.path(vectors, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
