package keybroker

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Epoch is an epoch key together with the root's statement about it. An epoch is
// prepared until its statement's NotBefore, active until NotAfter, and retired
// from then on or as soon as the broker has held a statement whose MinEpoch is above it
// (docs/protocol.md 5.9). Overlapping validities make a rotation without a gap.
type Epoch struct {
	// Statement is the signed statement (protocol.SignEpoch).
	Statement []byte
	// Key is the private half of the statement's key. It stays the caller's.
	Key *identity.Private
}

// heldEpoch is an epoch whose statement was verified.
type heldEpoch struct {
	protocol.EpochStatement
	signed []byte
	signer *protocol.Batcher
}

// heldEpochs are the epochs that are held, the newest first, and the lowest that may serve.
type heldEpochs struct {
	list   []*heldEpoch
	lowest uint64
}

// SetEpochs replaces the epochs that the broker may use; connections that are
// under way finish under the one that they began with. All must verify under the
// configured root, have the key that they name, and differ in number. lowest is the
// highest minimum of statements that are gone; what was ever retired here stays so.
func (b *Broker) SetEpochs(lowest uint64, epochs []Epoch) error {
	if len(epochs) == 0 {
		return errors.New("there is no epoch: the root must sign an epoch statement first")
	}
	held := make([]*heldEpoch, 0, len(epochs))
	for i, e := range epochs {
		st, err := protocol.VerifyEpoch(e.Statement, []identity.Public{b.cfg.Root})
		if err != nil {
			return fmt.Errorf("epoch statement %d: %w", i, err)
		}
		if e.Key == nil || !e.Key.Public().Equal(st.Key) {
			return fmt.Errorf("epoch %d: the private key does not match the statement", st.Epoch)
		}
		held = append(held, &heldEpoch{st, slices.Clone(e.Statement), protocol.NewBatcher(e.Key)})
	}
	slices.SortFunc(held, func(a, b *heldEpoch) int {
		if a.Epoch > b.Epoch {
			return -1
		}
		return 1
	})
	for i := 1; i < len(held); i++ {
		if held[i].Epoch == held[i-1].Epoch {
			return fmt.Errorf("epoch %d is given twice", held[i].Epoch)
		}
	}
	next := &heldEpochs{held, lowest}
	for _, e := range held {
		next.lowest = max(next.lowest, e.MinEpoch)
	}
	for {
		was := b.epochs.Load()
		if was != nil {
			next.lowest = max(next.lowest, was.lowest)
		}
		if b.epochs.CompareAndSwap(was, next) {
			return nil
		}
	}
}

// pickEpoch enforces protocol 5.2 on this side: the newest epoch that is active,
// not retired by any statement that the broker ever held (even one that is only
// prepared: that is how a root ends a compromised epoch at once), and not lower
// than what the agent has seen.
func (b *Broker) pickEpoch(seen uint64, now protocol.Time) (*heldEpoch, error) {
	held := b.epochs.Load()
	for _, e := range held.list {
		if !e.ValidAt(now) || e.Epoch < held.lowest {
			continue
		}
		if e.Epoch < seen {
			return nil, refusal.New(protocol.ReasonEpochBehind, "the agent has seen epoch %d, the newest active one here is %d", seen, e.Epoch)
		}
		return e, nil
	}
	return nil, refusal.New(protocol.ReasonNoActiveEpoch, "no epoch from %d on is valid at %s", held.lowest, now.Time())
}
