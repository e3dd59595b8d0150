package federation

import (
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Mechanism is how privacy noise is drawn.
type Mechanism string

// The mechanisms. Both are exact distributions over integers; no float is sampled.
const (
	NoNoise          Mechanism = "none"
	DiscreteGaussian Mechanism = "discrete-gaussian"
	DiscreteLaplace  Mechanism = "discrete-laplace"
)

// Rule is how contributions become one vector.
type Rule string

// The rules. All but the sum decrypt single contributions inside the decrypting
// guest, which is why a round has to name them.
const (
	WeightedMean Rule = "weighted-mean" // sum, divided by the sum of weights
	TrimmedMean  Rule = "trimmed-mean"  // in each coordinate, without the Trim lowest and highest
	Median       Rule = "median"        // in each coordinate
)

// Noise is the privacy noise of a round.
type Noise struct {
	Mechanism Mechanism `json:"mechanism"`
	// Multiplier is the noise's standard deviation (Gaussian) or scale (Laplace)
	// in units of the sensitivity. It is added once, in the decrypting guest.
	Multiplier float64 `json:"multiplier"`
	// Share is a further Gaussian multiplier that the cohort's minimum of
	// participants adds together, each its part: what protects them if the
	// decrypting guest is broken. Epsilon does not count on it.
	Share float64 `json:"share"`
}

// Round is what a broker opens, and all that a participant needs to know.
type Round struct {
	ID     digest.RoundID `json:"round"`
	Broker digest.Digest  `json:"broker"`
	Epoch  uint64         `json:"epoch"`
	// Model names what is trained, for people.
	Model string `json:"model"`
	// Account is the privacy ledger that the round is charged to.
	Account Account `json:"account"`
	// Contributors may contribute.
	Contributors protocol.Audience `json:"contributors"`
	// Decryptors may open the sum and sign the result, with the round's key. In a round
	// of several parties it is they who may, and this is empty.
	Decryptors protocol.Audience `json:"decryptors,omitzero"`
	// Set and SetDigest name the parameters.
	Set       string        `json:"set"`
	SetDigest digest.Digest `json:"set_digest"`
	// Length is the number of values in a vector.
	Length uint64 `json:"length"`
	// ClipL2 bounds the Euclidean norm of a contribution, ClipLinf each value: of a rotated
	// block where the round is rotated.
	ClipL2   float64 `json:"clip_l2"`
	ClipLinf float64 `json:"clip_linf"`
	// MaxWeight is the largest weight of a contribution; values are multiplied
	// with weight/MaxWeight.
	MaxWeight uint32 `json:"max_weight"`
	// Minimum is the smallest cohort that may be closed, Maximum the largest.
	Minimum uint32 `json:"minimum"`
	Maximum uint32 `json:"maximum"`
	// PerGuest is how many contributions may come from one processor.
	PerGuest uint32 `json:"per_guest"`
	// NoiseBits is the noise budget that must be left after Maximum additions.
	NoiseBits uint32 `json:"noise_budget_threshold"`
	Rule      Rule   `json:"rule"`
	Trim      uint32 `json:"trim"`
	Noise     Noise  `json:"noise"`
	// Epsilon and Delta are charged to the ledger when the round closes, without
	// counting on sampling.
	Epsilon float64 `json:"epsilon"`
	Delta   float64 `json:"delta"`
	// Rate is the chance of a participant to be in a round; 1 where it is not
	// sampled. It only serves the second, smaller epsilon that is reported.
	Rate float64 `json:"rate"`
	// Recount has the decrypting guest add the contributions again by itself and
	// refuse any other sum, so that the aggregators need not be believed.
	Recount bool `json:"recount"`
	// NormProof demands a proof of the norm bound with each contribution.
	NormProof bool          `json:"norm_proof"`
	Opened    protocol.Time `json:"opened"`
	Closes    protocol.Time `json:"closes"`
	// PublicKey is the round's, in the set's encoding.
	PublicKey []byte `json:"public_key"`
	// Parties, if any, hold the secret key together; else the broker holds it.
	Parties *Parties `json:"parties,omitempty"`
	// NormCircuit is what NormProof is made with.
	NormCircuit *NormCircuit `json:"norm_circuit,omitempty"`
	// Rotation, if any, spreads the values of a block over it before they are clamped.
	Rotation *Rotation `json:"rotation,omitempty"`
}

// MaxDuration bounds how long a round, or the set-up of a key, may run.
const MaxDuration = 31 * 24 * time.Hour

// Limits of rounds.
const (
	MaxLength     = 1 << 40
	MaxWeight     = 1 << 20
	MaxRobust     = 14 // contributions that a rule other than the sum takes
	maxNameBytes  = 128
	maxMultiplier = 1 << 20
)

func (r *Round) context() string { return labelPrefix + "round" + labelVersion }

func invalid(format string, args ...any) error {
	return refusal.New(ReasonRound, format, args...)
}

// check holds every number against its limits. It does not look at the set.
func (r *Round) check() error {
	finite := func(v float64) bool { return v >= 0 && v <= math.MaxFloat32 }
	switch {
	case r.Model == "" || len(r.Model) > maxNameBytes || !printable(r.Model):
		return invalid("model: 1 to %d printable characters", maxNameBytes)
	case r.Length < 1 || r.Length > MaxLength:
		return invalid("length %d is outside 1 to 2^40", r.Length)
	case !finite(r.ClipL2) || !finite(r.ClipLinf) || r.ClipL2 == 0 || r.ClipLinf == 0:
		return invalid("clip_l2 and clip_linf must be positive")
	case r.MaxWeight < 1 || r.MaxWeight > MaxWeight:
		return invalid("max_weight %d is outside 1 to %d", r.MaxWeight, MaxWeight)
	case r.Minimum < 2 || r.Maximum < r.Minimum:
		return invalid("cohort of %d to %d: at least 2, and the maximum not below the minimum", r.Minimum, r.Maximum)
	case r.PerGuest < 1:
		return invalid("per_guest must be 1 or more")
	case r.Closes <= r.Opened || r.Opened == 0:
		return invalid("the round closes before it opens")
	case r.Closes.Time().Sub(r.Opened.Time()) > MaxDuration:
		return invalid("the round runs for more than %s", MaxDuration)
	case r.Rate <= 0 || r.Rate > 1:
		return invalid("rate %g is outside 0 to 1", r.Rate)
	}
	if err := r.checkParties(); err != nil {
		return err
	}
	if err := r.checkGuests(); err != nil {
		return err
	}
	if err := r.checkNorm(); err != nil {
		return err
	}
	if err := r.checkPrivacy(); err != nil {
		return err
	}
	return r.checkRotation()
}

// checkGuests wants the guests named: an empty audience is nobody, never everyone.
func (r *Round) checkGuests() error {
	if err := r.Account.check(); err != nil {
		return invalid("%v", err)
	}
	if err := r.Contributors.Check(); err != nil {
		return invalid("contributors: %v", err)
	}
	if r.Parties != nil {
		if !reflect.ValueOf(r.Decryptors).IsZero() {
			return invalid("decryptors: the parties of the round's key decrypt, and no one else is named")
		}
		return nil
	}
	if err := r.Decryptors.Check(); err != nil {
		return invalid("decryptors: %v", err)
	}
	return nil
}

func (r *Round) checkPrivacy() error {
	switch r.Rule {
	case WeightedMean, Median:
		if r.Trim != 0 {
			return invalid("trim goes with %s only", TrimmedMean)
		}
	case TrimmedMean:
		if r.Trim < 1 || 2*uint64(r.Trim) >= uint64(r.Minimum) {
			return invalid("trim %d leaves nothing of a cohort of %d", r.Trim, r.Minimum)
		}
	default:
		return invalid("rule %q is unknown", r.Rule)
	}
	if r.Rule != WeightedMean && (r.Maximum > MaxRobust || r.MaxWeight != 1) {
		return invalid("a %s takes at most %d contributions, all of weight 1", r.Rule, MaxRobust)
	}
	n := r.Noise
	if !(n.Multiplier >= 0 && n.Multiplier <= maxMultiplier) || !(n.Share >= 0 && n.Share <= maxMultiplier) {
		return invalid("a noise multiplier is outside 0 to %d", maxMultiplier)
	}
	switch n.Mechanism {
	case NoNoise:
		if n.Multiplier != 0 || n.Share != 0 || r.Epsilon != 0 || r.Delta != 0 {
			return invalid("without noise there is no multiplier, epsilon or delta")
		}
	case DiscreteGaussian, DiscreteLaplace:
		if n.Multiplier == 0 || !(r.Epsilon > 0) || !(r.Delta > 0 && r.Delta < 1) {
			return invalid("noise needs a multiplier, epsilon above 0 and delta between 0 and 1")
		}
		if r.Rule != WeightedMean {
			return invalid("the sensitivity of a %s is not bounded here; noise goes with %s", r.Rule, WeightedMean)
		}
	default:
		return invalid("noise mechanism %q is unknown", n.Mechanism)
	}
	return nil
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return true
}

// Parameters returns the round's set after it was held against name, digest, table
// and noise budget.
func (r *Round) Parameters() (params.Set, params.Budget, error) {
	set, err := params.Lookup(r.Set)
	if err != nil {
		return set, params.Budget{}, refusal.New(ReasonSet, "%v", err)
	}
	if digest.Digest(set.Digest()) != r.SetDigest {
		return set, params.Budget{}, refusal.New(ReasonSet, "%s has another digest here", r.Set)
	}
	if err := set.Check(); err != nil {
		return set, params.Budget{}, refusal.New(ReasonSet, "%v", err)
	}
	b, err := set.Require(int(r.Maximum), int(r.NoiseBits))
	if err != nil {
		return set, b, refusal.New(ReasonSet, "%v", err)
	}
	return set, b, nil
}

// Grid is how a round's real values become integers.
type Grid struct {
	// Step is the distance of two grid points.
	Step float64
	// Top is the largest integer of a clipped value, Limit that of a value with
	// the participant's share of the noise: what the modulus leaves room for.
	Top, Limit int32
	// L2 and L1 bound the norms of a contribution in grid steps, what stochastic
	// rounding can add included.
	L2, L1 float64
}

// shareSigmas is how far a participant's share of the noise may reach, in standard
// deviations, before it is clamped. Where epsilon counts on the shares it is never:
// 16 are not reached but with a probability below 2^-180.
func (r *Round) shareSigmas() float64 {
	if r.Parties != nil {
		return 16
	}
	return 6
}

// Grid derives the grid from the set's budget.
func (r *Round) Grid() (Grid, error) {
	_, b, err := r.Parameters()
	if err != nil {
		return Grid{}, err
	}
	share := r.Noise.Share * r.ClipL2 / math.Sqrt(float64(r.Minimum))
	g := Grid{Step: (r.ClipLinf + r.shareSigmas()*share) / float64(b.Limit), Limit: b.Limit}
	g.Top = int32(min(math.Ceil(r.ClipLinf/g.Step), float64(b.Limit)))
	places, err := r.places()
	if err != nil {
		return Grid{}, err
	}
	root := math.Sqrt(float64(places)) // a place that is rounded lengthens a vector, padding too
	g.L2 = min(r.ClipL2/g.Step+root, float64(g.Top)*root)
	g.L1 = g.L2 * root
	return g, nil
}

// Sigma is the standard deviation, or the Laplace scale, of the noise in grid steps
// that the decrypting guest adds; in a round of several parties, of what the
// participants' shares are at least.
func (r *Round) Sigma() (float64, error) {
	g, err := r.Grid()
	if err != nil {
		return 0, err
	}
	if r.Noise.Mechanism == DiscreteLaplace {
		return r.Noise.Multiplier * g.L1, nil
	}
	return r.Noise.Multiplier * g.L2, nil
}

// ShareSigma is the standard deviation in grid steps of one participant's share.
func (r *Round) ShareSigma() (float64, error) {
	g, err := r.Grid()
	return r.Noise.Share * g.L2 / math.Sqrt(float64(r.Minimum)), err
}

// Flood is the least standard deviation in grid steps of the noise on what is
// published of so many contributions, privacy or not. Whoever has the sum's
// ciphertext and its exact decryption has the key by linear algebra (Li and
// Micciancio 2021). A round's key decrypts once; with this noise what is published
// is one more sample of ring learning with errors.
func (r *Round) Flood(count int) (float64, error) {
	set, _, err := r.Parameters()
	if err != nil {
		return 0, err
	}
	b, err := set.Budget(count)
	return b.FloodSD, err
}

// Resource is the name of the round's secret key at the broker.
func (r *Round) Resource() string { return ResourceOf(r.ID) }

// ResourceClass is the first segment of the names of round keys.
const ResourceClass = "fed"

// ResourceOf is the name of a round's secret key at the broker.
func ResourceOf(id digest.RoundID) string { return fmt.Sprintf("%s/%s", ResourceClass, id) }

// SignRound signs with the epoch key; epoch is the root's statement about it.
func SignRound(key *identity.Private, epoch []byte, r Round) ([]byte, error) {
	return seal(key, epoch, &r)
}

// VerifyRound checks root -> epoch statement -> round, whose broker opened it, and the
// parameters. A round ends within its epoch, so that it can be held against the epochs of
// now all its life. What others say about the round is asked of its broker alone.
func VerifyRound(signed []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor) (Round, error) {
	var r Round
	if err := verifyBroker(signed, roots, broker, floor, &r, func(st protocol.EpochStatement) bool {
		return digest.Digest(st.Broker) == r.Broker && st.Epoch == r.Epoch && st.ValidAt(r.Opened) && r.Closes <= st.NotAfter
	}); err != nil {
		return Round{}, err
	}
	if _, _, err := r.Parameters(); err != nil {
		return Round{}, err
	}
	return r, r.verifyReady(roots, floor.Kept())
}

// EpochOf is the root's statement that a statement of the broker carries, whatever its
// epoch: what a root says of its own minimum counts, whoever brings it.
func EpochOf(signed []byte, roots []identity.Public) (protocol.EpochStatement, error) {
	chain, err := form.ChainOf(signed)
	if err != nil {
		return protocol.EpochStatement{}, err
	}
	return protocol.VerifyStatementEpoch(chain, roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)))
}

// verifyBroker checks a statement of the broker's epoch key.
func verifyBroker(signed []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor, st statement, fits func(protocol.EpochStatement) bool) error {
	s, err := split(signed, st)
	if err != nil {
		return err
	}
	epoch, err := protocol.VerifyStatementEpoch(s.Chain(), roots, broker, floor)
	if err != nil {
		return err
	}
	if err := s.Open(epoch.Key, "the epoch key", st, st.check); err != nil {
		return err
	}
	if !fits(epoch) {
		return refusal.New(ReasonSignature, "%s names another broker, epoch or time", st.context())
	}
	return nil
}
