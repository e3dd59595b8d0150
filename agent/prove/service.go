// Package prove makes proofs of a classifier's answers, after the answers: the
// receipt goes out at once, the proof follows under its name.
//
// It guarantees that an answer never waits for its proof; that what is chosen to be
// proven is durable, is proven at most once, and goes on after a crash; that a proof is
// published only after it was verified and held against its receipt; that witnesses lie
// on disk encrypted and are deleted once they are not needed; and that a challenge of
// the broker is answered whatever the mode. It trusts the queue's key and the keys'
// registry. It refuses answers whose architecture has no registered key, and requests of
// other users, each with a reason.
//
// The local API calls it; the agent runs it.
package prove

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Reasons of this package.
const (
	// ReasonNotConfigured: the agent has no proving keys.
	ReasonNotConfigured refusal.Reason = "proofs-not-configured"
	// ReasonNoKey: no registered key proves answers of this architecture.
	ReasonNoKey refusal.Reason = "proof-key-missing"
	// ReasonUnknown: there is no such answer, or it is another user's, or what is
	// needed to prove it is gone.
	ReasonUnknown refusal.Reason = "answer-unknown"
	// ReasonPending: the proof is not made yet.
	ReasonPending refusal.Reason = "proof-pending"
	// ReasonNotRegistered: the broker's registry does not have the key.
	ReasonNotRegistered refusal.Reason = "key-not-registered"
	// ReasonUnsound: the proof that was made does not verify, and was not published.
	ReasonUnsound refusal.Reason = "proof-unsound"
)

// Mode says which answers are proven.
type Mode string

// The modes.
const (
	All      Mode = "all"
	Sampled  Mode = "sampled"
	OnDemand Mode = "on-demand"
)

// Models lends the constants of what is proven; *classify.Service does.
type Models interface {
	WithParameters(name string, model statement.Digest, use func(intnet.Architecture, intnet.Parameters) error) error
}

// Registry is the broker's; it may be nil.
type Registry interface {
	// Announce fixes receipts, so that a challenge can name them.
	Announce(ctx context.Context, receipts []receipt.Receipt) error
	// Challenged lists the receipts whose proof the broker wants now: of those signed
	// with the agent's key of now, and with its keys before it was restarted, by their
	// digests.
	Challenged(ctx context.Context, former []statement.Digest) ([]receipt.ID, error)
	// Submit hands in a proof.
	Submit(ctx context.Context, b receipt.Bundle) error
	// Registered says whether a verifying key is in the registry, for answers of a model.
	Registered(ctx context.Context, key, model statement.Digest) (bool, error)
}

// Config is what the service needs. All fields but Rate and Registry are required.
type Config struct {
	Queue *jobs.Queue
	Pool  *worker.Pool
	// Dir is where witnesses and proofs lie, encrypted under Key.
	Dir    string
	Key    *keybuf.Buffer
	Ring   *keyset.Ring
	Models Models
	Mode   Mode
	Rate   float64
	// Limits bound each proving worker. A worker gets the memory that its circuit and key
	// need; what needs more than Limits is refused with provetask.ReasonMemory.
	Limits   worker.Limits
	Registry Registry
	// Agent is the digest of the agent key that signed a receipt.
	Agent  func(receipt.Receipt) (statement.Digest, error)
	Logger *slog.Logger
	// Kept is how many proofs are kept, 16,384, and KeptAge how long, 90 days. One that the
	// registry has not taken is not counted out, and goes with its age alone.
	Kept    int
	KeptAge time.Duration
	// Floor is how many bytes of the disk stay free: below it no answer is kept for proving.
	Floor int64
}

// Limits of the service.
const (
	maxWaiting = 4096 // answers that wait to be written down, or to be announced
	// What those that wait to be written down may hold: their requests have given their
	// memory back.
	maxWaitingBytes = 8 << 20
	waitingBytes    = 8 << 10 // of one beside its input and outputs
	// One user's part of each: with a slow disk or a registry that does not answer, another's
	// answers are proven and announced all the same.
	ownerWaiting      = maxWaiting - maxWaiting/4
	ownerWaitingBytes = maxWaitingBytes - maxWaitingBytes/4

	maxWitnesses = 4096 // witnesses that are kept for a later request or challenge
	registryTick = 2 * time.Second
)

// Service makes proofs.
type Service struct {
	cfg     Config
	answers chan witness
	tick    time.Duration // between two talks with the registry

	mu       sync.Mutex
	taken    map[receipt.ID]taken // answers that are not written down yet
	waiting  room                 // of them
	unspoken []unspoken           // not announced yet
	behind   bool                 // they were too many, and the log has it
	kept     []receipt.ID         // witnesses, oldest first
	queued   map[receipt.ID]jobs.ID
	owners   map[receipt.ID]uint32           // of the witnesses
	agents   map[receipt.ID]statement.Digest // whose key signed what there is a witness of
	turn     int                             // which former key is asked for next
	handed   map[receipt.ID]bool
	known    map[use]bool // what the registry has
}

// witness is an answer with everything that its proof needs.
type witness struct {
	Owner   uint32          `json:"owner"`
	Name    string          `json:"name"`
	Issued  receipt.Issued  `json:"issued"`
	Model   statement.Model `json:"model"`
	Salt    []byte          `json:"salt"`
	Input   []byte          `json:"input"` // int8 each
	Outputs []int32         `json:"outputs"`
	// Chosen answers are proven without being asked for.
	Chosen bool `json:"chosen"`
}

func (w *witness) id() receipt.ID { return w.Issued.Receipt.Body.ID }

// bytes is what the witness holds in memory.
func (w *witness) bytes() int { return len(w.Input) + 4*len(w.Outputs) + waitingBytes }

// taken is an answer on its way to the disk; kept is closed when it is there.
type taken struct {
	owner uint32
	kept  chan struct{}
}

// New makes the directories.
func New(cfg Config) (*Service, error) {
	if cfg.Queue == nil || cfg.Pool == nil || cfg.Ring == nil || cfg.Models == nil || cfg.Agent == nil || cfg.Logger == nil || cfg.Key.Len() != 32 {
		return nil, errors.New("prove: a part is missing")
	}
	switch cfg.Mode {
	case All, OnDemand:
	case Sampled:
		if !(cfg.Rate > 0 && cfg.Rate <= 1) {
			return nil, fmt.Errorf("prove: rate %g is outside 0 to 1", cfg.Rate)
		}
	default:
		return nil, fmt.Errorf("prove: mode %q is unknown; use %s, %s or %s", cfg.Mode, All, Sampled, OnDemand)
	}
	if cfg.Kept <= 0 {
		cfg.Kept = 16 << 10
	}
	if cfg.KeptAge <= 0 {
		cfg.KeptAge = 90 * 24 * time.Hour
	}
	s := &Service{cfg: cfg, answers: make(chan witness, maxWaiting), tick: registryTick, taken: map[receipt.ID]taken{}, queued: map[receipt.ID]jobs.ID{}, owners: map[receipt.ID]uint32{}, agents: map[receipt.ID]statement.Digest{}, handed: map[receipt.ID]bool{}, known: map[use]bool{}}
	for _, dir := range []string{"witness", "proof"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, err
		}
	}
	return s, s.recall()
}

// recall lists the witnesses of an earlier run, oldest first.
func (s *Service) recall() error {
	entries, err := os.ReadDir(filepath.Join(s.cfg.Dir, "witness"))
	if err != nil {
		return err
	}
	age := map[receipt.ID]time.Time{}
	for _, e := range entries {
		id, err := receipt.ParseID(e.Name())
		if err != nil { // a temporary file that a crash left
			if err := os.Remove(filepath.Join(s.cfg.Dir, "witness", e.Name())); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		age[id] = info.ModTime()
		s.kept = append(s.kept, id)
	}
	slices.SortFunc(s.kept, func(a, b receipt.ID) int { return age[a].Compare(age[b]) })
	return nil
}

// Take takes an answer on. It never waits: what does not fit is not proven, and said so
// in the log.
func (s *Service) Take(owner uint32, a classify.Answer) {
	w := witness{Owner: owner, Name: a.Name, Issued: a.Receipt, Model: a.Model, Salt: a.Salt[:], Outputs: a.Outputs}
	for _, v := range a.Input {
		w.Input = append(w.Input, byte(v))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waiting.has(owner, w.bytes()) {
		s.cfg.Logger.Warn("an answer is not kept for proving: too many wait, or hold too much memory, in all or of this user", "receipt", w.id().String(), "uid", owner, "bytes", s.waiting.all.bytes)
		return
	}
	s.answers <- w // there is room: it takes maxWaiting
	s.taken[w.id()] = taken{owner, make(chan struct{})}
	s.waiting.add(owner, 1, w.bytes())
}

// settle waits until an answer that was taken is written down.
func (s *Service) settle(ctx context.Context, id receipt.ID) error {
	s.mu.Lock()
	t, ok := s.taken[id]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	select {
	case <-t.kept:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// chosen says whether an answer is proven without being asked for.
func (s *Service) chosen() bool {
	return s.cfg.Mode == All || s.cfg.Mode == Sampled && rand.Float64() < s.cfg.Rate
}

// Run keeps answers, proves and speaks with the registry until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.keepAnswers(ctx) })
	running.Go(func() { s.expireProofs(ctx) })
	if s.cfg.Registry != nil {
		running.Go(func() { s.talk(ctx) })
	}
	for {
		l, err := s.cfg.Queue.Lease(ctx, []string{provetask.ClassInference})
		if ctx.Err() != nil {
			if l != nil {
				return l.Release()
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.work(ctx, l); err != nil {
			s.cfg.Logger.Warn("a proof's end was not recorded", "job", l.Info.ID.String(), "err", err)
		}
	}
}

// keepAnswers writes witnesses down and queues what is chosen. What was taken before ctx
// ended is kept too.
func (s *Service) keepAnswers(ctx context.Context) {
	after := context.WithoutCancel(ctx)
	s.resume(after)
	for {
		select {
		case w := <-s.answers:
			s.keepOne(after, w)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return
		case w := <-s.answers:
			s.keepOne(after, w)
		}
	}
}

func (s *Service) keepOne(ctx context.Context, w witness) {
	if err := worker.Contain(func() error { return s.keep(ctx, w) }); err != nil {
		s.cfg.Logger.Error("an answer is not kept for proving", "receipt", w.id().String(), "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.add(w.Owner, -1, -w.bytes())
	if t, ok := s.taken[w.id()]; ok {
		close(t.kept)
		delete(s.taken, w.id())
	}
}

// resume goes on where an earlier run stopped, with what it may or may not have done:
// announcing and queueing twice is the same as once.
func (s *Service) resume(ctx context.Context) {
	s.mu.Lock()
	ids := slices.Clone(s.kept)
	s.mu.Unlock()
	for _, id := range ids {
		w, err := s.witness(id)
		if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknown {
			continue // it was proven meanwhile
		}
		if err == nil {
			s.note(w)
			err = s.follow(ctx, w)
		}
		if err != nil {
			s.cfg.Logger.Error("an answer of an earlier run", "receipt", id.String(), "err", err)
		}
	}
}

func (s *Service) keep(ctx context.Context, w witness) error {
	free, err := disk.Free(s.cfg.Dir)
	if err == nil && free < s.cfg.Floor {
		err = refusal.New(spool.ReasonDisk, "%d bytes of the disk are free, less than %d (spool.free_mb)", free, s.cfg.Floor)
	}
	if err != nil {
		return err
	}
	w.Chosen = s.chosen()
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := s.write("witness", w.id(), raw, w.Chosen); err != nil {
		return err
	}
	s.note(w)
	for _, id := range s.count(w.id()) {
		err = errors.Join(err, s.remove("witness", id))
	}
	return errors.Join(err, s.follow(ctx, w))
}

// count counts a witness among those that are kept, and returns those that are too many.
func (s *Service) count(id receipt.ID) (old []receipt.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, id)
	return s.evict()
}

// evict forgets witnesses that are too many, the oldest of the user who has the most first,
// but none whose proof is still to be made, and returns them. The caller holds mu.
func (s *Service) evict() (old []receipt.ID) {
	of := map[uint32]int{}
	for _, id := range s.kept {
		of[s.owners[id]]++
	}
	for len(s.kept) > maxWitnesses {
		next := -1
		for i, id := range s.kept {
			if (next < 0 || of[s.owners[id]] > of[s.owners[s.kept[next]]]) && !s.needed(id) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		id := s.kept[next]
		of[s.owners[id]]--
		delete(s.queued, id)
		old, s.kept = append(old, id), slices.Delete(s.kept, next, next+1)
	}
	return old
}

// needed says whether a proof of the witness is still to be made.
func (s *Service) needed(id receipt.ID) bool {
	job, ok := s.queued[id]
	if !ok {
		return false
	}
	info, err := s.cfg.Queue.Show(job)
	return err == nil && !info.Final()
}

// follow announces an answer whose witness is kept, and queues it if it is chosen.
func (s *Service) follow(ctx context.Context, w witness) error {
	if s.cfg.Registry != nil {
		s.mu.Lock()
		full := len(s.unspoken) >= maxWaiting || s.unspokenOf(w.Owner) >= ownerWaiting
		if !full {
			s.unspoken = append(s.unspoken, unspoken{w.Owner, w.Issued.Receipt})
		}
		tell := full && !s.behind
		s.behind = s.behind || full
		s.mu.Unlock()
		if tell { // once, until half of them are gone: answers are many
			s.cfg.Logger.Warn("receipts are announced with their proofs only: too many wait, in all or of a user", "receipt", w.id().String(), "uid", w.Owner)
		}
	}
	if !w.Chosen {
		return nil
	}
	need, err := s.memory(w)
	if err != nil {
		need = s.cfg.Limits.Memory // the job ends with the reason, for who looks at jobs
	}
	_, err = s.queue(ctx, s.cfg.Queue.Submit, w.Owner, w.id(), 0, need)
	return err
}

// memory is what the proof of an answer needs, or why no worker can make it.
func (s *Service) memory(w witness) (int64, error) {
	set, err := s.cfg.Ring.ForArchitecture(w.Model.Architecture)
	if err != nil {
		return 0, refusal.New(ReasonNoKey, "%v", err)
	}
	need, err := provetask.Memory(set, s.cfg.Limits.Memory)
	if errors.Is(err, keyset.ErrMissing) || errors.Is(err, keyset.ErrChanged) {
		err = refusal.New(ReasonNoKey, "%v", err)
	}
	return need, err
}

// jobSpec is the specification of a job: the witness has the rest.
type jobSpec struct {
	Receipt string `json:"receipt"`
}

// submitter is one of the queue's: for a user, or for the agent.
type submitter func(context.Context, jobs.Job) (jobs.Info, bool, error)

func (s *Service) queue(ctx context.Context, submit submitter, owner uint32, id receipt.ID, priority int8, memory int64) (jobs.Info, error) {
	spec, err := json.Marshal(jobSpec{id.String()})
	if err != nil {
		return jobs.Info{}, err
	}
	info, _, err := submit(ctx, jobs.Job{Class: provetask.ClassInference, Owner: owner, Spec: spec, Priority: priority, Memory: memory, TimeMax: s.cfg.Limits.Time})
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.queued[id] = info.ID
	}
	return info, err
}

// Prove has an answer of this user proven; uid 0 may have every one. Of an answer that
// is proven it returns the job that did it.
func (s *Service) Prove(ctx context.Context, uid uint32, id receipt.ID) (jobs.Info, error) {
	if err := s.settle(ctx, id); err != nil {
		return jobs.Info{}, err
	}
	info, err := s.ask(ctx, uid, id)
	if err == nil && info.State == jobs.Dead {
		return s.cfg.Queue.Retry(info.ID) // what failed then may not fail now
	}
	return info, err
}

// ask queues the proof of an answer. One that waited in vain for its model, for its key to
// be registered, or for memory, waits again. What uid 0 asks for, as what answers the
// broker's challenges does, is not bound by the part of the queue that the answer's user has.
func (s *Service) ask(ctx context.Context, uid uint32, id receipt.ID) (jobs.Info, error) {
	submit, retry := s.cfg.Queue.Submit, s.cfg.Queue.Retry
	if uid == 0 {
		submit, retry = s.cfg.Queue.SubmitForAgent, s.cfg.Queue.RetryForAgent
	}
	if st, err := s.stored(uid, id); err == nil {
		return s.queue(ctx, submit, st.Owner, id, 1, 0) // no worker starts
	}
	w, err := s.witness(id)
	if err != nil {
		return jobs.Info{}, err
	}
	if uid != 0 && uid != w.Owner {
		return jobs.Info{}, unknown(id)
	}
	need, err := s.memory(w)
	if err != nil {
		return jobs.Info{}, err
	}
	if err := s.choose(w); err != nil {
		return jobs.Info{}, err
	}
	info, err := s.queue(ctx, submit, w.Owner, id, 1, need)
	if err == nil && info.State == jobs.Dead && (info.Reason == classify.ReasonUnavailable || info.Reason == classify.ReasonNotGranted || info.Reason == ReasonNotRegistered || info.Reason == provetask.ReasonMemory) {
		return retry(info.ID)
	}
	return info, err
}

// choose makes the witness of an answer that is asked for as durable as its job.
func (s *Service) choose(w witness) error {
	if w.Chosen {
		return nil
	}
	w.Chosen = true
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return s.write("witness", w.id(), raw, true)
}

func unknown(id receipt.ID) error {
	return refusal.New(ReasonUnknown, "there is nothing of receipt %s here", id)
}

// stored is a proof on disk.
type stored struct {
	Owner  uint32         `json:"owner"`
	Bundle receipt.Bundle `json:"bundle"`
	// Sent says that the registry has it.
	Sent bool `json:"sent"`
}

// stored returns the proof of an answer of this user.
func (s *Service) stored(uid uint32, id receipt.ID) (st stored, err error) {
	raw, err := s.read("proof", id)
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return st, err
	}
	if uid != 0 && uid != st.Owner {
		return stored{}, unknown(id)
	}
	return st, nil
}

// Bundle returns the receipt and the proof of an answer of this user.
func (s *Service) Bundle(uid uint32, id receipt.ID) (receipt.Bundle, error) {
	st, err := s.stored(uid, id)
	if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknown {
		s.mu.Lock()
		t, waits := s.taken[id]
		s.mu.Unlock()
		w, failed := s.witness(id)
		if waits && (uid == 0 || uid == t.owner) || failed == nil && (uid == 0 || uid == w.Owner) {
			return receipt.Bundle{}, refusal.New(ReasonPending, "the proof of receipt %s is not made yet; ask for it, or wait", id)
		}
	}
	return st.Bundle, err
}
