package rounds

import (
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// account is the accountant of a broker. Rounds that are alike are one event of
// several steps, which is much less work.
func account(charges []Charge, delta float64) (epsilon, withSampling float64, err error) {
	var events []dp.Event
	for _, c := range charges {
		e := dp.Event{Mechanism: dp.MechanismGaussian, Multiplier: c.Multiplier, Rate: c.Rate}
		if c.Mechanism == federation.DiscreteLaplace {
			e.Mechanism = dp.MechanismLaplace
		}
		i := slices.IndexFunc(events, func(o dp.Event) bool { o.Steps = 0; return o == e })
		if i < 0 {
			i, events = len(events), append(events, e)
		}
		events[i].Steps++
	}
	s, err := dp.Spend(events, delta)
	return s.EpsilonWithoutSampling, s.Epsilon, err
}

// With the accountant of crypto/dp: a round that asks for epsilon 1 is charged no
// more, several are cheaper together than their sum, and the budget ends.
func TestLedgerByPrivacyLoss(t *testing.T) {
	longtest.Run(t, "it calibrates the noise of a dozen rounds")
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) {
		c.Spend = account
		c.Calibrate = func(epsilon, delta float64) (float64, error) { return dp.Calibrate(epsilon, delta, 1, 1) }
		c.Privacy.MaxEpsilon = 2
	})
	spec := plain
	spec.Multiplier, spec.Epsilon, spec.Rate = 0, 1, 0.1
	last, n := 0.0, 0
	for {
		signed, r, err := s.Open(ctx, spec)
		if err != nil {
			wantReason(t, "the budget", err, ReasonBudget)
			break
		}
		if r.Epsilon > 1 || r.Epsilon < 0.98 {
			t.Fatalf("epsilon %g for 1", r.Epsilon)
		}
		if said, err := s.cfg.Log.Find(ctx, actionOpen, r.Resource()); err != nil || len(said) != 1 || !strings.HasSuffix(said[0].Detail, " delta 1e-05 add-remove") {
			t.Errorf("the log says %+v, %v", said, err)
		}
		ticket, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)})
		if err != nil {
			t.Fatal(err)
		}
		tk, err := federation.VerifyTicket(ticket, m.Roots(), m.Floor(), r, digest.Of(signed))
		if err != nil || !(tk.Spent > last) || tk.Spent > 2 || !(tk.SpentWithSampling < tk.Spent/2) {
			t.Fatalf("%+v, %v", tk, err)
		}
		last, n = tk.Spent, n+1
	}
	if l, err := s.Ledger(ctx, federation.BrokerAccount); err != nil || n != 3 || l.Epsilon != last || len(l.Charges) != n {
		t.Errorf("%d rounds of epsilon 1 within 2: %+v, %v", n, l, err)
	}
}

func BenchmarkSpend100(b *testing.B) {
	charges := make([]Charge, 100)
	for i := range charges {
		charges[i] = Charge{Mechanism: federation.DiscreteGaussian, Multiplier: 4, Rate: 0.1}
	}
	for b.Loop() {
		if _, _, err := account(charges, 1e-5); err != nil {
			b.Fatal(err)
		}
	}
}
