package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// talk announces receipts, answers challenges and hands in proofs until ctx ends.
func (s *Service) talk(ctx context.Context) {
	tick := time.NewTicker(s.tick)
	defer tick.Stop()
	steps := []struct {
		what string
		do   func(context.Context) error
	}{{"announce receipts", s.announce}, {"answer challenges", s.answer}, {"hand in proofs", s.submit}}
	for {
		for _, step := range steps {
			if err := step.do(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Logger.Warn(step.what, "err", err, "next_try", s.tick)
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

// reasonNotAnnounced is the registry's for a proof whose receipt it does not have, though it
// took the announcement: of more than may wait a draw leaves some out.
const reasonNotAnnounced refusal.Reason = "receipt-not-announced"

// announce fixes what was answered since the last time. The registry takes all or none of a
// batch, so one that it refuses goes out again one by one. What is refused for itself is
// given up, or nothing behind it would ever be announced.
func (s *Service) announce(ctx context.Context) error {
	for {
		batch := s.toAnnounce()
		if len(batch) == 0 {
			return nil
		}
		err := s.cfg.Registry.Announce(ctx, batch)
		if _, refused := refusal.ReasonOf(err); err != nil && !refused {
			return err // nobody answers
		}
		if err == nil {
			s.spoken(batch)
			continue
		}
		for _, r := range batch {
			if err := s.announceOne(ctx, r); err != nil {
				return err
			}
		}
	}
}

// announceOne announces a receipt, or gives it up if the registry refuses it for itself.
func (s *Service) announceOne(ctx context.Context, r receipt.Receipt) error {
	err := s.cfg.Registry.Announce(ctx, []receipt.Receipt{r})
	reason, refused := refusal.ReasonOf(err)
	if err != nil && !(refused && strings.HasPrefix(string(reason), "receipt-")) {
		return err
	}
	if err != nil {
		s.cfg.Logger.Error("the registry refuses a receipt, which is not announced", "receipt", r.Body.ID.String(), "err", err)
	}
	s.spoken([]receipt.Receipt{r})
	return nil
}

// toAnnounce is the next batch.
func (s *Service) toAnnounce() []receipt.Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []receipt.Receipt
	for _, u := range s.unspoken[:min(len(s.unspoken), announceBatch)] {
		batch = append(batch, u.receipt)
	}
	return batch
}

// unspoken is a receipt that is not announced yet.
type unspoken struct {
	owner   uint32
	receipt receipt.Receipt
}

// unspokenOf counts those of one user; mu is held.
func (s *Service) unspokenOf(owner uint32) (n int) {
	for _, u := range s.unspoken {
		if u.owner == owner {
			n++
		}
	}
	return n
}

// spoken takes receipts off those that are not announced yet.
func (s *Service) spoken(batch []receipt.Receipt) {
	gone := map[receipt.ID]bool{}
	for _, r := range batch {
		gone[r.Body.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unspoken = slices.DeleteFunc(s.unspoken, func(u unspoken) bool { return gone[u.receipt.Body.ID] })
	s.behind = s.behind && len(s.unspoken) > maxWaiting/2
}

// note remembers under which agent key an answer was signed. The broker's challenges name
// that key, and an agent that starts anew has another.
func (s *Service) note(w witness) {
	s.mu.Lock()
	s.owners[w.id()] = w.Owner
	s.mu.Unlock()
	agent, err := s.cfg.Agent(w.Issued.Receipt)
	if err != nil { // its proof can be asked for here; a challenge of it is not seen
		s.cfg.Logger.Error("a receipt names no agent", "receipt", w.id().String(), "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[w.id()] = agent
}

// maxFormer is how many keys are asked for at a time; more take turns.
const maxFormer = 16

// former lists keys whose answers can still be proven. What was proven is handed in
// without being asked for.
func (s *Service) former() (list []statement.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, agent := range s.agents {
		list = append(list, agent)
	}
	slices.SortFunc(list, func(a, b statement.Digest) int { return bytes.Compare(a[:], b[:]) })
	list = slices.Compact(list)
	if len(list) <= maxFormer {
		return list
	}
	s.turn %= len(list)
	list = slices.Concat(list[s.turn:], list[:s.turn])[:maxFormer]
	s.turn += maxFormer
	return list
}

// answer queues what the broker wants proven.
func (s *Service) answer(ctx context.Context) error {
	wanted, err := s.cfg.Registry.Challenged(ctx, s.former())
	if err != nil {
		return err
	}
	for _, id := range wanted {
		if _, err := os.Stat(s.path("proof", id)); err == nil {
			s.again(id) // its receipt may have been displaced before, and have come back
			continue    // it will be handed in
		}
		if _, err := s.ask(ctx, 0, id); err != nil {
			s.cfg.Logger.Error("a challenge cannot be answered", "receipt", id.String(), "err", err)
		}
	}
	return nil
}

// submit hands in the proofs that the registry does not have. One that it refuses does
// not keep it from the others.
func (s *Service) submit(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.cfg.Dir, "proof"))
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		id, err := receipt.ParseID(e.Name())
		if err != nil || s.sent(id) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.submitOne(ctx, id); err != nil {
			if _, refused := refusal.ReasonOf(err); !refused {
				return errors.Join(failed, err) // nobody answers
			}
			failed = errors.Join(failed, fmt.Errorf("receipt %s: %w", id, err))
			continue
		}
		s.remember(id)
	}
	return failed
}

func (s *Service) submitOne(ctx context.Context, id receipt.ID) error {
	st, err := s.stored(0, id)
	if err != nil || st.Sent {
		return err
	}
	// An earlier run may have ended before it announced the receipt.
	if err := s.cfg.Registry.Announce(ctx, []receipt.Receipt{st.Bundle.Receipt}); err != nil {
		return err
	}
	err = s.cfg.Registry.Submit(ctx, st.Bundle)
	if reason, _ := refusal.ReasonOf(err); reason == reasonNotAnnounced {
		return nil // the registry's draw left it out: nobody can ask for its proof
	}
	if err != nil {
		return err
	}
	st.Sent = true
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := s.write("proof", id, raw, true); err != nil {
		return err
	}
	s.cfg.Logger.Info("proof handed in", "receipt", id.String())
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

func (s *Service) again(id receipt.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handed, id)
}

// errUnreachable means that the registry did not say whether it has a key. The job waits
// for its word, and no try is spent.
var errUnreachable = errors.New("proofs: the registry does not answer")

// pause waits until it is time to ask the registry again.
func (s *Service) pause(ctx context.Context) {
	timer := time.NewTimer(s.tick)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// use is a key for a model.
type use struct{ key, model statement.Digest }

// registered refuses a key that the registry does not have for a model. What it once had it
// keeps.
func (s *Service) registered(ctx context.Context, key, model statement.Digest) error {
	if s.cfg.Registry == nil {
		return nil
	}
	s.mu.Lock()
	known := s.known[use{key, model}]
	s.mu.Unlock()
	if known {
		return nil
	}
	known, err := s.cfg.Registry.Registered(ctx, key, model)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	if !known {
		return refusal.New(ReasonNotRegistered, "the broker's registry does not have the key %s for model %s: anchorhold proof register", key, model)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[use{key, model}] = true
	return nil
}
