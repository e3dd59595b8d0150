package rounds

import (
	"bytes"
	"context"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// An account is nothing that is typed, and what was spent before there were accounts counts.
func TestAccountsAreNotTyped(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Wipe()
	dataset := func(key *identity.Private) []byte {
		raw, err := federation.SignDataset(key, federation.Dataset{ID: digest.Digest{9}, Name: "patients", Time: protocol.Time(1)})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	sealed := federationtest.Sealed(t, publisher, "digits", 1)
	model := federation.SealedAccount(digest.Digest(publisher.Public().ID()), "digits")
	s := m.service(t, store, func(c *Config) { c.Publishers = []identity.Public{publisher.Public()} })
	for name, tc := range map[string]struct {
		change func(*Spec)
		want   federation.Account
		reason refusal.Reason
	}{
		"neither":            {func(*Spec) {}, federation.BrokerAccount, ""},
		"another name":       {func(spec *Spec) { spec.Model = "fresh" }, federation.BrokerAccount, ""},
		"a model":            {func(spec *Spec) { spec.Sealed = sealed }, model, ""},
		"its next version":   {func(spec *Spec) { spec.Sealed = federationtest.Sealed(t, publisher, "digits", 2) }, model, ""},
		"another model":      {func(spec *Spec) { spec.Sealed = federationtest.Sealed(t, publisher, "other", 1) }, federation.SealedAccount(digest.Digest(publisher.Public().ID()), "other"), ""},
		"another's model":    {func(spec *Spec) { spec.Sealed = federationtest.Sealed(t, m.EpochKey, "digits", 1) }, "", ReasonAccount},
		"another name in it": {func(spec *Spec) { spec.Sealed = bytes.Replace(sealed, []byte("digits"), []byte("fresh!"), 1) }, "", ReasonAccount},
		"no sealed model":    {func(spec *Spec) { spec.Sealed = []byte("digits") }, "", ReasonAccount},
		"too large":          {func(spec *Spec) { spec.Sealed = make([]byte, maxSealedPart+1) }, "", ReasonSpec},
		"a dataset":          {func(spec *Spec) { spec.Dataset = dataset(publisher) }, federation.DatasetAccount(digest.Digest{9}), ""},
		"another publisher":  {func(spec *Spec) { spec.Dataset = dataset(m.EpochKey) }, "", federation.ReasonSignature},
		"no statement":       {func(spec *Spec) { spec.Dataset = []byte("patients") }, "", federation.ReasonMalformed},
		"both":               {func(spec *Spec) { spec.Sealed, spec.Dataset = sealed, dataset(publisher) }, "", ReasonSpec},
	} {
		spec := plain
		tc.change(&spec)
		_, r, err := s.Open(ctx, spec)
		wantReason(t, name, err, tc.reason)
		if err == nil && r.Account != tc.want {
			t.Errorf("%s: charged to %s, want %s", name, r.Account, tc.want)
		}
	}
	// A ledger of a typed name, as an earlier version kept it.
	old := Record{ID: digest.RoundID{0xee}, Model: "digits", State: Open, Signed: []byte{1}}
	if err := store.Create(ctx, old); err != nil {
		t.Fatal(err)
	}
	old.State, old.Cohort = Closed, digest.Digest{1}
	if err := store.Update(ctx, old, &Charge{Round: old.ID, Mechanism: federation.DiscreteGaussian, Multiplier: 4, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	count := func(s *Service, a federation.Account) int {
		l, err := s.Ledger(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		return len(l.Charges)
	}
	if count(s, federation.BrokerAccount) != 1 || count(s, model) != 1 {
		t.Error("what was spent under a typed name is forgotten")
	}
	attributed := m.service(t, store, func(c *Config) { c.Former = map[string]federation.Account{"digits": model} })
	if count(attributed, federation.BrokerAccount) != 0 || count(attributed, model) != 1 {
		t.Error("what was spent is not where the configuration says")
	}
}

// forgotten is a store that knows no ledger.
type forgotten struct{ Store }

func (forgotten) Charges(context.Context, string) ([]Charge, error) { return nil, nil }
func (forgotten) Ledgers(context.Context) ([]Head, error)           { return nil, nil }

// What an earlier version charged to models by their ids counts in every account, or in the
// one that the configuration names, though the store was put back since; and a round that
// was opened for such an account closes as it would have.
func TestChargesOfFormerModelAccountsCount(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	first, second := federation.ModelAccount(digest.Digest{1}), federation.ModelAccount(digest.Digest{2})
	for i, account := range []federation.Account{first, second} {
		old := Record{ID: digest.RoundID{byte(i + 1)}, Model: "digits", Account: account, State: Open, Signed: []byte{1}}
		if err := store.Create(ctx, old); err != nil {
			t.Fatal(err)
		}
		old.State, old.Cohort = Closed, digest.Digest{1}
		charge := Charge{Round: old.ID, Mechanism: federation.DiscreteGaussian, Multiplier: 4, Rate: 1}
		if err := store.Update(ctx, old, &charge); err != nil {
			t.Fatal(err)
		}
		raw, err := encodeCharge(charge)
		if err != nil {
			t.Fatal(err)
		}
		m.events = append(m.events, Event{Action: actionCharge, About: aboutAccount(account), Detail: string(raw)})
	}
	model := federation.SealedAccount(digest.Digest{3}, "digits")
	count := func(name string, s *Service, a federation.Account, want int) {
		t.Helper()
		l, err := s.Ledger(ctx, a)
		if err != nil || len(l.Charges) != want {
			t.Errorf("%s: %d charges of %s, want %d: %v", name, len(l.Charges), a, want, err)
		}
	}
	for range 2 { // the second time they are in the log
		count("not attributed", s, model, 2)
		count("not attributed", s, federation.BrokerAccount, 2)
		count("not attributed", s, first, 1)
	}
	attributed := m.service(t, store, func(c *Config) { c.Former = map[string]federation.Account{string(first): model} })
	count("attributed", attributed, model, 2)
	count("attributed", attributed, federation.BrokerAccount, 1)
	restored := m.service(t, forgotten{store}, nil)
	count("restored", restored, model, 2)
	for i := range m.events {
		if m.events[i].Action == actionFormer {
			m.events[i].Away = true
		}
	}
	_, err := restored.Ledger(ctx, model)
	wantReason(t, "taken away", err, ReasonRecord)
}
