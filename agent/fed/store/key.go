package store

import (
	"encoding/hex"
	"errors"
	"io"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Labels of what is derived from the keys of stored vectors.
const (
	partiesLabel = "anchorhold/federate/parties/1"
	runLabel     = "anchorhold/federate/run/1"
)

// vectorKey lends the key that a round's vectors are stored under, and gives nobody a copy:
// a body comes for as long as its client likes, a disk may hang, and the lease's end wipes
// the queue's key and would not find another.
type vectorKey struct {
	queue *keybuf.Buffer
	own   *keybuf.Buffer // nil where the broker holds the round's key
}

// key is the queue's key where the broker holds the round's: the broker reads the
// round's ciphertexts anyway. Where parties hold it, this run's own key is mixed in.
func (s *Store) key(r federation.Round) vectorKey {
	if r.Parties == nil {
		return vectorKey{queue: s.cfg.Key}
	}
	return vectorKey{queue: s.cfg.Key, own: s.cfg.Own}
}

// Use calls f with the key, as [keybuf.Buffer.Use] does, while the lease lasts.
func (k vectorKey) Use(f func(secret []byte) error) error {
	err := k.queue.Use(func(queue []byte) error {
		if k.own == nil {
			return f(queue)
		}
		return k.own.Use(func(own []byte) error {
			secret := append(append(make([]byte, 0, len(queue)+len(own)), queue...), own...)
			defer keybuf.Wipe(secret)
			derived := keybuf.Derive(secret, nil, partiesLabel, 32)
			defer keybuf.Wipe(derived)
			return f(derived)
		})
	})
	if errors.Is(err, keybuf.ErrWiped) {
		return refusal.New(protocol.ReasonLeaseExpired, "the lease has ended, and with it the key that vectors are stored under; submit the vector again under the next lease")
	}
	return err
}

// leased is a body that ends with the lease: what comes after it could not be stored.
type leased struct {
	io.Reader
	key vectorKey
}

// Read reads, and refuses what came after the lease's end.
func (b leased) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if ended := b.key.Use(func([]byte) error { return nil }); ended != nil {
		return 0, ended
	}
	return n, err
}

// RunOf names the run of the agent that can read a round's vectors; empty if any can.
func (s *Store) RunOf(r federation.Round) string {
	if r.Parties == nil {
		return ""
	}
	return s.run
}

// nameOf names a key without telling anything of it.
func nameOf(key *keybuf.Buffer) (string, error) {
	var name []byte
	err := key.Use(func(secret []byte) error {
		name = keybuf.Derive(secret, nil, runLabel, 16)
		return nil
	})
	return hex.EncodeToString(name), err
}
