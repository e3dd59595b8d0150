package fed_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// prover delivers proofs once they are made, or fails with what it is told to.
type prover struct {
	mu        sync.Mutex
	made      chan struct{} // closed when they may be delivered
	fails     error
	delivered []digest.ReceiptID
	owners    []uint32
	tried     []bool // anew, or only looked at
}

func (p *prover) Deliver(_ context.Context, uid uint32, id digest.ReceiptID, again bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried = append(p.tried, again)
	select {
	case <-p.made:
	default:
		return false, nil
	}
	if p.fails != nil {
		return false, p.fails
	}
	p.delivered, p.owners = append(p.delivered, id), append(p.owners, uid)
	return true, nil
}

var answers = []digest.ReceiptID{{1}, {2}}

func (g *guest) update(t *testing.T, round digest.RoundID) jobs.Info {
	t.Helper()
	info, err := g.Submit(t.Context(), 7, round, fed.Submission{Weight: 1, Format: fedtask.Float32, With: answers}, bytes.NewReader(floats(randomVector(1, length, 1))))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// waitForProofs waits until a contribution is encrypted and signed, and lacks its proofs.
func (g *guest) waitForProofs(t *testing.T, id jobs.ID) {
	t.Helper()
	for {
		now, err := g.queue.Show(id)
		if err != nil || now.Final() {
			t.Fatalf("%+v, %v", now, err)
		}
		if now.State == jobs.Queued && now.Reason == "proof-pending" && now.Progress != nil && now.Progress.Phase == "proofs" {
			return
		}
		runtime.Gosched()
	}
}

// Nothing of an update leaves before its answers are proven; then all of it does, and the
// signed contribution names the answers.
func TestAnUpdateIsSentWithItsProofs(t *testing.T) {
	w := newWorld(t)
	p := &prover{made: make(chan struct{})}
	w.answers = p
	r, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info := g.update(t, r.ID)
	g.waitForProofs(t, info.ID)
	if list, err := w.agg.Complete(r.ID); err != nil || len(list) != 0 {
		t.Errorf("%d were sent before the proofs: %v", len(list), err)
	}
	close(p.made)
	if info = g.wait(t, info.ID); info.State != jobs.Done || info.Tries != 1 || !slices.Equal(p.delivered, answers) || !slices.Equal(p.owners, []uint32{7, 7}) {
		t.Fatalf("%+v, %v", info, p.delivered)
	}
	if !slices.Equal(p.tried[:2], []bool{true, true}) || slices.Contains(p.tried[2:], true) {
		t.Errorf("proofs are tried once and looked at from then on; tried: %v", p.tried)
	}
	list, err := w.agg.Complete(r.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d, %v", len(list), err)
	}
	c, _, err := federation.VerifyContribution(list[0], w.Roots(), w.Floor(), r)
	if err != nil || !slices.Equal(c.Answers, []digest.ReceiptID{{1}, {2}}) {
		t.Errorf("%v, %v", c.Answers, err)
	}
}

// A contribution that waits for its proofs, which may never come, keeps no other user's jobs
// of rounds waiting.
func TestWhatWaitsForProofsHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	w.answers = never{}
	first, _, _ := w.open(t, nil)
	second, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	waits := g.update(t, first.ID)
	other, err := g.Submit(t.Context(), 8, second.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(1, length, 1))))
	if err != nil {
		t.Fatal(err)
	}
	if other = g.wait(t, other.ID); other.State != jobs.Done {
		t.Errorf("another user's contribution: %+v", other)
	}
	if now, err := g.queue.Show(waits.ID); err != nil || now.Final() {
		t.Errorf("%+v, %v", now, err)
	}
}

// A contribution whose proofs do not come waits until its round closes.
func TestWhatWaitsForProofsEndsWithItsRound(t *testing.T) {
	w := newWorld(t)
	w.answers = never{}
	r, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info := g.update(t, r.ID)
	g.waitForProofs(t, info.ID)
	w.later.Store(int64(r.Closes.Time().Sub(w.at(2).Time())))
	if info = g.wait(t, info.ID); info.State != jobs.Dead || info.Reason != fed.ReasonProof || !strings.Contains(info.Detail, string(fed.ReasonOver)) {
		t.Errorf("%+v", info)
	}
}

// Each step that fails in the job has its own reason, and the cause is told. The job can be
// tried again.
func TestAStepThatFailsIsNamed(t *testing.T) {
	w := newWorld(t)
	p := &prover{made: make(chan struct{}), fails: refusal.New("proof-failed", "no")}
	close(p.made)
	w.answers = p
	r, signed, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info := g.wait(t, g.update(t, r.ID).ID)
	if info.State != jobs.Dead || info.Exit != jobs.Refused || info.Reason != fed.ReasonProof || !strings.Contains(info.Detail, "proof-failed") {
		t.Errorf("proof: %+v", info)
	}
	p.mu.Lock()
	p.fails = nil
	p.mu.Unlock()
	if _, err := g.queue.Retry(info.ID); err != nil {
		t.Fatal(err)
	}
	if info = g.wait(t, info.ID); info.State != jobs.Done || len(p.delivered) != 2 {
		t.Errorf("tried again: %+v", info)
	}

	// The other one comes too late: the round is closed when it is sent.
	p.made = make(chan struct{})
	late := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info = late.update(t, r.ID)
	alone := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	second, err := alone.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(2, length, 1))))
	if err != nil {
		t.Fatal(err)
	}
	alone.wait(t, second.ID)
	w.close(t, r, signed)
	close(p.made)
	if info = late.wait(t, info.ID); info.State != jobs.Dead || info.Reason != fed.ReasonSend {
		t.Errorf("send: %+v", info)
	}

	w.answers = nil
	other, _, _ := w.open(t, nil)
	none := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	if info = none.wait(t, none.update(t, other.ID).ID); info.Reason != fed.ReasonProof || !strings.Contains(info.Detail, string(fed.ReasonNotConfigured)) {
		t.Errorf("no prover: %+v", info)
	}
}

// A norm that cannot be proven is the gradient's step.
func TestAGradientThatFailsIsNamed(t *testing.T) {
	keys := federationtest.SharedNormKeys(t, normLength, 8)
	w := newNormWorld(t, keys.Ring(t, 0, func(r *statement.Record) { r.Gradient.Coordinates = length }))
	w.answers = &prover{}
	r, _, _ := w.open(t, keys.Demand)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info := g.wait(t, g.update(t, r.ID).ID)
	if info.State != jobs.Dead || info.Reason != fed.ReasonGradient || !strings.Contains(info.Detail, "norm-key-missing") {
		t.Errorf("%+v", info)
	}
}

func TestBegin(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	got, err := g.Begin(t.Context(), r.ID)
	if err != nil || got.ID != r.ID {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = g.Begin(t.Context(), digest.RoundID{9})
	wantReason(t, "no such round", err, "round-unknown")
	g.Require(fed.Demand{Set: "another"})
	_, err = g.Begin(t.Context(), r.ID)
	wantReason(t, "another set", err, federation.ReasonSet)
	g.Require(fed.Demand{})
	info, err := g.Submit(t.Context(), 7, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, bytes.NewReader(floats(randomVector(1, length, 1))))
	if err != nil {
		t.Fatal(err)
	}
	g.wait(t, info.ID)
	_, err = g.Begin(t.Context(), r.ID)
	wantReason(t, "a second contribution", err, fed.ReasonContributed)
	if err == nil || !strings.Contains(err.Error(), info.ID.String()) {
		t.Errorf("the first one is not named: %v", err)
	}
	if a, err := g.Attested(); err != nil || a.Agent == (digest.Digest{}) {
		t.Errorf("%+v, %v", a, err)
	}
	step := &fed.StepError{Step: fed.ReasonSend, Err: errDisk}
	if !errors.Is(step, errDisk) || !strings.HasPrefix(step.Error(), "update-send-failed: ") {
		t.Error(step)
	}
}

var errDisk = errors.New("the disk is gone")

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("%s: reason %q, want %q: %v", what, got, want, err)
	}
}
