package assembly

import (
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// calibrate finds the multiplier of one round.
func calibrate(epsilon, delta float64) (float64, error) {
	return dp.Calibrate(epsilon, delta, 1, 1)
}

// spend adds up charges with and without what sampling gives. Equal charges are one
// event of several steps, which is many times quicker.
func spend(charges []rounds.Charge, delta float64) (epsilon, withSampling float64, err error) {
	steps := map[dp.Event]int{}
	for _, c := range charges {
		e := dp.Event{Mechanism: dp.MechanismGaussian, Multiplier: c.Multiplier, Rate: c.Rate}
		if c.Mechanism == federation.DiscreteLaplace {
			e.Mechanism = dp.MechanismLaplace
		}
		steps[e]++
	}
	events := make([]dp.Event, 0, len(steps))
	for e, n := range steps {
		e.Steps = n
		events = append(events, e)
	}
	s, err := dp.Spend(events, delta)
	return s.EpsilonWithoutSampling, s.Epsilon, err
}

// makeKey makes the public keys of sets with slots.
func makeKey(set params.Set, seed *keybuf.Buffer) ([]byte, error) {
	secret, public, err := ckks.GenerateKey(ckks.Params{LogN: set.LogN, Q: set.Q, P: set.P, LogScale: set.LogScale}, seed)
	secret.Wipe()
	return public, err
}
