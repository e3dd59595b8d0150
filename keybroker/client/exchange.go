package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// exchange is one run of the protocol, from M1 to M7. Its methods are the
// steps of docs/protocol.md 5, in that order; each fills what the next ones need.
type exchange struct {
	client    *Client
	conn      *hybridtls.Conn
	ekm       [48]byte
	resources []string
	sealed    []protocol.Sealed
	request   digest.ExchangeID

	hello          []byte // M1 to M5 as they were on the wire
	challenge      []byte
	attest         []byte
	grantFrame     []byte
	requestFrame   []byte
	hashM1, hashM2 protocol.Digest
	claims         []byte // those that the evidence is bound to

	m2        protocol.Challenge
	epoch     protocol.EpochStatement
	kem       *keywrap.Recipient
	evidence  evidence.Envelope
	sent      time.Time // just before M3 left; monotonic
	grant     protocol.Grant
	release   protocol.Release
	hashM6    protocol.Digest
	cert      protocol.LeaseCertificate
	unwrapped []*keybuf.Buffer
	// receiptKey authenticates M7: who has it has opened all keys.
	receiptKey []byte
	clock      *time.Timer // wipes unwrapped when the lease ends; stopped by handOver
}

// exchange runs one exchange: on the connection that the last one left, if that still
// answers, and else on a new one. Until M2 has come nothing of either was decided or said
// about the guest, so that to begin anew costs nothing and repeats nothing; what the broker
// refuses stays refused.
func (c *Client) exchange(ctx context.Context, resources []string, sealed []protocol.Sealed, id digest.ExchangeID) (*Lease, error) {
	l, closes := c.take(time.Now())
	if l != nil {
		x := &exchange{client: c, resources: resources, sealed: sealed, request: id}
		lease, err := x.whole(ctx, l, closes)
		if err == nil || !x.unanswered(ctx, err) {
			return lease, err
		}
	}
	l, err := c.dial(ctx)
	if err != nil {
		return nil, wrap(protocol.ReasonInternal, err)
	}
	x := &exchange{client: c, resources: resources, sealed: sealed, request: id}
	return x.whole(ctx, l, closes)
}

// unanswered says whether the connection failed before it brought an answer, while the
// caller still waits for one.
func (x *exchange) unanswered(ctx context.Context, err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && ctx.Err() == nil && x.challenge == nil && (e.Reason == protocol.ReasonConnectionFailed || e.Reason == protocol.ReasonDeadline) && !e.ByBroker()
}

// whole runs every step and hands the keys over. Whatever fails, they are wiped and the
// connection is closed; after a success it is kept.
func (x *exchange) whole(ctx context.Context, l *line, closes int) (*Lease, error) {
	// The context ends blocked reads and writes, too.
	stop := context.AfterFunc(ctx, func() { l.conn.SetDeadline(time.Unix(1, 0)) })
	lease, err := x.run(ctx, l)
	if err == nil {
		err = x.handOver()
	}
	if err != nil {
		stop()
		x.wipe()
		_ = l.close() // err says what counts
		return nil, wrap(protocol.ReasonInternal, err)
	}
	if stop() && lease.Unsent == nil && (lease.Permit == nil || lease.Permit.Err == nil) {
		x.client.keep(l, closes, lease)
	} else {
		_ = l.close() // the keys are here
	}
	return lease, nil
}

// run runs the steps. When it returns, KK is erased; the keys, if it opened them, have a
// clock.
func (x *exchange) run(ctx context.Context, l *line) (lease *Lease, err error) {
	x.conn = l.conn
	if x.ekm, err = l.conn.ExporterOf(l.next); err != nil {
		return nil, err
	}
	defer x.eraseKEM()
	if err := x.begin(ctx, l); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{
		x.checkEpoch, x.checkChoice, x.raiseEpoch,
		x.collect, x.sendAttest, x.readGrant, x.sendRequest, x.readRelease, x.open,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	if lease, err = x.lease(); err != nil {
		return nil, err
	}
	lease.Unsent = x.sendReceipt(ctx)
	lease.Permit = x.askPermit(ctx, lease)
	return lease, nil
}

// begin sends M1 and reads M2, on a kept connection without patience.
func (x *exchange) begin(ctx context.Context, l *line) error {
	answered := l.impatient(ctx)
	err := x.sendHello(ctx)
	if err == nil {
		err = x.readChallenge(ctx)
	}
	if !answered() && err == nil { // M2 came as the connection was being closed
		x.challenge = nil
		err = &Error{Reason: protocol.ReasonDeadline, Err: errors.New("the kept connection did not answer in time")}
	}
	return err
}

// eraseKEM ends KK whether or not it was used.
func (x *exchange) eraseKEM() {
	if x.kem != nil {
		x.kem.Erase()
	}
}

func (x *exchange) wipe() {
	for _, k := range x.unwrapped {
		k.Wipe()
	}
}

// watch starts the clock of keys that nobody but this exchange knows of yet: what is
// still to do, M7 and the end of the connection, depends on the host.
func (x *exchange) watch() { x.clock = time.AfterFunc(time.Until(x.end()), x.wipe) }

// end is when the lease ends here. It counts from the moment before M3 was sent; the
// broker decided after that, so this end never believes in a lease that the broker
// thinks is over (7.3).
func (x *exchange) end() time.Time { return x.sent.Add(x.ttl()) }

func (x *exchange) ttl() time.Duration { return x.grant.LeaseEnd.Time().Sub(x.grant.BrokerTime.Time()) }

// handOver stops the clock: from here on the lease is the caller's to end. Keys that it
// has wiped are not handed over.
func (x *exchange) handOver() error {
	if !x.clock.Stop() {
		return x.over()
	}
	return nil
}

func (x *exchange) over() error {
	return refusal.New(protocol.ReasonLeaseExpired, "the exchange took longer than the lease of %s", x.ttl())
}

// sendHello sends M1 (5.1).
func (x *exchange) sendHello(ctx context.Context) (err error) {
	x.hello, err = x.send(ctx, &protocol.Hello{
		Versions:     []protocol.Version{protocol.Version2},
		Suites:       []protocol.Suite{protocol.Suite1},
		Kinds:        x.client.cfg.Kinds,
		HighestEpoch: x.highestOfAll(),
		Classes:      protocol.Classes(x.resources),
	})
	x.hashM1 = protocol.HashMessage(x.hello)
	return err
}

// floor is the lowest epoch that this guest accepts of a root's broker.
func (x *exchange) floor(root [32]byte) uint64 {
	return max(x.client.cfg.MinEpoch, x.client.cfg.Epochs.Highest(root))
}

// highestOfAll is what M1 says before anybody knows which root's broker will answer: the
// lowest of the floors, which is true of each. A broker of an older epoch than this guest
// has seen of it is refused by checkEpoch.
func (x *exchange) highestOfAll() uint64 {
	lowest := x.floor(x.client.cfg.Roots[0].ID())
	for _, root := range x.client.cfg.Roots[1:] {
		lowest = min(lowest, x.floor(root.ID()))
	}
	return lowest
}

// readChallenge reads M2 (5.2).
func (x *exchange) readChallenge(ctx context.Context) (err error) {
	x.challenge, err = x.read(ctx, &x.m2)
	x.hashM2 = protocol.HashMessage(x.challenge)
	return err
}

// checkEpoch enforces 5.2: a configured root signed the epoch, the epoch is not
// retired, the broker's own time is inside it, and its key signed this challenge
// for this connection. The guest's clock has no say.
func (x *exchange) checkEpoch(context.Context) (err error) {
	x.epoch, err = protocol.VerifyEpoch(x.m2.Epoch, x.client.cfg.Roots)
	if err != nil {
		return err
	}
	if floor := x.floor(x.epoch.Broker); x.epoch.Epoch < floor {
		return refusal.New(protocol.ReasonEpochRetired, "broker %x is in epoch %d, this guest accepts %d and later", x.epoch.Broker[:8], x.epoch.Epoch, floor)
	}
	if err := x.m2.Verify(x.epoch.Key, x.ekm, x.hashM1); err != nil {
		return err
	}
	if !x.epoch.ValidAt(x.m2.BrokerTime) {
		return refusal.New(protocol.ReasonEpochNotValid, "the broker's time %s is outside epoch %d", x.m2.BrokerTime.Time(), x.epoch.Epoch)
	}
	return nil
}

// checkChoice enforces 5.2: version, suite and kind are the best of both lists.
func (x *exchange) checkChoice(context.Context) error {
	var m1 protocol.Hello
	if err := protocol.Parse(x.hello, &m1); err != nil {
		return err
	}
	best, err := protocol.Choose(&m1, x.m2.Versions, x.m2.Suites, x.m2.Kinds)
	if err != nil {
		return err
	}
	if best != x.m2.Choice {
		return refusal.New(protocol.ReasonDowngrade, "the broker chose %v although it could have chosen %v", x.m2.Choice, best)
	}
	return nil
}

// raiseEpoch records the epoch before anything else happens in it, so that no
// later crash lets an older one back in (5.2).
func (x *exchange) raiseEpoch(context.Context) error {
	if err := x.client.cfg.Epochs.Raise(x.epoch.Broker, x.epoch.Epoch); err != nil {
		return &Error{Reason: protocol.ReasonEpochNotRecorded, Err: err}
	}
	return nil
}

// collect makes KK and the evidence that binds it (5.3, 6).
func (x *exchange) collect(ctx context.Context) (err error) {
	if x.kem, err = keywrap.NewRecipient(); err != nil {
		return err
	}
	m3 := protocol.Attest{KEMKey: x.kem.PublicKey(), AgentKey: x.client.cfg.AgentKey.Public()}
	claims := x.client.cfg.Claims
	if clock := x.client.cfg.Clock; clock != nil {
		claims.ClockSource = clock()
	}
	if x.claims, err = claims.Marshal(); err != nil {
		return err
	}
	binding := m3.Binding(x.ekm, x.hashM1, x.hashM2, claims.Digest())
	ctx, cancel := context.WithTimeout(ctx, x.m2.Window)
	defer cancel()
	x.evidence, err = x.client.cfg.Collector.Collect(ctx, binding.Challenge())
	if err != nil {
		return &Error{Reason: protocol.ReasonEvidenceFailed, Err: fmt.Errorf("collect evidence: %w", err)}
	}
	if x.evidence.Kind != x.m2.Choice.Kind {
		return &Error{Reason: protocol.ReasonEvidenceFailed, Err: fmt.Errorf("collector made %q, broker chose %q", x.evidence.Kind, x.m2.Choice.Kind)}
	}
	return nil
}

// sendAttest sends M3 (5.3). The lease will be counted from just before it.
func (x *exchange) sendAttest(ctx context.Context) error {
	env, err := x.evidence.Marshal()
	if err != nil {
		return &Error{Reason: protocol.ReasonEvidenceFailed, Err: err}
	}
	m3 := &protocol.Attest{KEMKey: x.kem.PublicKey(), AgentKey: x.client.cfg.AgentKey.Public(),
		Claims: x.claims, Resources: x.resources, Evidence: env}
	if err := m3.Sign(x.client.cfg.AgentKey, x.ekm, x.hashM1, x.hashM2); err != nil {
		return err
	}
	x.sent = time.Now()
	x.attest, err = x.send(ctx, m3)
	return err
}

// readGrant reads M4 and checks it against what was asked (5.4).
func (x *exchange) readGrant(ctx context.Context) (err error) {
	if x.grantFrame, err = x.read(ctx, &x.grant); err != nil {
		return err
	}
	switch {
	case !slices.Equal(x.grant.Resources, x.resources):
		return refusal.New(protocol.ReasonGrantMismatch, "granted %q, wanted %q", x.grant.Resources, x.resources)
	case !x.epoch.AllowsPolicy(x.grant.PolicyDigest):
		return refusal.New(protocol.ReasonPolicyNotPinned, "policy %s is not the one of epoch %d", x.grant.PolicyID, x.epoch.Epoch)
	case x.grant.BrokerTime < x.m2.BrokerTime:
		return refusal.New(protocol.ReasonClockBackwards, "grant at %s, challenge at %s", x.grant.BrokerTime.Time(), x.m2.BrokerTime.Time())
	}
	return nil
}

// sendRequest sends M5 (5.5).
func (x *exchange) sendRequest(ctx context.Context) (err error) {
	x.requestFrame, err = x.send(ctx, &protocol.Request{Resources: x.resources, Sealed: x.sealed, Idempotency: x.request})
	return err
}

// readRelease reads M6 and checks that the epoch key signed this very release
// on this connection for this agent (5.6). Nothing is opened before.
func (x *exchange) readRelease(ctx context.Context) error {
	frame, err := x.read(ctx, &x.release)
	if err != nil {
		return err
	}
	x.hashM6 = protocol.HashMessage(frame)
	if x.cert, err = protocol.VerifyLease(x.release.Lease, x.epoch); err != nil {
		return err
	}
	exchange, err := x.release.Exchange(x.transcript())
	if err != nil {
		return err
	}
	if x.cert.Exchange != exchange {
		return refusal.New(protocol.ReasonReleaseMismatch, "the release was not made for this exchange")
	}
	if len(x.release.Items) != len(x.resources) {
		return refusal.New(protocol.ReasonReleaseMismatch, "%d keys for %d resources", len(x.release.Items), len(x.resources))
	}
	for i, item := range x.release.Items {
		if item.Resource != x.resources[i] {
			return refusal.New(protocol.ReasonReleaseMismatch, "key %d is for %s, wanted %s", i, item.Resource, x.resources[i])
		}
	}
	return x.checkLease()
}

func (x *exchange) transcript() protocol.Digest {
	return protocol.Transcript(x.ekm, x.hello, x.challenge, x.attest, x.grantFrame, x.requestFrame)
}

// checkLease compares the certificate with what this end knows to be true.
func (x *exchange) checkLease() error {
	c := &x.cert
	granted := slices.EqualFunc(c.Grants, x.release.Items, func(g protocol.Granted, item protocol.Item) bool {
		return g.Resource == item.Resource && g.Version == item.Version
	})
	same := granted && (c.Tenant == "" || c.Tenant == x.client.cfg.Claims.Tenant) &&
		c.Lease == x.grant.Lease && c.AgentKey.Equal(x.client.cfg.AgentKey.Public()) &&
		c.Kind == x.evidence.Kind && c.EvidenceDigest == x.evidence.Digest() &&
		c.Processor == protocol.ProcessorOf(x.epoch.Broker, x.epoch.Epoch, c.Kind, x.evidence.Chip()) && c.ImageID == x.client.cfg.Claims.ImageID &&
		c.PolicyID == x.grant.PolicyID && c.PolicyVersion == x.grant.PolicyVersion && c.PolicyDigest == x.grant.PolicyDigest &&
		c.NotBefore == x.grant.BrokerTime && c.NotAfter == x.grant.LeaseEnd
	if !same {
		return refusal.New(protocol.ReasonLeaseMismatch, "the lease certificate does not say what was attested and granted")
	}
	return nil
}

// open opens all keys of the batch with KK, which is erased by it (5.6). A release that arrives after the lease's end
// stays sealed: its first keys would be in memory while the others are opened, whatever wipes them afterwards.
func (x *exchange) open(context.Context) (err error) {
	if !time.Now().Before(x.end()) {
		return x.over()
	}
	transcript := x.transcript()
	sealed := make([]keywrap.Sealed, len(x.release.Items))
	for i, item := range x.release.Items {
		info := protocol.KeyInfo(transcript, x.grant.Lease, item.Resource, item.Version, i, x.grant.LeaseEnd)
		sealed[i] = keywrap.Sealed{Info: info, Enc: item.Enc, Ciphertext: item.Ciphertext}
	}
	if x.unwrapped, x.receiptKey, err = x.kem.OpenExporting(sealed, protocol.ReceiptKey); err != nil {
		return &Error{Reason: protocol.ReasonKeyNotOpened, Err: err}
	}
	x.watch()
	return nil
}

// lease turns the exchange into its result.
func (x *exchange) lease() (*Lease, error) {
	chain, err := protocol.MarshalLeaseChain(x.m2.Epoch, x.release.Lease)
	if err != nil {
		return nil, err
	}
	l := &Lease{
		ID: x.grant.Lease.String(), PolicyID: x.grant.PolicyID, PolicyVersion: x.grant.PolicyVersion,
		BrokerTime: x.grant.BrokerTime.Time(), TTL: x.ttl(), Expires: x.end(),
		Keys:         make(map[string]Key, len(x.unwrapped)),
		EvidenceKind: x.cert.Kind, EvidenceDigest: x.cert.EvidenceDigest, SoftwareTEE: x.cert.SoftwareTEE,
		Roles: make(map[string]protocol.Role, len(x.unwrapped)), Tenant: x.cert.Tenant, Image: x.cert.Image,
		Certificate: chain, TLSGroup: x.conn.Group(), BrokerID: x.epoch.Broker, Epoch: x.epoch.Epoch, MinEpoch: x.epoch.MinEpoch,
		AuditIndex: x.release.AuditIndex, AuditLeaf: x.release.AuditLeaf, Ends: x.ends(),
	}
	if l.Remaining(time.Now()) <= 0 {
		return nil, x.over()
	}
	for i, key := range x.unwrapped {
		granted := x.cert.Grants[i] // as checkLease saw: the same resources in the same order
		l.Roles[granted.Resource] = granted.Roles
		l.Keys[granted.Resource] = Key{Version: granted.Version, Subject: granted.Subject, Key: key}
	}
	return l, nil
}

// sendReceipt sends M7 (5.7). The keys are here already: a receipt that does not
// arrive is the broker's to note, not a reason to throw them away.
func (x *exchange) sendReceipt(ctx context.Context) error {
	m7 := &protocol.Receipt{Release: x.hashM6}
	m7.Prove(x.receiptKey, x.ekm)
	_, err := x.send(ctx, m7)
	return err
}

// send writes one message and returns its bytes for the transcript.
func (x *exchange) send(ctx context.Context, m protocol.Message) ([]byte, error) {
	frame, err := protocol.Marshal(m)
	if err != nil {
		return nil, err
	}
	if _, err := x.conn.Write(frame); err != nil {
		return nil, connectionError(ctx, "send "+m.Type().String(), err)
	}
	return frame, nil
}

// read reads the next message, which must be m or a refusal.
func (x *exchange) read(ctx context.Context, m protocol.Message) ([]byte, error) {
	t, frame, err := protocol.ReadFrame(x.conn, m.Type(), protocol.TypeRefusal)
	if err != nil {
		if _, broke := refusal.ReasonOf(err); broke {
			return nil, err
		}
		return nil, connectionError(ctx, "wait for "+m.Type().String(), err)
	}
	if t == protocol.TypeRefusal {
		var refusal protocol.Refusal
		if err := protocol.Parse(frame, &refusal); err != nil {
			return nil, err
		}
		return nil, &Error{Reason: refusal.Reason, ID: refusal.ID.String()}
	}
	return frame, protocol.Parse(frame, m)
}

func newID() (id digest.ExchangeID) {
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}
