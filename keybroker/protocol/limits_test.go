package protocol

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestMessagesOutsideTheLimitsDoNotEncode holds one wrong value each. What does
// not encode does not parse either: parsing encodes again.
func TestMessagesOutsideTheLimitsDoNotEncode(t *testing.T) {
	p := newParties(t)
	many := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, "m/"+string(rune('a'+i)))
		}
		return out
	}
	hello := func(f func(*Hello)) Message { m := sampleHello(); f(m); return m }
	grant := func(f func(*Grant)) Message { m := sampleGrant(); f(m); return m }
	request := func(f func(*Request)) Message { m := sampleRequest(); f(m); return m }
	release := func(f func(*Release)) Message {
		m := sampleRelease(t, p, newRun(t, p))
		f(m)
		return m
	}
	for name, m := range map[string]Message{
		"no version":          hello(func(m *Hello) { m.Versions = nil }),
		"version 0":           hello(func(m *Hello) { m.Versions = []Version{0} }),
		"version twice":       hello(func(m *Hello) { m.Versions = []Version{1, 1} }),
		"nine versions":       hello(func(m *Hello) { m.Versions = []Version{1, 2, 3, 4, 5, 6, 7, 8, 9} }),
		"no suite":            hello(func(m *Hello) { m.Suites = nil }),
		"no kind":             hello(func(m *Hello) { m.Kinds = nil }),
		"odd kind":            hello(func(m *Hello) { m.Kinds = []evidence.Kind{"SEV"} }),
		"long kind":           hello(func(m *Hello) { m.Kinds = []evidence.Kind{evidence.Kind(strings.Repeat("a", 33))} }),
		"no class":            hello(func(m *Hello) { m.Classes = nil }),
		"class with slash":    hello(func(m *Hello) { m.Classes = []string{"a/b"} }),
		"unsorted classes":    hello(func(m *Hello) { m.Classes = []string{"b", "a"} }),
		"seventeen classes":   hello(func(m *Hello) { m.Classes = []string(many(17)) }),
		"no policy":           grant(func(m *Grant) { m.PolicyID = "" }),
		"policy with newline": grant(func(m *Grant) { m.PolicyID = "a\nb" }),
		"policy with space":   grant(func(m *Grant) { m.PolicyID = "a b" }),
		"no resource":         grant(func(m *Grant) { m.Resources = nil }),
		"seventeen resources": grant(func(m *Grant) { m.Resources = many(17) }),
		"lease ends at start": grant(func(m *Grant) { m.LeaseEnd = m.BrokerTime }),
		"lease too long":      grant(func(m *Grant) { m.LeaseEnd = m.BrokerTime.Add(MaxLease + time.Millisecond) }),
		"no broker time":      grant(func(m *Grant) { m.BrokerTime = 0 }),
		"time after 9999":     grant(func(m *Grant) { m.BrokerTime, m.LeaseEnd = maxMillis, maxMillis+1 }),
		"repeated resource":   request(func(m *Request) { m.Resources = []string{"a", "a"} }),
		"file of no resource": request(func(m *Request) { m.Sealed[0].Resource = "models/c" }),
		"sealed twice":        request(func(m *Request) { m.Sealed = append(m.Sealed, m.Sealed[0]) }),
		"no file":             request(func(m *Request) { m.Sealed[0].Files = nil }),
		"file twice":          request(func(m *Request) { m.Sealed[0].Files[1] = m.Sealed[0].Files[0] }),
		"file of no key":      request(func(m *Request) { m.Sealed[0].Files[0].Commitment = [32]byte{} }),
		"five files": request(func(m *Request) {
			f := m.Sealed[0].Files[0]
			for i := range byte(3) {
				f.ID[0] = i
				m.Sealed[0].Files = append(m.Sealed[0].Files, f)
			}
		}),
		"no idempotency":       request(func(m *Request) { m.Idempotency = digest.ExchangeID{} }),
		"no lease":             release(func(m *Release) { m.Lease = nil }),
		"no item":              release(func(m *Release) { m.Items = nil }),
		"seventeen items":      release(func(m *Release) { m.Items = slices.Repeat(m.Items, 9)[:17] }),
		"version 0 of a key":   release(func(m *Release) { m.Items[0].Version = 0 }),
		"no enc":               release(func(m *Release) { m.Items[0].Enc = nil }),
		"ciphertext too long":  release(func(m *Release) { m.Items[1].Ciphertext = make([]byte, maxCiphertextBytes+1) }),
		"item with bad name":   release(func(m *Release) { m.Items[1].Resource = "../x" }),
		"unsigned challenge":   &Challenge{},
		"unsigned attest":      &Attest{},
		"refusal without code": &Refusal{},
		"refusal with prose":   &Refusal{Reason: "Not You"},
		"refusal of 65 bytes":  &Refusal{Reason: refusal.Reason(strings.Repeat("a", 65))},
		"refusal with hyphen":  &Refusal{Reason: "-a"},
	} {
		if frame, err := Marshal(m); err == nil {
			t.Errorf("%s: encodes to %d bytes", name, len(frame))
		}
	}
}

func TestChallengeAndAttestOutsideTheLimitsAreNotSigned(t *testing.T) {
	p := newParties(t)
	r := newRun(t, p)
	challenge := func(f func(*Challenge)) error {
		var m Challenge
		if err := Parse(r.frames[1], &m); err != nil {
			t.Fatal(err)
		}
		f(&m)
		if m.Verify(p.epoch.Public(), r.ekm, HashMessage(r.frames[0])) == nil {
			t.Error("a challenge outside the limits verifies")
		}
		return m.Sign(p.epoch, r.ekm, HashMessage(r.frames[0]))
	}
	attest := func(f func(*Attest)) error {
		var m Attest
		if err := Parse(r.frames[2], &m); err != nil {
			t.Fatal(err)
		}
		f(&m)
		if m.Verify(r.ekm, HashMessage(r.frames[0]), HashMessage(r.frames[1])) == nil {
			t.Error("an attestation outside the limits verifies")
		}
		return m.Sign(p.agent, r.ekm, HashMessage(r.frames[0]), HashMessage(r.frames[1]))
	}
	for name, err := range map[string]error{
		"window too short":   challenge(func(m *Challenge) { m.Window = 0 }),
		"window too long":    challenge(func(m *Challenge) { m.Window = MaxNonceWindow + time.Second }),
		"no epoch":           challenge(func(m *Challenge) { m.Epoch = nil }),
		"no choice":          challenge(func(m *Challenge) { m.Choice = Choice{} }),
		"no time":            challenge(func(m *Challenge) { m.BrokerTime = 0 }),
		"short KEM key":      attest(func(m *Attest) { m.KEMKey = m.KEMKey[1:] }),
		"no agent key":       attest(func(m *Attest) { m.AgentKey = identity.Public{} }),
		"no claims":          attest(func(m *Attest) { m.Claims = nil }),
		"too much evidence":  attest(func(m *Attest) { m.Evidence = make([]byte, maxEvidenceBytes+1) }),
		"no evidence":        attest(func(m *Attest) { m.Evidence = nil }),
		"resource of a path": attest(func(m *Attest) { m.Resources = []string{"models/../a"} }),
	} {
		if err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// TestPitfall25 keeps names that mean something to a file system, a database or
// a human eye from becoming resource names.
func TestPitfall25(t *testing.T) {
	for _, good := range []string{"a", "models/smollm2-135m", "models/a_b.c-1", strings.Repeat("a", 128), "a/b/c/d"} {
		if !ValidResource(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/.b", "A", "a b", "a\x00", "a\n", "a%2fb", `a\b`,
		"é", "a:b", "a*", "~a", "-a", strings.Repeat("a", 129)} {
		if ValidResource(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
	if got := Classes([]string{"b/x", "a/y", "b/z", "c"}); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("classes %q", got)
	}
}

// TestPitfall08 shows that joined fields cannot be shifted into one another.
func TestPitfall08(t *testing.T) {
	seen := map[string]int{}
	for i, join := range [][]byte{
		Join("l", []byte("ab"), []byte("c")), Join("l", []byte("a"), []byte("bc")), Join("l", []byte("abc")),
		Join("l", []byte("abc"), nil), Join("l", nil, []byte("abc")), Join("la", []byte("bc")), Join("", []byte("labc")),
		Join("l"), Join("l", nil), Join("l", nil, nil), Join("l", []byte{0, 0, 0, 0}), Join("", []byte("l")),
	} {
		if j, there := seen[string(join)]; there {
			t.Errorf("lists %d and %d give the same bytes", i, j)
		}
		seen[string(join)] = i
	}
}

// TestPitfall39 shows that every label and context is used for one purpose.
func TestPitfall39(t *testing.T) {
	labels := []string{labelMessage, labelTranscript, labelRelease, labelKeyInfo, labelLeaseChain,
		contextEpoch, contextEpochRequest, contextChallenge, contextAttest, contextRelease, contextReceipt}
	for i, l := range labels {
		if !strings.HasPrefix(l, "anchorhold/kbp/2/") && l != contextEpoch {
			t.Errorf("%s does not name protocol and version", l)
		}
		if slices.Contains(labels[:i], l) {
			t.Errorf("%s is used twice", l)
		}
	}
	base := KeyInfo(Digest{1}, digest.LeaseID{1}, "a", 1, 0, 1)
	for name, other := range map[string][]byte{
		"transcript": KeyInfo(Digest{2}, digest.LeaseID{1}, "a", 1, 0, 1), "lease": KeyInfo(Digest{1}, digest.LeaseID{2}, "a", 1, 0, 1),
		"resource": KeyInfo(Digest{1}, digest.LeaseID{1}, "b", 1, 0, 1), "version": KeyInfo(Digest{1}, digest.LeaseID{1}, "a", 2, 0, 1),
		"sequence": KeyInfo(Digest{1}, digest.LeaseID{1}, "a", 1, 1, 1), "expiry": KeyInfo(Digest{1}, digest.LeaseID{1}, "a", 1, 0, 2),
	} {
		if string(base) == string(other) {
			t.Errorf("another %s gives the same HPKE info", name)
		}
	}
}

func TestChooseTakesTheAgentsBest(t *testing.T) {
	h := &Hello{Versions: []Version{3, 1}, Suites: []Suite{2, 1}, Kinds: []evidence.Kind{"tdx", "sev-snp"}}
	c, err := Choose(h, []Version{1, 2, 3}, []Suite{1}, []evidence.Kind{"sev-snp", "tdx"})
	if err != nil || c != (Choice{3, 1, "tdx"}) {
		t.Errorf("chose %v: %v", c, err)
	}
	_, err = Choose(h, []Version{2}, []Suite{1}, []evidence.Kind{"tdx"})
	wantReason(t, err, ReasonVersionUnsupported)
	_, err = Choose(h, []Version{1}, []Suite{9}, []evidence.Kind{"tdx"})
	wantReason(t, err, ReasonSuiteUnsupported)
	_, err = Choose(h, []Version{1}, []Suite{1}, []evidence.Kind{"other"})
	wantReason(t, err, ReasonKindUnsupported)
}

func TestTimeHasBounds(t *testing.T) {
	if TimeOf(time.Unix(-1, 0)) != 0 || TimeOf(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) != 0 {
		t.Error("a time outside the bounds is not refused")
	}
	now := time.Date(2026, 11, 23, 1, 2, 3, 456e6, time.UTC)
	if got := TimeOf(now); !got.Time().Equal(now) || !got.Add(time.Second).Time().Equal(now.Add(time.Second)) {
		t.Errorf("%s became %s", now, got.Time())
	}
}
