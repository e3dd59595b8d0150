// Package party is the agent's side of a round key that is shared among parties, so that no
// one of them has it whole: setting the key up with the other parties, and decrypting one sum
// with them.
//
// A party's secret is drawn in the guest, stays in its memory and is used for one decryption
// share. It is gone before the share leaves, whatever becomes of the share: there is never a
// second one. Of the local users, only the one who joined, root and the agent's own user may
// request it. A party vouches only for a key that it computed itself, from shares that were
// fixed before anyone saw another's; and it decrypts only the sum of the contributions that
// the broker's ticket closes, which it adds up again itself.
//
// It trusts the broker's root identities to say who the other attested agents are, and its
// worker's arithmetic. It trusts neither the aggregator, which stores the messages, nor any
// group of the other parties smaller than the threshold. It refuses set-ups that do not name
// this agent, messages that do not match earlier ones, and second shares, each with a reason.
//
// The local API calls it; the agent runs it. A restart loses the secret.
package party

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonUnknown: this agent is not a party of that key, or has restarted since it joined.
	ReasonUnknown refusal.Reason = "party-unknown"
	// ReasonNotNamed: the set-up does not name this agent.
	ReasonNotNamed refusal.Reason = "party-not-named"
	// ReasonNotReady: the key is not set up yet.
	ReasonNotReady refusal.Reason = "party-not-ready"
	// ReasonUsed: the party's secret has been used or is lost. There is no second share.
	ReasonUsed refusal.Reason = "party-share-used"
	// ReasonActive: the active parties are not as many as the threshold, this one among them.
	ReasonActive refusal.Reason = "party-active-invalid"
	// ReasonNotYours: another local user had this agent join the key.
	ReasonNotYours refusal.Reason = "share-not-yours"
	// ReasonTimeout: another party did not send its message in time.
	ReasonTimeout refusal.Reason = "party-timeout"
)

// Config is what the service needs. All fields but Own and Poll are required.
type Config struct {
	Board *uplink.Client
	Pool  *worker.Pool
	Sign  func() (attested.Signer, error)
	// Recounted writes the blocks of a closed round's sum, added up again from the
	// contributions that the round's participants signed.
	Recounted func(ctx context.Context, round digest.RoundID, w io.Writer) error
	Limits    worker.Limits
	// Own is the agent's own user, who, like root, may request the share of a key that another
	// user had the agent join.
	Own uint32
	// Dir is where a share lies until it is sent; a share is not secret.
	Dir string
	// Room refuses if need bytes must not be written there.
	Room func(need int64) error
	// Poll is the time between two looks at the board; 250 ms by default.
	Poll   time.Duration
	Logger *slog.Logger
}

// maxKeys bounds the keys that one agent is a party of at a time.
const maxKeys = 16

// State is how far a party has come.
type State string

// The states, in their order. Failed comes after any but Shared.
const (
	SettingUp State = "setting-up"
	Ready     State = "ready"
	Sharing   State = "sharing"
	Shared    State = "shared"
	Failed    State = "failed"
)

// Status is one key's set-up, as this party sees it.
type Status struct {
	Round     digest.RoundID `json:"round"`
	Party     int            `json:"party"`
	Parties   int            `json:"parties"`
	Threshold int            `json:"threshold"`
	State     State          `json:"state"`
	Phase     string         `json:"phase,omitempty"`
	Key       digest.Digest  `json:"key,omitzero"` // SHA-256 of the public key
	Reason    refusal.Reason `json:"reason,omitempty"`
	Detail    string         `json:"detail,omitempty"`
}

// member is one key that this agent is a party of.
type member struct {
	setup  federation.Setup
	digest digest.Digest
	index  int
	joiner uint32 // the local user who may use the one share

	mu     sync.Mutex // guards the rest
	status Status
	// seed and dealt are the secret: nil once they were used or lost.
	seed  *keybuf.Buffer
	dealt []*keybuf.Buffer
}

func (m *member) show() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

func (m *member) phase(p string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Phase = p
}

// take gives the secret away. There is nothing left for a second caller.
func (m *member) take() (secret []*keybuf.Buffer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seed != nil {
		secret = append([]*keybuf.Buffer{m.seed}, m.dealt...)
	}
	m.seed, m.dealt = nil, nil
	return secret
}

func wipe(secret []*keybuf.Buffer) {
	for _, b := range secret {
		b.Wipe()
	}
}

// Service is a party of keys. It may be used by any goroutine.
type Service struct {
	cfg  Config
	work chan func(context.Context) // to Run

	mu   sync.Mutex // guards the rest
	keys map[digest.RoundID]*member
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Board == nil || cfg.Pool == nil || cfg.Sign == nil || cfg.Recounted == nil || cfg.Room == nil || cfg.Dir == "" || cfg.Logger == nil {
		return nil, errors.New("party: Board, Pool, Sign, Recounted, Room, Dir and Logger are required")
	}
	if cfg.Poll == 0 {
		cfg.Poll = 250 * time.Millisecond
	}
	return &Service{cfg: cfg, work: make(chan func(context.Context)), keys: map[digest.RoundID]*member{}}, nil
}

// Run does the work that Join and Share begin, until ctx ends; then every secret is wiped.
func (s *Service) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer func() {
		running.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.keys {
			wipe(m.take())
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case do := <-s.work:
			running.Go(func() { do(ctx) })
		}
	}
}

// begin hands work to Run. What others sent can end this key's step, and no other's.
func (s *Service) begin(ctx context.Context, m *member, do func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case s.work <- func(ctx context.Context) { s.end(m, worker.Contain(func() error { return do(ctx) })) }:
		return nil
	}
}

// end records how a step ended. A party that failed has no secret any more.
func (s *Service) end(m *member, err error) {
	m.mu.Lock()
	m.status.Phase = ""
	if err != nil {
		reason, ok := refusal.ReasonOf(err)
		if !ok {
			reason = "internal-error"
		}
		m.status.State, m.status.Reason, m.status.Detail = Failed, reason, err.Error()
	}
	st := m.status
	m.mu.Unlock()
	if err != nil {
		wipe(m.take())
		s.cfg.Logger.Warn("a party's step failed", "round", st.Round.String(), "party", st.Party, "reason", string(st.Reason), "err", err)
		return
	}
	s.cfg.Logger.Info("a party's step is done", "round", st.Round.String(), "party", st.Party, "state", string(st.State))
}

// Join takes part in setting up the key of a round for a local user; Status reports how far it
// has come. The first user who joins may request the share. Another who joins the same key is
// refused at once, while a new key can still be set up, rather than when the round is closed.
func (s *Service) Join(ctx context.Context, uid uint32, id digest.RoundID) (Status, error) {
	if m, err := s.member(id); err == nil {
		return m.show(), s.mayShare(m, uid)
	}
	signer, err := s.cfg.Sign()
	if err != nil {
		return Status{}, err
	}
	setup, signed, err := s.cfg.Board.Setup(ctx, protocol.Of(signer.Broker), signer.Live(), id)
	if err != nil {
		return Status{}, err
	}
	index := slices.Index(setup.Agents, digest.Digest(signer.Key.Public().ID())) + 1
	switch {
	case index == 0:
		return Status{}, refusal.New(ReasonNotNamed, "the set-up does not name this agent, whose key is %x", signer.Key.Public().ID())
	case signer.Now >= setup.Closes:
		return Status{}, refusal.New(ReasonTimeout, "the set-up ended at %s", setup.Closes.Time())
	}
	m := &member{setup: setup, digest: digest.Of(signed), index: index, joiner: uid,
		status: Status{Round: id, Party: index, Parties: len(setup.Agents), Threshold: int(setup.Threshold), State: SettingUp}}
	s.mu.Lock()
	if held, ok := s.keys[id]; ok {
		s.mu.Unlock()
		return held.show(), s.mayShare(held, uid)
	}
	if s.forget(); len(s.keys) >= maxKeys {
		s.mu.Unlock()
		return Status{}, refusal.New(protocol.ReasonBusy, "this agent is already a party to %d keys, the most that it can hold", maxKeys)
	}
	s.keys[id] = m
	s.mu.Unlock()
	return m.show(), s.begin(ctx, m, func(ctx context.Context) error { return s.setUp(ctx, m) })
}

// forget makes room: what is over can neither be joined again nor share again, for
// the board has this agent's messages already.
func (s *Service) forget() {
	for id, m := range s.keys {
		if st := m.show().State; len(s.keys) >= maxKeys && (st == Shared || st == Failed) {
			delete(s.keys, id)
		}
	}
}

func (s *Service) member(id digest.RoundID) (*member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.keys[id]
	if !ok {
		return nil, refusal.New(ReasonUnknown, "this agent holds no share of the key of round %s; a restart loses key shares", id)
	}
	return m, nil
}

// mayShare refuses users who could spend the one share for other active parties than the
// rest name, and lose the round.
func (s *Service) mayShare(m *member, uid uint32) error {
	if uid == m.joiner || uid == 0 || uid == s.cfg.Own {
		return nil
	}
	return refusal.New(ReasonNotYours, "another user had this agent join the key of round %s; only that user, root and the agent's own user may request the share", m.setup.Round)
}

// Status reports how far a party has come.
func (s *Service) Status(id digest.RoundID) (Status, error) {
	m, err := s.member(id)
	if err != nil {
		return Status{}, err
	}
	return m.show(), nil
}
