package prove

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// registryTick is the time between two talks with the registry.
const registryTick = 2 * time.Second

// registry talks with the broker's registry: it announces receipts, so that a challenge can
// name them, has proven what is challenged, and hands in proofs. Without a client it does
// nothing.
type registry struct {
	client RegistryClient // nil if there is none
	store  *store
	// prove queues the proof of an answer that is challenged.
	prove  func(context.Context, digest.ReceiptID) error
	tick   time.Duration // between two talks
	logger *slog.Logger

	// All guarded by mu; no other lock is taken while it is held.
	mu       sync.Mutex
	unspoken []unspoken                // receipts that are not announced yet, oldest first
	behind   bool                      // they were too many, and the log has it
	turn     int                       // which former key is asked for next
	handed   map[digest.ReceiptID]bool // proofs that need not be handed in: it has them, or left them out
	known    map[use]bool              // which keys it has, for which models
}

func newRegistry(cfg Config, store *store, prove func(context.Context, digest.ReceiptID) error) *registry {
	return &registry{client: cfg.Registry, store: store, prove: prove, tick: registryTick, logger: cfg.Logger, handed: map[digest.ReceiptID]bool{}, known: map[use]bool{}}
}

// run announces receipts, answers challenges and hands in proofs until ctx ends.
func (reg *registry) run(ctx context.Context) {
	tick := time.NewTicker(reg.tick)
	defer tick.Stop()
	steps := []struct {
		what string
		do   func(context.Context) error
	}{{"announce receipts", reg.announce}, {"answer challenges", reg.answer}, {"submit proofs", reg.submit}}
	for {
		for _, step := range steps {
			if err := step.do(ctx); err != nil && ctx.Err() == nil {
				reg.logger.Warn(step.what, "err", err, "next_try", reg.tick)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// add has a receipt announced. If too many wait, it is announced with its proof only.
func (reg *registry) add(owner uint32, r receipt.Receipt) {
	if reg.client == nil {
		return
	}
	reg.mu.Lock()
	full := len(reg.unspoken) >= maxWaiting || reg.unspokenOf(owner) >= ownerWaiting
	if !full {
		reg.unspoken = append(reg.unspoken, unspoken{owner, r})
	}
	tell := full && !reg.behind
	reg.behind = reg.behind || full
	reg.mu.Unlock()
	if tell { // once, until half of them are gone: answers are many
		reg.logger.Warn("receipts are announced only with their proofs: too many are waiting, in total or for one user", "receipt", r.Body.ID.String(), "uid", owner)
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
func (reg *registry) announce(ctx context.Context) error {
	for {
		batch := reg.toAnnounce()
		if len(batch) == 0 {
			return nil
		}
		err := reg.client.Announce(ctx, batch)
		if _, refused := refusal.ReasonOf(err); err != nil && !refused {
			return err // nobody answers
		}
		if err == nil {
			reg.spoken(batch)
			continue
		}
		for _, r := range batch {
			if err := reg.announceOne(ctx, r); err != nil {
				return err
			}
		}
	}
}

// announceOne announces a receipt, or gives it up if the registry refuses it for itself.
func (reg *registry) announceOne(ctx context.Context, r receipt.Receipt) error {
	err := reg.client.Announce(ctx, []receipt.Receipt{r})
	reason, refused := refusal.ReasonOf(err)
	if err != nil && !(refused && strings.HasPrefix(string(reason), "receipt-")) {
		return err
	}
	if err != nil {
		reg.logger.Error("the registry refused a receipt, which will not be announced", "receipt", r.Body.ID.String(), "err", err)
	}
	reg.spoken([]receipt.Receipt{r})
	return nil
}

// toAnnounce is the next batch.
func (reg *registry) toAnnounce() []receipt.Receipt {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	var batch []receipt.Receipt
	for _, u := range reg.unspoken[:min(len(reg.unspoken), announceBatch)] {
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
func (reg *registry) unspokenOf(owner uint32) (n int) {
	for _, u := range reg.unspoken {
		if u.owner == owner {
			n++
		}
	}
	return n
}

// spoken takes receipts off those that are not announced yet.
func (reg *registry) spoken(batch []receipt.Receipt) {
	gone := map[digest.ReceiptID]bool{}
	for _, r := range batch {
		gone[r.Body.ID] = true
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.unspoken = slices.DeleteFunc(reg.unspoken, func(u unspoken) bool { return gone[u.receipt.Body.ID] })
	reg.behind = reg.behind && len(reg.unspoken) > maxWaiting/2
}

// maxFormer is how many keys are asked for at a time; more take turns.
const maxFormer = 16

// former lists keys whose answers can still be proven. What was proven is handed in
// without being asked for.
func (reg *registry) former() []digest.Digest {
	list := reg.store.signers()
	if len(list) <= maxFormer {
		return list
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.turn %= len(list)
	list = slices.Concat(list[reg.turn:], list[:reg.turn])[:maxFormer]
	reg.turn += maxFormer
	return list
}

// answer queues what the broker wants proven.
func (reg *registry) answer(ctx context.Context) error {
	wanted, err := reg.client.Challenged(ctx, reg.former())
	if err != nil {
		return err
	}
	for _, id := range wanted {
		if reg.store.hasProof(id) {
			reg.forget(id) // its receipt may have been displaced before, and have come back
			continue       // it will be handed in
		}
		if err := reg.prove(ctx, id); err != nil {
			reg.logger.Error("a challenge cannot be answered", "receipt", id.String(), "err", err)
		}
	}
	return nil
}

// submit hands in the proofs that the registry does not have. One that it refuses does
// not keep it from the others.
func (reg *registry) submit(ctx context.Context) error {
	proofs, err := reg.store.proofs()
	if err != nil {
		return err
	}
	var failed error
	for _, id := range proofs {
		if reg.sent(id) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := reg.submitOne(ctx, id); err != nil {
			if _, refused := refusal.ReasonOf(err); !refused {
				return errors.Join(failed, err) // nobody answers
			}
			failed = errors.Join(failed, fmt.Errorf("receipt %s: %w", id, err))
			continue
		}
		reg.remember(id)
	}
	return failed
}

// submitOne hands in one proof, if the registry does not have it.
func (reg *registry) submitOne(ctx context.Context, id digest.ReceiptID) error {
	p, err := reg.store.proof(0, id)
	if err != nil || p.Sent {
		return err
	}
	// An earlier run may have ended before it announced the receipt.
	if err := reg.client.Announce(ctx, []receipt.Receipt{p.Bundle.Receipt}); err != nil {
		return err
	}
	err = reg.client.Submit(ctx, p.Bundle)
	if reason, _ := refusal.ReasonOf(err); reason == reasonNotAnnounced {
		return nil // the registry's draw left it out: nobody can ask for its proof
	}
	if err != nil {
		return err
	}
	p.Sent = true
	if err := reg.store.writeProof(p); err != nil {
		return err
	}
	reg.logger.Info("proof submitted", "receipt", id.String())
	return nil
}

// sent and remember spare reading every proof again and again.
func (reg *registry) sent(id digest.ReceiptID) bool {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	return reg.handed[id]
}

func (reg *registry) remember(id digest.ReceiptID) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.handed[id] = true
}

// forget has proofs handed in again that are still there.
func (reg *registry) forget(ids ...digest.ReceiptID) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, id := range ids {
		delete(reg.handed, id)
	}
}

// delivered says whether nothing is lost with a proof that is here.
func (reg *registry) delivered(id digest.ReceiptID) bool {
	if reg.client == nil || reg.sent(id) {
		return true
	}
	p, err := reg.store.proof(0, id)
	return err == nil && p.Sent
}

// errUnreachable means that the registry did not say whether it has a key. The job waits
// for its word, and no try is spent.
var errUnreachable = errors.New("prove: the registry does not answer")

// pause waits until it is time to ask the registry again.
func (reg *registry) pause(ctx context.Context) {
	timer := time.NewTimer(reg.tick)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// use is a key for a model.
type use struct{ key, model digest.Digest }

// registered refuses a key that the registry does not have for a model. What it once had it
// keeps.
func (reg *registry) registered(ctx context.Context, key, model digest.Digest) error {
	if reg.client == nil {
		return nil
	}
	reg.mu.Lock()
	known := reg.known[use{key, model}]
	reg.mu.Unlock()
	if known {
		return nil
	}
	known, err := reg.client.Registered(ctx, key, model)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	if !known {
		return refusal.New(ReasonNotRegistered, "the broker's registry does not have key %s for model %s; register it with `anchorhold proof register`", key, model)
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	reg.known[use{key, model}] = true
	return nil
}
