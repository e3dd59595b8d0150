package rounds

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Each refusal of Close, alone: nothing is charged, no ticket exists, the key stays,
// and the round can still be closed as it should be.
func TestCloseRefuses(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		spec   func(*Spec)
		cohort func([]digest.Digest) []digest.Digest
		config func(*Config)
		fail   string
		want   refusal.Reason
	}{
		"nobody":                 {cohort: func([]digest.Digest) []digest.Digest { return nil }, want: ReasonCohort},
		"fewer than the minimum": {spec: func(s *Spec) { s.Minimum = 3 }, cohort: func(c []digest.Digest) []digest.Digest { return c[:2] }, want: ReasonCohort},
		"one twice": {cohort: func(c []digest.Digest) []digest.Digest { return []digest.Digest{c[0], c[0], c[1]} },
			want: ReasonNotListed},
		"one who was not admitted": {cohort: func(c []digest.Digest) []digest.Digest { return append(slices.Clone(c), digest.Digest{1}) },
			want: ReasonNotListed},
		"a stricter cohort by now": {config: func(c *Config) { c.Privacy.MinimumCohort = 4 }, want: ReasonPrivacy},
		"a smaller budget by now":  {config: func(c *Config) { c.Privacy.MaxEpsilon = 0.1 }, want: ReasonBudget},
		"no policy by now":         {config: func(c *Config) { c.Privacy.MaxEpsilon = 0 }, want: ReasonPrivacy},
		"the audit log":            {fail: "round-close"},
	} {
		ctx, m := t.Context(), newMachine(t)
		store := bolted(t)
		usual := m.service(t, store, nil)
		r, signed := opened(t, usual, tc.spec)
		all := admitted(t, m, usual, r, signed, 3)
		cohort := all
		if tc.cohort != nil {
			cohort = tc.cohort(all)
		}
		m.fail[tc.fail] = broken
		s := m.service(t, store, tc.config)
		ticket, err := s.Close(ctx, r.ID, Closing{Cohort: cohort, Sum: digest.Digest{1}})
		switch {
		case ticket != nil || tc.fail != "" && !errors.Is(err, broken):
			t.Errorf("%s: %v", name, err)
		case tc.fail == "":
			wantReason(t, name, err, tc.want)
		}
		if charges, err := store.Charges(ctx, ledgerOf(federation.BrokerAccount)); err != nil || len(charges) != 0 {
			t.Errorf("%s: charged %d, %v", name, len(charges), err)
		}
		wantReason(t, name+": the key", mayRelease(ctx, s, federation.ResourceOf(r.ID)), ReasonNotClosed)
		delete(m.fail, tc.fail)
		if _, err := usual.Close(ctx, r.ID, Closing{Cohort: all, Sum: digest.Digest{1}}); err != nil {
			t.Errorf("%s: not closed afterwards: %v", name, err)
		}
	}
}

func TestOneCohortAndOneSumForEver(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	cohort := admitted(t, m, s, r, signed, 4)
	first := Closing{Cohort: cohort[:3], Sum: digest.Digest{1}}
	ticket, err := s.Close(ctx, r.ID, first)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Closing{
		"one more":    {cohort, first.Sum},
		"one fewer":   {cohort[:2], first.Sum},
		"another one": {append(slices.Clone(cohort[:2]), cohort[3]), first.Sum},
		"another sum": {cohort[:3], digest.Digest{2}},
		"nothing":     {},
	} {
		_, err := s.Close(ctx, r.ID, c)
		wantReason(t, name, err, ReasonClosed)
	}
	turned := slices.Clone(first.Cohort)
	slices.Reverse(turned)
	m.advance(time.Minute)
	for range 2 {
		again, err := s.Close(ctx, r.ID, Closing{turned, first.Sum})
		if err != nil || !bytes.Equal(again, ticket) {
			t.Errorf("another ticket for the same: %v", err)
		}
	}
	_, err = s.Admit(ctx, r.ID, [][]byte{contribute(t, m.guest(t, nil), r, signed, nil)})
	wantReason(t, "admission after closing", err, ReasonClosed)
	wantReason(t, "abandon after closing", s.Abandon(ctx, r.ID), ReasonClosed)
	if !m.readable(r.ID) {
		t.Error("the key of a closed round was destroyed")
	}
	if l, err := s.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// order records a store's charges between the other steps.
type order struct {
	Store
	m *machine
}

func (o order) Update(ctx context.Context, r Record, c *Charge) error {
	err := o.Store.Update(ctx, r, c)
	if err == nil && c != nil {
		err = o.m.note("charged", "")
	}
	if err == nil && r.Ticket != nil {
		err = o.m.note("ticket", "")
	}
	return err
}

// Audit, then charge, then signature, then ticket.
func TestChargeIsDurableBeforeTheTicketExists(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, order{bolted(t), m}, func(c *Config) {
		sign := c.Signer
		c.Signer = func() (Signer, error) { return first(sign, m.note("signing", "")) }
	})
	r, signed := opened(t, s, nil)
	cohort := admitted(t, m, s, r, signed, 2)
	m.log = nil
	if _, err := s.Close(t.Context(), r.ID, Closing{Cohort: cohort}); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, l := range m.log {
		if step := strings.Fields(l)[0]; len(steps) == 0 || steps[len(steps)-1] != step { // a ticket takes several records
			steps = append(steps, step)
		}
	}
	if want := []string{"round-close", "charged", "signing", "round-charge", "round-ticket", "ticket"}; !slices.Equal(steps, want) {
		t.Errorf("%q, want %q", steps, want)
	}
}

func first(f func() (Signer, error), err error) (Signer, error) {
	if err != nil {
		return Signer{}, err
	}
	return f()
}

// A ticket that could not be signed or stored comes later, for the same and without
// a second charge; until then the key stays.
func TestTicketComesLater(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2)}
	m.fail["sign"] = errors.New("broken")
	if ticket, err := s.Close(ctx, r.ID, closing); !errors.Is(err, m.fail["sign"]) || ticket != nil {
		t.Fatalf("%v", err)
	}
	wantReason(t, "key without a ticket", mayRelease(ctx, s, federation.ResourceOf(r.ID)), ReasonNotClosed)
	_, err := s.Finish(ctx, r.ID, nil)
	wantReason(t, "result without a ticket", err, ReasonNotClosed)
	delete(m.fail, "sign")
	if _, err := s.Close(ctx, r.ID, closing); err != nil {
		t.Fatal(err)
	}
	if l, err := s.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// lossy is a store whose ledger is gone.
type lossy struct{ Store }

func (lossy) Charges(context.Context, string) ([]Charge, error) { return nil, nil }

func TestNoTicketWithoutItsCharge(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, lossy{bolted(t)}, nil)
	r, signed := opened(t, s, nil)
	ticket, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)})
	wantReason(t, "the charge is gone", err, ReasonConflict)
	if ticket != nil {
		t.Error("there is a ticket")
	}
}

// Two rounds are open, the budget is for one.
func TestBudgetIsSpentOnce(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) { c.Privacy.MaxEpsilon = 1.5 })
	a, signedA := opened(t, s, nil)
	b, signedB := opened(t, s, nil)
	typed, signedTyped := opened(t, s, func(spec *Spec) { spec.Model = "another name" })
	other, signedOther := opened(t, s, func(spec *Spec) { spec.Sealed = federationtest.Sealed(t, m.EpochKey, "digits", 1) })
	again, signedAgain := opened(t, s, func(spec *Spec) { spec.Sealed = federationtest.Sealed(t, m.EpochKey, "digits", 2) })
	if _, err := s.Close(ctx, a.ID, Closing{Cohort: admitted(t, m, s, a, signedA, 2)}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Close(ctx, b.ID, Closing{Cohort: admitted(t, m, s, b, signedB, 2)})
	wantReason(t, "the second round", err, ReasonBudget)
	_, _, err = s.Open(ctx, plain)
	wantReason(t, "a third round", err, ReasonBudget)
	_, err = s.Close(ctx, typed.ID, Closing{Cohort: admitted(t, m, s, typed, signedTyped, 2)})
	wantReason(t, "under another typed name", err, ReasonBudget)
	if _, err := s.Close(ctx, other.ID, Closing{Cohort: admitted(t, m, s, other, signedOther, 2)}); err != nil {
		t.Errorf("another model pays for it: %v", err)
	}
	_, err = s.Close(ctx, again.ID, Closing{Cohort: admitted(t, m, s, again, signedAgain, 2)})
	wantReason(t, "the same model, sealed anew", err, ReasonBudget)
}

func TestAbandonDestroysTheKeyAndChargesNothing(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	cohort := admitted(t, m, s, r, signed, 2)
	m.fail["round-abandon"] = errors.New("broken")
	if err := s.Abandon(ctx, r.ID); !errors.Is(err, m.fail["round-abandon"]) || !m.readable(r.ID) {
		t.Fatalf("abandoned without a record: %v", err)
	}
	delete(m.fail, "round-abandon")
	m.fail["destroy"] = errors.New("broken")
	if err := s.Abandon(ctx, r.ID); !errors.Is(err, m.fail["destroy"]) {
		t.Fatalf("%v", err)
	}
	wantReason(t, "its key", mayRelease(ctx, s, federation.ResourceOf(r.ID)), ReasonNotClosed)
	delete(m.fail, "destroy")
	if err := s.Abandon(ctx, r.ID); err != nil || m.readable(r.ID) {
		t.Fatalf("the key is there: %v", err)
	}
	_, err := s.Close(ctx, r.ID, Closing{Cohort: cohort})
	wantReason(t, "close", err, ReasonAbandoned)
	_, err = s.Admit(ctx, r.ID, nil)
	wantReason(t, "admit", err, ReasonClosed)
	_, err = s.Finish(ctx, r.ID, nil)
	wantReason(t, "finish", err, ReasonNotClosed)
	if l, err := s.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 0 || l.Epsilon != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Each refusal of a result, alone.
func TestFinishRefuses(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	r, signed := opened(t, s, nil)
	hardware := func(l *protocol.LeaseCertificate) { l.SoftwareTEE = false }
	a := m.decryptor(t, r, signed, hardware)
	_, err := s.Finish(ctx, r.ID, []byte("anything"))
	wantReason(t, "an open round", err, ReasonNotClosed)
	ticket, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)})
	if err != nil {
		t.Fatal(err)
	}
	strict := m.service(t, store, func(c *Config) { c.Privacy.AllowSoftwareTEE = false })
	for name, tc := range map[string]struct {
		by     *federationtest.Agent
		change func(*federation.Result)
		want   refusal.Reason
	}{
		"another round":   {a, func(x *federation.Result) { x.Round[0] ^= 1 }, federation.ReasonWrongRound},
		"another ticket":  {a, func(x *federation.Result) { x.TicketDigest[0] ^= 1 }, federation.ReasonWrongRound},
		"a part":          {a, func(x *federation.Result) { x.Length-- }, federation.ReasonWrongRound},
		"another grid":    {a, func(x *federation.Result) { x.Step *= 2 }, federation.ReasonWrongRound},
		"less noise":      {a, func(x *federation.Result) { x.Sigma *= 0.999 }, ReasonPrivacy},
		"no noise":        {a, func(x *federation.Result) { x.Sigma = 0 }, ReasonPrivacy},
		"a software TEE":  {m.decryptor(t, r, signed, nil), nil, ReasonSoftware},
		"another root":    {newMachine(t).guest(t, hardware), nil, protocol.ReasonBrokerUnknown},
		"after its lease": {a, func(x *federation.Result) { x.Time = a.Lease.NotAfter }, federation.ReasonOutsideLease},
	} {
		res, err := strict.Finish(ctx, r.ID, published(t, tc.by, r, signed, ticket, tc.change))
		wantReason(t, name, err, tc.want)
		if res != (federation.Result{}) || !m.readable(r.ID) {
			t.Errorf("%s: taken", name)
		}
	}
	m.fail["round-publish"] = errors.New("broken")
	good := published(t, a, r, signed, ticket, nil)
	if _, err := strict.Finish(ctx, r.ID, good); !errors.Is(err, m.fail["round-publish"]) || !m.readable(r.ID) {
		t.Errorf("published without a record: %v", err)
	}
	delete(m.fail, "round-publish")
	if _, err := strict.Finish(ctx, r.ID, good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*federation.Result){
		"other values": func(x *federation.Result) { x.Values[0] ^= 1 }, "another divisor": func(x *federation.Result) { x.Divisor++ }} {
		_, err = strict.Finish(ctx, r.ID, published(t, a, r, signed, ticket, change))
		wantReason(t, name, err, ReasonClosed)
	}
	if st, err := s.Status(ctx, r.ID); err != nil || !bytes.Equal(st.Result, good) {
		t.Errorf("the result changed: %v", err)
	}
}

// The key is destroyed only over the word of a guest that was given it: not of one whose
// certificate alone says so, nor of one of another tenant, nor of an ended epoch.
func TestResultNeedsARecordedRelease(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	if m.subjects[r.Resource()] != digest.Of(signed) {
		t.Error("the key in the store does not say which round it is for")
	}
	ticket, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)})
	if err != nil {
		t.Fatal(err)
	}
	true1 := m.decryptor(t, r, signed, nil)
	m.lowest = 2
	_, err = s.Finish(ctx, r.ID, published(t, true1, r, signed, ticket, nil))
	wantReason(t, "a retired epoch", err, protocol.ReasonEpochRetired)
	m.lowest = 1
	for name, tc := range map[string]struct {
		by   *federationtest.Agent
		want refusal.Reason
	}{
		"never released": {m.guest(t, nil).GrantRound(t, r, signed), ReasonNotReleased},
		"not granted":    {m.guest(t, nil), protocol.ReasonNotGranted},
		"another tenant": {m.decryptor(t, r, signed, func(c *protocol.LeaseCertificate) { c.Tenant = "mallory" }), protocol.ReasonAudience},
	} {
		_, err := s.Finish(ctx, r.ID, published(t, tc.by, r, signed, ticket, nil))
		wantReason(t, name, err, tc.want)
		if !m.readable(r.ID) {
			t.Fatalf("%s: the key is gone", name)
		}
	}
	m.fail["released"] = errors.New("the log is not there")
	if _, err := s.Finish(ctx, r.ID, published(t, true1, r, signed, ticket, nil)); !errors.Is(err, m.fail["released"]) || !m.readable(r.ID) {
		t.Errorf("finished without the record: %v", err)
	}
	delete(m.fail, "released")
	if _, err := s.Finish(ctx, r.ID, published(t, true1, r, signed, ticket, nil)); err != nil {
		t.Error(err)
	}
}

// Rounds are bounded in time, and name their guests.
func TestRoundsOpenWithinLimits(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) { c.Privacy.MaxHours = 2 })
	long := m.service(t, bolted(t), nil)
	for name, tc := range map[string]struct {
		s      *Service
		change func(*Spec)
		want   refusal.Reason
	}{
		"as long as allowed":      {s, func(spec *Spec) { spec.Duration = 2 * time.Hour }, ""},
		"longer":                  {s, func(spec *Spec) { spec.Duration = 2*time.Hour + time.Second }, ReasonSpec},
		"longer than any":         {long, func(spec *Spec) { spec.Duration = federation.MaxDuration + time.Second }, ReasonSpec},
		"nobody contributes":      {s, func(spec *Spec) { spec.Contributors = protocol.Audience{} }, ReasonSpec},
		"nobody decrypts":         {s, func(spec *Spec) { spec.Decryptors = protocol.Audience{} }, ReasonSpec},
		"everyone, and a tenant":  {s, func(spec *Spec) { spec.Contributors.Everyone = true }, ReasonSpec},
		"everyone is written out": {s, func(spec *Spec) { spec.Contributors, spec.Decryptors = protocol.Everyone(), protocol.Everyone() }, ""},
	} {
		spec := plain
		tc.change(&spec)
		_, _, err := tc.s.Open(t.Context(), spec)
		wantReason(t, name, err, tc.want)
	}
	_, _, err := s.Prepare(t.Context(), federation.Preparation{Threshold: 2, Agents: []digest.Digest{{1}, {2}}, Duration: 3 * time.Hour})
	wantReason(t, "a long set-up", err, ReasonSpec)
}

// Without noise there is no epsilon, and the ledger says so; sampling only serves
// the second figure.
func TestLedgerTellsWhatItCounts(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, func(c *Config) { c.Privacy.WithoutNoise = "test" })
	var ids []digest.RoundID
	for _, change := range []func(*Spec){nil, func(s *Spec) { s.Rate = 0.1 }, func(s *Spec) { s.Multiplier = 0 }, nil} {
		r, signed := opened(t, s, change)
		if _, err := s.Close(ctx, r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2)}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	l, err := s.Ledger(ctx, federation.BrokerAccount)
	if err != nil || len(l.Charges) != 4 || l.WithoutNoise != 1 || l.MaxEpsilon != 20 || l.Delta != 1e-5 || !(l.EpsilonWithSampling < l.Epsilon) {
		t.Fatalf("%+v, %v", l, err)
	}
	if want, _, _ := zcdp([]Charge{{Multiplier: 4}, {Multiplier: 4}, {Multiplier: 4}}, 1e-5); l.Epsilon != want {
		t.Errorf("epsilon %g, want %g", l.Epsilon, want)
	}
	var previous digest.Digest
	for i, c := range l.Charges {
		if c.Round != ids[i] || c.Previous != previous {
			t.Errorf("charge %d: %+v", i, c)
		}
		if previous, err = c.digest(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := complete("test", l.Charges, 4); err != nil {
		t.Error(err)
	}
	changed := slices.Clone(l.Charges)
	changed[1].Multiplier++
	for name, bad := range map[string][]Charge{"the last lost": l.Charges[:3], "the first lost": l.Charges[1:], "one changed": changed,
		"one lost within": append(slices.Clone(l.Charges[:1]), l.Charges[2:]...), "one twice": append(slices.Clone(l.Charges), l.Charges[3])} {
		want := uint64(len(bad))
		if name == "the last lost" {
			want++
		}
		_, err := complete("test", bad, want)
		wantReason(t, name, err, ReasonStore)
	}
}

// A round's key leaves for whom the round names, whoever else the policy would give it to.
func TestKeyIsReleasedToWhomTheRoundNames(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	if _, err := s.Close(t.Context(), r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{1}}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		tenant, resource string
		roles            protocol.Role
		want             refusal.Reason
	}{
		"whom it names":       {"tenant", r.Resource(), protocol.RoleDecrypt | protocol.RoleContribute, ""},
		"another tenant":      {"other", r.Resource(), protocol.RoleDecrypt, protocol.ReasonAudience},
		"no tenant":           {"", r.Resource(), protocol.RoleDecrypt, protocol.ReasonAudience},
		"a contributor":       {"tenant", r.Resource(), protocol.RoleContribute | protocol.RoleServe, protocol.ReasonRole},
		"no role":             {"tenant", r.Resource(), 0, protocol.ReasonRole},
		"another's decryptor": {"tenant", federation.ResourceOf(digest.RoundID{1}), protocol.RoleDecrypt, protocol.ReasonRole},
	} {
		guest := protocol.LeaseCertificate{Tenant: tc.tenant, Grants: []protocol.Granted{{Resource: tc.resource, Roles: tc.roles}}}
		wantReason(t, name, s.MayRelease(t.Context(), r.Resource(), &guest), tc.want)
	}
}

// Brokers of a fleet share a store and no audit log: the one that opened a round closes it,
// for only its log tells, after an old store was restored, whether it did before.
func TestRoundIsClosedByTheBrokerThatOpenedIt(t *testing.T) {
	m := newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	r, signed := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{1}}
	other := newMachine(t)
	elsewhere := m.service(t, store, func(c *Config) { c.Log = other })
	_, err := elsewhere.Close(t.Context(), r.ID, closing)
	wantReason(t, "at another broker", err, ReasonElsewhere)
	_, err = s.Close(t.Context(), r.ID, closing)
	wantReason(t, "at the broker that opened it", err, "")
	_, err = elsewhere.Close(t.Context(), r.ID, closing)
	wantReason(t, "what is closed has its ticket everywhere", err, "")
}

// TestNothingLeavesBeforeItsCheckpoint: while the checkpoint kept elsewhere cannot be brought
// up to date, neither ticket nor key of a closed round leaves.
func TestNothingLeavesBeforeItsCheckpoint(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	closing := Closing{Cohort: admitted(t, m, s, r, signed, 2), Sum: digest.Digest{5}}
	guest := m.decryptor(t, r, signed, nil)
	m.fail["keep"] = errors.New("the other machine takes no writes")
	if _, err := s.Close(ctx, r.ID, closing); err == nil {
		t.Error("the ticket left")
	}
	if st, err := s.Status(ctx, r.ID); err != nil || st.Ticket != nil {
		t.Errorf("the status shows the ticket: %v", err)
	}
	if err := s.MayRelease(ctx, r.Resource(), &guest.Lease); err == nil {
		t.Error("the key left")
	}
	delete(m.fail, "keep")
	ticket, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := s.Status(ctx, r.ID); err != nil || !bytes.Equal(st.Ticket, ticket) {
		t.Errorf("the status lacks the ticket: %v", err)
	}
	if err := s.MayRelease(ctx, r.Resource(), &guest.Lease); err != nil {
		t.Error(err)
	}
}
