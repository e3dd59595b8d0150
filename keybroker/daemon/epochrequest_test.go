package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// wantCode expects a refusal by the broker.
func wantCode(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if e, ok := errors.AsType[*operator.Error](err); !ok || e.Code != string(want) {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

// TestEpochIsCertifiedOffline: the broker asks in writing, the root answers from that alone,
// and the broker takes only the answer to what it asked.
func TestEpochIsCertifiedOffline(t *testing.T) {
	s := newState(t, false)
	op, _, stop := s.run(t)
	now := time.Now()
	ask := operator.EpochAsk{NotBefore: now.Add(-time.Second), NotAfter: now.Add(90 * 24 * time.Hour)}
	roots := []identity.Public{s.root.Public()}
	request := func(ask operator.EpochAsk) protocol.EpochStatement {
		t.Helper()
		signed, err := op.RequestEpoch(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		r, current, err := protocol.VerifyEpochRequest(signed.Request, roots)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Asked.Follows(current, protocol.TimeOf(now)); err != nil && ask.Number == 0 {
			t.Fatal(err)
		}
		return r.Asked
	}
	_, err := op.ActivateEpoch(t.Context(), s.result.Statement)
	wantCode(t, "the first epoch's again", err, protocol.ReasonEpochNumber)

	asked := request(ask)
	pinned := ask
	pinned.PolicyPin[3], pinned.MinEpoch = 1, 2
	if again := request(pinned); !again.Key.Equal(asked.Key) || again.AnyPolicy || again.PolicyDigest != pinned.PolicyPin || again.MinEpoch != 2 || asked.Epoch != 2 || asked.MinEpoch != 1 {
		t.Fatalf("asked again: %+v after %+v", again, asked)
	}
	ahead := ask
	ahead.Number = 5
	_, err = op.RequestEpoch(t.Context(), ahead)
	wantCode(t, "a higher number than the one that was asked for", err, protocol.ReasonEpochNumber)

	other, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wipe()
	stranger, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Wipe()
	for what, tc := range map[string]struct {
		change func(*protocol.EpochStatement)
		root   *identity.Private
		want   refusal.Reason
	}{
		"another broker's":     {func(st *protocol.EpochStatement) { st.Broker = other.Public().ID() }, other, protocol.ReasonBrokerUnknown},
		"another key":          {func(st *protocol.EpochStatement) { st.Key = stranger.Public() }, s.root, protocol.ReasonEpochRequestUnknown},
		"another audit key":    {func(st *protocol.EpochStatement) { st.AuditKey = stranger.Public().ID() }, s.root, protocol.ReasonEpochRequestUnknown},
		"a number too far":     {func(st *protocol.EpochStatement) { st.Epoch = 3 }, s.root, protocol.ReasonEpochNumber},
		"a number that is had": {func(st *protocol.EpochStatement) { st.Epoch = 1 }, s.root, protocol.ReasonEpochNumber},
		"over": {func(st *protocol.EpochStatement) {
			st.NotBefore, st.NotAfter = protocol.TimeOf(now.Add(-2*time.Hour)), protocol.TimeOf(now.Add(-time.Hour))
		}, s.root, protocol.ReasonEpochValidity},
	} {
		st := asked
		tc.change(&st)
		signed, err := protocol.SignEpoch(tc.root, st)
		if err != nil {
			t.Fatal(err)
		}
		_, err = op.ActivateEpoch(t.Context(), signed)
		wantCode(t, what, err, tc.want)
	}
	signed, err := protocol.SignEpoch(s.root, asked)
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte(nil), signed...)
	forged[len(forged)-1] ^= 1
	_, err = op.ActivateEpoch(t.Context(), forged)
	wantCode(t, "not signed by the root", err, protocol.ReasonEpochSignature)

	// The request outlives a restart: carrying files takes days.
	stop()
	op, _, _ = s.run(t)
	if info, err := op.ActivateEpoch(t.Context(), signed); err != nil || info.Epoch != 2 || info.State != "active" {
		t.Fatal(info, err)
	}
	wantStates(t, op, "active,active")
	_, err = op.ActivateEpoch(t.Context(), signed)
	wantCode(t, "a second time", err, protocol.ReasonEpochNumber)
	unasked := asked
	unasked.Epoch = 3
	if signed, err = protocol.SignEpoch(s.root, unasked); err != nil {
		t.Fatal(err)
	}
	_, err = op.ActivateEpoch(t.Context(), signed)
	wantCode(t, "nothing was asked for", err, protocol.ReasonEpochRequestUnknown)
	if lost := request(ahead); lost.Epoch != 5 {
		t.Errorf("a broker that lost epochs asks for %d, want 5", lost.Epoch)
	}
}
