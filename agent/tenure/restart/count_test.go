//go:build !release

package restart

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/localseal"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestCountIsUsedUpAndNoCopyHelps: neither the file of the last permit nor one of a permit before it.
func TestCountIsUsedUpAndNoCopyHelps(t *testing.T) {
	w := newWorld(t)
	first := w.sealed(nil)
	old, err := os.ReadFile(first.file())
	if err != nil {
		t.Fatal(err)
	}
	w.sealed(nil)
	copied, err := os.ReadFile(first.file())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := os.WriteFile(first.file(), copied, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.restart(nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, raw := range map[string][]byte{"a copy": copied, "an older one": old} {
		if err := os.WriteFile(first.file(), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := w.restart(nil)
		w.wantRefused(name, err, vtpm.ReasonCount)
	}
}

// TestOnlyABrokerThatIsAwayIsDoneWithout: a broker that refuses is obeyed, and what is sealed goes with it; anything else that is wrong
// is no reason to open what is sealed.
func TestOnlyABrokerThatIsAwayIsDoneWithout(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	raw, err := os.ReadFile(filepath.Join(w.dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []refusal.Reason{protocol.ReasonBrokerUnknown, protocol.ReasonBrokerSignature, protocol.ReasonEpochRetired, protocol.ReasonDowngrade, protocol.ReasonEvidenceFailed,
		hybridtls.ReasonCertificate, hybridtls.ReasonClassical, "anything"} {
		b := w.boot(nil)
		if _, err := w.lease(b, b.Around(away{&client.Error{Reason: reason}})); err == nil {
			t.Errorf("%s: served", reason)
		}
	}
	b := w.boot(nil)
	if _, err := w.lease(b, b.Around(away{errors.New("something")})); err == nil {
		t.Error("an error of no kind: served")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Around(away{gone}).Acquire(ended, []string{brokertest.Resource}); err == nil {
		t.Error("an agent that is stopping serves")
	}
	if b.tried {
		t.Error("an agent that is stopping opens the file")
	}
	for n, from := range []away{{gone}, {&client.Error{Reason: protocol.ReasonDeadline}}, {&client.Error{Reason: hybridtls.ReasonHandshake}}} {
		b := w.boot(nil)
		if l, err := w.lease(b, b.Around(from)); err != nil || int(l.Running.Restart.Number) != n+1 { // nothing before was counted
			t.Errorf("%v: %v", from.err, err)
		}
	}
	for _, reason := range []refusal.Reason{protocol.ReasonEnded, "measurement-not-allowed", "a-code-of-a-later-version"} {
		if err := os.WriteFile(filepath.Join(w.dir, fileName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b := w.boot(nil)
		if _, err := w.lease(b, b.Around(refusing(reason))); err == nil {
			t.Errorf("%s: served", reason)
		}
		if _, err := w.lease(b, b.Around(away{gone})); err == nil {
			t.Errorf("%s: served afterwards", reason)
		}
		b.Close()
		if _, err := os.Stat(b.file()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the sealed file is still there", reason)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, fileName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.restart(nil)
	w.wantRefused("a copy from before the refusal", err, vtpm.ReasonCount)
}

// TestBusyBrokerIsAway: it says nothing about this guest.
func TestBusyBrokerIsAway(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	b := w.boot(nil)
	if l, err := w.lease(b, b.Around(refusing(protocol.ReasonBusy))); err != nil || l.Running == nil {
		t.Error(err)
	}
}

// TestRefusalEndsWhatRunsOnAPermit at once, and wipes it.
func TestRefusalEndsWhatRunsOnAPermit(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	b, _, err := w.restart(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := b.running.keys[brokertest.Resource].Key
	if _, err := w.lease(b, b.Around(refusing(protocol.ReasonEnded))); err == nil {
		t.Error("served")
	}
	if why := b.withdrawn.Load(); why == nil || key.Len() != 0 || b.isRunning() {
		t.Error("what runs on the permit goes on")
	}
	if _, err := w.lease(b, b.Around(away{gone})); err == nil {
		t.Error("a broker that went away after its refusal is done without")
	}
}

// TestKeysAreNotLentToAnAgentThatHadALease: it restarts, or stops with its lease.
func TestKeysAreNotLentToAnAgentThatHadALease(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	if _, err := w.lease(b, b.broker); err != nil {
		t.Fatal(err)
	}
	b.sealing.Wait()
	if _, err := w.lease(b, b.Around(away{gone})); !errors.Is(err, gone) {
		t.Errorf("served: %v", err)
	}
	b.Close()
	if _, l, err := w.restart(nil); err != nil || l.Running.Restart.Number != 1 {
		t.Errorf("the attempt was counted: %+v, %v", l, err)
	}
}

// TestPermitIsAskedForWhenItIsNeeded: not with each lease, but for other keys and when the last one ages.
func TestPermitIsAskedForWhenItIsNeeded(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	asked := func() bool {
		t.Helper()
		l, err := w.lease(b, b.broker)
		if err != nil {
			t.Fatal(err)
		}
		b.sealing.Wait()
		return l.Permit != nil
	}
	if !asked() || asked() {
		t.Error("the first lease brings a permit and the second none, or the reverse")
	}
	w.f.Put(brokertest.Resource, "a newer key of thirty-two bytes!")
	if !asked() || asked() {
		t.Error("a newer key brings no permit, or two")
	}
	w.f.Clock.Move(3 * time.Hour)
	if !asked() || asked() {
		t.Error("a permit that ages brings no other, or two")
	}
	w.f.SetPolicy(brokertest.DefaultPolicy())
	w.f.Clock.Move(3 * time.Hour)
	if !asked() {
		t.Error("not asked")
	}
	b.Close()
	if _, err := os.Stat(b.file()); !errors.Is(err, os.ErrNotExist) {
		t.Error("keys stay sealed that the broker permits no restart with any more")
	}
}

// TestForgottenKeysDoNotOpen: neither the file nor a copy of it.
func TestForgottenKeysDoNotOpen(t *testing.T) {
	w := newWorld(t)
	b := w.sealed(nil)
	raw, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	if was, err := Forget(t.Context(), w.dir, w.tpm); err != nil || was.At.IsZero() || was.File != b.file() {
		t.Fatalf("%+v, %v", was, err)
	}
	if _, _, err := w.restart(nil); err == nil || len(flatten(err)) != 1 {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(b.file(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.restart(nil)
	w.wantRefused("a copy", err, vtpm.ReasonCount)
	if was, err := Forget(t.Context(), w.dir, nil); err != nil || was.At.IsZero() {
		t.Errorf("the copy: %+v, %v", was, err)
	}
	if was, err := Forget(t.Context(), w.dir, nil); err != nil || !was.At.IsZero() {
		t.Errorf("nothing to forget: %+v, %v", was, err)
	}
}

// TestProcessorAloneCountsNothing: the same file opens again and again, and the broker learns that nobody counts.
func TestProcessorAloneCountsNothing(t *testing.T) {
	w := newWorld(t)
	firmware := func(measurement byte) func(*Config) {
		return func(c *Config) {
			tee, err := teesim.New(teesim.Options{Dir: brokertest.ChainDir(t), Measurement: [48]byte{measurement}})
			if err != nil {
				t.Fatal(err)
			}
			c.Sealer, c.Sealing = &localseal.Sealer{SNP: tee}, protocol.SealingSNP
		}
	}
	w.sealed(firmware(1))
	for range protocol.MaxRestarts + 2 {
		if _, l, err := w.restart(firmware(1)); err != nil || l.Running.Restart.Number != 0 {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	_, _, err := w.restart(firmware(2))
	w.wantRefused("another image", err, ReasonFile)
	b, _, err := w.restart(firmware(1))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := w.lease(b, b.broker); err != nil || l.Permit.Err != nil || !l.Permit.Reported {
		t.Errorf("%+v, %v", l, err)
	}
	reported := 0
	for _, r := range w.f.Records() {
		if r.Action == keybroker.ActionRestarted {
			reported++
		}
	}
	if reported != protocol.MaxRestarts { // the last ones
		t.Errorf("%d restarts were reported", reported)
	}
}
