package aggregator

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/durable"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/normcheck"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

const fileProof = "proof"

// takeProof takes the proof of an upload's norm. Without it no block is taken.
func (a *Aggregator) takeProof(w http.ResponseWriter, r *http.Request, id federation.ID) error {
	held, u, err := a.find(r, id)
	if err != nil {
		return err
	}
	return a.takeSmall(w, r, func(raw []byte) error { return a.addProof(r.Context(), held, u, raw) })
}

// addProof verifies a proof and keeps it. The same one again is fine.
func (a *Aggregator) addProof(ctx context.Context, r *round, u *upload, raw []byte) error {
	if err := normcheck.Signed(r.def, u.contribution, raw); err != nil || r.proven(u) == nil {
		return err
	}
	if !a.now().before(r.def.Closes) {
		return evidence.Refuse(ReasonRoundOver, "round %s takes no more proofs", r.def.ID)
	}
	err := normcheck.Checker{Ring: a.cfg.NormKeys}.Verify(ctx, r.def, u.contribution, raw)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return evidence.Refuse(ReasonBusy, "the proof was not verified in time; come back")
	}
	if err != nil {
		return err
	}
	if err = durable.Write(r.path("uploads", u.digest.String(), fileProof), raw); errors.Is(err, fs.ErrNotExist) {
		return evidence.Refuse(ReasonUnknown, "upload %s gave its place to another; send its manifest again", u.digest)
	}
	return err
}

// proven says whether a round's upload may send blocks.
func (r *round) proven(u *upload) error {
	if r.def.NormProof && !durable.Exists(r.path("uploads", u.digest.String(), fileProof)) {
		return evidence.Refuse(normcheck.ReasonMissing, "the round wants a proof of the norm before the blocks")
	}
	return nil
}
