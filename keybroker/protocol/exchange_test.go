package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// parties are the keys of one exchange.
type parties struct {
	root, epoch, agent *identity.Private
}

func generate(t testing.TB, level identity.Level) *identity.Private {
	t.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func newParties(t testing.TB) parties {
	return parties{generate(t, identity.LevelRoot), generate(t, identity.LevelEpoch), generate(t, identity.LevelEpoch)}
}

// run is a whole exchange as it was on the wire, without cryptographic content
// in evidence and sealed keys: what this package checks does not depend on it.
type run struct {
	ekm    [48]byte
	frames [7][]byte
}

func fill[T ~[]byte](b T, from byte) T {
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const sampleTime = Time(1790000000000)

func sampleEpoch(p parties) EpochStatement {
	st := EpochStatement{Broker: p.root.Public().ID(), Epoch: 7, MinEpoch: 6, Key: p.epoch.Public(),
		NotBefore: sampleTime - 1000, NotAfter: sampleTime.Add(24 * time.Hour)}
	fill(st.PolicyDigest[:], 0x40)
	fill(st.AuditKey[:], 0x60)
	return st
}

func sampleHello() *Hello {
	return &Hello{Versions: []Version{Version2}, Suites: []Suite{Suite1}, Kinds: []evidence.Kind{evidence.KindSNP},
		HighestEpoch: 5, Classes: []string{"models"}}
}

func sampleGrant() *Grant {
	g := &Grant{PolicyID: "production", PolicyVersion: 3, Resources: []string{"models/a", "models/b"},
		BrokerTime: sampleTime.Add(time.Second), LeaseEnd: sampleTime.Add(601 * time.Second)}
	fill(g.Lease[:], 0x10)
	fill(g.PolicyDigest[:], 0x40)
	return g
}

func sampleRequest() *Request {
	r := &Request{Resources: []string{"models/a", "models/b"}}
	var f File
	fill(f.ID[:], 0xc0)
	fill(f.Commitment[:], 0xd0)
	known := f
	fill(known.Model[:], 0xe0)
	r.Sealed = []Sealed{{"models/a", []File{known, f}}}
	fill(r.Idempotency[:], 0x20)
	return r
}

// sampleReceiptKey stands for what two items export.
var sampleReceiptKey = fill(make([]byte, 2*keywrap.ExportSize), 0xb0)

// newRun makes a valid exchange.
func newRun(t testing.TB, p parties) run {
	t.Helper()
	var r run
	frame := must[[]byte](t)
	fill(r.ekm[:], 1)
	r.frames[0] = frame(Marshal(sampleHello()))
	h1 := HashMessage(r.frames[0])

	m2 := &Challenge{Choice: Choice{Version2, Suite1, evidence.KindSNP}, Versions: []Version{Version2}, Suites: []Suite{Suite1},
		Kinds: []evidence.Kind{evidence.KindSNP}, Epoch: frame(SignEpoch(p.root, sampleEpoch(p))), Window: 30 * time.Second, BrokerTime: sampleTime}
	fill(m2.Nonce[:], 0x80)
	if err := m2.Sign(p.epoch, r.ekm, h1); err != nil {
		t.Fatal(err)
	}
	r.frames[1] = frame(Marshal(m2))
	h2 := HashMessage(r.frames[1])

	m3 := &Attest{KEMKey: fill(make([]byte, keywrap.PublicKeySize), 3), AgentKey: p.agent.Public(), Claims: []byte("claims"),
		Resources: []string{"models/a", "models/b"}, Evidence: []byte("evidence")}
	if err := m3.Sign(p.agent, r.ekm, h1, h2); err != nil {
		t.Fatal(err)
	}
	r.frames[2] = frame(Marshal(m3))
	r.frames[3] = frame(Marshal(sampleGrant()))
	r.frames[4] = frame(Marshal(sampleRequest()))
	r.frames[5] = frame(Marshal(sampleRelease(t, p, r)))

	m7 := &Receipt{Release: HashMessage(r.frames[5])}
	m7.Prove(sampleReceiptKey, r.ekm)
	r.frames[6] = frame(Marshal(m7))
	return r
}

func sampleRelease(t testing.TB, p parties, r run) *Release {
	t.Helper()
	m6 := &Release{AuditIndex: 41, Items: []Item{
		{Resource: "models/a", Version: 2, Enc: fill(make([]byte, 32), 5), Ciphertext: fill(make([]byte, 48), 6)},
		{Resource: "models/b", Version: 9, Enc: fill(make([]byte, 32), 7), Ciphertext: fill(make([]byte, 48), 8)},
	}}
	fill(m6.AuditLeaf[:], 0x90)
	g := sampleGrant()
	exchange := must[Digest](t)(m6.Exchange(Transcript(r.ekm, r.frames[0], r.frames[1], r.frames[2], r.frames[3], r.frames[4])))
	cert := sampleLease(p)
	cert.Lease, cert.Exchange = g.Lease, exchange
	m6.Lease = must[[]byte](t)(SignLease(p.epoch, cert))
	return m6
}

func sampleLease(p parties) LeaseCertificate {
	g := sampleGrant()
	c := LeaseCertificate{Lease: g.Lease, Broker: p.root.Public().ID(), Epoch: 7, AgentKey: p.agent.Public(), Kind: evidence.KindSNP,
		ImageID: "image-1", PolicyID: g.PolicyID, PolicyVersion: g.PolicyVersion, PolicyDigest: g.PolicyDigest,
		NotBefore: g.BrokerTime, NotAfter: g.LeaseEnd}
	fill(c.EvidenceDigest[:], 0x30)
	c.Processor = ProcessorOf(c.Broker, c.Epoch, c.Kind, fill(make([]byte, 64), 0x40))
	c.Registers = []evidence.Register{{Name: evidence.RegisterLaunch, Value: make([]byte, 48)}}
	fill(c.Registers[0].Value, 0x50)
	c.Image, _ = evidence.ImageOf(c.Kind, c.Registers)
	c.Tenant = "tenant-1"
	c.Grants = []Granted{{Resource: "fed/0011", Version: 1, Roles: RoleDecrypt}, {Resource: "models/demo", Version: 3, Roles: RoleServe}}
	fill(c.Grants[1].Subject[:], 0x70)
	return c
}

// check does what both ends together check of a run. It is the oracle of the
// tests that damage messages: no damage may pass it.
func (r run) check(root identity.Public) error {
	var m1 Hello
	var m2 Challenge
	var m3 Attest
	var m4 Grant
	var m5 Request
	var m6 Release
	var m7 Receipt
	for i, m := range []Message{&m1, &m2, &m3, &m4, &m5, &m6, &m7} {
		if err := Parse(r.frames[i], m); err != nil {
			return err
		}
	}
	h1, h2 := HashMessage(r.frames[0]), HashMessage(r.frames[1])
	st, err := VerifyEpoch(m2.Epoch, []identity.Public{root})
	if err != nil {
		return err
	}
	if err := m2.Verify(st.Key, r.ekm, h1); err != nil {
		return err
	}
	if err := m3.Verify(r.ekm, h1, h2); err != nil {
		return err
	}
	cert, err := VerifyLease(m6.Lease, st)
	if err != nil {
		return err
	}
	exchange, err := m6.Exchange(Transcript(r.ekm, r.frames[0], r.frames[1], r.frames[2], r.frames[3], r.frames[4]))
	if err != nil {
		return err
	}
	if cert.Exchange != exchange {
		return errors.New("release is not for this exchange")
	}
	return m7.Verify(sampleReceiptKey, r.ekm, HashMessage(r.frames[5]))
}

func TestExchangeVerifies(t *testing.T) {
	p := newParties(t)
	if err := newRun(t, p).check(p.root.Public()); err != nil {
		t.Fatal(err)
	}
}

// TestEveryDamagedByteIsRefused flips bytes of every message: all in the first
// part of each frame, where the fields stand close, and at its end, and a sample
// of the long keys and signatures between.
func TestEveryDamagedByteIsRefused(t *testing.T) {
	t.Run("some", func(t *testing.T) { damagedBytesAreRefused(t, 40) })
	t.Run("all", func(t *testing.T) {
		longtest.Arithmetic(t, "it judges some thousand damaged exchanges")
		damagedBytesAreRefused(t, 400)
	})
}

func damagedBytesAreRefused(t *testing.T, dense int) {
	p := newParties(t)
	good := newRun(t, p)
	root := p.root.Public()
	for m, frame := range good.frames {
		for i := range frame {
			if i > dense && i%29 != 0 && len(frame)-i > dense/6 {
				continue
			}
			bad := good
			bad.frames[m] = bytes.Clone(frame)
			bad.frames[m][i] ^= 1 << (i % 8)
			if bad.check(root) == nil {
				t.Fatalf("M%d with byte %d flipped passed", m+1, i)
			}
		}
	}
	bad := good
	bad.ekm[0] ^= 1
	if bad.check(root) == nil {
		t.Fatal("an exchange of another connection passed")
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	good := newRun(t, newParties(t))
	for m, frame := range good.frames {
		typ := Type(m + 1)
		for n := range frame {
			if Parse(frame[:n], blank(typ)) == nil {
				t.Fatalf("M%d cut to %d bytes parses", m+1, n)
			}
			if n%17 != 0 && n > 64 {
				continue
			}
			if _, _, err := ReadFrame(bytes.NewReader(frame[:n]), typ); err == nil {
				t.Fatalf("M%d cut to %d bytes reads", m+1, n)
			}
		}
		if err := Parse(append(bytes.Clone(frame), 0), blank(typ)); err == nil {
			t.Fatalf("M%d with a trailing byte parses", m+1)
		}
	}
}

func blank(t Type) Message {
	return []Message{nil, &Hello{}, &Challenge{}, &Attest{}, &Grant{}, &Request{}, &Release{}, &Receipt{}, &PermitRequest{}, &PermitAnswer{}, &Refusal{}}[t]
}

// TestMessagesOfTwoRunsDoNotMix replays each message of one valid exchange in
// another one of the same parties.
func TestMessagesOfTwoRunsDoNotMix(t *testing.T) {
	p := newParties(t)
	a, b := newRun(t, p), newRun(t, p)
	b.ekm[3]++ // another connection
	for m := range a.frames {
		if m == 0 || m == 3 || m == 4 {
			continue // the same bytes in both samples
		}
		mixed := a
		mixed.frames[m] = b.frames[m]
		if mixed.check(p.root.Public()) == nil {
			t.Errorf("M%d of another exchange passed", m+1)
		}
	}
}

func TestReadFrameAdmitsOnlyTheExpectedType(t *testing.T) {
	r := newRun(t, newParties(t))
	for m, frame := range r.frames {
		for want := TypeHello; want <= TypeRefusal; want++ {
			typ, got, err := ReadFrame(bytes.NewReader(frame), want)
			if want == Type(m+1) {
				if err != nil || typ != want || !bytes.Equal(got, frame) {
					t.Errorf("%s: %v", want, err)
				}
				continue
			}
			wantReason(t, err, ReasonUnexpectedMessage)
		}
	}
}

func TestFrameOverItsLimitIsRefusedBeforeItIsRead(t *testing.T) {
	for typ := TypeHello; typ <= TypeRefusal; typ++ {
		n := messages[typ].limit + 1
		head := fmt.Sprintf("%c%s%c%c%c", len(typ.String()), typ, n>>16, n>>8, n)
		var raw []byte
		for _, c := range head {
			raw = append(raw, byte(c))
		}
		r := strings.NewReader(string(raw) + "x")
		_, _, err := ReadFrame(r, typ)
		wantReason(t, err, ReasonMessageTooLarge)
		if r.Len() != 1 {
			t.Errorf("%s: the body was read", typ)
		}
	}
	if _, _, err := ReadFrame(bytes.NewReader([]byte{0, 0, 0, 0}), TypeHello); err == nil {
		t.Error("an empty label was read")
	}
	if (Type(0)).MaxFrame() != 0 || (Type(99)).MaxFrame() != 0 || !strings.Contains(Type(99).String(), "unknown") {
		t.Error("an unknown type has a limit or a name")
	}
}

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
