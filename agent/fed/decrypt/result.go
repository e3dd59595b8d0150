package decrypt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Published is the result of a job that decrypts, and of Result.
type Published struct {
	Round                digest.RoundID `json:"round"`
	Model                string         `json:"model"`
	Count                uint32         `json:"count"`
	TotalWeight          uint64         `json:"total_weight"`
	Length               uint64         `json:"length"`
	Step                 float64        `json:"step"`
	Divisor              float64        `json:"divisor"`
	Sigma                float64        `json:"sigma"`
	Values               digest.Digest  `json:"values"`
	Result               digest.Digest  `json:"result"`
	SpentEpsilon         float64        `json:"spent_epsilon"`
	SpentEpsilonSampling float64        `json:"spent_epsilon_with_sampling"`
	Delta                float64        `json:"delta"`
	// Adjacency says which inputs the epsilons make hard to tell apart.
	Adjacency string `json:"adjacency"`
	// ExpectedError is that of the mean of this cohort, with its actual weights.
	ExpectedError federation.Accuracy `json:"expected_error"`
	// AwaitsParties means that the values become valid only when more parties of the round's
	// key have decrypted and signed the same ones.
	AwaitsParties bool `json:"awaits_parties,omitempty"`
}

func published(h rounds.Round, t federation.Ticket, r federation.Result, signed []byte) (Published, error) {
	off, err := h.AccuracyOf(t.Count, t.TotalWeight)
	return Published{ExpectedError: off, Round: h.ID, Model: h.Model, Count: t.Count, TotalWeight: t.TotalWeight, Length: r.Length, Step: r.Step, Divisor: r.Divisor, Sigma: r.Sigma,
		Values: r.Values, Result: digest.Of(signed), SpentEpsilon: t.Spent, SpentEpsilonSampling: t.SpentWithSampling, Delta: t.Delta, Adjacency: federation.Adjacency}, err
}

// Result returns what was published of a round.
func (s *Service) Result(ctx context.Context, id digest.RoundID) (Published, error) {
	h, t, r, signed, err := s.result(ctx, id)
	if err != nil {
		return Published{}, err
	}
	return published(h, t, r, signed)
}

func (s *Service) result(ctx context.Context, id digest.RoundID) (h rounds.Round, t federation.Ticket, r federation.Result, signed []byte, err error) {
	if h, err = s.cfg.Rounds.Past(ctx, id); err != nil {
		return
	}
	floor, err := s.cfg.Rounds.Live()
	if err != nil {
		return
	}
	t, ticket, err := s.cfg.Shards[0].Ticket(ctx, floor.Kept(), h.Round, h.Digest)
	if err != nil {
		return
	}
	r, signed, err = s.cfg.Shards[0].Result(ctx, floor.Kept(), h.Round, t, digest.Of(ticket))
	return
}

// Values writes the published mean as little-endian float32. All values are checked against
// the signed digest before the first is written; until then they take disk room of the user
// who asks.
func (s *Service) Values(ctx context.Context, uid uint32, id digest.RoundID, w io.Writer) (err error) {
	h, _, r, _, err := s.result(ctx, id)
	if err != nil {
		return err
	}
	f, err := s.cfg.Store.NewScratch(uid, 8*int64(h.Length))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	body, err := s.cfg.Shards[0].Values(ctx, id)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(body, 8*int64(h.Length)+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	if n != 8*int64(h.Length) || digest.Sum(sum) != r.Values {
		return refusal.New(ReasonSum, "the aggregator's values do not match the signed digest")
	}
	buf, out := make([]byte, 64<<10), make([]byte, 32<<10)
	for at := int64(0); at < n; {
		k, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := range k / 8 {
			v := float64(int64(binary.LittleEndian.Uint64(buf[8*i:]))) * r.Step / r.Divisor
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(float32(v)))
		}
		if _, err := w.Write(out[:k/2]); err != nil {
			return err
		}
		at += int64(k)
	}
	return nil
}
