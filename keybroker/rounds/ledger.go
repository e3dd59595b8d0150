package rounds

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Charge is what one round spent of a model's privacy. Charges are chained by hash
// and never removed.
type Charge struct {
	Round      digest.RoundID       `json:"round"`
	Mechanism  federation.Mechanism `json:"mechanism"`
	Multiplier float64              `json:"multiplier"`
	Rate       float64              `json:"rate"`
	// Previous is the digest of the charge before, zero for the first.
	Previous digest.Digest `json:"previous"`
}

func chargeOf(r federation.Round) Charge {
	return Charge{Round: r.ID, Mechanism: r.Noise.Mechanism, Multiplier: r.Noise.Multiplier, Rate: r.Rate}
}

// digest names a charge and, through Previous, all before it.
func (c Charge) digest() (digest.Digest, error) {
	raw, err := encodeCharge(c)
	return sha256.Sum256(raw), err
}

// placeless is the charge by what was charged alone: a round that closes again, after its
// ledger was put back, may follow other charges than it did.
func (c Charge) placeless() Charge {
	c.Previous = digest.Digest{}
	return c
}

// complete checks that a model's charges are all there, in their order, and returns
// the digest of the last.
func complete(model string, charges []Charge, want uint64) (last digest.Digest, err error) {
	if uint64(len(charges)) != want {
		return last, damaged("the privacy ledger of %q has %d charges, there were %d", model, len(charges), want)
	}
	for i, c := range charges {
		if c.Previous != last {
			return last, damaged("charge %d of the privacy ledger of %q does not follow the one before", i+1, model)
		}
		if last, err = c.digest(); err != nil {
			return last, err
		}
	}
	return last, nil
}

// Ledger is what an account's rounds spent.
type Ledger struct {
	Account             federation.Account `json:"account"`
	Charges             []Charge           `json:"charges"`
	Epsilon             float64            `json:"epsilon"`
	EpsilonWithSampling float64            `json:"epsilon_with_sampling"`
	Delta               float64            `json:"delta"`
	// Adjacency is between what these epsilons are.
	Adjacency  string  `json:"adjacency"`
	MaxEpsilon float64 `json:"max_epsilon"`
	// WithoutNoise is how many charges are of rounds without noise. Epsilon is of
	// the others alone: what was published without noise has none.
	WithoutNoise int `json:"without_noise"`
}

// Ledger adds up an account's charges: all that count there.
func (s *Service) Ledger(ctx context.Context, account federation.Account) (Ledger, error) {
	sp, err := s.spent(ctx, account)
	if err != nil {
		return Ledger{}, err
	}
	charges := sp.counted
	l := Ledger{Account: account, Charges: charges, Delta: s.cfg.Privacy.Delta, Adjacency: federation.Adjacency, MaxEpsilon: s.cfg.Privacy.MaxEpsilon}
	for _, c := range charges {
		if c.Mechanism == federation.NoNoise {
			l.WithoutNoise++
		}
	}
	l.Epsilon, l.EpsilonWithSampling, err = s.spend(charges)
	return l, err
}

// spend adds up the charges of noisy rounds; those without noise have no epsilon,
// and the ledger shows them as what they are.
func (s *Service) spend(charges []Charge) (epsilon, withSampling float64, err error) {
	var noisy []Charge
	for _, c := range charges {
		if c.Mechanism != federation.NoNoise {
			noisy = append(noisy, c)
		}
	}
	if len(noisy) == 0 {
		return 0, 0, nil
	}
	return s.cfg.Spend(noisy, s.cfg.Privacy.Delta)
}

// affordable refuses a round that would bring its account over the budget.
func (s *Service) affordable(ctx context.Context, r federation.Round) error {
	sp, err := s.spent(ctx, r.Account)
	if err == nil {
		err = s.see(ctx, r.Account, sp.unseen)
	}
	if err == nil {
		_, _, err = s.afford(sp, r)
	}
	return err
}

func (s *Service) afford(sp spending, r federation.Round) (epsilon, withSampling float64, err error) {
	charges := sp.counted
	if !slices.ContainsFunc(charges, func(c Charge) bool { return c.Round == r.ID }) {
		charges = append(charges[:len(charges):len(charges)], chargeOf(r))
	}
	epsilon, withSampling, err = s.spend(charges)
	if err == nil && !(epsilon <= s.cfg.Privacy.MaxEpsilon) && r.Noise.Mechanism != federation.NoNoise {
		err = refusal.New(ReasonBudget, "the account %s would have spent epsilon %.3f of %.3f at delta %g (%s)", r.Account, epsilon, s.cfg.Privacy.MaxEpsilon, s.cfg.Privacy.Delta, federation.AdjacencyText)
	}
	return epsilon, withSampling, err
}
