// Package rounds is the broker's part in federated rounds: it opens them, admits
// contributions, closes them once, and keeps the privacy ledger.
//
// It guarantees that a round closes over one cohort and one sum for ever, of at
// least the minimum, so that no two published sums differ by fewer; that the ledger
// is charged durably before the ticket exists, and the ticket before the key may
// leave; that a round's key leaves only for a closed round; and that charges are
// never lost, changed or taken back.
//
// It trusts its store, the key store and the audit log; of a store and a log that were
// both put back, a checkpoint that was kept elsewhere tells. It refuses rounds that the
// model's privacy policy does not allow, contributions that are not of attested
// agents or do not follow the round, and everything when it cannot be recorded,
// each with a reason.
//
// The broker's daemon runs it; operators command it; the key release asks it.
package rounds

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	ReasonUnknown   refusal.Reason = "round-unknown"
	ReasonNotClosed refusal.Reason = "round-not-closed"
	ReasonClosed    refusal.Reason = "round-already-closed"
	ReasonAbandoned refusal.Reason = "round-abandoned"
	ReasonDuplicate refusal.Reason = "contribution-duplicate"
	ReasonFull      refusal.Reason = "round-full"
	ReasonCohort    refusal.Reason = "cohort-too-small"
	ReasonNotListed refusal.Reason = "contribution-not-admitted"
	ReasonGuest     refusal.Reason = "contributions-per-guest"
	ReasonSoftware  refusal.Reason = "software-tee-not-allowed"
	ReasonPrivacy   refusal.Reason = "privacy-policy"
	ReasonBudget    refusal.Reason = "privacy-budget-exhausted"
	ReasonSpec      refusal.Reason = "round-invalid"
	ReasonConflict  refusal.Reason = "round-changed-meanwhile"
	ReasonLate      refusal.Reason = "round-over"
	// ReasonInaccurate: a round without privacy noise whose mean is expected to be further off
	// than was asked for.
	ReasonInaccurate refusal.Reason = "round-inaccurate"
	// ReasonAccount: no publisher that the broker knows signed for the model that the round
	// is to be charged to.
	ReasonAccount refusal.Reason = "privacy-account-unknown"
	// ReasonNotReleased: whoever signed the result was never given the round's key.
	ReasonNotReleased refusal.Reason = "round-key-not-released"
	// ReasonElsewhere: another broker of the fleet opened the round.
	ReasonElsewhere refusal.Reason = "round-opened-elsewhere"
	// ReasonEnding: the ending of another round, which comes first, has not come back in time.
	ReasonEnding refusal.Reason = "round-ending-unresponsive"
	// ReasonOpening: the opening of another round has not come back in time.
	ReasonOpening refusal.Reason = "round-opening-unresponsive"
)

// Secrets is the broker's key store.
type Secrets interface {
	// Put stores a secret under a new name, durably. Its subject is the digest of the
	// signed round, and comes into the lease that is granted the secret.
	Put(ctx context.Context, name string, subject digest.Digest, secret *keybuf.Buffer) error
	// Destroy makes a secret unreadable for ever. It may be called again: a secret
	// that is destroyed already is no error.
	Destroy(ctx context.Context, name string) error
}

// Signer is the broker's epoch key of now.
type Signer = protocol.ActiveEpoch

// Config is what a service needs. All fields but KeyMaker and Now are required.
type Config struct {
	Store   Store
	Secrets Secrets
	Signer  func() (Signer, error)
	// Roots is the one root of this broker, under which its rounds, contributions and results
	// are verified.
	Roots []identity.Public
	// Log is the audit log. What it says outlives the store: a store that was restored
	// from a copy neither closes a round again nor forgets a charge.
	Log Log
	// Publishers may sign for models and datasets; none, and neither has an account.
	Publishers []identity.Public
	// Former says to which account the charges of earlier versions belong, by the name
	// that was typed then or the model's account ("model:<id>"). What is not in it counts in
	// every account.
	Former map[string]federation.Account
	// Chip is the digest of the processor that a lease was granted to, from the
	// broker's own record. A lease that is not in it is a refusal, which refuses the
	// contribution; any other error ends the whole call.
	Chip func(ctx context.Context, lease digest.LeaseID) ([32]byte, error)
	// Released says whether a round's key was released to an agent key, by the broker's
	// own record.
	Released func(ctx context.Context, resource string, agent digest.Digest) (bool, error)
	// Lowest is the lowest epoch that is accepted: the highest that any statement of the
	// root which the broker holds asks for.
	Lowest func() uint64
	// KeyMaker makes the public key of sets that are not the default's.
	KeyMaker func(set params.Set, seed *keybuf.Buffer) ([]byte, error)
	// Privacy is the policy; its zero value allows no round.
	Privacy Policy
	// Limits bound what is open and kept.
	Limits Limits
	// Calibrate finds the noise multiplier of one round for an epsilon and delta;
	// Spend adds up the charges of a model.
	Calibrate func(epsilon, delta float64) (float64, error)
	Spend     func(charges []Charge, delta float64) (epsilon, withSampling float64, err error)
	Now       func() time.Time
}

// Policy is what an operator allows, in the broker's configuration.
type Policy struct {
	// MaxEpsilon and Delta bound what a model may spend in all its rounds.
	MaxEpsilon float64 `yaml:"max_epsilon"`
	Delta      float64 `yaml:"delta"`
	// MinimumCohort is the smallest that a round may name; 0 is 2.
	MinimumCohort uint32 `yaml:"minimum_cohort"`
	// WithoutNoise is the reason, in writing, for allowing rounds without privacy
	// noise. Without a reason they are refused.
	WithoutNoise string `yaml:"without_noise"`
	// SingleContributions is the reason for allowing rules that decrypt single
	// contributions inside the guest (trimmed mean, median).
	SingleContributions string `yaml:"single_contributions"`
	// RestoredStore is the reason for charging accounts whose ledger, in a store that was put
	// back, lacks charges which this broker saw others make and cannot have again: they count
	// from the audit log. Without a reason such accounts are refused.
	RestoredStore string `yaml:"restored_store"`
	// MaxHours bounds how long a round, or the set-up of a key, may run; 0 is
	// federation.MaxDuration, and more than that is not allowed.
	MaxHours uint32 `yaml:"max_hours"`
	// AllowSoftwareTEE admits contributions from the software TEE; development
	// builds only.
	AllowSoftwareTEE bool `yaml:"allow_software_tee"`
}

func (p Policy) maxDuration() time.Duration {
	if p.MaxHours > 0 {
		return min(time.Duration(p.MaxHours)*time.Hour, federation.MaxDuration)
	}
	return federation.MaxDuration
}

// Service is the broker's rounds. Its methods may be called from any goroutine.
type Service struct {
	cfg Config
	// ending holds whoever asks the log how a round ended and tells it: this broker signs one
	// ticket for a round and records one end of it.
	ending chan struct{}
	// opening holds whoever counts what is open and spent, and opens one round more.
	opening chan struct{}
	looks   looks
	// unkept says that the log may name charges which the checkpoint kept elsewhere does not
	// cover.
	unkept atomic.Bool
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Secrets == nil || cfg.Signer == nil || len(cfg.Roots) != 1 || cfg.Log == nil || cfg.Chip == nil || cfg.Released == nil || cfg.Lowest == nil || cfg.Calibrate == nil || cfg.Spend == nil {
		return nil, errors.New("rounds: a part is missing")
	}
	// A number that compares with nothing would pass every limit.
	if p := cfg.Privacy; !(p.MaxEpsilon >= 0) || math.IsInf(p.MaxEpsilon, 1) || !(p.Delta >= 0 && p.Delta < 1) {
		return nil, fmt.Errorf("rounds: privacy: max_epsilon %g or delta %g is outside its limits", p.MaxEpsilon, p.Delta)
	}
	if err := cfg.Limits.Check(); err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.complete()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, ending: make(chan struct{}, 1), opening: make(chan struct{}, 1)}
	s.unkept.Store(true)
	return s, nil
}

// Spec is what an operator asks for. Zero values take the defaults named.
type Spec struct {
	Model string `json:"model"`
	// Sealed, a sealed model without its chunks (chunkseal.Public.Part), or Dataset, both
	// signed by a publisher, names the account that the round is charged to; without either
	// it is the broker's one account.
	Sealed  []byte `json:"sealed,omitempty"`
	Dataset []byte `json:"dataset,omitempty"`
	// Contributors may contribute; required.
	Contributors protocol.Audience `json:"contributors"`
	// Decryptors may open the sum; required, but where parties hold the key.
	Decryptors  protocol.Audience       `json:"decryptors,omitzero"`
	Set         string                  `json:"set,omitempty"` // params.Default
	Length      uint64                  `json:"length"`
	ClipL2      float64                 `json:"clip_l2"`
	ClipLinf    float64                 `json:"clip_linf,omitempty"`    // ClipL2; of a rotated block federation.SafeClipLinf
	MaxWeight   uint32                  `json:"max_weight,omitempty"`   // 1
	Minimum     uint32                  `json:"minimum,omitempty"`      // the policy's
	Maximum     uint32                  `json:"maximum,omitempty"`      // twice Minimum, or what set and rule take
	PerGuest    uint32                  `json:"per_guest,omitempty"`    // 1
	NoiseBits   *uint32                 `json:"noise_budget,omitempty"` // 8
	Rule        federation.Rule         `json:"rule,omitempty"`         // weighted mean
	Trim        uint32                  `json:"trim,omitempty"`
	Mechanism   federation.Mechanism    `json:"mechanism,omitempty"`  // Gaussian if there is an epsilon or multiplier
	Multiplier  float64                 `json:"multiplier,omitempty"` // calibrated from Epsilon
	Epsilon     float64                 `json:"epsilon,omitempty"`    // of this round alone
	Share       float64                 `json:"share,omitempty"`
	Rate        float64                 `json:"rate,omitempty"` // 1
	Recount     bool                    `json:"recount,omitempty"`
	NormCircuit *federation.NormCircuit `json:"norm_circuit,omitempty"` // none: no proof of the norm
	Duration    time.Duration           `json:"duration,omitempty"`     // one hour
	// Rotate has the blocks of vectors rotated; the default wherever that can be
	// (federation.Round.Rotatable).
	Rotate *bool `json:"rotate,omitempty"`
	// MaxError is the expected relative error of the mean of the smallest cohort above which
	// a round without privacy noise is refused; federation.MaxError. It asks for a round that is
	// further off, and for nothing where noise is the purpose.
	MaxError float64 `json:"max_error,omitempty"`
	// Parties have the round's key; the set is then params.Threshold.
	Parties *federation.PartyKey `json:"parties,omitempty"`
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// define completes a specification to a round without key, ID and times.
func (s *Service) define(spec Spec) (federation.Round, params.Set, error) {
	p := s.cfg.Privacy
	if spec.Parties != nil {
		orDefault(&spec.Set, params.Threshold)
		spec.Recount = true
	}
	orDefault(&spec.Set, params.Default)
	orDefault(&spec.Rule, federation.WeightedMean)
	orDefault(&spec.MaxWeight, 1)
	orDefault(&spec.Minimum, max(p.MinimumCohort, 2))
	orDefault(&spec.PerGuest, 1)
	orDefault(&spec.Rate, 1)
	if spec.Mechanism == "" {
		spec.Mechanism = federation.NoNoise
		if spec.Epsilon > 0 || spec.Multiplier > 0 {
			spec.Mechanism = federation.DiscreteGaussian
		}
	}
	bits := uint32(8)
	if spec.NoiseBits != nil {
		bits = *spec.NoiseBits
	}
	spec.Contributors.Sort()
	spec.Decryptors.Sort()
	set, err := params.Lookup(spec.Set)
	if err != nil {
		return federation.Round{Model: spec.Model}, set, refusal.New(federation.ReasonSet, "%v", err)
	}
	most := uint32(set.MaxContributions)
	if spec.Rule != federation.WeightedMean {
		most = federation.MaxRobust
	}
	// Room that nobody takes makes the grid coarser for everybody.
	orDefault(&spec.Maximum, max(uint32(min(2*uint64(spec.Minimum), uint64(most))), spec.Minimum))
	r := federation.Round{Model: spec.Model, Contributors: spec.Contributors, Decryptors: spec.Decryptors, Set: spec.Set, Length: spec.Length, ClipL2: spec.ClipL2, ClipLinf: spec.ClipLinf, MaxWeight: spec.MaxWeight,
		Minimum: spec.Minimum, Maximum: spec.Maximum, PerGuest: spec.PerGuest, NoiseBits: bits, Rule: spec.Rule, Trim: spec.Trim,
		Noise: federation.Noise{Mechanism: spec.Mechanism, Multiplier: spec.Multiplier, Share: spec.Share}, Epsilon: spec.Epsilon, Rate: spec.Rate, Recount: spec.Recount, NormProof: spec.NormCircuit != nil, NormCircuit: spec.NormCircuit}
	if spec.Mechanism != federation.NoNoise {
		r.Delta = p.Delta
	}
	r.SetDigest = set.Digest()
	if err := rotate(&r, set, spec.Rotate); err != nil {
		return r, set, err
	}
	return r, set, spec.Parties.Adopt(&r, s.cfg.Roots, s.own(), s.live())
}

// own is the broker of the one root: its rounds are its own.
func (s *Service) own() protocol.Broker { return protocol.Of(s.cfg.Roots[0].ID()) }

// live is the floor for what is said now, by the broker's own clock.
func (s *Service) live() protocol.Floor {
	return protocol.Live(protocol.AtLeast(max(s.cfg.Lowest(), 1)), protocol.TimeOf(s.cfg.Now()))
}

// kept is the floor for what was said before: its epoch may be over, but not retired.
func (s *Service) kept() protocol.Floor { return s.live().Kept() }

// allowed holds a round against the policy, when it opens and again when it closes:
// a policy that became stricter meanwhile counts.
func (s *Service) allowed(r federation.Round) error {
	p := s.cfg.Privacy
	switch {
	case p.MaxEpsilon <= 0 && p.WithoutNoise == "":
		return refusal.New(ReasonPrivacy, "this broker allows no rounds: set rounds.privacy in its configuration")
	case r.Minimum < max(p.MinimumCohort, 2):
		return refusal.New(ReasonPrivacy, "the cohort of %d is below the policy's minimum of %d", r.Minimum, max(p.MinimumCohort, 2))
	case r.Rule != federation.WeightedMean && p.SingleContributions == "":
		return refusal.New(ReasonPrivacy, "the rule %s decrypts single contributions, which requires a reason in rounds.privacy.single_contributions", r.Rule)
	case r.Noise.Mechanism == federation.NoNoise && p.WithoutNoise == "":
		return refusal.New(ReasonPrivacy, "a round without noise requires a reason in rounds.privacy.without_noise")
	case r.Noise.Mechanism != federation.NoNoise && p.Delta == 0:
		return refusal.New(ReasonPrivacy, "rounds.privacy.delta is not set")
	}
	return nil
}

// privacy completes epsilon or multiplier of a round that is allowed.
func (s *Service) privacy(r *federation.Round) error {
	if err := s.allowed(*r); err != nil || r.Noise.Mechanism == federation.NoNoise {
		return err
	}
	if r.Noise.Multiplier == 0 {
		if r.Noise.Mechanism != federation.DiscreteGaussian || !(r.Epsilon > 0) {
			return refusal.New(ReasonSpec, "a round with noise requires an epsilon or a multiplier")
		}
		m, err := s.cfg.Calibrate(r.Epsilon, r.Delta)
		if err != nil {
			return refusal.New(ReasonSpec, "no noise gives epsilon %g (%s) at delta %g: %v", r.Epsilon, federation.Adjacency, r.Delta, err)
		}
		r.Noise.Multiplier = m
	}
	if r.Parties != nil && r.Noise.Share == 0 {
		r.Noise.Share = r.ShareFor(r.Noise.Multiplier)
	}
	epsilon, _, err := s.cfg.Spend([]Charge{chargeOf(*r)}, r.Delta)
	if err != nil {
		return err
	}
	r.Epsilon = epsilon
	return nil
}

// Open opens a round: its key is made and stored before the signed statement
// exists.
func (s *Service) Open(ctx context.Context, spec Spec) ([]byte, federation.Round, error) {
	r, set, err := s.define(spec)
	if err != nil {
		return nil, r, err
	}
	if r.Account, err = s.account(spec); err != nil {
		return nil, r, err
	}
	if err := s.privacy(&r); err != nil {
		return nil, r, err
	}
	if err := accurate(r, spec.MaxError); err != nil {
		return nil, r, err
	}
	if err := s.cfg.Log.Kept(ctx); err != nil {
		return nil, r, err
	}
	select {
	case s.opening <- struct{}{}:
		defer func() { <-s.opening }()
	case <-ctx.Done():
		return nil, r, refusal.New(ReasonOpening, "another round is still being opened; check the store of rounds and the audit log, then try again: %w", context.Cause(ctx))
	}
	if err := s.affordable(ctx, r); err != nil {
		return nil, r, err
	}
	if err := s.roomForOne(ctx, r.Model); err != nil {
		return nil, r, err
	}
	signer, err := s.cfg.Signer()
	if err != nil {
		return nil, r, err
	}
	if spec.Duration == 0 {
		spec.Duration = time.Hour
	}
	r.Broker, r.Epoch = signer.Broker, signer.Epoch
	r.Opened = protocol.TimeOf(s.cfg.Now())
	r.Closes = r.Opened.Add(spec.Duration)
	if most := s.cfg.Privacy.maxDuration(); spec.Duration > most {
		return nil, r, refusal.New(ReasonSpec, "the round lasts %s, this broker allows at most %s", spec.Duration, most)
	}
	seed, err := s.key(&r, set)
	defer seed.Wipe()
	if err != nil {
		return nil, r, err
	}
	signed, err := federation.SignRound(signer.Key, signer.Statement, r)
	if err != nil {
		return nil, r, err
	}
	// What would not verify is never opened.
	if _, err := federation.VerifyRound(signed, s.cfg.Roots, s.own(), s.live()); err != nil {
		return nil, r, err
	}
	if r.Parties != nil {
		if err := s.unused(ctx, r.ID); err != nil {
			return nil, r, err
		}
	}
	if err := s.tell(ctx, r.ID, actionOpen, fmt.Sprintf("model %s account %s set %s length %d cohort %d to %d %s", r.Model, r.Account, r.Set, r.Length, r.Minimum, r.Maximum, spends(r))); err != nil {
		return nil, r, err
	}
	if seed != nil {
		if err := s.cfg.Secrets.Put(ctx, r.Resource(), digest.Of(signed), seed); err != nil {
			return nil, r, err
		}
	}
	// A crash before the next line leaves a key that is never released: its round is
	// unknown.
	if err := s.cfg.Store.Create(ctx, Record{ID: r.ID, Model: r.Model, Account: r.Account, Signed: signed, State: Open}); err != nil {
		return nil, r, err
	}
	return signed, r, nil
}

// key draws a round's ID and key, unless parties have made them.
func (s *Service) key(r *federation.Round, set params.Set) (seed *keybuf.Buffer, err error) {
	if r.Parties != nil {
		return nil, nil
	}
	if _, err := rand.Read(r.ID[:]); err != nil {
		return nil, err
	}
	if seed, err = keybuf.Random(rlwe.SeedSize); err != nil {
		return nil, err
	}
	// The key pair is expanded with AES under the seed, and crypto/aes keeps a copy of its key. The collector overwrites
	// that (GODEBUG=clobberfree=1, which the unit sets); with little to do it would not come by itself for days.
	defer runtime.GC()
	switch {
	case set.ID == params.Default:
		r.PublicKey, err = rlwe.PublicKeyOf(seed)
	case s.cfg.KeyMaker != nil && set.ID != params.Threshold:
		r.PublicKey, err = s.cfg.KeyMaker(set, seed)
	default:
		err = refusal.New(federation.ReasonSet, "this broker cannot make keys of the parameter set %s", set.ID)
	}
	return seed, err
}

// Prepare signs the set-up of a key that no one will have whole, and stores nothing.
func (s *Service) Prepare(ctx context.Context, p federation.Preparation) ([]byte, federation.Setup, error) {
	signer, err := s.cfg.Signer()
	if err != nil {
		return nil, federation.Setup{}, err
	}
	setup, err := p.Setup(signer.Broker, signer.Epoch, protocol.TimeOf(s.cfg.Now()))
	if most := s.cfg.Privacy.maxDuration(); err == nil && setup.Closes.Time().Sub(setup.Opened.Time()) > most {
		err = refusal.New(ReasonSpec, "the setup lasts %s, this broker allows at most %s", p.Duration, most)
	}
	if err != nil {
		return nil, setup, err
	}
	if err := s.note(ctx, setup.Round, actionPrepare, ""); err != nil {
		return nil, setup, err
	}
	out, err := federation.SignSetup(signer.Key, signer.Statement, setup)
	return out, setup, err
}
