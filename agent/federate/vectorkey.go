package federate

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Labels of what is derived from the keys of stored vectors.
const (
	partiesLabel = "anchorhold/federate/parties/1"
	runLabel     = "anchorhold/federate/run/1"
)

// vectorKey is the key that a round's vectors are stored under; the caller wipes it.
// Where the broker holds the round's key, that is the queue's key: the broker reads the
// round's ciphertexts anyway. Where parties hold it, this run's own key is mixed in.
func (s *Service) vectorKey(h held) (*keybuf.Buffer, error) {
	if h.Parties == nil {
		return s.cfg.Key.Clone()
	}
	var derived []byte
	err := s.cfg.Key.Use(func(queue []byte) error {
		return s.cfg.Own.Use(func(own []byte) (err error) {
			secret := append(append(make([]byte, 0, len(queue)+len(own)), queue...), own...)
			defer keybuf.Wipe(secret)
			derived, err = hkdf.Key(sha256.New, secret, nil, partiesLabel, 32)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return keybuf.Take(derived)
}

// runOf names the run of the agent that can read a round's vectors; empty if any can.
func (s *Service) runOf(h held) string {
	if h.Parties == nil {
		return ""
	}
	return s.run
}

// readable refuses a vector of an earlier run.
func (s *Service) readable(h held, spec contributeSpec) error {
	if spec.Run == s.runOf(h) {
		return nil
	}
	return evidence.Refuse(ReasonVectorLost, "the agent was started anew: a vector for a round whose key parties hold is stored under a key of one run alone; submit it again")
}

// nameOf names a key without telling anything of it.
func nameOf(key *keybuf.Buffer) (string, error) {
	var name []byte
	err := key.Use(func(secret []byte) (err error) {
		name, err = hkdf.Key(sha256.New, secret, nil, runLabel, 16)
		return err
	})
	return hex.EncodeToString(name), err
}
