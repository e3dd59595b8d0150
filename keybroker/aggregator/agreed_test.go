package aggregator_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// One party of a round's key publishes nothing; as many as the threshold do, by the same
// values, and what one said before stays.
func TestAThresholdOfPartiesPublishes(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	a, b := s.Agent(t, nil), s.Agent(t, nil)
	r, signed := partyRound(t, s, a, b)
	one, two := closer(t, s.as(a)), closer(t, s.as(b))
	if err := one.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	s.closeEmpty(t, r, signed)
	ticket, err := os.ReadFile(filepath.Join(s.dir, "rounds", r.ID.String(), "ticket"))
	if err != nil {
		t.Fatal(err)
	}
	values, wrong := bytes.Repeat([]byte{1}, int(8*r.Length)), bytes.Repeat([]byte{2}, int(8*r.Length))
	send := func(by *federationtest.Agent, what []byte) error {
		c := one
		if by == b {
			c = two
		}
		return c.Publish(t.Context(), r.ID, s.result(t, by, r, signed, ticket, what), bytes.NewReader(what))
	}
	wantReasonOf(t, "one party", send(a, wrong), aggregator.ReasonNoResult)
	wantReasonOf(t, "the same party, again", send(a, wrong), aggregator.ReasonNoResult)
	wantReasonOf(t, "a party that says something else now", send(a, values), aggregator.ReasonPublished)
	wantReasonOf(t, "two parties that disagree", send(b, values), aggregator.ReasonNoResult)
	if _, err := two.SignedResult(t.Context(), r.ID); err == nil {
		t.Error("there is a result")
	}
	// The first one's word is lost with its disk, and it says what the other does.
	if err := os.Remove(filepath.Join(s.dir, "rounds", r.ID.String(), "results", digest.Digest(a.Key.Public().ID()).String())); err != nil {
		t.Fatal(err)
	}
	if err := send(a, values); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a try that was interrupted before its values comes again
		if err := send(b, values); err != nil {
			t.Error(err)
		}
	}
	wantReasonOf(t, "another result", send(a, wrong), aggregator.ReasonPublished)
	got, err := io.ReadAll(must(t)(one.Values(t.Context(), r.ID)))
	if err != nil || !bytes.Equal(got, values) {
		t.Errorf("other values, %v", err)
	}
}

// What one party published by its own word, before results were agreed on, stayed in the
// result's place after the update: it verified for nobody, and the threshold's was refused.
func TestAFormerResultOfOnePartyGoes(t *testing.T) {
	w, dir := federationtest.New(t), t.TempDir()
	s := open(t, w, dir, nil)
	a, b := s.Agent(t, nil), s.Agent(t, nil)
	r, signed := partyRound(t, s, a, b)
	if err := closer(t, s.as(a)).AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	s.closeEmpty(t, r, signed)
	file := func(name string) string { return filepath.Join(dir, "rounds", r.ID.String(), name) }
	ticket, err := os.ReadFile(file("ticket"))
	if err != nil {
		t.Fatal(err)
	}
	values, wrong := bytes.Repeat([]byte{1}, int(8*r.Length)), bytes.Repeat([]byte{2}, int(8*r.Length))
	s.stop()
	for name, data := range map[string][]byte{"result": s.result(t, a, r, signed, ticket, wrong), "values": wrong} {
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, w, dir, nil)
	publish := func(by *federationtest.Agent) error {
		return closer(t, s.as(by)).Publish(t.Context(), r.ID, s.result(t, by, r, signed, ticket, values), bytes.NewReader(values))
	}
	wantReasonOf(t, "one party", publish(a), aggregator.ReasonNoResult)
	if err := publish(b); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s = open(t, w, dir, nil) // what was agreed on stays
	got, err := io.ReadAll(must(t)(closer(t, s.as(a)).Values(t.Context(), r.ID)))
	if err != nil || !bytes.Equal(got, values) {
		t.Errorf("other values, %v", err)
	}
}
