package registry

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Announce takes receipts, 1 to MaxAnnounced in binary form, all or none of them. Who
// sends them does not matter: each carries the chain that makes it trustworthy. Where more
// are announced than may wait, a draw decides which do, and whoever is not drawn is not told.
func (s *Service) Announce(ctx context.Context, receipts [][]byte) (Announced, error) {
	if len(receipts) < 1 || len(receipts) > MaxAnnounced {
		return Announced{}, refusal.New(ReasonUnverified, "got %d receipts, want 1 to %d at a time", len(receipts), MaxAnnounced)
	}
	entries := make([]ReceiptEntry, 0, len(receipts))
	for i, raw := range receipts {
		r, err := s.verifyReceipt(ctx, raw)
		if err != nil {
			return Announced{}, fmt.Errorf("receipt %d: %w", i, err)
		}
		entries = append(entries, ReceiptEntry{Raw: bytes.Clone(raw), Receipt: r, Announced: s.now()})
	}
	if err := s.name(ctx, entries); err != nil {
		return Announced{}, err
	}
	// Whoever sent them stays unproven, unless it introduced itself: a receipt is no word of
	// an agent's on this connection, its client has it too.
	s.mu.Lock()
	defer s.mu.Unlock()
	a, gone, err := s.cfg.Store.Announce(entries, s.limits())
	s.displaced.add(gone)
	return a, err
}

// name finds the guests of receipts, once for each lease.
func (s *Service) name(ctx context.Context, entries []ReceiptEntry) error {
	if s.cfg.Guest == nil {
		return nil
	}
	known := map[digest.LeaseID]digest.Digest{}
	for i := range entries {
		e := &entries[i]
		guest, found := known[e.Receipt.Lease]
		if !found {
			var err error
			if guest, err = s.cfg.Guest(ctx, e.Receipt); err != nil {
				return fmt.Errorf("receipt %s: %w", e.Receipt.ID, err)
			}
			known[e.Receipt.Lease] = guest
		}
		e.Guest = guest
	}
	return nil
}

func (s *Service) verifyReceipt(ctx context.Context, raw []byte) (Receipt, error) {
	if len(raw) > MaxReceiptBytes {
		return Receipt{}, refusal.New(ReasonUnverified, "%d bytes, the limit is %d", len(raw), MaxReceiptBytes)
	}
	release, err := s.acquire(ctx)
	if err != nil {
		return Receipt{}, err
	}
	defer release()
	r, err := s.cfg.VerifyReceipt(raw)
	switch {
	case err != nil:
		return Receipt{}, refusal.New(ReasonUnverified, "%w", err)
	case r.Time == 0:
		return Receipt{}, refusal.New(ReasonUnverified, "receipt %s has no time", r.ID)
	case r.Time < s.before(s.cfg.KeptAge):
		return Receipt{}, refusal.New(ReasonOld, "receipt %s is of %s; none is kept longer than %.0f days (proofs.kept_days)", r.ID, r.Time.Time().Format(time.DateOnly), s.cfg.KeptAge.Hours()/24)
	case !bytes.HasPrefix(r.InputCommitment[:], []byte(provableTag)):
		return Receipt{}, refusal.New(ReasonNotProvable, "receipt %s is for an answer without a circuit", r.ID)
	}
	return r, nil
}
