package federation

import (
	"crypto/rand"
	"crypto/sha256"
	"math"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// ReasonParties means that the parties of a key are not those of its set-up, or do
// not agree about it.
const ReasonParties refusal.Reason = "parties-invalid"

// MaxParties bounds the parties of one key: the word of each is in the round.
const MaxParties = 16

// Setup is what the broker asks attested agents for: a key that no one has whole.
type Setup struct {
	// Round is the round that the key will serve, and no other.
	Round     digest.RoundID `json:"round"`
	Broker    digest.Digest  `json:"broker"`
	Epoch     uint64         `json:"epoch"`
	Set       string         `json:"set"`
	SetDigest digest.Digest  `json:"set_digest"`
	// Threshold of the Agents, numbered from 1 in this order, decrypt together.
	Threshold uint32          `json:"threshold"`
	Agents    []digest.Digest `json:"agents"`
	Opened    protocol.Time   `json:"opened"`
	Closes    protocol.Time   `json:"closes"`
}

func (s *Setup) context() string { return labelPrefix + "setup" + labelVersion }

func (s *Setup) check() error {
	set, err := params.Lookup(s.Set)
	if err != nil || s.Set != params.Threshold || digest.Digest(set.Digest()) != s.SetDigest {
		return refusal.New(ReasonSet, "a key shared by several parties requires the parameter set %s", params.Threshold)
	}
	if s.Closes <= s.Opened || s.Opened == 0 {
		return invalid("the set-up ends before it begins")
	}
	if s.Closes.Time().Sub(s.Opened.Time()) > MaxDuration {
		return invalid("the set-up runs for more than %s", MaxDuration)
	}
	return checkAgents(s.Threshold, s.Agents)
}

func checkAgents(threshold uint32, agents []digest.Digest) error {
	if threshold < 2 || len(agents) > MaxParties || int(threshold) > len(agents) {
		return refusal.New(ReasonParties, "got %d of %d parties, want 2 to %d", threshold, len(agents), MaxParties)
	}
	seen := map[digest.Digest]bool{}
	for _, a := range agents {
		if seen[a] {
			return refusal.New(ReasonParties, "agent %s is named twice", a)
		}
		seen[a] = true
	}
	return nil
}

// SignSetup signs with the epoch key.
func SignSetup(key *identity.Private, epoch []byte, s Setup) ([]byte, error) {
	return seal(key, epoch, &s)
}

// VerifySetup checks root -> epoch statement -> set-up, and whose broker asks for it.
func VerifySetup(signed []byte, roots []identity.Public, broker protocol.Broker, floor protocol.Floor) (Setup, error) {
	var s Setup
	err := verifyBroker(signed, roots, broker, floor, &s, func(st protocol.EpochStatement) bool {
		return digest.Digest(st.Broker) == s.Broker && st.Epoch == s.Epoch && st.ValidAt(s.Opened)
	})
	return s, err
}

// Preparation is what an operator asks for before a round of several parties.
type Preparation struct {
	Threshold uint32          `json:"threshold"`
	Agents    []digest.Digest `json:"agents"`
	Duration  time.Duration   `json:"duration,omitempty"` // ten minutes
}

// Setup draws the round's ID.
func (p Preparation) Setup(broker [32]byte, epoch uint64, now protocol.Time) (Setup, error) {
	set, err := params.Lookup(params.Threshold)
	if err != nil {
		return Setup{}, err
	}
	if p.Duration == 0 {
		p.Duration = 10 * time.Minute
	}
	s := Setup{Broker: broker, Epoch: epoch, Set: set.ID, SetDigest: set.Digest(), Threshold: p.Threshold, Agents: p.Agents, Opened: now, Closes: now.Add(p.Duration)}
	if _, err := rand.Read(s.Round[:]); err != nil {
		return s, err
	}
	return s, s.check()
}

// PartyKey is a key that parties made, and their words about it.
type PartyKey struct {
	Setup     []byte   `json:"setup"` // as the broker signed it
	Ready     [][]byte `json:"ready"` // of every party, in order
	PublicKey []byte   `json:"public_key"`
}

// Adopt gives a round the key of its parties, from a set-up of the broker that is about to
// open it. Whether they vouch for it shows when
// the round is verified. A nil key changes nothing.
func (k *PartyKey) Adopt(r *Round, roots []identity.Public, broker protocol.Broker, floor protocol.Floor) error {
	if k == nil {
		return nil
	}
	s, err := VerifySetup(k.Setup, roots, broker, floor)
	if err != nil {
		return err
	}
	r.ID, r.PublicKey = s.Round, k.PublicKey
	r.Parties = &Parties{Threshold: s.Threshold, Agents: s.Agents, Setup: k.Setup, Ready: k.Ready}
	return nil
}

// Kind of a party's message.
type Kind string

// The messages of a set-up, in their order. A party sends the next kind when it has
// those before of every party.
const (
	// PartyCommit: SHA-256 of the sender's public share, then its one-use KEM key:
	// CommitBytes. Without it the last party would choose the whole key.
	PartyCommit Kind = "commit"
	// PartyPublic: the public share.
	PartyPublic Kind = "public"
	// PartyDeal: for one other party, what the sender's secret is to it, sealed under a
	// key that is wrapped in the first DealKeyBytes.
	PartyDeal Kind = "deal"
	// PartyReady: SHA-256 of the key that the sender computed from all public
	// shares; it has opened what the others dealt to it.
	PartyReady Kind = "ready"
)

// Sizes of payloads, in bytes. They are checked before anybody reads a message: one of
// another length, under a good signature, would be cut apart by every other party.
const (
	// CommitBytes is all of a PartyCommit.
	CommitBytes = sha256.Size + keywrap.PublicKeySize
	// DealKeyBytes is what a PartyDeal begins with; the sealed deal comes after it.
	DealKeyBytes = keywrap.EncSize + 32 + keywrap.Overhead

	maxPartyPayload = 640 << 10
)

// fits says whether a payload's length is one of its kind. How long shares are is the
// parameter set's, which the parties know.
func (k Kind) fits(payload []byte) bool {
	n := len(payload)
	switch k {
	case PartyCommit:
		return n == CommitBytes
	case PartyReady:
		return n == sha256.Size
	case PartyDeal:
		return n > DealKeyBytes && n <= maxPartyPayload
	case PartyPublic:
		return n > 0 && n <= maxPartyPayload
	}
	return false
}

// PartyMessage is what one party signs in a set-up.
type PartyMessage struct {
	Round digest.RoundID `json:"round"`
	Setup digest.Digest  `json:"setup"` // of the signed set-up
	Kind  Kind           `json:"kind"`
	From  uint32         `json:"from"`
	To    uint32         `json:"to"` // 0 for all
	Agent digest.Digest  `json:"agent"`
	// View is ViewOf the messages that the sender has: the commitments, in a
	// PartyReady the public shares after them. Zero in a PartyCommit.
	View    digest.Digest `json:"view"`
	Payload []byte        `json:"payload"`
	Time    protocol.Time `json:"time"`
}

func (m *PartyMessage) context() string { return labelPrefix + "party" + labelVersion }

func (m *PartyMessage) check() error {
	switch {
	case (m.Kind == PartyDeal) != (m.To != 0) || m.From == m.To:
		return malformed("party's message: kind %q from %d to %d", m.Kind, m.From, m.To)
	case m.From < 1 || m.From > MaxParties || m.To > MaxParties || m.Time == 0:
		return malformed("party's message: a number outside its limits")
	case !m.Kind.fits(m.Payload):
		return malformed("party's message: kind %q of %d bytes", m.Kind, len(m.Payload))
	}
	return nil
}

// SignPartyMessage signs with the agent key under its lease.
func SignPartyMessage(key *identity.Private, lease []byte, m PartyMessage) ([]byte, error) {
	return seal(key, lease, &m)
}

// VerifyPartyMessage checks root -> epoch -> lease -> message, that it belongs to the
// set-up, and that the set-up names the agent, which its own broker vouches for.
func VerifyPartyMessage(signed []byte, roots []identity.Public, floor protocol.Floor, s Setup, setup digest.Digest) (PartyMessage, error) {
	m, err := verifyParty(signed, roots, s.Broker, floor, s.Round, setup, s.Agents)
	if err == nil && (m.Time < s.Opened || m.Time >= s.Closes || int(m.To) > len(s.Agents)) {
		err = refusal.New(ReasonParties, "signed at %s for party %d, outside the time of the setup", m.Time.Time(), m.To)
	}
	return m, err
}

// asParty is what a lease must give to speak as a party. Which agents are parties is
// named one by one, where this is asked.
func asParty(broker digest.Digest) authority {
	return authority{protocol.Of(broker), protocol.RoleParty, protocol.NoResource(), protocol.Everyone()}
}

func verifyParty(signed []byte, roots []identity.Public, broker digest.Digest, floor protocol.Floor, round digest.RoundID, setup digest.Digest, agents []digest.Digest) (PartyMessage, error) {
	var m PartyMessage
	a, err := verifyAgent(signed, roots, floor, asParty(broker), &m)
	lease := &a.Lease
	switch {
	case err != nil:
		return m, err
	case m.Round != round || m.Setup != setup:
		return m, refusal.New(ReasonWrongRound, "the message is for the key of another round, %s", m.Round)
	case int(m.From) > len(agents) || agents[m.From-1] != m.Agent || digest.Digest(lease.AgentKey.ID()) != m.Agent:
		return m, refusal.New(ReasonSignature, "the message is not of party %d", m.From)
	case !lease.ValidAt(m.Time):
		return m, refusal.New(ReasonOutsideLease, "signed at %s, outside the lease", m.Time.Time())
	}
	return m, nil
}

// ViewOf names signed messages in the order of their parties.
func ViewOf(signed ...[]byte) digest.Digest {
	h := sha256.New()
	h.Write([]byte("anchorhold/fed/view/1\x00"))
	for _, s := range signed {
		d := digest.Of(s)
		h.Write(d[:])
	}
	return digest.Sum(h)
}

// Parties are who decrypts a round's sum together: no one holds its key.
type Parties struct {
	Threshold uint32          `json:"threshold"`
	Agents    []digest.Digest `json:"agents"`
	// Setup is the set-up as the broker signed it and as the parties vouch for it. It says
	// the same of threshold and agents.
	Setup []byte `json:"setup"`
	// Ready is the signed PartyReady of each, in order: all about this round's key.
	Ready [][]byte `json:"ready"`
}

// checkParties holds a round of several parties against what it has to be.
func (r *Round) checkParties() error {
	p := r.Parties
	if (p != nil) != (r.Set == params.Threshold) {
		return refusal.New(ReasonParties, "a round has several parties if and only if its parameter set is %s", params.Threshold)
	}
	if p == nil {
		return nil
	}
	if err := checkAgents(p.Threshold, p.Agents); err != nil {
		return err
	}
	switch {
	case len(p.Ready) != len(p.Agents):
		return refusal.New(ReasonParties, "%d of %d parties are ready", len(p.Ready), len(p.Agents))
	case !r.Recount || r.Rule != WeightedMean:
		return invalid("parties recount what they decrypt, and decrypt a %s alone", WeightedMean)
	case r.Minimum < p.Threshold:
		return invalid("a cohort of %d is smaller than the threshold %d", r.Minimum, p.Threshold)
	case r.Noise.Mechanism == DiscreteLaplace || r.Noise.Share < r.ShareFor(r.Noise.Multiplier)*(1-1e-9):
		return invalid("no guest adds noise here: the participants' shares have to give a multiplier of %g", r.Noise.Multiplier)
	}
	return nil
}

// ShareFor is the Share with which the participants of the smallest cohort together
// give a Gaussian multiplier, even if one party fewer than the threshold are
// dishonest and give nothing.
func (r *Round) ShareFor(multiplier float64) float64 {
	honest := float64(r.Minimum) - float64(r.Parties.Threshold) + 1
	return multiplier * math.Sqrt(float64(r.Minimum)/honest)
}

// verifyReady checks the parties' words about the round's key, and that the round says of it
// what they were asked for: fewer of them than it names could open the key else.
func (r *Round) verifyReady(roots []identity.Public, floor protocol.Floor) error {
	p := r.Parties
	if p == nil {
		return nil
	}
	s, err := VerifySetup(p.Setup, roots, protocol.Of(r.Broker), floor)
	switch {
	case err != nil:
		return err
	case s.Round != r.ID:
		return refusal.New(ReasonWrongRound, "the setup is for the key of another round, %s", s.Round)
	case s.Threshold != p.Threshold || !slices.Equal(s.Agents, p.Agents):
		return refusal.New(ReasonParties, "the round names %d of %d parties, but the key was set up for %d of %d or in another order", p.Threshold, len(p.Agents), s.Threshold, len(s.Agents))
	}
	key, setup := sha256.Sum256(r.PublicKey), digest.Of(p.Setup)
	var view digest.Digest
	for i, signed := range p.Ready {
		m, err := verifyParty(signed, roots, r.Broker, floor, r.ID, setup, p.Agents)
		switch {
		case err != nil:
			return err
		case m.Kind != PartyReady || int(m.From) != i+1 || [32]byte(m.Payload) != key:
			return refusal.New(ReasonParties, "party %d does not vouch for the round's key", i+1)
		case i > 0 && m.View != view:
			return refusal.New(ReasonParties, "party %d saw a different setup than the others", i+1)
		}
		view = m.View
	}
	return nil
}

// Share is what a party signs about its part in decrypting a round's sum.
type Share struct {
	Round        digest.RoundID `json:"round"`
	TicketDigest digest.Digest  `json:"ticket_digest"`
	Agent        digest.Digest  `json:"agent"`
	From         uint32         `json:"from"`
	// Active are the parties that decrypt, ascending.
	Active []uint32 `json:"active"`
	Blocks uint64   `json:"blocks"`
	// Upload is the UploadDigest of the share's blocks: one for each ciphertext.
	Upload digest.Digest `json:"upload"`
	Time   protocol.Time `json:"time"`
}

func (s *Share) context() string { return labelPrefix + "share" + labelVersion }

func (s *Share) check() error {
	if s.Blocks < 1 || s.Blocks > MaxManifestBlocks || s.Time == 0 || len(s.Active) > MaxParties {
		return malformed("share: a number outside its limits")
	}
	member, last := false, uint32(0)
	for _, a := range s.Active {
		if a <= last || a > MaxParties {
			return malformed("share: active parties %d", s.Active)
		}
		member, last = member || a == s.From, a
	}
	if !member {
		return malformed("share: party %d is not among the active", s.From)
	}
	return nil
}

// SignShare signs with the agent key under its lease.
func SignShare(key *identity.Private, lease []byte, s Share) ([]byte, error) {
	return seal(key, lease, &s)
}

// VerifyShare checks root -> epoch -> lease -> share, and that it is a party's of the
// round about this ticket.
func VerifyShare(signed []byte, roots []identity.Public, floor protocol.Floor, r Round, ticket digest.Digest) (Share, error) {
	var s Share
	a, err := verifyAgent(signed, roots, floor, asParty(r.Broker), &s)
	if err != nil {
		return s, err
	}
	lease, p := &a.Lease, r.Parties
	switch {
	case p == nil || s.Round != r.ID || s.TicketDigest != ticket:
		return s, refusal.New(ReasonWrongRound, "the share is for round %s, or for another ticket", s.Round)
	case int(s.From) > len(p.Agents) || p.Agents[s.From-1] != s.Agent || digest.Digest(lease.AgentKey.ID()) != s.Agent:
		return s, refusal.New(ReasonSignature, "the share is not of party %d", s.From)
	case len(s.Active) != int(p.Threshold) || int(s.Active[len(s.Active)-1]) > len(p.Agents):
		return s, refusal.New(ReasonParties, "got active parties %d, want %d of %d", s.Active, p.Threshold, len(p.Agents))
	case !lease.ValidAt(s.Time):
		return s, refusal.New(ReasonOutsideLease, "signed at %s, outside the lease", s.Time.Time())
	}
	return s, nil
}

// MatchesShare checks the hash list against the share that was signed.
func (m *Manifest) MatchesShare(s Share) error {
	if uint64(len(m.Hashes)) != s.Blocks || UploadDigest(s.Round, m.Hashes) != s.Upload {
		return refusal.New(ReasonUpload, "the block hashes differ from the signed ones")
	}
	return nil
}
