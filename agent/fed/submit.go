package fed

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// contributeSpec is the specification of a job that contributes.
type contributeSpec struct {
	Round  digest.RoundID `json:"round"`
	Weight uint32         `json:"weight"`
	Format fedtask.Format `json:"format"`
	Norm   float64        `json:"norm"`
	// Vector names the spooled values: a keyed hash of them, so that the same
	// vector is the same job, and the name tells nobody what it is.
	Vector string `json:"vector"`
	// Run names the run of the agent that stored the vector, where only that one can
	// read it.
	Run string `json:"run,omitempty"`
	// Upload is how long its ciphertexts will be: they have room from now on.
	Upload int64 `json:"upload,omitempty"`
	// With names the answers that are proven before the contribution is sent.
	With []digest.ReceiptID `json:"with,omitempty"`
}

// Submission says how a vector is to be treated.
type Submission struct {
	// Weight of the contribution, from 1 to the round's maximum.
	Weight uint32
	// Format of the values.
	Format fedtask.Format
	// Strict refuses a vector that exceeds the round's bounds. Otherwise the vector is scaled
	// down to the bound of its norm, and then each value is clamped to the bound of values.
	Strict bool
	// With names answers of this user. The contribution names them too, and is sent once each
	// of them is proven.
	With []digest.ReceiptID
}

// Submit stores a vector, encrypted, and queues its contribution. The same vector
// for the same round is the same job.
func (s *Service) Submit(ctx context.Context, uid uint32, id digest.RoundID, sub Submission, body io.Reader) (jobs.Info, error) {
	h, err := s.rounds.Open(ctx, id)
	if err != nil {
		return jobs.Info{}, err
	}
	if err := s.accepts(h); err != nil {
		return jobs.Info{}, err
	}
	switch {
	case sub.Format.Bytes() == 0:
		return jobs.Info{}, refusal.New(fedtask.ReasonVector, "values must be little-endian float32 or float16")
	case sub.Weight < 1 || sub.Weight > h.MaxWeight:
		return jobs.Info{}, refusal.New(fedtask.ReasonVector, "weight %d is outside 1 to %d", sub.Weight, h.MaxWeight)
	}
	if signer, err := s.cfg.Sign(); err != nil {
		return jobs.Info{}, err
	} else if signer.Now >= h.Closes {
		return jobs.Info{}, refusal.New(ReasonOver, "the round closed at %s", h.Closes.Time())
	}
	spec := contributeSpec{Round: id, Weight: sub.Weight, With: sub.With, Format: sub.Format, Run: s.store.RunOf(h.Round)}
	if spec.Upload, err = uploadBytes(h.Round); err != nil {
		return jobs.Info{}, err
	}
	v, release, err := s.store.Take(h.Round, store.Incoming{Owner: uid, Format: sub.Format, Upload: spec.Upload, Peak: sub.Strict, Body: body})
	if err != nil {
		return jobs.Info{}, err
	}
	defer release()
	spec.Norm, spec.Vector = v.Norm, v.Name
	if sub.Strict && (v.Norm > h.ClipL2 || v.Peak > h.ClipLinf) {
		what := "value"
		if h.Rotation != nil {
			what = "value, as the round rotates it,"
		}
		return jobs.Info{}, errors.Join(refusal.New(ReasonNorm, "the vector's norm is %.4g and its largest %s %.4g; the round's bounds are %.4g and %.4g", v.Norm, what, v.Peak, h.ClipL2, h.ClipLinf),
			s.store.Drop(v.Name))
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return jobs.Info{}, err
	}
	info, created, err := s.cfg.Queue.Submit(ctx, jobs.Job{Class: fedtask.ClassContribute, Owner: uid, Spec: raw, Memory: s.cfg.Limits.Memory, TimeMax: s.cfg.Limits.Time})
	if err != nil || !created && info.Final() {
		err = errors.Join(err, s.store.Drop(spec.Vector))
	}
	return info, err
}
