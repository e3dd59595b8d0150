package prove

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func TestAllAnswersAreProven(t *testing.T) {
	w := newWorld(t)
	g := w.start(t, All, nil)
	for range 2 {
		id := g.answer(t, 5)
		info := g.done(t, id)
		if info.Owner != 5 || info.Class != provetask.ClassInference || !strings.Contains(string(info.Result), id.String()) {
			t.Errorf("%+v", info)
		}
		g.proven(t, 5, id)
		g.proven(t, 0, id)
		if exists(t, g.store.files.path(witnessFolder, id)) {
			t.Error("the witness is still there")
		}
		_, err := g.Bundle(6, id)
		wantReason(t, "another user's proof", err, ReasonUnknown)
		_, err = g.Prove(t.Context(), 6, id)
		wantReason(t, "another user's proof", err, ReasonUnknown)
		again, err := g.Prove(t.Context(), 5, id)
		if err != nil || again.ID != info.ID || again.State != jobs.Done {
			t.Errorf("asked again: %+v %v", again, err)
		}
	}
}

func TestOnDemandOnlyWhatIsAskedForIsProven(t *testing.T) {
	w := newWorld(t)
	g := w.start(t, OnDemand, nil)
	first, second := g.answer(t, 5), g.answer(t, 5)
	_, err := g.Bundle(5, first)
	wantReason(t, "not asked for", err, ReasonPending)
	_, err = g.Bundle(0, first)
	wantReason(t, "not asked for", err, ReasonPending)
	for _, uid := range []uint32{6, 1 << 31} {
		_, err = g.Bundle(uid, first)
		wantReason(t, "another user's answer", err, ReasonUnknown)
		_, err = g.Prove(t.Context(), uid, first)
		wantReason(t, "another user's answer", err, ReasonUnknown)
	}
	_, err = g.Prove(t.Context(), 5, digest.ReceiptID{1})
	wantReason(t, "no such answer", err, ReasonUnknown)
	_, err = g.Bundle(5, digest.ReceiptID{1})
	wantReason(t, "no such answer", err, ReasonUnknown)
	if list := g.queue.List(nil); len(list) != 0 {
		t.Errorf("jobs of nothing: %+v", list)
	}
	for range 2 { // twice is once
		if _, err := g.Prove(t.Context(), 5, second); err != nil {
			t.Fatal(err)
		}
	}
	g.done(t, second)
	g.proven(t, 5, second)
	if _, err = g.Prove(t.Context(), 0, first); err != nil { // root may
		t.Fatal(err)
	}
	g.done(t, first)
	g.proven(t, 5, first)
	if n := len(g.queue.List(nil)); n != 2 {
		t.Errorf("%d jobs", n)
	}
}

func TestSampledAnswersAreProvenAtTheirRate(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, Sampled, func(c *Config) { c.Rate = 0.25 })
	n := 0
	for range 10_000 {
		if g.intake.chosen() {
			n++
		}
	}
	if n < 2200 || n > 2800 { // seven standard deviations
		t.Errorf("%d of 10000", n)
	}
	g.stop()
	g = w.start(t, Sampled, func(c *Config) { c.Rate = 1 })
	id := g.answer(t, 5)
	g.done(t, id)
	g.proven(t, 5, id)
}

// What lies on disk tells nothing, and opens under its own name and key alone.
func TestWitnessesLieEncrypted(t *testing.T) {
	w := newWorld(t)
	g := w.start(t, OnDemand, nil)
	first, second := g.answer(t, 5), g.answer(t, 5)
	g.stop()
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte("outputs")) || bytes.Contains(raw, []byte("salt")) {
			t.Errorf("%s can be read", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(g.store.files.path(witnessFolder, first))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(g.store.files.path(witnessFolder, second), raw, 0o600), os.WriteFile(g.store.files.path(proofFolder, first), raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.witness(second); err == nil {
		t.Error("a witness under another name")
	}
	if _, err := g.Bundle(5, first); err == nil {
		t.Error("a witness as a proof")
	}
	g.store.files.key = federationtest.Seed(t)
	if _, err := g.store.witness(first); err == nil {
		t.Error("a witness under another key")
	}
}

func TestARestartGoesOn(t *testing.T) {
	w := newWorld(t)
	g := w.start(t, All, nil)
	var ids []digest.ReceiptID
	for range 3 {
		a := w.classify(t)
		g.Take(5, a)
		ids = append(ids, idOf(a))
	}
	g.stop() // at once: what was taken is kept
	g = w.start(t, All, nil)
	for _, id := range ids {
		g.done(t, id)
		g.proven(t, 5, id)
	}
	g.stop()
	g = w.start(t, OnDemand, nil)
	for _, id := range ids {
		g.proven(t, 5, id)
	}
}

// A crash between writing the witness down and queueing it, and one between storing the
// proof and recording it.
func TestACrashAnywhereGoesOn(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, All, nil)
	a := w.classify(t)
	full := errors.New("crash")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(full)
	g.Take(5, a)
	if err := g.keep(ctx, <-g.intake.answers); !errors.Is(err, context.Canceled) { // the witness is there, the job is not
		t.Fatal(err)
	}
	leftover := filepath.Join(w.dir, "witness", ".new-1")
	if err := os.WriteFile(leftover, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.stop()
	g = w.start(t, OnDemand, nil)
	g.done(t, idOf(a))
	g.proven(t, 5, idOf(a))
	if exists(t, leftover) {
		t.Error("half a file was not removed")
	}
	g.stop()
	if err := os.Remove(filepath.Join(w.dir, "jobs.db")); err != nil { // the job's end is lost
		t.Fatal(err)
	}
	g = w.start(t, OnDemand, nil)
	if _, err := g.Prove(t.Context(), 5, idOf(a)); err != nil {
		t.Fatal(err)
	}
	g.done(t, idOf(a))
	g.proven(t, 5, idOf(a))
}

// TestOneUsersAnswersDoNotDriveOutAnothers: the user who has the most loses his own first.
func TestOneUsersAnswersDoNotDriveOutAnothers(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, OnDemand, nil)
	keep := func(uid uint32) digest.ReceiptID {
		a := w.classify(t)
		g.Take(uid, a)
		g.pass()
		return idOf(a)
	}
	quiet := keep(6)
	loud := keep(5)
	for i := range maxWitnesses - 2 {
		id := digest.ReceiptID{1, byte(i), byte(i >> 8)}
		g.store.kept, g.store.owners[id] = append(g.store.kept, id), 5
	}
	keep(5)
	if !exists(t, g.store.files.path(witnessFolder, quiet)) || exists(t, g.store.files.path(witnessFolder, loud)) {
		t.Error("a user's answers drove out another's")
	}
	if len(g.store.owners) != maxWitnesses || len(g.store.kept) != maxWitnesses {
		t.Errorf("%d owners of %d witnesses", len(g.store.owners), len(g.store.kept))
	}
}

// Below the floor of the disk no answer is kept.
func TestNoAnswerIsKeptBelowTheFloorOfTheDisk(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, OnDemand, func(c *Config) { c.Floor = 1 << 60 })
	a := w.classify(t)
	g.Take(5, a)
	err := g.keep(t.Context(), <-g.intake.answers)
	wantReason(t, "a full disk", err, spool.ReasonDisk)
	if exists(t, g.store.files.path(witnessFolder, idOf(a))) || len(g.store.kept) != 0 {
		t.Error("it was kept")
	}
}

// TestProofsAreBounded by number and age; what the registry has still to take stays.
func TestProofsAreBounded(t *testing.T) {
	w := newWorld(t)
	b := newBroker(t)
	g := w.make(t, OnDemand, func(c *Config) { with(b)(c); c.Kept, c.KeptAge = 2, 10*time.Hour })
	now := time.Now()
	put := func(n byte, age time.Duration, sent bool) digest.ReceiptID {
		id := digest.ReceiptID{n, 1}
		err := g.store.files.write(proofFolder, id, []byte("{}"), false)
		if sent {
			g.registry.remember(id)
		}
		if err == nil {
			err = os.Chtimes(g.store.files.path(proofFolder, id), now.Add(-age), now.Add(-age))
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	old, unsent, first, second, third := put(1, 11*time.Hour, false), put(2, 9*time.Hour, false), put(3, 8*time.Hour, true), put(4, 7*time.Hour, true), put(5, time.Hour, true)
	if n, err := g.expire(now); n != 3 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	for id, want := range map[digest.ReceiptID]bool{old: false, unsent: true, first: false, second: false, third: true} {
		if exists(t, g.store.files.path(proofFolder, id)) != want {
			t.Errorf("proof %s: there %t", id, !want)
		}
	}
}

func TestWitnessesAreBounded(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, OnDemand, nil)
	keep := func() digest.ReceiptID {
		a := w.classify(t)
		g.Take(5, a)
		g.pass()
		return idOf(a)
	}
	first := keep()
	for i := range maxWitnesses - 1 {
		id := digest.ReceiptID{1, byte(i), byte(i >> 8)}
		g.store.kept, g.store.owners[id] = append(g.store.kept, id), 5
	}
	if !exists(t, g.store.files.path(witnessFolder, first)) {
		t.Fatal("it went too early")
	}
	last := keep()
	if len(g.store.kept) != maxWitnesses || exists(t, g.store.files.path(witnessFolder, first)) || !exists(t, g.store.files.path(witnessFolder, last)) {
		t.Errorf("%d witnesses are kept", len(g.store.kept))
	}
	_, err := g.Prove(t.Context(), 5, first)
	wantReason(t, "too old", err, ReasonUnknown)

	// One whose proof is still to be made stays, and goes once it need not be made.
	info, err := g.Prove(t.Context(), 5, last)
	if err != nil {
		t.Fatal(err)
	}
	g.store.kept = append([]digest.ReceiptID{last}, g.store.kept[:maxWitnesses-1]...)
	keep()
	if !exists(t, g.store.files.path(witnessFolder, last)) || len(g.store.kept) != maxWitnesses || g.store.kept[0] != last {
		t.Errorf("a witness that is needed went: %d are kept", len(g.store.kept))
	}
	if _, err := g.queue.Cancel(info.ID); err != nil {
		t.Fatal(err)
	}
	keep()
	if exists(t, g.store.files.path(witnessFolder, last)) || len(g.store.jobs) != 0 {
		t.Error("a witness that nobody needs stays")
	}
}

// What is asked for is as durable as its job: an agent that starts anew goes on by itself.
func TestWhatIsAskedForIsChosen(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, OnDemand, nil)
	a := w.classify(t)
	g.Take(5, a)
	g.pass()
	if kept, err := g.store.witness(idOf(a)); err != nil || kept.Chosen {
		t.Fatalf("%v", err)
	}
	if _, err := g.Prove(t.Context(), 5, idOf(a)); err != nil {
		t.Fatal(err)
	}
	if kept, err := g.store.witness(idOf(a)); err != nil || !kept.Chosen {
		t.Errorf("it is not chosen: %v", err)
	}
}

// Taking never waits, whatever stands still, and what waits is bounded by its bytes: what
// is 4,096 small answers would be the agent's whole memory of large ones. One user's answers
// do not keep another's from being proven.
func TestTakingNeverWaits(t *testing.T) {
	w := newWorld(t)
	var log bytes.Buffer
	g := w.make(t, All, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	a := w.classify(t)
	large := a
	large.Input = make([]int8, maxWaitingBytes/4)
	for range 3 { // two fit of one user and three in all, with what each holds beside
		g.Take(5, large)
	}
	g.Take(6, large)
	if n := strings.Count(log.String(), "not kept for proving"); n != 1 || len(g.intake.answers) != 3 {
		t.Errorf("%d were not kept, %d were", n, len(g.intake.answers))
	}
	if g.Take(7, large); len(g.intake.answers) != 3 || g.intake.waiting.all.bytes > maxWaitingBytes {
		t.Errorf("%d are kept, %d bytes are held", len(g.intake.answers), g.intake.waiting.all.bytes)
	}
	for range 3 {
		g.pass()
	}
	log.Reset()
	size := waitingBytes + len(a.Input) + 4*len(a.Outputs)
	for range ownerWaitingBytes/size + 3 {
		g.Take(5, a)
	}
	if g.Take(6, a); strings.Count(log.String(), "not kept for proving") != 3 || strings.Contains(log.String(), "uid=6") {
		t.Errorf("not kept: %s", log.String())
	}
	for len(g.intake.answers) > 0 {
		g.pass()
	}
	if g.intake.waiting.all != (amount{}) || len(g.intake.waiting.of) != 0 {
		t.Errorf("nothing waits, and %+v is held", g.intake.waiting)
	}
}

// A pair of files that do not belong together makes proofs that do not verify.
func TestAProofThatDoesNotVerifyIsNotPublished(t *testing.T) {
	w := newWorld(t)
	mixed := *provetest.Shared(t)
	mixed.Proving = provetest.Other(t).Proving
	broker := newBroker(t)
	w.ring = ringOf(t, mixed.Save(t, t.TempDir(), false))
	g := w.start(t, All, func(c *Config) { c.Registry = broker })
	id := g.answer(t, 5)
	if info := g.job(t, id); info.State != jobs.Dead || info.Exit != jobs.Refused || info.Reason != ReasonUnsound || info.Result != nil {
		t.Errorf("%+v", info)
	}
	_, err := g.Bundle(5, id)
	wantReason(t, "it is not there", err, ReasonPending)
	if err := g.registry.submit(t.Context()); err != nil {
		t.Error(err)
	}
	if exists(t, g.store.files.path(proofFolder, id)) || broker.has(id) {
		t.Error("it was published")
	}
	if !exists(t, g.store.files.path(witnessFolder, id)) {
		t.Error("the witness is gone")
	}
	g.stop()
	w.ring = ringOf(t, provetest.Shared(t).Save(t, t.TempDir(), false)) // the files are put right
	g = w.start(t, OnDemand, nil)
	if _, err := g.Prove(t.Context(), 5, id); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { return g.job(t, id).State == jobs.Done })
	g.proven(t, 5, id)
}

func TestWithoutAKeyNothingIsProven(t *testing.T) {
	for what, c := range map[string]struct {
		reason refusal.Reason
		change func(t *testing.T, w *world)
	}{
		"no key": {ReasonNoKey, func(t *testing.T, w *world) { w.ring = ringOf(t) }},
		"another architecture's": {ReasonNoKey, func(t *testing.T, w *world) {
			k := *provetest.Shared(t)
			inference := *k.Record.Inference
			inference.Architecture[0]++
			k.Record.Inference = &inference
			w.ring = ringOf(t, k.Save(t, t.TempDir(), false))
		}},
		"no circuit":              {ReasonNoKey, func(t *testing.T, w *world) { w.ring = ringOf(t, without(t, ".circuit", false)) }},
		"no proving key":          {ReasonNoKey, func(t *testing.T, w *world) { w.ring = ringOf(t, without(t, ".pk", false)) }},
		"a changed proving key":   {ReasonNoKey, func(t *testing.T, w *world) { w.ring = ringOf(t, without(t, ".pk", true)) }},
		"a closed classifier":     {classify.ReasonUnavailable, func(_ *testing.T, w *world) { w.classes.Wipe() }},
		"another version by then": {classify.ReasonUnavailable, func(t *testing.T, w *world) { w.model = classifytest.Seal(t, "tiny", 2); w.open(t) }},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			a := w.classify(t)
			c.change(t, w)
			g := w.start(t, All, nil)
			g.Take(5, a)
			want := jobs.Refused
			if c.reason == classify.ReasonUnavailable { // it may come back
				want = jobs.Crash
			}
			info := g.job(t, idOf(a))
			if info.Exit != want || info.Reason != c.reason {
				t.Errorf("%s %s %s, want %s %s", info.Exit, info.Reason, info.Detail, want, c.reason)
			}
			if exists(t, g.store.files.path(proofFolder, idOf(a))) {
				t.Error("a proof")
			}
			if what == "no key" {
				_, err := g.Prove(t.Context(), 5, idOf(a))
				wantReason(t, what, err, ReasonNoKey)
			}
		})
	}
}

// The worker holds the circuit against the statement, and says what is wrong.
func TestACircuitThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t)
	w.ring = ringOf(t, without(t, ".circuit", true))
	g := w.start(t, All, nil)
	id := g.answer(t, 5)
	if info := g.job(t, id); info.State != jobs.Dead || info.Exit != jobs.BadInput || !strings.Contains(info.Detail, "proof-key-mismatch") || exists(t, g.store.files.path(proofFolder, id)) {
		t.Errorf("%+v", info)
	}
}

// without is a set without a file, or with another one in its place.
func without(t *testing.T, ext string, changed bool) keyset.Set {
	t.Helper()
	dir := t.TempDir()
	s := provetest.Shared(t).Save(t, dir, false)
	list, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if changed {
		err = os.WriteFile(list[0], []byte("changed"), 0o600)
	} else {
		err = os.Remove(list[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A model that comes back with the next lease is proven then.
func TestAModelThatComesBackIsProven(t *testing.T) {
	longtest.Run(t, "it proves an answer of a model that was wiped")
	w := newWorld(t)
	a := w.classify(t)
	w.classes.Wipe()
	g := w.start(t, All, nil)
	g.Take(5, a)
	if info := g.job(t, idOf(a)); info.State != jobs.Queued || info.Reason != classify.ReasonUnavailable {
		t.Fatalf("%+v", info)
	}
	w.open(t)
	poll(t, func() bool { return g.job(t, idOf(a)).State == jobs.Done })
	g.proven(t, 5, idOf(a))
}

func TestACancelledJobIsNotProven(t *testing.T) {
	w := newWorld(t)
	g := w.make(t, All, nil)
	a := w.classify(t)
	g.Take(5, a)
	if err := g.keep(t.Context(), <-g.intake.answers); err != nil {
		t.Fatal(err)
	}
	l, err := g.queue.Lease(t.Context(), []string{provetask.ClassInference})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.queue.Cancel(l.Info.ID); err != nil {
		t.Fatal(err)
	}
	if err := g.work(t.Context(), l); err != nil {
		t.Error(err)
	}
	if info := g.job(t, idOf(a)); info.State != jobs.Cancelled || exists(t, g.store.files.path(proofFolder, idOf(a))) {
		t.Errorf("%+v", info)
	}
}

func TestEndings(t *testing.T) {
	for _, c := range []struct {
		err  error
		exit jobs.Exit
	}{
		{errors.New("disk"), jobs.Crash}, {fmt.Errorf("prove: %w", context.DeadlineExceeded), jobs.TimeOut}, {refusal.New(ReasonNoKey, "none"), jobs.Refused},
		{refusal.New(classify.ReasonUnavailable, "gone"), jobs.Crash}, {&worker.Failure{Exit: worker.OutOfMemory}, jobs.OutOfMemory}, {&worker.Failure{Exit: worker.BadInput}, jobs.BadInput},
		{&worker.Failure{Exit: worker.TimeOut}, jobs.TimeOut},
	} {
		if exit, _ := classifyEnd(c.err); exit != c.exit {
			t.Errorf("%v: %s, want %s", c.err, exit, c.exit)
		}
	}
}

func TestAJobThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t)
	g := w.start(t, OnDemand, nil)
	for _, spec := range []string{`[]`, `{"receipt":"x"}`, `{"receipt":"` + (digest.ReceiptID{1}).String() + `"}`} {
		info, _, err := g.queue.Submit(t.Context(), jobs.Job{Class: provetask.ClassInference, Spec: []byte(spec), TimeMax: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if info, err = g.queue.Wait(t.Context(), info.ID); err != nil || info.Exit != jobs.Refused || info.Reason != ReasonUnknown {
			t.Errorf("%s: %+v %v", spec, info, err)
		}
	}
}

func TestAServiceNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	good := w.make(t, All, nil).cfg
	for what, change := range map[string]func(c *Config){
		"queue": func(c *Config) { c.Queue = nil }, "pool": func(c *Config) { c.Pool = nil }, "ring": func(c *Config) { c.Ring = nil }, "models": func(c *Config) { c.Models = nil }, "logger": func(c *Config) { c.Logger = nil },
		"key": func(c *Config) { c.Key = nil }, "short key": func(c *Config) { c.Key = short(t) }, "mode": func(c *Config) { c.Mode = "" }, "a mode": func(c *Config) { c.Mode = "some" },
		"rate": func(c *Config) { c.Mode = Sampled }, "a rate": func(c *Config) { c.Mode, c.Rate = Sampled, 1.01 }, "a negative rate": func(c *Config) { c.Mode, c.Rate = Sampled, -1 },
		"directory": func(c *Config) { c.Dir = "/dev/null/x" },
	} {
		c := good
		change(&c)
		if s, err := New(c); err == nil || s != nil && what != "directory" {
			t.Errorf("without %s: %v", what, err)
		}
	}
}

func short(t *testing.T) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Random(16)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// Where nothing can be written, answers go on, and the log says what is missing.
func TestAFullDiskIsTold(t *testing.T) {
	w := newWorld(t)
	var log lines
	g := w.start(t, All, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if err := os.RemoveAll(filepath.Join(w.dir, "witness")); err != nil {
		t.Fatal(err)
	}
	g.Take(5, w.classify(t))
	poll(t, func() bool { return log.has("answer is not kept for proving") })
	g.stop()
}
