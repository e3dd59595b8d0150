package rounds

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func TestRoundFromOpeningToPublication(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	store := bolted(t)
	s := m.service(t, store, nil)
	r, signed := opened(t, s, nil)
	if got, err := federation.VerifyRound(signed, m.Roots(), m.Broker(), m.Floor()); err != nil || got.Epsilon != r.Epsilon || !(r.Epsilon > 0) {
		t.Fatalf("%+v, %v", got, err)
	}
	resource := federation.ResourceOf(r.ID)
	wantReason(t, "key of an open round", mayRelease(ctx, s, resource), ReasonNotClosed)
	cohort := admitted(t, m, s, r, signed, 3)
	closing := Closing{Cohort: cohort[:2], Sum: digest.Digest{5}}
	ticket, err := s.Close(ctx, r.ID, closing)
	if err != nil {
		t.Fatal(err)
	}
	tk, err := federation.VerifyTicket(ticket, m.Roots(), m.Floor(), r, digest.Of(signed))
	if err != nil || tk.Count != 2 || tk.TotalWeight != 2 || tk.Sum != closing.Sum || tk.Cohort != federation.CohortDigest(cohort[:2]) || tk.Spent != r.Epsilon || tk.Delta != 1e-5 {
		t.Fatalf("%+v, %v", tk, err)
	}
	wantReason(t, "key of a closed round", mayRelease(ctx, s, resource), "")
	if l, err := s.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 || l.Charges[0].Round != r.ID || l.Epsilon != r.Epsilon {
		t.Fatalf("%+v, %v", l, err)
	}
	res := published(t, m.decryptor(t, r, signed, nil), r, signed, ticket, nil)
	for range 2 {
		if got, err := s.Finish(ctx, r.ID, res); err != nil || got.Values != (digest.Digest{7}) {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	// Another guest decrypted the same sum to the same values: nothing new.
	if _, err := s.Finish(ctx, r.ID, published(t, m.decryptor(t, r, signed, nil), r, signed, ticket, nil)); err != nil {
		t.Error(err)
	}
	if m.readable(r.ID) {
		t.Error("the key is there after publication")
	}
	wantReason(t, "key of a published round", mayRelease(ctx, s, resource), ReasonNotClosed)
	if again, err := s.Close(ctx, r.ID, closing); err != nil || !bytes.Equal(again, ticket) {
		t.Errorf("the ticket changed: %v", err)
	}
	list, err := s.List(ctx)
	if err != nil || len(list) != 1 || list[0].State != Published || list[0].Contributors != 2 || !bytes.Equal(list[0].Result, res) {
		t.Errorf("%+v, %v", list, err)
	}
	if st, err := s.Status(ctx, r.ID); err != nil || st.Round.ID != r.ID || !bytes.Equal(st.Signed, signed) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := consistent(ctx, store, nil); err != nil {
		t.Error(err)
	}
}

func TestOpenTakesDefaultsAndCalibrates(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) {
		c.Privacy.MinimumCohort = 5
		c.Privacy.SingleContributions = "test"
		c.Privacy.WithoutNoise = "test"
	})
	r, _ := opened(t, s, func(spec *Spec) { spec.Multiplier, spec.Epsilon, spec.Duration = 0, 2, 0 })
	if r.Set != params.Default || r.Minimum != 5 || r.Maximum != 10 || r.Rotation == nil || r.ClipLinf != federation.SafeClipLinf(1, 1<<14) || r.MaxWeight != 1 || r.PerGuest != 1 || r.Rate != 1 || r.NoiseBits != 8 ||
		r.Noise.Mechanism != federation.DiscreteGaussian || !(r.Noise.Multiplier > 2) || r.Closes != r.Opened.Add(time.Hour) {
		r.PublicKey = nil
		t.Errorf("%+v", r)
	}
	zero := uint32(0)
	r, _ = opened(t, s, func(spec *Spec) { spec.Multiplier, spec.Rule, spec.NoiseBits = 0, federation.Median, &zero })
	if r.Maximum != 10 || r.Rotation != nil || r.ClipLinf != 1 || r.Noise.Mechanism != federation.NoNoise || r.Epsilon != 0 || r.NoiseBits != 0 {
		r.PublicKey = nil
		t.Errorf("%+v", r)
	}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   uint32
	}{
		"twice the minimum":         {func(spec *Spec) { spec.Minimum = 8 }, 16},
		"what the rule takes":       {func(spec *Spec) { spec.Minimum, spec.Rule, spec.Multiplier = 9, federation.Median, 0 }, federation.MaxRobust},
		"what the set takes":        {func(spec *Spec) { spec.Minimum = 900 }, 1024},
		"what is named":             {func(spec *Spec) { spec.Minimum, spec.Maximum = 8, 1000 }, 1000},
		"what is named, at a limit": {func(spec *Spec) { spec.Minimum, spec.Maximum = 8, 8 }, 8},
	} {
		if r, _ := opened(t, s, c.change); r.Maximum != c.want {
			t.Errorf("%s: %d", name, r.Maximum)
		}
	}
}

// Each refusal of Open, alone; and what is refused leaves neither round nor key.
func TestOpenRefuses(t *testing.T) {
	broken := errors.New("broken")
	bits := uint32(30)
	for name, tc := range map[string]struct {
		config func(*Config)
		spec   func(*Spec)
		fail   string
		want   refusal.Reason
	}{
		"no policy":            {config: func(c *Config) { c.Privacy = Policy{} }, want: ReasonPrivacy},
		"no delta":             {config: func(c *Config) { c.Privacy.Delta = 0 }, want: ReasonPrivacy},
		"a small cohort":       {config: func(c *Config) { c.Privacy.MinimumCohort = 9 }, spec: func(s *Spec) { s.Minimum = 8 }, want: ReasonPrivacy},
		"a cohort of one":      {spec: func(s *Spec) { s.Minimum = 1 }, want: ReasonPrivacy},
		"single contributions": {config: func(c *Config) { c.Privacy.WithoutNoise = "test" }, spec: func(s *Spec) { s.Rule, s.Multiplier = federation.Median, 0 }, want: ReasonPrivacy},
		"no noise":             {spec: func(s *Spec) { s.Multiplier = 0 }, want: ReasonPrivacy},
		"Laplace by epsilon":   {spec: func(s *Spec) { s.Multiplier, s.Epsilon, s.Mechanism = 0, 1, federation.DiscreteLaplace }, want: ReasonSpec},
		"Gaussian by nothing":  {spec: func(s *Spec) { s.Multiplier, s.Mechanism = 0, federation.DiscreteGaussian }, want: ReasonSpec},
		"not calibrated":       {spec: func(s *Spec) { s.Multiplier, s.Epsilon = 0, 1000 }, want: ReasonSpec},
		"too much for a model": {spec: func(s *Spec) { s.Multiplier = 0.1 }, want: ReasonBudget},
		"an epsilon of nothing": {config: func(c *Config) {
			c.Spend = func([]Charge, float64) (float64, float64, error) { return math.NaN(), 0, nil }
		}, want: ReasonBudget},
		"an unknown set":   {spec: func(s *Spec) { s.Set = "sum-1024" }, want: federation.ReasonSet},
		"no maker of keys": {spec: func(s *Spec) { s.Set = params.Template }, want: federation.ReasonSet},
		"noise budget":     {spec: func(s *Spec) { s.NoiseBits = &bits }, want: federation.ReasonSet},
		"norms in 9 bits": {spec: func(s *Spec) {
			s.NormCircuit = &federation.NormCircuit{Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Bits: 9}
		}, want: federation.ReasonRound},
		"a limit of rounds": {spec: func(s *Spec) { s.Length = 0 }, want: federation.ReasonRound},
		"another root":      {config: func(c *Config) { c.Roots = federationtest.New(t).Roots() }, want: protocol.ReasonBrokerUnknown},
		"the accountant":    {config: func(c *Config) { c.Spend = func([]Charge, float64) (float64, float64, error) { return 0, 0, broken } }},
		"no epoch":          {fail: "sign"},
		"the audit log":     {fail: "round-open"},
		"the key store":     {fail: "put"},
	} {
		m := newMachine(t)
		m.fail[tc.fail] = broken
		store := bolted(t)
		s := m.service(t, store, tc.config)
		spec := plain
		if tc.spec != nil {
			tc.spec(&spec)
		}
		signed, _, err := s.Open(t.Context(), spec)
		if signed != nil || err == nil || tc.want == "" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		} else if tc.want != "" {
			wantReason(t, name, err, tc.want)
		}
		if list, err := listOf(t.Context(), store); err != nil || len(list) != 0 || len(m.secrets) != 0 {
			t.Errorf("%s: left %d rounds and %d keys, %v", name, len(list), len(m.secrets), err)
		}
	}
}

func TestKeyOfAnotherSetComesFromItsMaker(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), func(c *Config) {
		c.KeyMaker = func(set params.Set, seed *keybuf.Buffer) ([]byte, error) { return []byte(set.ID), nil }
	})
	r, _ := opened(t, s, func(spec *Spec) { spec.Set = params.Template })
	if string(r.PublicKey) != params.Template {
		t.Errorf("%q", r.PublicKey)
	}
}

// Each refusal of a contribution, alone: a good one is admitted before and again
// after, and the one that is refused leaves nothing.
func TestAdmitRefuses(t *testing.T) {
	stranger := newMachine(t)
	proven := func(s *Spec) {
		s.NormCircuit = &federation.NormCircuit{Circuit: digest.Digest{1}, VerifyingKey: digest.Digest{2}, Bits: 8}
	}
	named := func(c *federation.Contribution) {
		c.Commitment, c.ProofDigest = digest.Digest{3}, digest.Digest{4}
	}
	for name, tc := range map[string]struct {
		root   *machine // whose guest it is
		policy func(*Policy)
		spec   func(*Spec)
		chip   []byte
		change func(*federation.Contribution)
		before func(m *machine, a *federationtest.Agent)
		want   refusal.Reason
	}{
		"good":                    {},
		"another root":            {root: stranger, want: protocol.ReasonBrokerUnknown},
		"another round":           {change: func(c *federation.Contribution) { c.Round[0] ^= 1 }, want: federation.ReasonWrongRound},
		"another statement":       {change: func(c *federation.Contribution) { c.RoundDigest[0] ^= 1 }, want: federation.ReasonWrongRound},
		"too heavy":               {change: func(c *federation.Contribution) { c.Weight = 2 }, want: federation.ReasonRound},
		"no proof of its norm":    {spec: proven, want: federation.ReasonRound},
		"a proof of its norm":     {spec: proven, change: named},
		"the same upload":         {change: func(c *federation.Contribution) { c.Upload = digest.Digest{0xAA} }, want: ReasonDuplicate},
		"the same processor":      {chip: []byte{0xCC}, want: ReasonGuest},
		"the processor's second":  {chip: []byte{0xCC}, spec: func(s *Spec) { s.PerGuest = 2 }},
		"a full round":            {spec: func(s *Spec) { s.Maximum = 2 }, want: ReasonFull},
		"after the end":           {before: func(m *machine, _ *federationtest.Agent) { m.advance(10 * time.Minute) }, want: ReasonLate},
		"a moment before the end": {before: func(m *machine, _ *federationtest.Agent) { m.advance(10*time.Minute - time.Millisecond) }},
		"a software TEE":          {policy: func(p *Policy) { p.AllowSoftwareTEE = false }, want: ReasonSoftware},
		"an unknown lease":        {before: func(m *machine, a *federationtest.Agent) { delete(m.chips, a.Lease.Lease) }, want: "lease-not-granted-here"},
	} {
		m := newMachine(t)
		s := m.service(t, bolted(t), func(c *Config) {
			if tc.policy != nil {
				tc.policy(&c.Privacy)
			}
		})
		r, signed := opened(t, s, tc.spec)
		hardware := func(l *protocol.LeaseCertificate) { l.SoftwareTEE = false }
		good := [][]byte{contribute(t, m.guest(t, hardware, 0xCC), r, signed, func(c *federation.Contribution) {
			named(c) // where the round does not ask for it, it says nothing
			c.Upload = digest.Digest{0xAA}
		})}
		root := m
		if tc.root != nil {
			root = tc.root
		}
		a := root.guest(t, nil, tc.chip...)
		raw := contribute(t, a, r, signed, tc.change)
		if tc.before == nil {
			tc.before = func(*machine, *federationtest.Agent) {}
		}
		if name == "a full round" {
			good = append(good, contribute(t, m.guest(t, hardware), r, signed, nil))
		}
		admit := func(what string, raw [][]byte, want refusal.Reason) {
			t.Helper()
			list, err := s.Admit(t.Context(), r.ID, raw)
			if err != nil || len(list) != len(raw) {
				t.Fatalf("%s: %s: %v", name, what, err)
			}
			for i, got := range list {
				if got.Reason != want || got.Contribution != digest.Of(raw[i]) || want == "" && got.Agent == (digest.Digest{}) {
					t.Errorf("%s: %s: %+v, want %q", name, what, got, want)
				}
			}
		}
		admit("the first", good, "")
		tc.before(m, a)
		admit("this one", [][]byte{raw}, tc.want)
		admit("the first again", good, "")
		want := len(good)
		if tc.want == "" {
			want++
		}
		if st, err := s.Status(t.Context(), r.ID); err != nil || len(st.Members) != want {
			t.Errorf("%s: %d members, %v", name, len(st.Members), err)
		}
	}
}

// An agent contributes once: another weight or upload under the same key is another
// contribution, and refused.
func TestAgentContributesOnce(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, func(spec *Spec) { spec.PerGuest, spec.MaxWeight = 9, 5 })
	a := m.guest(t, nil)
	raw := [][]byte{contribute(t, a, r, signed, nil), contribute(t, a, r, signed, func(c *federation.Contribution) { c.Upload = digest.Digest{9} })}
	list, err := s.Admit(t.Context(), r.ID, raw)
	if err != nil || list[0].Reason != "" || list[1].Reason != ReasonDuplicate {
		t.Errorf("%+v, %v", list, err)
	}
}

// When the broker's own record cannot be read, nobody is refused for it: the whole
// call fails and nothing is stored.
func TestAdmitFailsWithItsRecords(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), nil)
	r, signed := opened(t, s, nil)
	m.fail["chip"] = errors.New("broken")
	list, err := s.Admit(t.Context(), r.ID, [][]byte{contribute(t, m.guest(t, nil), r, signed, nil)})
	if !errors.Is(err, m.fail["chip"]) || list != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if st, err := s.Status(t.Context(), r.ID); err != nil || len(st.Members) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// What is not known is refused everywhere.
func TestUnknownRounds(t *testing.T) {
	ctx, m := t.Context(), newMachine(t)
	s := m.service(t, bolted(t), nil)
	_, admit := s.Admit(ctx, digest.RoundID{1}, nil)
	_, closing := s.Close(ctx, digest.RoundID{1}, Closing{})
	_, finish := s.Finish(ctx, digest.RoundID{1}, nil)
	_, status := s.Status(ctx, digest.RoundID{1})
	for what, err := range map[string]error{"admit": admit, "close": closing, "finish": finish, "status": status, "abandon": s.Abandon(ctx, digest.RoundID{1}),
		"release": mayRelease(ctx, s, federation.ResourceOf(digest.RoundID{1})), "a name": mayRelease(ctx, s, "fed/model"), "no name": mayRelease(ctx, s, "fed/"),
		"a longer name": mayRelease(ctx, s, federation.ResourceOf(digest.RoundID{1})+"/x"), "the class": mayRelease(ctx, s, federation.ResourceClass)} {
		wantReason(t, what, err, ReasonUnknown)
	}
	for _, resource := range []string{"models/smollm2", "federal/x"} {
		wantReason(t, resource, mayRelease(ctx, s, resource), "")
	}
}

// A configuration with a part missing, or a number that compares with nothing, is
// no service.
func TestNewRefuses(t *testing.T) {
	m := newMachine(t)
	for name, change := range map[string]func(*Config){
		"store": func(c *Config) { c.Store = nil }, "secrets": func(c *Config) { c.Secrets = nil }, "signer": func(c *Config) { c.Signer = nil },
		"roots": func(c *Config) { c.Roots = nil }, "audit": func(c *Config) { c.Log = nil }, "releases": func(c *Config) { c.Released = nil }, "chip": func(c *Config) { c.Chip = nil },
		"calibrate": func(c *Config) { c.Calibrate = nil }, "spend": func(c *Config) { c.Spend = nil },
		"NaN": func(c *Config) { c.Privacy.MaxEpsilon = math.NaN() }, "infinite": func(c *Config) { c.Privacy.MaxEpsilon = math.Inf(1) },
		"negative": func(c *Config) { c.Privacy.MaxEpsilon = -1 }, "delta": func(c *Config) { c.Privacy.Delta = math.NaN() }, "delta of 1": func(c *Config) { c.Privacy.Delta = 1 },
	} {
		c := m.config(bolted(t))
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := m.config(bolted(t))
	c.Now = nil
	if _, err := New(c); err != nil {
		t.Error(err)
	}
}

// The round is in the audit log before its key is stored.
func TestOpenIsAuditedFirst(t *testing.T) {
	m := newMachine(t)
	s := m.service(t, bolted(t), nil)
	opened(t, s, nil)
	if len(m.log) != 2 || !strings.HasPrefix(m.log[0], "round-open ") || !slices.ContainsFunc(m.log[1:], func(l string) bool { return strings.HasPrefix(l, "put ") }) {
		t.Errorf("%q", m.log)
	}
}
