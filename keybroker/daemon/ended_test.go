package daemon

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/daemon/leases"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// releasing is a broker that releases models/a, and some keys of agents.
func releasing(t *testing.T) *state {
	s := newState(t, false)
	op, _, stop := s.run(t)
	putSecret(t, op, "models/a")
	if _, err := op.ImportReferenceValues(t.Context(), fmt.Appendf(nil, "format: 1\nreference_values: [{id: demo/a, measurement: %x}]", repeated(0xcd, 48)), false); err != nil {
		t.Fatal(err)
	}
	if _, err := op.ImportPolicy(t.Context(), policyText(1)); err != nil {
		t.Fatal(err)
	}
	stop()
	return s
}

func repeated(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

func putSecret(t *testing.T, op *operator.Client, name string) {
	t.Helper()
	secret, err := keybuf.Take(repeated('k', 32))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	if _, err := op.PutSecret(t.Context(), name, secret, keystore.Meta{}, operator.PutNext); err != nil {
		t.Fatal(err)
	}
}

func newAgentKey(t *testing.T) *identity.Private {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	return key
}

// agentName and processorName are what operators call them.
func agentName(id digest.Digest) string       { return "agent/" + id.String() }
func processorName(chip digest.Digest) string { return "processor/" + chip.String() }

// ask asks for the key, and returns the lease's id or the reason of the refusal.
func (s *state) ask(t *testing.T, address string, agent *identity.Private) (lease string, reason refusal.Reason) {
	t.Helper()
	l, err := s.clientOf(t, address, agent).Acquire(t.Context(), []string{"models/a"})
	if refusal, ok := errors.AsType[*client.Error](err); ok {
		return "", refusal.Reason
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Wipe()
	return l.ID, ""
}

// TestEndedLeasesAreNotRenewed: by lease, agent and processor; across restarts, without the
// file, and until it is taken back.
func TestEndedLeasesAreNotRenewed(t *testing.T) {
	s := releasing(t)
	op, address, stop := s.run(t)
	ctx := t.Context()
	first, second := newAgentKey(t), newAgentKey(t)
	lease, _ := s.ask(t, address, first)
	other, _ := s.ask(t, address, second)
	list, err := op.Leases(ctx)
	if err != nil || len(list.Leases) != 2 || list.Leases[0].Lease != other || list.Leases[1].Lease != lease {
		t.Fatalf("%+v %v", list, err)
	}
	if l := list.Leases[1]; l.Agent != digest.Digest(first.Public().ID()) || l.ImageID != "i" || l.Resources["models/a"] != 1 || l.Image == "unknown" || l.Policy != "demo version 1" || !l.Ends.After(l.Granted) {
		t.Errorf("%+v", l)
	}

	out, err := op.EndLeases(ctx, "lease/"+lease)
	if err != nil || out.Who != agentName(first.Public().ID()) || len(out.Running) != 1 || !out.LastEnds.Equal(list.Leases[1].Ends) {
		t.Fatalf("%+v %v", out, err)
	}
	want := func(agent *identity.Private, reason refusal.Reason) {
		t.Helper()
		if _, got := s.ask(t, address, agent); got != reason {
			t.Errorf("%q, want %q", got, reason)
		}
	}
	restart := func() {
		t.Helper()
		stop()
		op, address, stop = s.run(t)
	}
	want(first, protocol.ReasonEnded)
	want(second, "")
	records, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindOperator, Resource: "lease/" + lease})
	if err != nil || len(records) != 1 || records[0].Record.Action != "lease-end" {
		t.Errorf("%+v %v", records, err)
	}
	restart()
	want(first, protocol.ReasonEnded)

	before, err := os.ReadFile(s.result.Layout.Ended())
	if err != nil {
		t.Fatal(err)
	}
	processor := processorName(list.Leases[0].Processor)
	if out, err := op.EndLeases(ctx, processor); err != nil || len(out.Running) < 2 {
		t.Errorf("%+v %v", out, err)
	}
	want(second, protocol.ReasonEnded)
	stop()
	if err := os.WriteFile(s.result.Layout.Ended(), before, 0o600); err != nil { // an older copy
		t.Fatal(err)
	}
	op, address, stop = s.run(t)
	want(second, protocol.ReasonEnded)
	stop()
	if err := os.Remove(s.result.Layout.Ended()); err != nil {
		t.Fatal(err)
	}
	op, address, stop = s.run(t)
	want(second, protocol.ReasonEnded)

	if _, err := op.AllowLeases(ctx, processor); err != nil {
		t.Fatal(err)
	}
	want(second, "")
	want(first, protocol.ReasonEnded)
	restart()
	want(second, "")
	if list, err := op.Leases(ctx); err != nil || len(list.Ended) != 1 || list.Ended[0].Who != agentName(first.Public().ID()) {
		t.Errorf("%+v %v", list.Ended, err)
	}
}

func TestEndNamesWhomOrIsRefused(t *testing.T) {
	s := releasing(t)
	op, _, _ := s.run(t)
	for name, code := range map[string]string{
		"agent/ab": "lease-name", "guest/" + agentName(digest.Digest{})[6:]: "lease-name", "lease/ab": "not-found", "agent": "lease-name",
	} {
		_, err := op.EndLeases(t.Context(), name)
		if refusal, ok := errors.AsType[*operator.Error](err); !ok || refusal.Code != code {
			t.Errorf("%s: %v, want %s", name, err, code)
		}
	}
	if _, err := op.AllowLeases(t.Context(), agentName(digest.Digest{1})); err == nil {
		t.Error("what was not ended is allowed again")
	}
	out, err := op.EndLeases(t.Context(), agentName(digest.Digest{1}))
	if err != nil || len(out.Running) != 0 || !out.LastEnds.IsZero() {
		t.Errorf("%+v %v", out, err)
	}
}

// TestRunningLeasesEndWithTheirTime: what is over is not listed.
func TestRunningLeasesEndWithTheirTime(t *testing.T) {
	s := releasing(t)
	now := time.Now()
	_, address, stop := s.run(t)
	lease, _ := s.ask(t, address, newAgentKey(t))
	stop()
	list, more, err := leases.Running(s.result.Layout.Audit(), now, 1)
	if err != nil || more || len(list) != 1 || list[0].Lease != lease {
		t.Errorf("%+v %v %v", list, more, err)
	}
	if list, _, err := leases.Running(s.result.Layout.Audit(), now.Add(time.Hour), 1); err != nil || len(list) != 0 {
		t.Errorf("after their end: %+v %v", list, err)
	}
}
