package rounds

import (
	"crypto/rand"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// rotate draws the seed of a round's rotation, unless none is wanted or can be, and completes
// the bound of a value. The broker draws it when it opens the round: nobody who contributes
// chooses it, and it is fixed before the first vector is encrypted.
func rotate(r *federation.Round, set params.Set, want *bool) error {
	err := r.Rotatable()
	if want == nil && err != nil || want != nil && !*want {
		orDefault(&r.ClipLinf, r.ClipL2)
		return nil
	}
	if err != nil {
		return err
	}
	orDefault(&r.ClipLinf, federation.SafeClipLinf(r.ClipL2, set.ValuesPerBlock()))
	r.Rotation = &federation.Rotation{}
	_, err = rand.Read(r.Rotation.Seed[:])
	return err
}

// accurate refuses a round without privacy noise whose mean is too far off.
func accurate(r federation.Round, most float64) error {
	orDefault(&most, federation.MaxError)
	if !(most > 0) {
		return refusal.New(ReasonSpec, "max_error %g is not above 0", most)
	}
	if r.Minimum > r.Maximum {
		return nil // no cohort: the round is refused for that
	}
	a, err := r.Accuracy(r.Minimum)
	if err != nil || !(a.Relative > most) || r.Noise.Mechanism != federation.NoNoise {
		return err
	}
	return refusal.New(ReasonInaccurate, "%s, and %.2g is allowed: %s", farOff(a), most, remedy(r))
}

func farOff(a federation.Accuracy) string {
	return fmt.Sprintf("the mean of %d contributions is expected to be off by %.2g of clip_l2", a.Cohort, a.Relative)
}

// remedy is what makes a round more accurate.
func remedy(r federation.Round) string {
	text := ""
	if r.Rotation == nil && r.Rotatable() == nil {
		text += "rotate the values, "
	}
	if r.Maximum > r.Minimum {
		text += fmt.Sprintf("name a maximum nearer to the minimum than %d, ", r.Maximum)
	}
	return text + "name a smaller clip_linf, or accept it with max_error"
}

// describe adds to the status of a round that verified what follows from it.
func (st *Status) describe() error {
	a, err := st.Round.Accuracy(st.Round.Minimum)
	if err != nil {
		return err
	}
	st.ExpectedError = &a
	noisy := st.Round.Noise.Mechanism != federation.NoNoise
	if noisy {
		st.Adjacency = federation.Adjacency
	}
	switch {
	case a.Relative <= federation.MaxError:
	case noisy:
		st.Warning = farOff(a) + ": so much noise does this privacy take with so few"
	default:
		st.Warning = farOff(a)
	}
	return nil
}

// spends is what the audit log says of a round's privacy.
func spends(r federation.Round) string {
	if r.Epsilon == 0 {
		return "without noise"
	}
	return fmt.Sprintf("epsilon %g delta %g %s", r.Epsilon, r.Delta, federation.Adjacency)
}
