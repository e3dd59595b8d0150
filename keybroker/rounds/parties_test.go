package rounds

import (
	"math"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// A round of several parties has no key here, and counts on the participants' noise.
func TestRoundsOfSeveralParties(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) {
		c.KeyMaker = func(params.Set, *keybuf.Buffer) ([]byte, error) { return []byte("a whole key"), nil }
	})
	agents := []*federationtest.Agent{m.Agent(t, nil), m.Agent(t, nil), m.Agent(t, nil)}
	signed, setup, err := s.Prepare(t.Context(), federation.Preparation{Threshold: 2, Agents: []digest.Digest{{1}, {2}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := federation.VerifySetup(signed, m.Roots(), m.Broker(), m.Floor()); err != nil || got.Round != setup.Round {
		t.Errorf("%+v, %v", got, err)
	}
	_, _, err = s.Prepare(t.Context(), federation.Preparation{Threshold: 2})
	if reason, _ := refusal.ReasonOf(err); reason != federation.ReasonParties {
		t.Errorf("without agents: %v", err)
	}
	key := m.PartyKey(t, []byte("public key"), 2, agents...)
	r, _ := opened(t, s, func(spec *Spec) { spec.Parties, spec.Minimum, spec.Decryptors = key, 4, protocol.Audience{} })
	if r.Set != params.Threshold || !r.Recount || r.Parties == nil || math.Abs(r.Noise.Share-4*math.Sqrt(4.0/3)) > 1e-9 {
		t.Errorf("%+v", r)
	}
	if len(m.secrets) != 0 {
		t.Error("the broker has a key of it")
	}
	if _, _, err := s.Open(t.Context(), func() Spec {
		spec := plain
		spec.Parties, spec.Minimum, spec.Decryptors = key, 4, protocol.Audience{}
		return spec
	}()); err == nil {
		t.Error("a second round under the key")
	}
	for name, tc := range map[string]struct {
		change func(*Spec)
		want   refusal.Reason
	}{
		"a key that nobody vouches for": {func(spec *Spec) {
			other := *m.PartyKey(t, []byte("public key"), 2, agents...)
			other.PublicKey = []byte("another")
			spec.Parties, spec.Decryptors = &other, protocol.Audience{}
		}, federation.ReasonParties},
		"not a set-up":          {func(spec *Spec) { spec.Parties = &federation.PartyKey{Setup: []byte("s")} }, federation.ReasonMalformed},
		"the set without a key": {func(spec *Spec) { spec.Set = params.Threshold }, federation.ReasonSet},
		"another set":           {func(spec *Spec) { spec.Parties, spec.Set = key, params.Default }, federation.ReasonParties},
	} {
		spec := plain
		tc.change(&spec)
		_, _, err := s.Open(t.Context(), spec)
		if reason, _ := refusal.ReasonOf(err); reason != tc.want {
			t.Errorf("%s: %q, want %q: %v", name, reason, tc.want, err)
		}
	}
	if err := s.Abandon(t.Context(), r.ID); err != nil {
		t.Errorf("abandon: %v", err)
	}
}

// One party of a round's key, below the threshold, publishes nothing: it cannot know the sum.
func TestOnePartyPublishesNothing(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) {
		c.KeyMaker = func(params.Set, *keybuf.Buffer) ([]byte, error) { return []byte("a whole key"), nil }
	})
	agents := []*federationtest.Agent{m.Agent(t, nil), m.Agent(t, nil), m.Agent(t, nil)}
	key := m.PartyKey(t, []byte("public key"), 2, agents...)
	r, signed := opened(t, s, func(spec *Spec) { spec.Parties, spec.Minimum, spec.Decryptors = key, 4, protocol.Audience{} })
	ticket, err := s.Close(t.Context(), r.ID, Closing{Cohort: admitted(t, m, s, r, signed, 4), Sum: digest.Digest{5}})
	if err != nil {
		t.Fatal(err)
	}
	word := func(i int, values byte) []byte {
		return published(t, agents[i], r, signed, ticket, func(res *federation.Result) { res.Values = digest.Digest{values} })
	}
	finish := func(words ...[]byte) error {
		raw := words[0]
		if len(words) > 1 {
			if raw, err = federation.JoinResults(words); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Finish(t.Context(), r.ID, raw)
		return err
	}
	wantReason(t, "one party", finish(word(0, 66)), federation.ReasonParties)
	wantReason(t, "one party, twice", finish(word(0, 66), word(0, 66)), federation.ReasonParties)
	wantReason(t, "two that disagree", finish(word(0, 66), word(1, 7)), federation.ReasonParties)
	wantReason(t, "two that agree", finish(word(1, 7), word(2, 7)), "")
	wantReason(t, "two others that agree", finish(word(0, 7), word(2, 7)), "")
}
