package protocol

import (
	"bytes"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// signRequest asks for the epoch after the sample's, for an hour longer.
func signRequest(t testing.TB, p parties, change func(*EpochRequest)) []byte {
	t.Helper()
	asked := sampleEpoch(p)
	asked.Epoch++
	asked.NotAfter += 3600e9
	asked.Key = p.agent.Public()
	r := EpochRequest{Asked: asked, Current: signEpoch(t, p, func(*EpochStatement) {})}
	change(&r)
	return must[[]byte](t)(SignEpochRequest(p.epoch, r))
}

func TestEpochRequestIsOfTheRootsOwnBroker(t *testing.T) {
	p, other := newParties(t), newParties(t)
	roots := []identity.Public{p.root.Public()}
	signed := signRequest(t, p, func(*EpochRequest) {})
	r, current, err := VerifyEpochRequest(signed, roots)
	if err != nil || r.Asked.Epoch != 8 || current.Epoch != 7 || !r.Asked.Key.Equal(p.agent.Public()) {
		t.Fatalf("%+v: %v", r, err)
	}
	forged := must[[]byte](t)(SignEpochRequest(other.epoch, r))
	for name, tc := range map[string]struct {
		signed []byte
		roots  []identity.Public
		want   refusal.Reason
	}{
		"another root's":           {signed, []identity.Public{other.root.Public()}, ReasonBrokerUnknown},
		"no root":                  {signed, nil, ReasonBrokerUnknown},
		"signed by another key":    {forged, roots, ReasonEpochRequest},
		"asks for another root":    {signRequest(t, p, func(r *EpochRequest) { r.Asked.Broker = other.root.Public().ID() }), roots, ReasonBrokerUnknown},
		"another audit key":        {signRequest(t, p, func(r *EpochRequest) { r.Asked.AuditKey[0] ^= 1 }), roots, ReasonEpochRequest},
		"the current key again":    {signRequest(t, p, func(r *EpochRequest) { r.Asked.Key = p.epoch.Public() }), roots, ReasonEpochRequest},
		"another broker's current": {signRequest(t, p, func(r *EpochRequest) { r.Current = signEpoch(t, other, func(*EpochStatement) {}) }), roots, ReasonBrokerUnknown},
		"a statement in its place": {r.Current, roots, ReasonMalformedMessage},
		"a byte more":              {append(bytes.Clone(signed), 0), roots, ReasonMalformedMessage},
		"too long":                 {make([]byte, maxSignedEpochRequestBytes+1), roots, ReasonMalformedMessage},
	} {
		if _, _, err := VerifyEpochRequest(tc.signed, tc.roots); err == nil {
			t.Errorf("%s: verified", name)
		} else if got, _ := refusal.ReasonOf(err); got != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	for i := 0; i < len(signed); i += 37 {
		bad := bytes.Clone(signed)
		bad[i] ^= 0x40
		if _, _, err := VerifyEpochRequest(bad, roots); err == nil {
			t.Fatalf("byte %d flipped passed", i)
		}
	}
	if _, err := SignEpochRequest(p.epoch, EpochRequest{Asked: r.Asked}); err == nil {
		t.Error("a request without the current statement was signed")
	}
}

func TestEpochFollowsTheLastOne(t *testing.T) {
	p := newParties(t)
	last := sampleEpoch(p)
	next := last
	next.Epoch, next.NotBefore, next.NotAfter = 8, last.NotAfter-10, last.NotAfter+100
	if err := next.Follows(last, last.NotBefore); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*EpochStatement)
		now    Time
		want   refusal.Reason
	}{
		"the same number":       {func(s *EpochStatement) { s.Epoch = 7 }, last.NotBefore, ReasonEpochNumber},
		"a number is left out":  {func(s *EpochStatement) { s.Epoch = 9 }, last.NotBefore, ReasonEpochNumber},
		"a lower minimum":       {func(s *EpochStatement) { s.MinEpoch-- }, last.NotBefore, ReasonEpochMinimum},
		"over":                  {func(*EpochStatement) {}, next.NotAfter, ReasonEpochValidity},
		"no longer":             {func(s *EpochStatement) { s.NotAfter = last.NotAfter }, last.NotBefore, ReasonEpochValidity},
		"a gap":                 {func(s *EpochStatement) { s.NotBefore = last.NotAfter + 1 }, last.NotBefore, ReasonEpochValidity},
		"another root":          {func(s *EpochStatement) { s.Broker[0] ^= 1 }, last.NotBefore, ReasonBrokerUnknown},
		"after an ended one":    {func(s *EpochStatement) { s.NotBefore = last.NotAfter + 5 }, last.NotAfter + 5, ""},
		"a raised minimum":      {func(s *EpochStatement) { s.MinEpoch = 8 }, last.NotBefore, ""},
		"another policy pinned": {func(s *EpochStatement) { s.PolicyDigest[0] ^= 1 }, last.NotBefore, ""},
	} {
		st := next
		tc.change(&st)
		err := st.Follows(last, tc.now)
		if got, _ := refusal.ReasonOf(err); got != tc.want || (err == nil) != (tc.want == "") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
