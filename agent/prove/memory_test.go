package prove

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/worker"
)

// need is what a proof of the world's classifier needs.
func (w *world) need(t *testing.T) int64 {
	t.Helper()
	set, err := w.ring.ForArchitecture(w.model.Model.Architecture)
	if err != nil {
		t.Fatal(err)
	}
	need, err := set.ProvingMemory()
	if err != nil {
		t.Fatal(err)
	}
	return need
}

func memory(most int64) func(*Config) {
	return func(c *Config) { c.Limits = worker.Limits{Memory: most, Time: time.Minute} }
}

// A job carries what its circuit and key need, not all that a worker may have; and that is
// enough.
func TestAJobCarriesTheMemoryThatItNeeds(t *testing.T) {
	w := newWorld(t)
	g := w.start(t, OnDemand, memory(w.need(t)))
	id := g.answer(t, 5)
	info, err := g.Prove(t.Context(), 5, id)
	if err != nil || info.Memory != w.need(t) {
		t.Fatalf("%d bytes, want %d: %v", info.Memory, w.need(t), err)
	}
	if done := g.done(t, id); done.Memory != w.need(t) || done.Tries != 1 {
		t.Errorf("%+v", done)
	}
	g.proven(t, 5, id)
	g.stop()
	g = w.start(t, All, memory(1<<40))
	if info := g.done(t, g.answer(t, 5)); info.Memory != w.need(t) {
		t.Errorf("without being asked for: %d bytes", info.Memory)
	}
}

// What no worker can prove is refused when it is asked for, not after three workers died.
func TestWhatNeedsMoreMemoryThanThereIsIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t)
	b := newBroker(t)
	g := w.start(t, OnDemand, func(c *Config) { with(b)(c); memory(w.need(t) - 1)(c) })
	id := g.answer(t, 5)
	_, err := g.Prove(t.Context(), 5, id)
	wantReason(t, "asked for", err, provetask.ReasonMemory)
	if !strings.Contains(err.Error(), "proofs.memory_mb") {
		t.Errorf("it does not say what to configure: %v", err)
	}
	_, err = g.Prove(t.Context(), 6, id)
	wantReason(t, "another user's", err, ReasonUnknown)
	b.with(func() { b.wanted = append(b.wanted, id) })
	if err := g.registry.answer(t.Context()); err != nil {
		t.Error(err)
	}
	if list := g.queue.List(nil); len(list) != 0 {
		t.Errorf("queued: %+v", list)
	}
	g.stop()

	g = w.start(t, OnDemand, memory(w.need(t))) // the operator made room
	if _, err := g.Prove(t.Context(), 5, id); err != nil {
		t.Fatal(err)
	}
	g.done(t, id)
	g.proven(t, 5, id)
}

// A job may have been queued when there was more memory than now, or without being asked
// for. It ends at its first try, before a worker starts.
func TestAQueuedJobIsHeldAgainstTheLimitOfNow(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, All, nil)
	a := w.classify(t)
	g.Take(5, a)
	g.pass()
	g.stop()
	g = w.start(t, All, memory(w.need(t)-1))
	for what, info := range map[string]jobs.Info{"queued before": g.job(t, idOf(a)), "chosen now": g.job(t, g.answer(t, 5))} {
		if info.State != jobs.Dead || info.Exit != jobs.Refused || info.Reason != provetask.ReasonMemory || info.Tries != 1 {
			t.Errorf("%s: %s %s %s after %d tries", what, info.State, info.Exit, info.Reason, info.Tries)
		}
	}
	g.stop()
	g = w.start(t, OnDemand, nil)
	again, err := g.ask(t.Context(), 0, idOf(a)) // as a challenge does
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool {
		again, err = g.queue.Show(again.ID)
		return err != nil || again.Final()
	})
	if err != nil || again.State != jobs.Done {
		t.Errorf("with memory: %+v %v", again, err)
	}
}

// A worker that died of its bound is given more while there is more to give.
func TestMemoryThatIsExhausted(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, OnDemand, memory(1<<30))
	died := &worker.Failure{Exit: worker.OutOfMemory}
	if exit, _ := classifyEnd(g.exhausted(died, 1<<29)); exit != jobs.OutOfMemory {
		t.Errorf("half of the limit: %s", exit)
	}
	if exit, reason := classifyEnd(g.exhausted(errors.Join(died), 1<<30)); exit != jobs.Refused || reason != provetask.ReasonMemory {
		t.Errorf("at the limit: %s %s", exit, reason)
	}
	if exit, reason := classifyEnd(g.exhausted(&worker.Failure{Exit: worker.Crash}, 1<<30)); exit != jobs.Crash || reason != "" {
		t.Errorf("a crash: %s %s", exit, reason)
	}
}
