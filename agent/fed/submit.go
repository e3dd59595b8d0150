package fed

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// contributeSpec is the specification of a job that contributes.
type contributeSpec struct {
	Round  federation.ID  `json:"round"`
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
	With []receipt.ID `json:"with,omitempty"`
}

// Submission is how a vector is to be taken.
type Submission struct {
	// Weight of the contribution, from 1 to what the round allows.
	Weight uint32
	// Format of the values.
	Format fedtask.Format
	// Strict refuses a vector beyond the round's bounds; otherwise it is scaled down to
	// that of its norm, and values are then clamped to theirs.
	Strict bool
	// With names answers of this user, which the contribution names too: it is sent once
	// each is proven.
	With []receipt.ID
}

// Submit stores a vector, encrypted, and queues its contribution. The same vector
// for the same round is the same job.
func (s *Service) Submit(ctx context.Context, uid uint32, id federation.ID, sub Submission, body io.Reader) (jobs.Info, error) {
	h, err := s.open(ctx, id)
	if err != nil {
		return jobs.Info{}, err
	}
	if err := s.accepts(h); err != nil {
		return jobs.Info{}, err
	}
	switch {
	case sub.Format.Bytes() == 0:
		return jobs.Info{}, refusal.New(fedtask.ReasonVector, "values are float32 or float16, little-endian")
	case sub.Weight < 1 || sub.Weight > h.MaxWeight:
		return jobs.Info{}, refusal.New(fedtask.ReasonVector, "weight %d is outside 1 to %d", sub.Weight, h.MaxWeight)
	}
	if signer, err := s.cfg.Sign(); err != nil {
		return jobs.Info{}, err
	} else if signer.Now >= h.Closes {
		return jobs.Info{}, refusal.New(ReasonOver, "the round closed at %s", h.Closes.Time())
	}
	spec := contributeSpec{Round: id, Weight: sub.Weight, With: sub.With, Format: sub.Format, Run: s.runOf(h)}
	if spec.Upload, err = uploadBytes(h.Round); err != nil {
		return jobs.Info{}, err
	}
	// Before a byte of the body is read.
	release, err := s.room.Reserve(uid, spool.Size(int64(sub.Format.Bytes())*int64(h.Length))+spec.Upload, func() (spool.Usage, error) { return s.usage(uid) })
	if err != nil {
		return jobs.Info{}, err
	}
	defer release()
	peak, err := s.store(body, h, &spec, sub.Strict)
	if err != nil {
		return jobs.Info{}, err
	}
	if sub.Strict && (spec.Norm > h.ClipL2 || peak > h.ClipLinf) {
		what := "value"
		if h.Rotation != nil {
			what = "value, as the round rotates it,"
		}
		return jobs.Info{}, errors.Join(refusal.New(ReasonNorm, "the vector's norm is %.4g and its largest %s %.4g; the round's bounds are %.4g and %.4g", spec.Norm, what, peak, h.ClipL2, h.ClipLinf),
			s.dropVector(spec.Vector))
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return jobs.Info{}, err
	}
	info, created, err := s.cfg.Queue.Submit(ctx, jobs.Job{Class: fedtask.ClassContribute, Owner: uid, Spec: raw, Memory: s.cfg.Limits.Memory, TimeMax: s.cfg.Limits.Time})
	if err != nil || !created && info.Final() {
		err = errors.Join(err, s.dropVector(spec.Vector))
	}
	return info, err
}

// store spools a vector and measures it: its norm, and, where that is asked for, the amount of
// its largest value as it will be held against its bound.
func (s *Service) store(body io.Reader, h held, spec *contributeSpec, peaks bool) (peak float64, err error) {
	f, err := s.create("spool")
	if err != nil {
		return 0, err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, discard(f))
		}
	}()
	key := s.vectorKey(h)
	out, err := spool.NewWriter(f, key, vectorName)
	if err != nil {
		return 0, err
	}
	name, err := vectorHash(key, h.ID)
	if err != nil {
		return 0, err
	}
	m := &measure{values: fedtask.NewValues(leased{body, key}, spec.Format, h.Length)}
	if peaks {
		if m.peak, err = newPeak(h.Round); err != nil {
			return 0, err
		}
	}
	if err := m.copy(io.MultiWriter(out, name)); err != nil {
		return 0, err
	}
	if err := out.Close(); err != nil {
		return 0, err
	}
	spec.Norm, spec.Vector = m.norm.L2(), hex.EncodeToString(name.Sum(nil))
	kept = true
	return m.peak.most(), keep(f, s.path("spool", spec.Vector))
}

// vectorName is the spool files' name inside their encryption. A file is found
// under its keyed hash, which is known only when it is written.
const vectorName = "vector"

func vectorHash(under spool.Key, round federation.ID) (interface {
	io.Writer
	Sum([]byte) []byte
}, error) {
	var key []byte
	if err := under.Use(func(secret []byte) (err error) {
		key, err = hkdf.Key(sha256.New, secret, nil, "anchorhold/federate/vector/1", 32)
		return err
	}); err != nil {
		return nil, err
	}
	defer keybuf.Wipe(key)
	h := hmac.New(sha256.New, key)
	h.Write(round[:])
	return h, nil
}

func (s *Service) dropVector(name string) error {
	if err := os.Remove(s.path("spool", name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// measure copies a vector and adds up its norm.
type measure struct {
	values *fedtask.Values
	norm   dp.Norm
	peak   *peak // nil where nobody asks
}

const measureValues = 16 << 10

func (m *measure) copy(dst io.Writer) error {
	values := make([]float32, measureValues)
	for m.values.Left() > 0 {
		n, raw, err := m.values.Read(values)
		if err != nil {
			return err
		}
		if err := m.norm.Add(values[:n]); err != nil {
			return refusal.New(fedtask.ReasonVector, "the vector's norm: %v", err)
		}
		if err := m.peak.add(values[:n]); err != nil {
			return err
		}
		if _, err := dst.Write(raw); err != nil {
			return err
		}
	}
	if err := m.peak.end(); err != nil {
		return err
	}
	return m.values.End()
}
