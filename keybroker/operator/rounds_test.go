package operator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// keys keeps round keys as the key store does.
type keys map[string]int

// Put implements rounds.Secrets.
func (k keys) Put(_ context.Context, name string, _ digest.Digest, secret *keybuf.Buffer) error {
	if k[name] != 0 {
		return errors.New("there already")
	}
	k[name] = secret.Len()
	return nil
}

// Destroy implements rounds.Secrets.
func (k keys) Destroy(_ context.Context, name string) error {
	delete(k, name)
	return nil
}

// memoryLog is an audit log in memory.
type memoryLog struct{ events []rounds.Event }

// Append implements rounds.Log.
func (l *memoryLog) Append(_ context.Context, events ...rounds.Event) error {
	l.events = append(l.events, events...)
	return nil
}

// Find implements rounds.Log.
func (l *memoryLog) Find(_ context.Context, action, about string) (found []rounds.Event, _ error) {
	for _, e := range l.events {
		if e.Action == action && e.About == about {
			found = append(found, e)
		}
	}
	return found, nil
}

// Kept implements rounds.Log.
func (*memoryLog) Kept(context.Context) error { return nil }

// Keep implements rounds.Log.
func (*memoryLog) Keep(context.Context) error { return nil }

// withService gives a bench a real service of rounds.
func withService(t *testing.T, b *bench, w *federationtest.World) keys {
	t.Helper()
	store, err := rounds.OpenBolt(filepath.Join(t.TempDir(), "rounds.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	k := keys{}
	b.server.opts.Rounds, err = rounds.New(rounds.Config{Store: store, Secrets: k, Roots: w.Roots(),
		Signer: func() (rounds.Signer, error) {
			return rounds.Signer{Key: w.EpochKey, Statement: w.EpochSigned, Broker: w.Epoch.Broker, Epoch: 1}, nil
		},
		Log: &memoryLog{},
		Chip: func(_ context.Context, lease digest.LeaseID) ([32]byte, error) {
			return [32]byte(append(lease[:], lease[:]...)), nil
		},
		Released: func(_ context.Context, resource string, _ digest.Digest) (bool, error) {
			return k[resource] != 0, nil
		},
		Lowest:    func() uint64 { return 1 },
		Privacy:   rounds.Policy{MaxEpsilon: 5, Delta: 1e-5, WithoutNoise: "a test", AllowSoftwareTEE: true},
		Calibrate: func(epsilon, _ float64) (float64, error) { return 5 / epsilon, nil },
		Spend: func(charges []rounds.Charge, _ float64) (float64, float64, error) {
			sum := 0.0
			for _, c := range charges {
				sum += 5 / c.Multiplier
			}
			return sum, sum, nil
		},
		Now: func() time.Time { return federationtest.Begin.Time() }})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// A round's life over the operators' socket.
func TestRoundOverTheSocket(t *testing.T) {
	b := newBench(t, []uint32{uint32(os.Getuid())}, nil)
	w := federationtest.New(t)
	held := withService(t, b, w)
	ctx := t.Context()
	st, err := b.client.OpenRound(ctx, rounds.Spec{Model: "m", Contributors: federationtest.Tenants("tenant"), Decryptors: federationtest.Tenants("tenant"), Length: 100, ClipL2: 1, Epsilon: 2})
	if err != nil {
		t.Fatal(err)
	}
	if st.State != rounds.Open || st.Round.Epsilon != 2 || held[st.Round.Resource()] != 32 {
		t.Fatalf("%+v, keys %v", st, held)
	}
	if _, err := federation.VerifyRound(st.Signed, w.Roots(), w.Broker(), w.Floor()); err != nil {
		t.Error(err)
	}
	var signed [][]byte
	var cohort []digest.Digest
	for range 2 {
		raw, _ := w.Agent(t, nil).Contribute(t, st.Round, st.Signed, make([]int32, 100))
		m, err := federation.ParseManifest(raw)
		if err != nil {
			t.Fatal(err)
		}
		signed, cohort = append(signed, m.Signed), append(cohort, digest.Of(m.Signed))
	}
	list, err := b.client.AdmitContributions(ctx, st.Round.ID, append(signed, []byte("nonsense")))
	if err != nil || len(list) != 3 || list[0].Reason != "" || list[1].Reason != "" || list[2].Reason != federation.ReasonMalformed {
		t.Fatalf("%+v, %v", list, err)
	}
	_, err = b.client.CloseRound(ctx, st.Round.ID, rounds.Closing{Cohort: cohort[:1], Sum: digest.Digest{1}})
	wantCode(t, "one contribution", err, string(rounds.ReasonCohort))
	if err := b.server.opts.Rounds.MayRelease(ctx, st.Round.Resource(), &w.Agent(t, nil).GrantRound(t, st.Round, st.Signed).Lease); err == nil {
		t.Error("the key of an open round may leave")
	}
	ticket, err := b.client.CloseRound(ctx, st.Round.ID, rounds.Closing{Cohort: cohort, Sum: digest.Digest{1}})
	if err != nil {
		t.Fatal(err)
	}
	tk, err := federation.VerifyTicket(ticket, w.Roots(), w.Floor(), st.Round, digest.Of(st.Signed))
	if err != nil || tk.Count != 2 || tk.Spent != 2 {
		t.Fatalf("%+v, %v", tk, err)
	}
	if err := b.server.opts.Rounds.MayRelease(ctx, st.Round.Resource(), &w.Agent(t, nil).GrantRound(t, st.Round, st.Signed).Lease); err != nil {
		t.Error(err)
	}
	guest := w.Agent(t, nil).GrantRound(t, st.Round, st.Signed)
	step, sigma, err := st.Round.Published()
	if err != nil {
		t.Fatal(err)
	}
	result, err := federation.SignResult(guest.Key, guest.Chain, federation.Result{Round: st.Round.ID, RoundDigest: digest.Of(st.Signed), TicketDigest: digest.Of(ticket),
		Agent: guest.Key.Public().ID(), Length: 100, Step: step, Sigma: sigma, Divisor: 2, Time: federationtest.Begin.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := b.client.FinishRound(ctx, st.Round.ID, result); err != nil || res.Length != 100 {
		t.Fatalf("%+v, %v", res, err)
	}
	if len(held) != 0 {
		t.Error("the key of a published round is still there")
	}
	if l, err := b.client.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 || l.Epsilon != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	if all, err := b.client.Rounds(ctx); err != nil || len(all) != 1 || all[0].State != rounds.Published {
		t.Errorf("%+v, %v", all, err)
	}
	if one, err := b.client.Round(ctx, st.Round.ID); err != nil || one.Round.ID != st.Round.ID {
		t.Errorf("%+v, %v", one, err)
	}
}

func TestRoundRefusalsKeepTheirReason(t *testing.T) {
	b := newBench(t, []uint32{uint32(os.Getuid())}, nil)
	_, err := b.client.Rounds(t.Context())
	wantCode(t, "no rounds configured", err, "rounds-not-configured")
	w := federationtest.New(t)
	withService(t, b, w)
	if all, err := b.client.Rounds(t.Context()); err != nil || all == nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	_, err = b.client.Round(t.Context(), digest.RoundID{1})
	wantCode(t, "unknown round", err, string(rounds.ReasonUnknown))
	_, err = b.client.OpenRound(t.Context(), rounds.Spec{Model: "m", Contributors: federationtest.Tenants("tenant"), Decryptors: federationtest.Tenants("tenant"), Length: 100, ClipL2: 1, Epsilon: 6})
	wantCode(t, "over the budget", err, string(rounds.ReasonBudget))
	_, err = b.client.OpenRound(t.Context(), rounds.Spec{Model: "m", Contributors: federationtest.Tenants("tenant"), Decryptors: federationtest.Tenants("tenant"), Length: 100, ClipL2: 1, Set: "none"})
	wantCode(t, "unknown set", err, string(federation.ReasonSet))
	st, err := b.client.OpenRound(t.Context(), rounds.Spec{Model: "m", Contributors: federationtest.Tenants("tenant"), Decryptors: federationtest.Tenants("tenant"), Length: 100, ClipL2: 1})
	if err != nil {
		t.Fatal(err)
	}
	if st, err = b.client.AbandonRound(t.Context(), st.Round.ID); err != nil || st.State != rounds.Abandoned {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := b.client.AdmitContributions(t.Context(), st.Round.ID, nil); err == nil {
		t.Error("an abandoned round admits")
	}
	if reason, ok := refusal.ReasonOf(roundError(errors.New("x"))); ok {
		t.Errorf("an ordinary error has a reason: %s", reason)
	}
	prepared, err := b.client.PrepareKey(t.Context(), federation.Preparation{Threshold: 2, Agents: []digest.Digest{{1}, {2}}})
	if err != nil || prepared.Setup.Threshold != 2 {
		t.Errorf("%+v, %v", prepared.Setup, err)
	}
	if got, err := federation.VerifySetup(prepared.Signed, w.Roots(), w.Broker(), w.Floor()); err != nil || got.Round != prepared.Setup.Round {
		t.Errorf("the signed set-up: %v", err)
	}
	_, err = b.client.PrepareKey(t.Context(), federation.Preparation{})
	wantCode(t, "nobody", err, string(federation.ReasonParties))
	viewer := newBench(t, nil, []uint32{uint32(os.Getuid())})
	withService(t, viewer, w)
	if _, err := viewer.client.PrepareKey(t.Context(), federation.Preparation{}); err == nil {
		t.Error("a viewer prepared a key")
	}
	if _, err := viewer.client.OpenRound(t.Context(), rounds.Spec{}); err == nil {
		t.Error("a viewer opened a round")
	}
}

// TestRecordsOfCommandsSayWhatTheyAreAbout: the rounds' own records name the round and not
// who asked, those of commands named who asked and not the round.
func TestRecordsOfCommandsSayWhatTheyAreAbout(t *testing.T) {
	b := newBench(t, me(), nil)
	withService(t, b, federationtest.New(t))
	ctx := t.Context()
	st, err := b.client.OpenRound(ctx, rounds.Spec{Model: "m", Contributors: federationtest.Tenants("tenant"), Decryptors: federationtest.Tenants("tenant"), Length: 100, ClipL2: 1, Epsilon: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ action, path, resource string }{
		{"round-abandon", "/v1/rounds/" + st.Round.ID.String() + "/abandon", st.Round.Resource()},
		{"epoch-retire", "/v1/epochs/retire/7", "epoch/7"},
	} {
		var out any
		_ = b.client.call(ctx, "POST", c.path, nil, nil, &out) // refused or not, it is recorded
		found, err := b.log.Find(audit.Query{Kind: audit.KindOperator, Action: c.action, Resource: c.resource})
		if err != nil || len(found) == 0 || found[0].Record == nil || found[0].Record.Actor == "" {
			t.Errorf("%s about %q: %d records, %v", c.action, c.resource, len(found), err)
		}
	}
	if got, want := detailOf(actionValuesImport, nil, []byte("values")), fmt.Sprintf("a file of 6 bytes, sha256:%x", sha256.Sum256([]byte("values"))); got != want {
		t.Errorf("reference values: %q, want %q", got, want)
	}
}
