package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

func TestRecordIsSignedOnceAndVerifiesWithTheRootsAlone(t *testing.T) {
	s := open(t, nil)
	g := keys(t, 1)
	first, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := wire.VerifyRecord(first, s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1)))
	if err != nil || r.Record.VerifyingKey != g.Digest || r.Registered != s.now() || r.Broker != digest.Digest(s.Root.Public().ID()) {
		t.Errorf("%+v, %v", r, err)
	}
	s.pass(time.Hour)
	if again, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key); err != nil || !bytes.Equal(again, first) {
		t.Errorf("the same record again: %v", err)
	}
	s.restart(t, nil)
	if list, err := s.Records(t.Context()); err != nil || len(list) != 1 || !bytes.Equal(list[0], first) {
		t.Errorf("%d records, %v", len(list), err)
	}
	if n := s.recorded("proof-record"); n != 1 {
		t.Errorf("%d audit records", n)
	}
	if _, err := wire.VerifyRecord(first, federationtest.New(t).Roots(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err == nil {
		t.Error("verifies with other roots")
	}
}

// TestRecordsOfARetiredEpochAreSignedAnew: agents believe the old ones no more, and no key
// of a retired epoch signs new ones.
func TestRecordsOfARetiredEpochAreSignedAnew(t *testing.T) {
	s := open(t, nil)
	g := keys(t, 1)
	if _, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key, digest.Digest{9}); err != nil {
		t.Fatal(err)
	}
	s.lowest = 2
	_, err := s.Records(t.Context())
	wantReason(t, err, protocol.ReasonEpochRetired)
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	s.EpochKey, s.Epoch.Epoch, s.Epoch.MinEpoch, s.Epoch.Key = key, 2, 2, key.Public()
	if s.EpochSigned, err = protocol.SignEpoch(s.Root, s.Epoch); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		list, err := s.Records(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(len(list), err)
		}
		r, err := wire.VerifyRecord(list[0], s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(2)))
		if err != nil || r.Epoch != 2 || !slices.Equal(r.Models, []digest.Digest{{9}}) || r.Record.VerifyingKey != g.Digest {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n := s.recorded("proof-record"); n != 2 {
		t.Errorf("%d audit records, want one for each signature", n)
	}
	s.pass(2 * 365 * 24 * time.Hour)
	_, err = s.Register(t.Context(), *keys(t, 2).Record(2, outputs), keys(t, 2).Key)
	if err == nil {
		t.Error("the key of an epoch that is over registered another")
	}
}

// A key may be for some models alone. Registering it again adds models and takes none away.
func TestAKeyIsRegisteredForItsModels(t *testing.T) {
	s := open(t, nil)
	g := keys(t, 1)
	a, b := s.answer(t, s.Agent(t, nil), 1, 1), s.answer(t, s.Agent(t, nil), 2, 1)
	s.announce(t, a, b)
	model := a.bundle.Envelope.Statement.Inference.Model.ID()
	register := func(models ...digest.Digest) wire.Record {
		t.Helper()
		signed, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key, models...)
		if err != nil {
			t.Fatal(err)
		}
		r, err := wire.VerifyRecord(signed, s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1)))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := register(digest.Digest{9}, digest.Digest{8}, digest.Digest{9}); !slices.Equal(r.Models, []digest.Digest{{8}, {9}}) {
		t.Errorf("%v", r.Models)
	}
	_, err := s.Submit(t.Context(), &a.bundle)
	wantReason(t, err, registry.ReasonModel)
	if r := register(model); len(r.Models) != 3 || !r.Takes(model) || !r.Takes(digest.Digest{8}) || r.Takes(digest.Digest{7}) {
		t.Errorf("%v", r.Models)
	}
	for _, models := range [][]digest.Digest{nil, {model}, {{8}, model}} {
		if r := register(models...); len(r.Models) != 3 {
			t.Errorf("%v after %v", r.Models, models)
		}
	}
	if n := s.recorded("proof-record"); n != 2 {
		t.Errorf("%d audit records", n)
	}
	s.restart(t, nil)
	if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
		t.Error(err)
	}
	if list, err := s.Records(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%d records, %v", len(list), err)
	}
	s.failAudit(errDisk)
	if _, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key, digest.Digest{7}); err == nil {
		t.Error("a model was added without an audit record")
	}
	s.failAudit(nil)
	if r := register(); len(r.Models) != 3 {
		t.Errorf("%v", r.Models)
	}
	_, err = s.Register(t.Context(), *g.Record(1, outputs), g.Key, digest.Digest{})
	wantReason(t, err, wire.ReasonMalformed)
	many := make([]digest.Digest, wire.MaxModels)
	for i := range many {
		many[i] = digest.Digest{1, byte(i)}
	}
	_, err = s.Register(t.Context(), *g.Record(1, outputs), g.Key, many...)
	wantReason(t, err, wire.ReasonMalformed)
}

func TestRecordsThatAreRefused(t *testing.T) {
	g := keys(t, 1)
	for name, tc := range map[string]struct {
		change func(*statement.Record, *[]byte)
		want   refusal.Reason
	}{
		"development":    {func(r *statement.Record, _ *[]byte) { r.Development, r.Ceremony = true, digest.Digest{} }, registry.ReasonDevelopment},
		"other key":      {func(_ *statement.Record, k *[]byte) { *k = keys(t, 2).Key }, registry.ReasonRecord},
		"another's name": {func(r *statement.Record, _ *[]byte) { r.VerifyingKey[0]++ }, registry.ReasonRecord},
		"not a key": {func(r *statement.Record, k *[]byte) {
			*k = []byte("key")
			r.VerifyingKey = sha256.Sum256(*k)
		}, registry.ReasonRecord},
		"more outputs": {func(r *statement.Record, _ *[]byte) { r.Inference.Outputs++ }, registry.ReasonRecord},
		"a gradient": {func(r *statement.Record, _ *[]byte) {
			r.Inference, r.Gradient = nil, &statement.GradientCircuit{Coordinates: 8, Bits: 8}
		}, registry.ReasonRecord},
		"PLONK":          {func(r *statement.Record, _ *[]byte) { r.System = statement.PLONK }, registry.ReasonRecord},
		"not a record":   {func(r *statement.Record, _ *[]byte) { r.Library = "" }, registry.ReasonRecord},
		"no ceremony":    {func(r *statement.Record, _ *[]byte) { r.Ceremony = digest.Digest{} }, registry.ReasonRecord},
		"second meaning": {func(r *statement.Record, _ *[]byte) { r.Circuit[0]++ }, registry.ReasonRecordConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			if tc.want == registry.ReasonRecordConflict {
				s.register(t, 1)
			}
			r, key := g.Record(1, outputs), g.Key
			c := *r.Inference
			r.Inference = &c
			tc.change(r, &key)
			_, err := s.Register(t.Context(), *r, key)
			wantReason(t, err, tc.want)
		})
	}
}

// A key that was exchanged in the file is not used.
func TestStoredKeyIsHeldAgainstItsRecord(t *testing.T) {
	s := open(t, nil)
	g := keys(t, 1)
	signed, err := open(t, func(c *registry.Config) { c.Signer, c.Roots = s.cfg.Signer, s.cfg.Roots }).Register(t.Context(), *g.Record(1, outputs), g.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.PutRecord(g.Digest, registry.RecordEntry{Signed: signed, Key: keys(t, 2).Key}, 1); err != nil {
		t.Fatal(err)
	}
	a := s.answer(t, s.Agent(t, nil), 1, 1)
	s.announce(t, a)
	_, err = s.Submit(t.Context(), &a.bundle)
	wantReason(t, err, registry.ReasonStore)
}

// Gradients' keys have four public inputs.
func TestGradientKeyIsRegistered(t *testing.T) {
	s := open(t, nil)
	g, err := zktest.NewGroth16(zktest.Shape{Inputs: 4})
	if err != nil {
		t.Fatal(err)
	}
	r := g.Record(1, 1)
	r.Inference, r.Gradient = nil, &statement.GradientCircuit{Coordinates: 8, Bits: 8}
	if _, err := s.Register(t.Context(), *r, g.Key); err != nil {
		t.Error(err)
	}
}

func TestRecordIsNotKeptWithoutAuditSignerOrRoom(t *testing.T) {
	g := keys(t, 1)
	s := open(t, func(c *registry.Config) { c.Records = 1 })
	s.failAudit(errDisk)
	if _, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key); err == nil {
		t.Error("registered without an audit record")
	}
	s.failAudit(nil)
	if st := s.status(t); st.Records != 0 {
		t.Errorf("%+v", st)
	}
	good := s.cfg.Signer
	for name, bad := range map[string]func() (registry.Signer, error){
		"no epoch":     func() (registry.Signer, error) { return registry.Signer{}, errDisk },
		"other broker": func() (registry.Signer, error) { g, _ := good(); g.Broker[0]++; return g, nil },
		"other epoch":  func() (registry.Signer, error) { g, _ := good(); g.Epoch++; return g, nil },
		"other key":    func() (registry.Signer, error) { g, _ := good(); g.Key = s.Agent(t, nil).Key; return g, nil },
		"other's epoch": func() (registry.Signer, error) {
			g, _ := good()
			g.Statement = federationtest.New(t).EpochSigned
			return g, nil
		},
	} {
		s.restart(t, func(c *registry.Config) { c.Signer = bad })
		if _, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key); err == nil {
			t.Errorf("%s: registered", name)
		}
	}
	s.restart(t, func(c *registry.Config) { c.Signer = good })
	s.register(t, 1)
	_, err := s.Register(t.Context(), *keys(t, 2).Record(2, outputs), keys(t, 2).Key)
	wantReason(t, err, registry.ReasonFull)
}

func TestConfigurationIsChecked(t *testing.T) {
	s := open(t, nil)
	for name, change := range map[string]func(*registry.Config){
		"no store":     func(c *registry.Config) { c.Store = nil },
		"no signer":    func(c *registry.Config) { c.Signer = nil },
		"no roots":     func(c *registry.Config) { c.Roots = nil },
		"no floor":     func(c *registry.Config) { c.Lowest = nil },
		"no verifier":  func(c *registry.Config) { c.VerifyReceipt = nil },
		"no commit":    func(c *registry.Config) { c.CommitOutput = nil },
		"no audit":     func(c *registry.Config) { c.Audit = nil },
		"no logger":    func(c *registry.Config) { c.Logger = nil },
		"bad limit":    func(c *registry.Config) { c.Kept = -1 },
		"bad part":     func(c *registry.Config) { c.Waiting, c.WaitingPerAgent = 8, 9 },
		"bad age":      func(c *registry.Config) { c.KeptAge = -1 },
		"bad ages":     func(c *registry.Config) { c.WaitingAge, c.KeptAge = 2, 1 },
		"bad deadline": func(c *registry.Config) { c.VerificationTimeout = -1 },
	} {
		cfg := s.cfg
		change(&cfg)
		if _, err := registry.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := s.cfg
	cfg.Now, cfg.VerificationTimeout = nil, 0
	if _, err := registry.New(cfg); err != nil {
		t.Error(err)
	}
}

func TestReceiptIsAnnouncedOnce(t *testing.T) {
	s := open(t, nil)
	agent := s.Agent(t, nil)
	a := s.answer(t, agent, 1, 2)
	s.announce(t, a)
	if got, err := s.Announce(t.Context(), a.receipts); err != nil || got != (registry.Announced{Held: 2}) {
		t.Errorf("again: %+v, %v", got, err)
	}
	// The same id, signed anew: other bytes.
	other := s.answer(t, agent, 1, 2)
	_, err := s.Announce(t.Context(), other.receipts)
	wantReason(t, err, registry.ReasonReceipt)
	s.restart(t, nil)
	if st := s.status(t); st.Waiting != 2 || st.Kept != 0 {
		t.Errorf("%+v", st)
	}
}

func TestReceiptsThatAreRefused(t *testing.T) {
	s := open(t, nil)
	agent := s.Agent(t, nil)
	good := s.answer(t, agent, 1, 1).receipts[0]
	changed := bytes.Clone(good)
	changed[100] ^= 1
	stranger := open(t, nil)
	strange := stranger.answer(t, stranger.Agent(t, nil), 2, 1).receipts[0]
	for name, tc := range map[string]struct {
		list [][]byte
		want refusal.Reason
	}{
		"none":     {nil, registry.ReasonUnverified},
		"many":     {make([][]byte, registry.MaxAnnounced+1), registry.ReasonUnverified},
		"changed":  {[][]byte{changed}, registry.ReasonUnverified},
		"long":     {[][]byte{make([]byte, registry.MaxReceiptBytes+1)}, registry.ReasonUnverified},
		"stranger": {[][]byte{good, strange}, registry.ReasonUnverified},
	} {
		_, err := s.Announce(t.Context(), tc.list)
		t.Log(name)
		wantReason(t, err, tc.want)
	}
	if st := s.status(t); st.Waiting != 0 {
		t.Error("something of a refused announcement was kept")
	}
}

func TestReceiptOfAnAnswerWithoutCircuitIsRefused(t *testing.T) {
	s := open(t, func(c *registry.Config) {
		c.VerifyReceipt = func(raw []byte) (registry.Receipt, error) {
			r := registry.Receipt{ID: digest.ReceiptID{1}, Time: federationtest.Begin, InputCommitment: registry.Provable(statement.Commitment{})}
			switch raw[0] {
			case 1:
				r.InputCommitment[15] = 1
			case 2:
				r.Time = 0
			case 3:
				return r, errDisk
			}
			return r, nil
		}
	})
	_, err := s.Announce(t.Context(), [][]byte{{1}})
	wantReason(t, err, registry.ReasonNotProvable)
	for _, bad := range []byte{2, 3} {
		_, err = s.Announce(t.Context(), [][]byte{{bad}})
		wantReason(t, err, registry.ReasonUnverified)
	}
	if _, err = s.Announce(t.Context(), [][]byte{{0}}); err != nil {
		t.Error(err)
	}
}

// An announcement whose guest cannot be looked up is not taken.
func TestAGuestThatCannotBeLookedUpIsNotTaken(t *testing.T) {
	s := open(t, func(c *registry.Config) {
		cheap(c)
		c.Guest = func(context.Context, registry.Receipt) (digest.Digest, error) { return digest.Digest{}, errDisk }
	})
	if _, err := s.Announce(t.Context(), cheapReceipts(t, 1, 1, 0, 1)); !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

// Both verifiers of the repository are Verifiers; the other one is behind gnark.
var _ registry.Verifier = (*groth16verify.Key)(nil)

func TestBusyVerifierIsNotWaitedForWithoutEnd(t *testing.T) {
	block, entered := make(chan struct{}), make(chan struct{})
	s := open(t, func(c *registry.Config) {
		c.Verifications = 1
		c.VerifyReceipt = func([]byte) (registry.Receipt, error) {
			close(entered)
			<-block
			return registry.Receipt{}, errDisk
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Announce(t.Context(), [][]byte{{1}})
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Announce(ctx, [][]byte{{1}})
	wantReason(t, err, registry.ReasonBusy)
	close(block)
	<-done
}

// What is older than its retention goes, what is not stays, and nothing that went comes
// back to get another proof.
func TestRetentionEndsAndNothingComesBack(t *testing.T) {
	const day = 24 * time.Hour
	s := open(t, func(c *registry.Config) { cheap(c); c.WaitingAge, c.KeptAge = 2*day, 10*day })
	s.announceCheap(t, 1, 1, 0, 3)
	agent := digest.Digest{1}
	list, err := s.Challenge(t.Context(), registry.Spec{Agent: &agent, Count: 1, Before: s.now().Add(time.Hour).Time()})
	if err != nil || len(list) != 1 {
		t.Fatal(err)
	}
	expire := func(waiting, kept int) {
		t.Helper()
		out, err := s.Expire(t.Context())
		if err != nil || out.Waiting != waiting || out.Kept != kept {
			t.Errorf("%+v %v, want %d and %d", out, err, waiting, kept)
		}
	}
	s.pass(2 * day)
	expire(0, 0)
	s.pass(time.Second)
	expire(2, 0)
	s.pass(8 * day)
	expire(0, 0) // the challenge's deadline was an hour later
	if n := s.recorded("receipts-expired"); n != 1 {
		t.Errorf("%d records of what went", n)
	}
	s.pass(time.Hour)
	expire(0, 1)
	if st := s.status(t); st.Kept != 0 || st.Unanswered != 0 || st.Dropped != 2 {
		t.Errorf("%+v", st)
	}
	_, err = s.Announce(t.Context(), cheapReceipts(t, 1, 1, 0, 1))
	wantReason(t, err, registry.ReasonOld)
	if n := s.recorded("receipts-expired"); n != 2 {
		t.Errorf("%d records of what went", n)
	}
}

// A clock that says 1970 must not make everything old.
func TestNothingIsOldByAClockWithoutTime(t *testing.T) {
	s := open(t, cheap)
	s.announceCheap(t, 1, 1, 0, 3)
	s.restart(t, func(c *registry.Config) { cheap(c); c.Now = func() time.Time { return time.Unix(1000, 0) } })
	if out, err := s.Expire(t.Context()); err != nil || !out.None() {
		t.Errorf("%+v %v", out, err)
	}
}

// Parts that are not set are a quarter for an agent, and half for a processor.
func TestPartsOfWhatWaitsByDefault(t *testing.T) {
	s := open(t, func(c *registry.Config) {
		cheap(c)
		c.Waiting = 40
		c.Guest = func(context.Context, registry.Receipt) (digest.Digest, error) { return digest.Digest{1}, nil }
	})
	for i, want := range []int{10, 20, 20} {
		s.announceCheap(t, byte(i+1), 1, 0, 15)
		if st := s.status(t); st.Waiting != want {
			t.Errorf("of %d agents: %+v", i+1, st)
		}
	}
	for _, bad := range []func(*registry.Config){func(c *registry.Config) { c.WaitingPerGuest = 41 }, func(c *registry.Config) { c.WaitingPerGuest = -1 }} {
		cfg := s.cfg
		bad(&cfg)
		if _, err := registry.New(cfg); err == nil {
			t.Error("a part of more than all, or less than nothing")
		}
	}
}
