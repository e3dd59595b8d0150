package proofs

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// talk announces receipts, answers challenges and hands in proofs until ctx ends.
func (s *Service) talk(ctx context.Context) {
	tick := time.NewTicker(registryTick)
	defer tick.Stop()
	for {
		for what, do := range map[string]func(context.Context) error{"announce receipts": s.announce, "answer challenges": s.answer, "hand in proofs": s.submit} {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Logger.Warn(what, "err", err, "next_try", registryTick)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// announceBatch is how many receipts go out at a time.
const announceBatch = 64

// announce fixes what was answered since the last time.
func (s *Service) announce(ctx context.Context) error {
	for {
		s.mu.Lock()
		n := min(len(s.unspoken), announceBatch)
		batch := s.unspoken[:n:n]
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		if err := s.cfg.Registry.Announce(ctx, batch); err != nil {
			return err
		}
		s.mu.Lock()
		s.unspoken = s.unspoken[n:]
		s.mu.Unlock()
	}
}

// answer queues what the broker wants proven.
func (s *Service) answer(ctx context.Context) error {
	wanted, err := s.cfg.Registry.Challenged(ctx)
	if err != nil {
		return err
	}
	for _, id := range wanted {
		if _, err := os.Stat(s.path("proof", id)); err == nil {
			continue // it will be handed in
		}
		if _, err := s.Prove(ctx, 0, id); err != nil {
			s.cfg.Logger.Error("a challenge cannot be answered", "receipt", id.String(), "err", err)
		}
	}
	return nil
}

// submit hands in the proofs that the registry does not have.
func (s *Service) submit(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.cfg.Dir, "proof"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := receipt.ParseID(e.Name())
		if err != nil || s.sent(id) {
			continue
		}
		raw, err := s.read("proof", id)
		if err != nil {
			return err
		}
		var st stored
		if err := json.Unmarshal(raw, &st); err != nil {
			return err
		}
		if !st.Sent {
			if err := s.cfg.Registry.Submit(ctx, st.Bundle); err != nil {
				return err
			}
			st.Sent = true
			if raw, err = json.Marshal(st); err != nil {
				return err
			}
			if err := s.write("proof", id, raw, true); err != nil {
				return err
			}
			s.cfg.Logger.Info("proof handed in", "receipt", id.String())
		}
		s.remember(id)
	}
	return nil
}

// sent and remember spare reading every proof again and again.
func (s *Service) sent(id receipt.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handed[id]
}

func (s *Service) remember(id receipt.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handed[id] = true
}

// registered refuses a key that the registry does not have. What it once had it keeps.
func (s *Service) registered(ctx context.Context, key statement.Digest) error {
	if s.cfg.Registry == nil {
		return nil
	}
	s.mu.Lock()
	known := s.known[key]
	s.mu.Unlock()
	if known {
		return nil
	}
	known, err := s.cfg.Registry.Registered(ctx, key)
	if err != nil {
		return err
	}
	if !known {
		return evidence.Refuse(ReasonNotRegistered, "the broker's registry does not have the key %s: anchorhold proof register", key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[key] = true
	return nil
}
