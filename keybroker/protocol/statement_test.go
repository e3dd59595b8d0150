package protocol

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func signEpoch(t testing.TB, p parties, change func(*EpochStatement)) []byte {
	t.Helper()
	st := sampleEpoch(p)
	change(&st)
	return must[[]byte](t)(SignEpoch(p.root, st))
}

func TestEpochStatementVerifiesUnderItsRootOnly(t *testing.T) {
	p, other := newParties(t), newParties(t)
	signed := signEpoch(t, p, func(*EpochStatement) {})
	roots := []identity.Public{other.root.Public(), p.root.Public()}
	st, err := VerifyEpoch(signed, roots)
	if err != nil || st.Epoch != 7 || !st.Key.Equal(p.epoch.Public()) {
		t.Fatalf("%+v: %v", st, err)
	}
	_, err = VerifyEpoch(signed, roots[:1])
	wantReason(t, err, ReasonBrokerUnknown)
	_, err = VerifyEpoch(signed, nil)
	wantReason(t, err, ReasonBrokerUnknown)
	_, err = VerifyEpoch(signed, []identity.Public{{}})
	wantReason(t, err, ReasonBrokerUnknown)

	_, err = SignEpoch(other.root, sampleEpoch(p))
	wantReason(t, err, ReasonBrokerUnknown)
}

// TestEpochSignatureAlone signs with another root's key a statement that names
// ours: only the signature is wrong.
func TestEpochSignatureAlone(t *testing.T) {
	p, other := newParties(t), newParties(t)
	st := sampleEpoch(p)
	forged, err := sign(other.root, &st)
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyEpoch(forged, []identity.Public{p.root.Public()})
	wantReason(t, err, ReasonEpochSignature)
}

func TestEpochStatementOutsideItsLimitsIsNotSigned(t *testing.T) {
	p := newParties(t)
	for name, change := range map[string]func(*EpochStatement){
		"epoch 0":              func(st *EpochStatement) { st.Epoch, st.MinEpoch = 0, 0 },
		"no minimum":           func(st *EpochStatement) { st.MinEpoch = 0 },
		"minimum above itself": func(st *EpochStatement) { st.MinEpoch = 8 },
		"no key":               func(st *EpochStatement) { st.Key = identity.Public{} },
		"root as epoch key":    func(st *EpochStatement) { st.Key = p.root.Public() },
		"ends before it is":    func(st *EpochStatement) { st.NotAfter = st.NotBefore },
		"no policy either way": func(st *EpochStatement) { st.PolicyDigest = [32]byte{} },
		"both policy ways":     func(st *EpochStatement) { st.AnyPolicy = true },
		"no audit key":         func(st *EpochStatement) { st.AuditKey = [32]byte{} },
		"no end":               func(st *EpochStatement) { st.NotAfter = 0 },
	} {
		st := sampleEpoch(p)
		change(&st)
		if _, err := SignEpoch(p.root, st); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestEpochAllowsItsPolicyOnly(t *testing.T) {
	st := sampleEpoch(newParties(t))
	if !st.AllowsPolicy(st.PolicyDigest) || st.AllowsPolicy([32]byte{1}) || st.AllowsPolicy([32]byte{}) {
		t.Error("a pinned epoch allows another policy")
	}
	st.AnyPolicy, st.PolicyDigest = true, [32]byte{}
	if !st.AllowsPolicy([32]byte{1}) {
		t.Error("an open epoch does not allow a policy")
	}
	if !st.ValidAt(st.NotBefore) || st.ValidAt(st.NotAfter) || st.ValidAt(st.NotBefore-1) {
		t.Error("the validity's ends are wrong")
	}
}

// everyone verifies a chain for whoever serves and holds the sample's model key.
func everyone(chain []byte, roots ...identity.Public) (Authority, error) {
	return VerifyAuthority(chain, roots, AnyBroker(), Recorded(AtLeast(1)), RoleServe, Named("models/demo"), Everyone())
}

func TestLeaseChainVerifiesWithTheRootAlone(t *testing.T) {
	p := newParties(t)
	want := sampleLease(p)
	chain := must[[]byte](t)(MarshalLeaseChain(signEpoch(t, p, func(*EpochStatement) {}), must[[]byte](t)(SignLease(p.epoch, want))))
	a, err := everyone(chain, p.root.Public())
	if err != nil {
		t.Fatal(err)
	}
	got := a.Lease
	if !got.AgentKey.Equal(want.AgentKey) {
		t.Error("another agent key")
	}
	want.AgentKey = got.AgentKey // one may have verified something, and be expanded
	if !reflect.DeepEqual(got, want) || a.Epoch.Epoch != 7 {
		t.Errorf("got %+v", got)
	}
	if !got.ValidAt(got.NotBefore) || got.ValidAt(got.NotAfter) {
		t.Error("the lease's ends are wrong")
	}
	for i := range chain {
		if i > 300 && i%31 != 0 {
			continue
		}
		bad := bytes.Clone(chain)
		bad[i] ^= 0x40
		if _, err := everyone(bad, p.root.Public()); err == nil {
			t.Fatalf("byte %d flipped passed", i)
		}
		if i%7 == 0 {
			if _, err := everyone(chain[:i], p.root.Public()); err == nil {
				t.Fatalf("cut to %d bytes passed", i)
			}
		}
	}
	if _, err := everyone(append(chain, 0), p.root.Public()); err == nil {
		t.Error("a trailing byte passed")
	}
	if _, err := everyone(make([]byte, maxLeaseChainBytes+1)); err == nil {
		t.Error("a chain over the limit passed")
	}
}

// TestLeaseChecksEachAlone damages one property of a lease at a time, signed
// correctly, so that nothing but the named check can refuse it.
func TestLeaseChecksEachAlone(t *testing.T) {
	p, other := newParties(t), newParties(t)
	st := sampleEpoch(p)
	for _, tc := range []struct {
		name   string
		key    *identity.Private
		change func(*LeaseCertificate)
		want   refusal.Reason
	}{
		{"another epoch's key", other.epoch, func(*LeaseCertificate) {}, ReasonBrokerSignature},
		{"another broker", p.epoch, func(c *LeaseCertificate) { c.Broker[0]++ }, ReasonLeaseMismatch},
		{"another epoch", p.epoch, func(c *LeaseCertificate) { c.Epoch++ }, ReasonLeaseMismatch},
		{"begun before the epoch", p.epoch, func(c *LeaseCertificate) { c.NotBefore = st.NotBefore - 1; c.NotAfter = st.NotBefore + 1 }, ReasonEpochNotValid},
		{"begun after the epoch", p.epoch, func(c *LeaseCertificate) {
			c.NotBefore = st.NotAfter
			c.NotAfter = st.NotAfter.Add(time.Second)
		}, ReasonEpochNotValid},
		{"another policy", p.epoch, func(c *LeaseCertificate) { c.PolicyDigest[0]++ }, ReasonPolicyNotPinned},
	} {
		c := sampleLease(p)
		tc.change(&c)
		_, err := VerifyLease(must[[]byte](t)(SignLease(tc.key, c)), st)
		if err == nil {
			t.Errorf("%s: passed", tc.name)
			continue
		}
		wantReason(t, err, tc.want)
	}
}

func TestLeaseOutsideItsLimitsIsNotSigned(t *testing.T) {
	p := newParties(t)
	for name, change := range map[string]func(*LeaseCertificate){
		"epoch 0":            func(c *LeaseCertificate) { c.Epoch = 0 },
		"no agent key":       func(c *LeaseCertificate) { c.AgentKey = identity.Public{} },
		"root as agent":      func(c *LeaseCertificate) { c.AgentKey = p.root.Public() },
		"no kind":            func(c *LeaseCertificate) { c.Kind = "" },
		"image id of lies":   func(c *LeaseCertificate) { c.ImageID = "a b" },
		"no policy":          func(c *LeaseCertificate) { c.PolicyID = "" },
		"another image":      func(c *LeaseCertificate) { c.Image.Sum[0]++ },
		"no image":           func(c *LeaseCertificate) { c.Image = evidence.ImageDigest{} },
		"no register":        func(c *LeaseCertificate) { c.Registers = nil },
		"tenant of lies":     func(c *LeaseCertificate) { c.Tenant = "a b" },
		"unknown role":       func(c *LeaseCertificate) { c.Grants[0].Roles |= 1 << 15 },
		"no grant":           func(c *LeaseCertificate) { c.Grants = nil },
		"grants unsorted":    func(c *LeaseCertificate) { c.Grants[0], c.Grants[1] = c.Grants[1], c.Grants[0] },
		"grant of version 0": func(c *LeaseCertificate) { c.Grants[0].Version = 0 },
		"too long":           func(c *LeaseCertificate) { c.NotAfter = c.NotBefore.Add(MaxLease + time.Millisecond) },
	} {
		c := sampleLease(p)
		change(&c)
		signed, err := SignLease(p.epoch, c)
		if err != nil {
			continue
		}
		if _, err := VerifyLease(signed, sampleEpoch(p)); err == nil {
			t.Errorf("%s: signed and verified", name)
		}
	}
}

// TestStatementsDoNotPassForOneAnother shows that a statement of one kind is not one of another.
func TestStatementsDoNotPassForOneAnother(t *testing.T) {
	p := newParties(t)
	lease := must[[]byte](t)(SignLease(p.epoch, sampleLease(p)))
	if _, err := VerifyEpoch(lease, []identity.Public{p.root.Public()}); err == nil {
		t.Error("a lease passes for an epoch")
	}
	if _, err := VerifyLease(signEpoch(t, p, func(*EpochStatement) {}), sampleEpoch(p)); err == nil {
		t.Error("an epoch passes for a lease")
	}
}
