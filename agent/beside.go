package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// beside are the models beside the first. Each has a lease of its own, a keeper that renews it and
// its own part of the memory limit, so that what one loses, its key, its file or its time, costs no
// other.
type beside struct {
	d *daemon

	mu    sync.Mutex      // guards the rest
	first settings.Config // in force for the first model, which a file may list anywhere
	list  []*seat
	heap  map[string]int  // open models by the name of the seat; empty is the first model
	under sync.WaitGroup  // keepers
	errs  []error         // of keepers that ended
	ctx   context.Context // of all keepers; set once, before there are several goroutines
}

// seat is one of them.
type seat struct {
	name   string
	cfg    settings.Config // its own
	tenure *tenure.Tenure
	keeper *tenure.Keeper
	broker tenure.Client
	stop   context.CancelFunc // set once it runs
	ended  chan struct{}
}

// newBeside makes the seats of the configuration of the start.
func (d *daemon) newBeside(first settings.Config, others []settings.Config) (*beside, error) {
	b := &beside{d: d, first: first, heap: map[string]int{}}
	for _, cfg := range others {
		s, err := b.seat(cfg)
		if err != nil {
			return nil, err
		}
		b.list = append(b.list, s)
	}
	return b, nil
}

func (b *beside) seat(cfg settings.Config) (*seat, error) {
	broker, err := b.d.guest.Client(cfg)
	if err != nil {
		return nil, err
	}
	name := cfg.Models[0].Name
	log := b.d.Logger.With("of", name)
	s := &seat{name: name, cfg: cfg, tenure: tenure.New(log), broker: broker, ended: make(chan struct{})}
	s.keeper = tenure.NewKeeper(tenure.Config{Settings: cfg, Broker: broker, Tenure: s.tenure, Logger: log, Heap: func(n int) { b.open(name, n) }})
	return s, nil
}

// open takes note of how many models a seat has open, for the heap that all share.
func (b *beside) open(name string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heap[name] = n
	b.limitHeap()
}

// limitHeap gives the heap what the models that are open take there; mu is held.
func (b *beside) limitHeap() {
	all := max(1, b.heap[""])
	for _, s := range b.list {
		all += max(1, b.heap[s.name])
	}
	tenure.LimitHeap(*b.d.cfg.Load(), all)
}

// begin starts the keepers of all seats, which keep their leases until the context ends.
func (b *beside) begin(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx = ctx
	for _, s := range b.list {
		b.start(s)
	}
}

// run waits until all have ended, and everything is wiped.
func (b *beside) run() error {
	<-b.ctx.Done()
	b.under.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.errs...)
}

// start runs the keeper of a seat; mu is held.
func (b *beside) start(s *seat) {
	ctx, stop := context.WithCancel(b.ctx)
	s.stop = stop
	b.under.Go(func() {
		defer close(s.ended)
		err := errors.Join(s.keeper.Run(ctx), s.broker.Close())
		b.mu.Lock()
		defer b.mu.Unlock()
		if err != nil {
			b.errs = append(b.errs, fmt.Errorf("lease of %s: %w", s.name, err))
		}
	})
}

// all are the seats at this moment; none of nil.
func (b *beside) all() []*seat {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

func (b *beside) named(name string) *seat {
	for _, s := range b.all() {
		if s.name == name {
			return s
		}
	}
	return nil
}

// tenureOf is that of a model; of one that there is not, the first model's, which says so.
func (d *daemon) tenureOf(name string) *tenure.Tenure {
	if s := d.beside.named(name); s != nil {
		return s.tenure
	}
	return d.tenure
}

// tenures are those of the models beside the first.
func (d *daemon) tenures() (list []*tenure.Tenure) {
	for _, s := range d.beside.all() {
		list = append(list, s.tenure)
	}
	return list
}

// stuck names a seat whose attempt does not come back.
func (b *beside) stuck(now time.Time) error {
	for _, s := range b.all() {
		if s.keeper.Stuck(now) {
			return fmt.Errorf("an attestation for %s has been under way for %s", s.name, tenure.StuckAfter)
		}
	}
	return nil
}

// inForce is the configuration of the first model; that of nil is empty.
func (b *beside) inForce() settings.Config {
	if b == nil {
		return settings.Config{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

// take puts a configuration of the first model in force.
func (b *beside) take(first settings.Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first = first
}

// firstName is the name of the first model; empty if there is none.
func (b *beside) firstName() string {
	if first := b.inForce(); len(first.Models) > 0 {
		return first.Models[0].Name
	}
	return ""
}

// part is what a configuration gives its model, in MiB: one that is alone gets all.
func part(cfg settings.Config) int {
	if len(cfg.Models) == 0 {
		return 0
	}
	if mb := cfg.Models[0].MemoryMB; mb > 0 {
		return mb
	}
	return math.MaxInt
}

func (b *beside) part(s *seat) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return part(s.cfg)
}

// apart takes a configuration apart so that models stay where they are: the first one is that which
// was the first before, if it is still there.
func (d *daemon) apart(cfg settings.Config) (first settings.Config, others []settings.Config, err error) {
	before := d.beside.firstName()
	if before != "" && len(cfg.Models) > 1 {
		i := slices.IndexFunc(cfg.Models, func(m settings.Model) bool { return m.Name == before })
		if i < 0 { // another one takes its place, if there is one that is new
			i = slices.IndexFunc(cfg.Models, func(m settings.Model) bool { return d.beside.named(m.Name) == nil })
		}
		if i < 0 {
			return first, nil, refusal.New("reload-needs-restart", "models changed: %s is there no more, and all others stay; restart the agent to apply it", before)
		}
		models := append([]settings.Model{cfg.Models[i]}, cfg.Models[:i]...)
		cfg.Models = append(models, cfg.Models[i+1:]...)
	}
	if len(cfg.Models) == 1 && d.beside.named(cfg.Models[0].Name) != nil {
		return first, nil, refusal.New("reload-needs-restart", "models changed: %s was the first, and only %s stays; restart the agent to apply it", before, cfg.Models[0].Name)
	}
	return tenure.Apart(cfg)
}

// shrink applies what gives memory back, which is models that are there no more and smaller parts,
// and what leaves a part as it is. Then [beside.grow] applies the rest. What becomes of a model whose
// part stays costs no other, and is only told; memory that was not given back stops everything,
// because nothing may grow into it.
func (b *beside) shrink(ctx context.Context, others []settings.Config) (told, stop error) {
	var same, smaller []settings.Config
	for _, s := range b.all() {
		i := slices.IndexFunc(others, func(c settings.Config) bool { return c.Models[0].Name == s.name })
		switch now := b.part(s); {
		case i < 0:
			b.remove(s)
		case part(others[i]) < now:
			smaller = append(smaller, others[i])
		case part(others[i]) == now:
			same = append(same, others[i])
		}
	}
	var steps sync.WaitGroup
	steps.Go(func() { told = b.reloadAll(ctx, same) })
	stop = b.reloadAll(ctx, smaller)
	steps.Wait()
	return told, stop
}

// grow applies larger parts, and adds models.
func (b *beside) grow(ctx context.Context, others []settings.Config) error {
	added := b.add(others)
	list := slices.DeleteFunc(slices.Clone(others), func(c settings.Config) bool {
		s := b.named(c.Models[0].Name)
		return s == nil || !slices.Contains(added.names, s.name) && part(c) <= b.part(s) // it was, before
	})
	return errors.Join(added.failed, b.reloadAll(ctx, list))
}

// additions are models that were added, and what became of others.
type additions struct {
	names  []string
	failed error
}

// add makes and starts the seats that are not there.
func (b *beside) add(others []settings.Config) (added additions) {
	for _, cfg := range others {
		if b.named(cfg.Models[0].Name) != nil {
			continue
		}
		s, err := b.seat(cfg)
		if err != nil {
			added.failed = errors.Join(added.failed, fmt.Errorf("model %s: %w", cfg.Models[0].Name, err))
			continue
		}
		b.mu.Lock()
		b.list = append(b.list, s)
		b.start(s)
		b.mu.Unlock()
		b.d.Logger.Info("model added", "model", s.name)
		added.names = append(added.names, s.name)
	}
	return added
}

// putBack restores the models beside the first after a reload that was refused. The first has the
// part that it had before, so that there is room for all.
func (d *daemon) putBack(ctx context.Context) error {
	_, others, err := d.apart(*d.cfg.Load())
	if err != nil || ctx.Err() != nil {
		return err
	}
	return errors.Join(d.beside.add(others).failed, d.beside.reloadAll(ctx, others))
}

// reloadAll hands seats their configurations, all at once: each waits for its model.
func (b *beside) reloadAll(ctx context.Context, list []settings.Config) error {
	errs := make([]error, len(list))
	var steps sync.WaitGroup
	for i, cfg := range list {
		if s := b.named(cfg.Models[0].Name); s != nil {
			steps.Go(func() { errs[i] = b.reload(ctx, s, cfg) })
		}
	}
	steps.Wait()
	return errors.Join(errs...)
}

// reload hands a seat its configuration, and says what came of it.
func (b *beside) reload(ctx context.Context, s *seat, cfg settings.Config) error {
	broker, err := b.d.guest.Client(cfg)
	if err != nil {
		return err
	}
	err = s.keeper.Reload(ctx, cfg, broker, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = s.broker.Close() // its kept connection is nobody's any more
		s.broker, s.cfg = broker, cfg
	})
	if err != nil {
		return fmt.Errorf("model %s: %w", s.name, err)
	}
	return nil
}

// remove ends a seat: its requests, then its model and its key.
func (b *beside) remove(s *seat) {
	s.stop()
	<-s.ended
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = slices.DeleteFunc(b.list, func(o *seat) bool { return o == s })
	delete(b.heap, s.name)
	b.limitHeap()
	b.d.Logger.Info("model removed", "model", s.name)
}
