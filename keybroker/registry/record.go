package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// Register has the broker believe proofs of a key from now on: an operator's decision.
// key is the verifying key's canonical bytes; models are the ids of the models whose answers
// it may prove, none for every one. Registered again, a key keeps its models and gets further
// ones. It returns the signed record, which is the one that is there if nothing is new.
func (s *Service) Register(ctx context.Context, r statement.Record, key []byte, models ...digest.Digest) ([]byte, error) {
	if err := s.checkRecord(&r, key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held, found, err := s.cfg.Store.Record(r.VerifyingKey)
	if err != nil {
		return nil, err
	}
	if found {
		was, err := sameRecord(held, &r)
		if err != nil {
			return nil, err
		}
		if was.Epoch >= s.lowest() && !slices.ContainsFunc(models, func(id digest.Digest) bool { return !slices.Contains(was.Models, id) }) {
			return held.Signed, nil
		}
		models = append(slices.Clone(models), was.Models...)
	}
	signed, err := s.signRecord(r, models)
	if err != nil {
		return nil, err
	}
	detail := fmt.Sprintf("key %s of %s circuit %s by %s development %t ceremony %s models %d", r.VerifyingKey, r.System, r.Circuit, r.Library, r.Development, r.Ceremony, len(models))
	if err := s.cfg.Audit(ctx, "proof-record", detail); err != nil {
		return nil, err
	}
	entry := RecordEntry{Signed: signed, Key: key}
	if found {
		err = s.cfg.Store.ReplaceRecord(r.VerifyingKey, entry)
	} else {
		err = s.cfg.Store.PutRecord(r.VerifyingKey, entry, s.cfg.Records)
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Logger.Info("key registered", "key", r.VerifyingKey.String(), "circuit", r.Circuit.String(), "library", r.Library, "models", len(models), "development", r.Development)
	return signed, nil
}

// signRecord signs a record with its models, in their order and each once. What would not
// verify is never handed out.
func (s *Service) signRecord(r statement.Record, models []digest.Digest) ([]byte, error) {
	models = slices.Clone(models)
	slices.SortFunc(models, func(a, b digest.Digest) int { return bytes.Compare(a[:], b[:]) })
	signer, err := s.cfg.Signer()
	if err != nil {
		return nil, err
	}
	signed, err := wire.SignRecord(signer.Key, signer.Statement, wire.Record{Broker: signer.Broker, Epoch: signer.Epoch, Record: r, Models: slices.Compact(models), Registered: s.now()})
	if err != nil {
		return nil, err
	}
	_, err = wire.VerifyRecord(signed, s.cfg.Roots, s.own(), s.live())
	return signed, err
}

// checkRecord refuses a record that could not be used, or that the policy forbids.
func (s *Service) checkRecord(r *statement.Record, key []byte) error {
	if err := r.Check(); err != nil {
		return refusal.New(ReasonRecord, "%w", err)
	}
	if err := s.allowed(r); err != nil {
		return err
	}
	if sha256.Sum256(key) != r.VerifyingKey {
		return refusal.New(ReasonRecord, "the verifying key is not the one that the record names")
	}
	v, err := s.cfg.ParseKey(r.System, key)
	if err != nil {
		return refusal.New(ReasonRecord, "the verifying key: %w", err)
	}
	// A key of another number of inputs is of another circuit.
	if want := publicInputs(r); v.Inputs() != want {
		return refusal.New(ReasonRecord, "the key has %d public inputs, want %d for a circuit of this shape", v.Inputs(), want)
	}
	return nil
}

// allowed holds a record against the policy, when it is registered and with every
// proof: a policy that became stricter meanwhile counts.
func (s *Service) allowed(r *statement.Record) error {
	if r.Development && !s.cfg.Policy.AllowDevelopment {
		return refusal.New(ReasonDevelopment, "the maker of key %s could forge proofs; set proofs.allow_development to accept it", r.VerifyingKey)
	}
	return nil
}

// publicInputs is the number of public inputs of a statement of the record's shape.
func publicInputs(r *statement.Record) int {
	if c := r.Inference; c != nil {
		return 2 + int(c.Items)*(1+int(c.Outputs))
	}
	return 4
}

// sameRecord reads the record that a key has, and refuses another one.
func sameRecord(held RecordEntry, r *statement.Record) (wire.Record, error) {
	was, err := wire.ParseRecord(held.Signed)
	if err != nil {
		return was, Damaged("record of key %s: %v", r.VerifyingKey, err)
	}
	a, err := was.Record.Digest()
	if err != nil {
		return was, err
	}
	b, err := r.Digest()
	if err == nil && a != b {
		err = refusal.New(ReasonRecordConflict, "key %s is registered with another record", r.VerifyingKey)
	}
	return was, err
}

// Records lists the signed records, ordered by verifying key. Those that were signed in an
// epoch which the root retired since are signed anew: agents believe them no more, and what
// this broker registered it still vouches for.
func (s *Service) Records(ctx context.Context) ([][]byte, error) {
	list, err := s.cfg.Store.Records()
	if err != nil {
		return nil, err
	}
	for i, signed := range list {
		r, err := wire.ParseRecord(signed)
		if err != nil {
			return nil, Damaged("a record: %v", err)
		}
		if r.Epoch >= s.lowest() {
			continue
		}
		if list[i], err = s.signAnew(ctx, r.Record.VerifyingKey); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// signAnew has the epoch of now vouch for a registered key.
func (s *Service) signAnew(ctx context.Context, key digest.Digest) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, found, err := s.cfg.Store.Record(key)
	if err != nil || !found {
		return nil, errors.Join(err, Damaged("record of key %s", key))
	}
	r, err := wire.ParseRecord(entry.Signed)
	if err != nil {
		return nil, Damaged("record of key %s: %v", key, err)
	}
	if r.Epoch >= s.lowest() { // somebody was faster
		return entry.Signed, nil
	}
	former := r.Epoch
	if entry.Signed, err = s.signRecord(r.Record, r.Models); err != nil {
		return nil, err
	}
	if err := s.cfg.Audit(ctx, "proof-record", fmt.Sprintf("key %s signed anew: epoch %d is retired", key, former)); err != nil {
		return nil, err
	}
	return entry.Signed, s.cfg.Store.ReplaceRecord(key, entry)
}

// key finds the record of a verifying key and the key, parsed once.
func (s *Service) key(d digest.Digest) (wire.Record, Verifier, error) {
	entry, found, err := s.cfg.Store.Record(d)
	if err == nil && !found {
		err = refusal.New(ReasonNotRegistered, "verifying key %s is not registered", d)
	}
	if err != nil {
		return wire.Record{}, nil, err
	}
	r, err := wire.ParseRecord(entry.Signed)
	if err != nil || r.Record.VerifyingKey != d || sha256.Sum256(entry.Key) != d {
		return r, nil, Damaged("record of key %s", d)
	}
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	if v, ok := s.keys[d]; ok {
		return r, v, nil
	}
	v, err := s.cfg.ParseKey(r.Record.System, entry.Key)
	if err != nil {
		return r, nil, Damaged("key %s: %v", d, err)
	}
	s.keys[d] = v
	return r, v, nil
}
