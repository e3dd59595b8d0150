package federation

import (
	"math"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Accuracy is how far a published mean is expected to be from the mean of the vectors that
// were handed in, each scaled down to clip_l2 where it was longer. Parts are as a part of
// clip_l2: of the longest mean that there can be, of contributions that agree. Of a mean that is
// half as long they are twice as much.
type Accuracy struct {
	// Cohort is the number of contributions, TotalWeight the sum of their weights. The noise
	// of a sum is that of its contributions, however light: of half the weight the error is twice.
	Cohort      uint32 `json:"cohort"`
	TotalWeight uint64 `json:"total_weight"`
	// Relative is the error's expected Euclidean norm, PerValue its standard deviation in
	// one value of the mean.
	Relative float64 `json:"relative"`
	PerValue float64 `json:"per_value"`
	// Rounding to the grid, the Encryption's own noise, the noise Added so that it does not
	// show, Privacy noise of the mechanism and of the participants' shares, and Clamping, of
	// a vector of clip_l2 whose blocks have even parts of it. The squares add up to that of Relative.
	Rounding   float64 `json:"rounding"`
	Encryption float64 `json:"encryption"`
	Added      float64 `json:"added"`
	Privacy    float64 `json:"privacy"`
	Clamping   float64 `json:"clamping"`
}

// Adjacency names what an epsilon here tells apart: two cohorts of which one has a
// contribution more, weights being public. AdjacencyText says so. Of two cohorts in which one
// contribution is another, the sensitivity is twice as large, and epsilon that of half the
// noise multiplier.
const (
	Adjacency     = "add-remove"
	AdjacencyText = "a contribution more or less, weights public; replacing one doubles the sensitivity"
)

// MaxError is the expected relative error up to which a round without privacy is opened
// unless more is asked for.
const MaxError = 0.1

// Accuracy computes the expected error of the mean of a cohort whose contributions all have the
// largest weight.
func (r *Round) Accuracy(cohort uint32) (Accuracy, error) {
	return r.AccuracyOf(cohort, uint64(cohort)*uint64(r.MaxWeight))
}

// AccuracyOf computes the expected error of the mean of a cohort. In a round without rotation
// nothing is said of clamping: values beyond clip_linf are cut off there.
func (r *Round) AccuracyOf(cohort uint32, totalWeight uint64) (Accuracy, error) {
	a := Accuracy{Cohort: cohort, TotalWeight: totalWeight}
	if totalWeight < uint64(cohort) || totalWeight > uint64(cohort)*uint64(r.MaxWeight) {
		return a, invalid("a weight of %d is none that %d contributions can have", totalWeight, cohort)
	}
	set, _, err := r.Parameters()
	if err != nil {
		return a, err
	}
	b, err := set.Budget(int(cohort))
	if err != nil {
		return a, refusal.New(ReasonSet, "%v", err)
	}
	g, err := r.Grid()
	if err != nil {
		return a, err
	}
	sigma, err := r.Sigma()
	if err != nil {
		return a, err
	}
	share, err := r.ShareSigma()
	if err != nil {
		return a, err
	}
	// Standard deviations in grid steps of one value of the sum. Rounding at random to a
	// neighbour has a variance of a quarter at most.
	n := float64(cohort)
	divisor := float64(totalWeight) / float64(r.MaxWeight)
	if r.Rule != WeightedMean { // of which some are left out
		divisor -= 2 * float64(r.Trim)
		if r.Rule == Median {
			divisor = 2
		}
		b.GridSD *= math.Sqrt(divisor / n)
		n = divisor
	}
	a.Rounding, a.Encryption = math.Sqrt(n)/2, b.GridSD
	var central float64
	switch {
	case r.Parties != nil: // nobody can add noise to a sum that parties open
	case r.Noise.Mechanism == DiscreteGaussian:
		central = sigma
	case r.Noise.Mechanism == DiscreteLaplace:
		central = math.Sqrt2 * sigma
	}
	a.Privacy = math.Sqrt(central*central + n*share*share)
	if r.Parties == nil && (r.Noise.Mechanism != DiscreteGaussian || sigma < b.FloodSD) {
		a.Added = b.FloodSD
	}
	a.PerValue = math.Sqrt(a.Rounding*a.Rounding+a.Encryption*a.Encryption+a.Added*a.Added+a.Privacy*a.Privacy) * g.Step / divisor
	relative := g.Step / divisor * math.Sqrt(float64(r.Length)) / r.ClipL2
	for _, part := range []*float64{&a.Rounding, &a.Encryption, &a.Added, &a.Privacy} {
		*part *= relative
	}
	if a.Clamping, err = r.clamping(); err != nil {
		return a, err
	}
	a.Relative = math.Hypot(a.PerValue*math.Sqrt(float64(r.Length))/r.ClipL2, a.Clamping)
	return a, nil
}

// clamping is what rotated values lose of a vector of clip_l2 that every block has its part of: they
// are normal, of standard deviation s, and (|y|-c)+ has the second moment
// 2 s^2 ((1+t^2) Q(t) - t phi(t)) with t = c/s.
func (r *Round) clamping() (float64, error) {
	if r.Rotation == nil {
		return 0, nil
	}
	set, _, err := r.Parameters()
	if err != nil {
		return 0, err
	}
	t := r.ClipLinf / r.ClipL2 * math.Sqrt(max(float64(r.Length), float64(set.ValuesPerBlock())))
	beyond := math.Erfc(t/math.Sqrt2) / 2
	return math.Sqrt(2 * max((1+t*t)*beyond-t*math.Exp(-t*t/2)/math.Sqrt(2*math.Pi), 0)), nil
}
