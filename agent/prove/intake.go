package prove

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// Limits of the intake.
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
)

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

func (w *witness) id() digest.ReceiptID { return w.Issued.Receipt.Body.ID }

// bytes is what the witness holds in memory.
func (w *witness) bytes() int { return len(w.Input) + 4*len(w.Outputs) + waitingBytes }

// intake has the answers that are not on disk yet: it admits as many as there is room for,
// and draws those that are proven without being asked for.
type intake struct {
	mode   Mode
	rate   float64
	logger *slog.Logger
	// answers has a place for each that waiting admits, so that sending to it never waits.
	// take sends, run receives.
	answers chan witness

	mu      sync.Mutex
	taken   map[digest.ReceiptID]taken // guarded by mu: answers that are not written down yet
	waiting room                       // guarded by mu: what they take
}

// taken is an answer on its way to the disk; kept is closed when it is there.
type taken struct {
	owner uint32
	kept  chan struct{}
}

func newIntake(cfg Config) *intake {
	return &intake{mode: cfg.Mode, rate: cfg.Rate, logger: cfg.Logger, answers: make(chan witness, maxWaiting), taken: map[digest.ReceiptID]taken{}}
}

// take admits an answer if there is room for it, and never waits.
func (in *intake) take(w witness) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.waiting.has(w.Owner, w.bytes()) {
		in.logger.Warn("answer is not kept for proving: too many answers are waiting, or they hold too much memory, in total or for this user", "receipt", w.id().String(), "uid", w.Owner, "bytes", in.waiting.all.bytes)
		return
	}
	in.answers <- w // there is room: it takes maxWaiting
	in.taken[w.id()] = taken{w.Owner, make(chan struct{})}
	in.waiting.add(w.Owner, 1, w.bytes())
}

// chosen draws whether an answer is proven without being asked for.
func (in *intake) chosen() bool {
	return in.mode == All || in.mode == Sampled && rand.Float64() < in.rate
}

// run has keep write answers down until ctx ends, and then those that were taken before.
func (in *intake) run(ctx context.Context, keep func(witness) error) {
	for {
		select {
		case w := <-in.answers:
			in.pass(w, keep)
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return
		case w := <-in.answers:
			in.pass(w, keep)
		}
	}
}

// pass has keep write an answer down, and gives its room back.
func (in *intake) pass(w witness, keep func(witness) error) {
	if err := worker.Contain(func() error { return keep(w) }); err != nil {
		in.logger.Error("answer is not kept for proving", "receipt", w.id().String(), "err", err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.waiting.add(w.Owner, -1, -w.bytes())
	if t, ok := in.taken[w.id()]; ok {
		close(t.kept)
		delete(in.taken, w.id())
	}
}

// settle waits until an answer that was taken is written down.
func (in *intake) settle(ctx context.Context, id digest.ReceiptID) error {
	in.mu.Lock()
	t, ok := in.taken[id]
	in.mu.Unlock()
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

// owner is the user of an answer that is not written down yet.
func (in *intake) owner(id digest.ReceiptID) (uid uint32, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	t, ok := in.taken[id]
	return t.owner, ok
}
