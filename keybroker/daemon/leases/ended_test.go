package leases

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

func newKey(t *testing.T) *identity.Private {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRunningLeasesAreReadUpToABound: of more releases than it reads it says so.
func TestRunningLeasesAreReadUpToABound(t *testing.T) {
	now := time.Now()
	dir := t.TempDir() + "/audit"
	log, err := audit.Open(dir, newKey(t), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	records := make([]audit.Record, audit.MaxShown+2)
	for i := range records {
		records[i] = audit.Record{Kind: audit.KindRelease, Time: now, Action: "release", Resource: "models/a", ResourceVersion: 1, Grant: fmt.Sprintf("%032x", i), Expiry: now.Add(time.Minute)}
		if _, err := log.Append(t.Context(), records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if list, more, err := Running(dir, now, audit.MaxShown); err != nil || !more || len(list) != audit.MaxShown || list[0].Lease != records[len(records)-1].Grant {
		t.Errorf("%d leases, more %v, %v", len(list), more, err)
	}
	if list, more, err := Running(dir, now, audit.MaxShown+1); err != nil || more || len(list) != len(records) {
		t.Errorf("%d leases, more %v, %v", len(list), more, err)
	}
}

// TestEndsThatNobodyCanReadAreNotForgotten: the record's segment was taken away, and the file
// that remembered it is older or gone.
func TestEndsThatNobodyCanReadAreNotForgotten(t *testing.T) {
	layout := statedir.Layout(t.TempDir())
	log, err := audit.Open(layout.Audit(), newKey(t), audit.Options{SegmentBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e := &Ended{layout: layout, log: log, now: time.Now}
	if err := e.load(); err != nil {
		t.Fatal(err)
	}
	who := agentName(digest.Digest{1})
	if _, err := e.change(t.Context(), verbEnd, who); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if _, err := log.Append(t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x", Detail: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := log.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, err := log.Archive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(a.Directory, t.TempDir()+"/segments"); err != nil {
		t.Fatal(err)
	}
	again := func() (*Ended, error) { e := &Ended{layout: layout, log: log, now: time.Now}; return e, e.load() }
	if e, err := again(); err != nil || len(e.state.Who) != 1 {
		t.Fatalf("with the file: %v, %v", e.state.Who, err)
	}
	if err := os.Remove(layout.Ended()); err != nil {
		t.Fatal(err)
	}
	_, err = again()
	if reason, _ := refusal.ReasonOf(err); reason != ReasonEndedUnknown {
		t.Errorf("without it: %v", err)
	}
}

// TestNobodyOnAnUnknownProcessorIsLetThrough while some processor is ended: it may be that one.
func TestNobodyOnAnUnknownProcessorIsLetThrough(t *testing.T) {
	layout := statedir.Layout(t.TempDir())
	log, err := audit.Open(layout.Audit(), newKey(t), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e, err := OpenEnded(layout, log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	agent, ended := digest.Digest{1}, processorName(digest.Digest{2})
	want := func(when string, chip digest.Digest, reason refusal.Reason) {
		t.Helper()
		done, err := e.Check(agent, chip)
		if err == nil {
			done()
		}
		if got, _ := refusal.ReasonOf(err); got != reason || reason == "" && err != nil {
			t.Errorf("%s: %v, want %q", when, err, reason)
		}
	}
	for _, step := range []struct {
		verb, who string
		reason    refusal.Reason
	}{{verbEnd, agentName(digest.Digest{9}), ""}, {verbEnd, ended, protocol.ReasonEnded}, {verbAllow, ended, ""}} {
		if _, err := e.change(t.Context(), step.verb, step.who); err != nil {
			t.Fatal(err)
		}
		want(step.verb+" "+step.who, digest.Digest{}, step.reason)
		want(step.verb+" "+step.who+", of a known processor", digest.Digest{3}, "")
	}
}
