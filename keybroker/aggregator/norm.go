package aggregator

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

const fileProof = "proof"

// takeProof takes the proof of an upload's norm. Without it no block is taken.
func (a *Aggregator) takeProof(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	held, u, err := a.find(r, id)
	if err != nil {
		return err
	}
	return a.takeSmall(w, r, func(raw []byte) error { return a.addProof(r.Context(), held, u, raw) })
}

// addProof verifies a proof and keeps it. The same one again is fine.
func (a *Aggregator) addProof(ctx context.Context, r *round, u *upload, raw []byte) error {
	if err := SignedNorm(r.def, u.contribution, raw); err != nil || r.proven(u) == nil {
		return err
	}
	if !a.now().before(r.def.Closes) {
		return refusal.New(ReasonRoundOver, "round %s takes no more proofs", r.def.ID)
	}
	// One connection at a time: more of them would have the same proof verified for each, and
	// take the places of others'.
	if !u.verifying.TryLock() {
		return refusal.New(ReasonBusy, "this proof is being verified on another connection; try again later")
	}
	defer u.verifying.Unlock()
	if r.proven(u) == nil {
		return nil // meanwhile
	}
	if err := a.verifyProof(ctx, r, u, raw); err != nil {
		return err
	}
	err := disk.Write(r.path("uploads", u.digest.String(), fileProof), raw)
	if errors.Is(err, fs.ErrNotExist) {
		return refusal.New(ReasonUnknown, "upload %s was displaced by another; send its manifest again", u.digest)
	}
	return err
}

// maxProving bounds the proofs that are verified at a time: they are sent by whoever
// contributes, and take a processor each.
const maxProving = 2

// verifyProof verifies the one proof that a contribution names; u.verifying is held. One that
// does not hold is verified once, however often it is sent.
func (a *Aggregator) verifyProof(ctx context.Context, r *round, u *upload, raw []byte) error {
	if u.unsound != nil {
		return u.unsound
	}
	select {
	case a.proving <- struct{}{}:
		defer func() { <-a.proving }()
	case <-ctx.Done():
		return refusal.New(ReasonBusy, "other proofs are being verified; try again later")
	}
	err := NormChecker{Ring: a.cfg.NormKeys}.Verify(ctx, r.def, u.contribution, raw)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return refusal.New(ReasonBusy, "the proof was not verified in time; try again later")
	}
	if reason, refused := refusal.ReasonOf(err); refused && reason == ReasonNormInvalid {
		u.unsound = err
	}
	return err
}

// proven says whether a round's upload may send blocks.
func (r *round) proven(u *upload) error {
	if r.def.NormProof && !disk.Exists(r.path("uploads", u.digest.String(), fileProof)) {
		return refusal.New(ReasonNormMissing, "the round requires a norm proof before the blocks")
	}
	return nil
}
