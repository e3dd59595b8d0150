// Package aggregator collects encrypted vectors and adds them. It holds no secret.
//
// It guarantees that nothing is stored for a stranger: a participant's signed
// contribution and the hash of every block come first, and each block is checked
// against them as it arrives, so that half an upload or a changed block never
// reaches a sum; that one agent has one contribution in a round, and one processor as many as
// the round says; that a sum is exactly the sum of a named cohort of complete uploads; that uploads go on after
// an interruption or a crash; and that memory does not grow with the length of the
// vectors or the number of clients.
//
// It trusts the brokers' root identities, each for its own broker's rounds alone, and its
// own disk. It refuses unknown
// rounds, other parameter sets, residues that are not canonical, gaps, surplus
// bytes, late and duplicate contributions, each with a reason.
//
// The vectors that it sees are ciphertexts; docs/threat-model.md says what a
// dishonest aggregator can and cannot do. The binary anchorhold-aggregator runs it.
package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/epochfile"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Reasons of this package.
const (
	ReasonUnknownRound refusal.Reason = "round-unknown"
	ReasonRoundOver    refusal.Reason = "round-over"
	ReasonDuplicate    refusal.Reason = "contribution-duplicate"
	ReasonGuest        refusal.Reason = "contributions-per-guest"
	ReasonFull         refusal.Reason = "round-full"
	ReasonUnknown      refusal.Reason = "upload-unknown"
	ReasonGap          refusal.Reason = "upload-gap"
	ReasonIncomplete   refusal.Reason = "upload-incomplete"
	ReasonSurplus      refusal.Reason = "upload-surplus"
	ReasonResidue      refusal.Reason = "residue-not-canonical"
	ReasonBusy         refusal.Reason = "aggregator-busy"
	ReasonNotReleased  refusal.Reason = "contributions-not-released"
	ReasonNoSum        refusal.Reason = "sum-not-ready"
	ReasonNoTicket     refusal.Reason = "round-not-closed"
	ReasonNoResult     refusal.Reason = "result-not-published"
	// ReasonPublished: the round has a result already, and it is another.
	ReasonPublished refusal.Reason = "result-already-published"
	// ReasonStale: the round was opened long before it came here.
	ReasonStale refusal.Reason = "round-stale"
)

// Config is what an aggregator needs. Zero limits take the defaults named.
type Config struct {
	// StateDir holds rounds, uploads and sums.
	StateDir string
	// Roots are the root identities of the brokers whose rounds are taken.
	Roots []identity.Public
	// MinEpoch is the lowest epoch that is accepted, of every root's broker; the highest
	// that statements of a root asked for is remembered in the state directory, and counts
	// for that root besides.
	MinEpoch uint64
	// Late is how long after its opening a round or set-up may come, and how far ahead of
	// this machine's clock; 10 minutes. Whoever got hold of a key that the broker used
	// before cannot open a round in its time.
	Late time.Duration
	// MaxDuration bounds how long a round may run; federation.MaxDuration.
	MaxDuration time.Duration
	// Shard of Shards: the part of every vector that this process holds; 0 of 1
	// by default.
	Shard, Shards int
	// Workers add at the same time; 1.
	Workers int
	// Uploads that send blocks at the same time; 32. A further one takes the place of one that
	// creeps or whose source has most, or is told to come back.
	Uploads int
	// Rounds that are held at the same time, 64, and of one model, three quarters.
	Rounds, RoundsPerModel int
	// Kept is how long a round is held after it closed and its result was published, 30
	// days; Unfinished how long without one, 90.
	Kept, Unfinished time.Duration
	// Free is how many bytes of the disk stay free, 1 GiB: below it nothing is taken but what
	// ends rounds, and is small.
	Free int64
	// Idle is how long a peer may neither send nor take anything in the middle of a
	// body; 30 seconds. What it sends comes with 4 KiB a second, on average over twice that.
	Idle time.Duration
	// NormKeys verify proofs of norms, for rounds that want them; nil without keys.
	NormKeys *keyset.Ring
	// Limits bound participants: by default 1024 connections, 64 MiB for bodies.
	Limits listen.Limits
	Logger *slog.Logger
	Now    func() time.Time
}

// fileLowest holds the highest minimum of epochs that statements of each root asked for.
const fileLowest = "min-epoch"

// Aggregator serves rounds.
type Aggregator struct {
	cfg     Config
	sending places // of uploads that send blocks
	disk    *floor
	buffers sync.Pool
	proving chan struct{} // one token for each proof that is being verified
	board   *Board
	lowest  *epochfile.File // the highest minimum that each root asked for
	quiet   *slog.Logger    // for lines that strangers cause

	mu     sync.Mutex
	rounds map[digest.RoundID]*round
	// written are the files that a request is sending, piece by piece.
	written map[string]bool
}

// New opens the state directory and every round in it.
func New(cfg Config) (*Aggregator, error) {
	if cfg.Logger == nil || len(cfg.Roots) == 0 || cfg.StateDir == "" {
		return nil, errors.New("aggregator: a state directory, the broker's root identities and a logger are required")
	}
	if cfg.Shards == 0 {
		cfg.Shards = 1
	}
	for v, d := range map[*int]int{&cfg.Workers: 1, &cfg.Uploads: 32, &cfg.Rounds: 64} {
		if *v == 0 {
			*v = d
		}
	}
	if cfg.Free == 0 {
		cfg.Free = 1 << 30
	}
	if cfg.RoundsPerModel == 0 {
		cfg.RoundsPerModel = cfg.Rounds - cfg.Rounds/4
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for v, d := range map[*time.Duration]time.Duration{&cfg.Idle: 30 * time.Second, &cfg.Late: 10 * time.Minute, &cfg.MaxDuration: federation.MaxDuration, &cfg.Kept: 30 * 24 * time.Hour, &cfg.Unfinished: 90 * 24 * time.Hour} {
		if *v == 0 {
			*v = d
		}
	}
	if cfg.Shard < 0 || cfg.Shard >= cfg.Shards || cfg.Workers < 0 || cfg.Uploads < 0 || cfg.Rounds < 0 || cfg.RoundsPerModel < 0 || cfg.Free < 0 || cfg.Kept < 0 || cfg.Unfinished < 0 || cfg.Idle < 0 || cfg.Late < 0 || cfg.MaxDuration < 0 {
		return nil, fmt.Errorf("aggregator: shard %d of %d or a limit is out of range", cfg.Shard, cfg.Shards)
	}
	if err := cfg.Limits.Check(); err != nil {
		return nil, fmt.Errorf("aggregator: limits: %w", err)
	}
	cfg.Limits = cfg.Limits.Or(listen.Limits{BodyMiB: 64})
	a := &Aggregator{cfg: cfg, quiet: listen.Sparse(cfg.Logger), sending: places{most: cfg.Uploads, held: map[*patient]bool{}}, disk: newFloor(cfg.StateDir, cfg.Free), rounds: map[digest.RoundID]*round{}, written: map[string]bool{}, proving: make(chan struct{}, maxProving)}
	var err error
	if a.lowest, err = epochfile.Open(filepath.Join(cfg.StateDir, fileLowest), cfg.Roots, max(cfg.MinEpoch, 1)); err != nil {
		return nil, err
	}
	a.board = NewBoard(filepath.Join(cfg.StateDir, "setups"), cfg.Roots, cfg.Rounds, Times{Floor: a.floor, Fresh: a.fresh, Now: func() protocol.Time { return protocol.Time(a.now()) }})
	return a, a.load()
}

// AddRound takes a round that the broker signed. The same round again is fine.
func (a *Aggregator) AddRound(signed []byte) (federation.Round, error) {
	def, err := federation.VerifyRound(signed, a.cfg.Roots, protocol.AnyBroker(), a.floor())
	if err != nil {
		return def, err
	}
	if err := a.learn(signed); err != nil {
		return def, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if held, ok := a.rounds[def.ID]; ok {
		if held.digest != digest.Of(signed) {
			return def, refusal.New(federation.ReasonWrongRound, "round %s is held with other terms", def.ID)
		}
		return def, nil
	}
	if len(a.rounds) >= a.cfg.Rounds {
		return def, refusal.New(ReasonBusy, "%d rounds are held; remove a finished one", len(a.rounds))
	}
	if !a.now().before(def.Closes) {
		return def, refusal.New(ReasonRoundOver, "the round closed at %s", def.Closes.Time())
	}
	if err := a.fresh(def.Opened, def.Closes); err != nil {
		return def, err
	}
	if err := a.roomForModel(def.Model); err != nil {
		return def, err
	}
	if err := (NormChecker{Ring: a.cfg.NormKeys}).Round(def); err != nil {
		return def, err
	}
	r, err := a.create(def, signed)
	if err != nil {
		return def, err
	}
	a.rounds[def.ID] = r
	a.cfg.Logger.Info("round taken", "round", def.ID.String(), "model", def.Model, "set", def.Set, "length", def.Length, "blocks", r.columns.Count)
	return def, nil
}

func (a *Aggregator) round(id digest.RoundID) (*round, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.rounds[id]
	if !ok {
		return nil, refusal.New(ReasonUnknownRound, "no round %s here", id)
	}
	if low := a.lowest.Highest(r.def.Broker); r.def.Epoch < low {
		return nil, refusal.New(protocol.ReasonEpochRetired, "round %s is of epoch %d, but the lowest accepted epoch is now %d: remove the round", id, r.def.Epoch, low)
	}
	return r, nil
}

// floor is what is accepted of what is said now.
func (a *Aggregator) floor() protocol.Floor {
	return protocol.Live(a.lowest.Lowest(), protocol.Time(a.now()))
}

// learn notes the minimum in the epoch statement that a verified statement of a broker
// carries, for its root. It is durable before anything is accepted by it.
func (a *Aggregator) learn(signed []byte) error {
	st, err := federation.EpochOf(signed, a.cfg.Roots)
	if err != nil {
		return err
	}
	return a.lowest.Raise(st.Broker, st.MinEpoch)
}

// fresh refuses what was opened long ago, is to open much later, or runs too long.
func (a *Aggregator) fresh(opened, closes protocol.Time) error {
	now := time.Duration(protocol.Time(a.now()).Time().Sub(opened.Time()))
	switch {
	case now > a.cfg.Late || now < -a.cfg.Late:
		return refusal.New(ReasonStale, "opened at %s, which is more than %s from now: submit a round when it is opened, and check this machine's clock", opened.Time(), a.cfg.Late)
	case closes.Time().Sub(opened.Time()) > a.cfg.MaxDuration:
		return refusal.New(federation.ReasonRound, "it runs longer than the %s that this aggregator allows", a.cfg.MaxDuration)
	}
	return nil
}

// Rounds lists the rounds that are held.
func (a *Aggregator) Rounds() []RoundStatus {
	a.mu.Lock()
	held := make([]*round, 0, len(a.rounds))
	for _, r := range a.rounds {
		held = append(held, r)
	}
	a.mu.Unlock()
	list := make([]RoundStatus, 0, len(held))
	for _, r := range held {
		list = append(list, r.status())
	}
	return list
}

// instant is a point in time, as rounds count it.
type instant protocol.Time

func (a *Aggregator) now() instant { return instant(protocol.TimeOf(a.cfg.Now())) }

func (t instant) before(u protocol.Time) bool { return protocol.Time(t) < u }

// Remove forgets a round and deletes its files.
func (a *Aggregator) Remove(_ context.Context, id digest.RoundID) error {
	a.mu.Lock()
	_, held := a.rounds[id]
	delete(a.rounds, id)
	a.mu.Unlock()
	dir := a.roundDir(id)
	if !held && !disk.Exists(dir) { // one that is not served any more may still lie there
		return refusal.New(ReasonUnknownRound, "no round %s here", id)
	}
	return errors.Join(os.RemoveAll(dir), a.board.Remove(id))
}
