package rounds

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// A round without privacy whose mean would be too far off is opened only if its operator asks
// for it; one with privacy noise is opened, with a warning.
func TestInaccurateRoundsAreAskedFor(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) {
		c.Privacy.WithoutNoise, c.Privacy.SingleContributions = "test", "test"
		c.KeyMaker = func(params.Set, *keybuf.Buffer) ([]byte, error) { return []byte("key"), nil }
	})
	no := false
	for name, c := range map[string]struct {
		change  func(*Spec)
		want    refusal.Reason
		warning string
	}{
		"as before, rotated by default":   {func(s *Spec) { s.Length, s.Minimum = 1e6, 8 }, "", ""},
		"as before, not rotated":          {func(s *Spec) { s.Length, s.Minimum, s.Maximum, s.Rotate = 1e6, 8, 1024, &no }, ReasonInaccurate, ""},
		"not rotated, of twice":           {func(s *Spec) { s.Length, s.Minimum, s.Rotate = 1e6, 8, &no }, ReasonInaccurate, ""},
		"not rotated, but closer":         {func(s *Spec) { s.Length, s.Minimum, s.Rotate, s.ClipLinf = 1e6, 8, &no, 0.05 }, "", ""},
		"asked for":                       {func(s *Spec) { s.Length, s.Minimum, s.Rotate, s.MaxError = 1e6, 8, &no, 0.5 }, "", "off by 0.12"},
		"asked for, and further off":      {func(s *Spec) { s.Length, s.Minimum, s.Rotate, s.MaxError = 1e9, 8, &no, 0.5 }, ReasonInaccurate, ""},
		"asked for less":                  {func(s *Spec) { s.Length, s.Minimum, s.MaxError = 1e6, 8, 0.001 }, ReasonInaccurate, ""},
		"asked for nothing":               {func(s *Spec) { s.MaxError = -1 }, ReasonSpec, ""},
		"with privacy":                    {func(s *Spec) { s.Length, s.Minimum, s.Multiplier = 1e6, 8, 4 }, "", "so much noise"},
		"a value's bound that cuts":       {func(s *Spec) { s.Length, s.Minimum, s.ClipLinf = 1e6, 8, 0.0005 }, ReasonInaccurate, ""},
		"the template's set, not rotated": {func(s *Spec) { s.Set, s.Length, s.Minimum, s.Rotate = params.Template, 1e6, 8, &no }, "", ""},
		"the template's set":              {func(s *Spec) { s.Set, s.Length, s.Minimum = params.Template, 1e6, 8 }, "", ""},
		"a median":                        {func(s *Spec) { s.Length, s.Minimum, s.Rule = 16384, 8, federation.Median }, "", ""},
	} {
		spec := plain
		spec.Multiplier, spec.Duration = 0, plain.Duration
		c.change(&spec)
		_, r, err := s.Open(t.Context(), spec)
		wantReason(t, name, err, c.want)
		if err != nil {
			continue
		}
		st, err := s.Status(t.Context(), r.ID)
		if err != nil || st.ExpectedError == nil || !(st.ExpectedError.Relative > 0) || (st.Warning == "") != (c.warning == "") || !strings.Contains(st.Warning, c.warning) {
			t.Errorf("%s: %+v %q, %v", name, st.ExpectedError, st.Warning, err)
		}
		if noisy := r.Noise.Mechanism != federation.NoNoise; noisy != (st.Adjacency == federation.Adjacency) {
			t.Errorf("%s: adjacency %q", name, st.Adjacency)
		}
		if err := s.Abandon(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// A round is rotated under a seed of its own wherever that can be, and what cannot be rotated is
// refused by name if it is asked for.
func TestRoundsAreRotatedWhereTheyCanBe(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) { c.Privacy.WithoutNoise, c.Privacy.SingleContributions = "test", "test" })
	yes, seeds := true, map[digest.Digest]bool{}
	for range 3 {
		r, signed := opened(t, s, nil)
		if r.Rotation == nil || seeds[r.Rotation.Seed] {
			t.Fatalf("%+v", r.Rotation)
		}
		seeds[r.Rotation.Seed] = true
		if !strings.Contains(string(signed), r.Rotation.Seed.String()) {
			t.Error("the seed is not in what was signed")
		}
	}
	for name, change := range map[string]func(*Spec){
		"a median": func(s *Spec) { s.Rule, s.Multiplier = federation.Median, 0 },
		"Laplace":  func(s *Spec) { s.Mechanism = federation.DiscreteLaplace },
		"of proofs": func(s *Spec) {
			s.NormCircuit = &federation.NormCircuit{Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Bits: 16}
		},
	} {
		if r, _ := opened(t, s, change); r.Rotation != nil || r.ClipLinf != r.ClipL2 {
			t.Errorf("%s: %+v, %g", name, r.Rotation, r.ClipLinf)
		}
		spec := plain
		change(&spec)
		spec.Rotate = &yes
		_, _, err := s.Open(t.Context(), spec)
		wantReason(t, name, err, federation.ReasonRotation)
	}
}

// Where an epsilon is told, it is told between what.
func TestEpsilonsNameTheirAdjacency(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), nil)
	l, err := s.Ledger(t.Context(), federation.BrokerAccount)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := json.Marshal(l); err != nil || !strings.Contains(string(raw), `"adjacency":"add-remove"`) {
		t.Errorf("%s, %v", raw, err)
	}
	_, _, err = s.Open(t.Context(), Spec{Model: "m", Contributors: plain.Contributors, Decryptors: plain.Decryptors, Length: 10, ClipL2: 1, Multiplier: 0.1})
	wantReason(t, "over the budget", err, ReasonBudget)
	if err == nil || !strings.Contains(err.Error(), federation.AdjacencyText) {
		t.Error(err)
	}
}
