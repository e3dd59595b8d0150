package keybroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// stream is the connection as the steps see it: TLS in service, a pipe in tests.
type stream interface {
	io.ReadWriter
	SetDeadline(t time.Time) error
	CloseWrite() error
}

// exchange is one run of the protocol, from M1 to M7. Its methods are the
// steps of docs/protocol.md 5, in that order; one goroutine runs them. Each
// fills what the next ones need.
type exchange struct {
	b    *Broker
	conn stream
	ekm  [48]byte
	peer string
	// place is the connection among those of the listener; nil in tests of steps.
	place    *listen.Conn
	attested bool
	// number counts the exchanges of the connection, from 0; the later ones are the
	// agent's whose key has this ID.
	number      uint32
	formerAgent [32]byte
	letGo       []func()          // gives back the memory of messages
	id          digest.ExchangeID // names the exchange in the audit log

	frames [5][]byte // M1 to M5 as they were on the wire

	hello       protocol.Hello
	choice      protocol.Choice
	epoch       *heldEpoch
	signed      func() // says that the epoch key has nothing more to sign here
	challengeAt protocol.Time
	consumed    atomic.Bool // the nonce was used; see checkNonce

	attest       protocol.Attest
	guest        evidence.GuestClaims
	evidence     evidence.Envelope
	claims       evidence.Claims
	claimsDigest [32]byte
	policy       *policy.Policy
	asked        policy.Request // what the policy was asked; zero before
	input        digest.Digest  // of its document, once it is kept
	waived       []string
	gives        map[string]authority // by resource
	grant        protocol.Grant
	recorded     bool // the grant is in the audit log, or was to be

	request    protocol.Request
	release    []byte // M6
	receiptKey []byte // authenticates M7

	// For M8 and M9: the certificate, the digest of it as signed, H(M6), and what every record
	// says once the exchange itself is gone.
	leased      protocol.LeaseCertificate
	signedLease digest.Digest
	hashM6      protocol.Digest
	base        *audit.Record
}

func newExchange(b *Broker, conn stream, ekm [48]byte, peer string) *exchange {
	return &exchange{b: b, conn: conn, ekm: ekm, peer: peer, id: newID[digest.Exchange]()}
}

// newID returns 128 random bits; crypto/rand never fails, it ends the process.
func newID[K any]() (id digest.ID[K]) {
	rand.Read(id[:])
	return id
}

// run goes through all steps and refuses at the first that fails. It says whether all of
// them were taken and the peer has confirmed the release.
func (x *exchange) run(ctx context.Context) (confirmed bool) {
	defer func() {
		if x.signed != nil {
			x.signed()
		}
		for _, release := range x.letGo {
			release()
		}
	}()
	steps := []func(context.Context) error{
		x.readHello, x.sendChallenge,
		x.readAttest, x.sendGrant,
		x.readRequest, x.sendRelease,
	}
	for _, step := range steps {
		if err := x.guarded(ctx, step); err != nil {
			x.recordUnused(ctx)
			x.refuse(ctx, err)
			return false
		}
	}
	return x.readReceipt(ctx)
}

// guarded turns a panic in a step into a refusal. No input is known to cause
// one; if one did, it would end this exchange and not the broker.
func (x *exchange) guarded(ctx context.Context, step func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return step(ctx)
}

// readHello reads M1 (5.1).
func (x *exchange) readHello(ctx context.Context) error {
	if err := x.read(ctx, 0, &x.hello, x.b.cfg.Limits.Step); err != nil {
		return err
	}
	if served := x.b.cfg.Classes; len(served) > 0 {
		for _, class := range x.hello.Classes {
			if !slices.Contains(served, class) {
				return refusal.New(protocol.ReasonClassNotServed, "class %s", class)
			}
		}
	}
	return nil
}

// sendChallenge chooses, makes the nonce and sends M2 (5.2).
func (x *exchange) sendChallenge(context.Context) (err error) {
	m2 := &protocol.Challenge{
		Versions: []protocol.Version{protocol.Version2},
		Suites:   []protocol.Suite{protocol.Suite1},
		Kinds:    x.b.cfg.Kinds,
		Window:   x.b.cfg.Limits.NonceWindow.Truncate(time.Millisecond),
	}
	if m2.Choice, err = protocol.Choose(&x.hello, m2.Versions, m2.Suites, m2.Kinds); err != nil {
		return err
	}
	if m2.BrokerTime, err = x.b.clock.read(); err != nil {
		return err
	}
	if x.epoch, err = x.b.pickEpoch(x.hello.HighestEpoch, m2.BrokerTime); err != nil {
		return err
	}
	m2.Epoch = x.epoch.signed
	rand.Read(m2.Nonce[:])
	x.choice, x.challengeAt = m2.Choice, m2.BrokerTime
	x.signed = x.epoch.signer.Enter()
	if err := m2.Sign(x.epoch.signer, x.ekm, protocol.HashMessage(x.frames[0])); err != nil {
		return err
	}
	return x.send(1, m2)
}

// readAttest reads M3 and judges it (5.3).
func (x *exchange) readAttest(ctx context.Context) error {
	frame, err := x.receive(ctx, protocol.TypeAttest, x.b.cfg.Limits.NonceWindow)
	if err != nil {
		return err
	}
	x.place.Advance(listen.Heard)
	return x.acceptAttest(ctx, frame)
}

// acceptAttest judges one M3. The nonce is consumed first: whatever comes of
// this attempt, there is no second one (7.2).
func (x *exchange) acceptAttest(ctx context.Context, frame []byte) error {
	if err := x.checkNonce(); err != nil {
		return err
	}
	if err := protocol.Parse(frame, &x.attest); err != nil {
		return err
	}
	x.frames[2] = frame
	if err := x.checkAgent(); err != nil {
		return err
	}
	x.attest.AgentKey = x.b.agents.known(x.attest.AgentKey)
	if err := x.checkNames(); err != nil {
		return err
	}
	err := x.verifying(ctx, func() error {
		if err := x.appraise(ctx); err != nil {
			return err
		}
		done, err := x.checkEnded()
		if err != nil {
			return err
		}
		done() // asked again before a key leaves
		return x.decide(ctx)
	})
	// The gate may read what lies on another machine: the place is for others by now.
	if err == nil {
		err = x.passGate(ctx)
	}
	if err == nil {
		x.attested = true
		x.b.agents.put(x.attest.AgentKey)
		x.place.Promote(fmt.Sprintf("agent %x", x.attest.AgentKey.ID()))
	}
	return err
}

// checkNonce enforces protocol 7.2: a nonce is accepted once, atomically, and
// only within its window by the broker's clock.
func (x *exchange) checkNonce() error {
	if x.consumed.Swap(true) {
		return refusal.New(protocol.ReasonNonceUsed, "a second attestation on connection %s", x.id)
	}
	now, err := x.b.clock.read()
	if err != nil {
		return err
	}
	if now > x.challengeAt.Add(x.b.cfg.Limits.NonceWindow) {
		return refusal.New(protocol.ReasonNonceExpired, "%s after the challenge", now.Time().Sub(x.challengeAt.Time()))
	}
	return nil
}

// checkAgent enforces 5.11: a connection is one agent's.
func (x *exchange) checkAgent() error {
	if x.number > 0 && x.attest.AgentKey.ID() != x.formerAgent {
		return refusal.New(protocol.ReasonAgentKeyChanged, "exchange %d of the connection names a different agent key than earlier ones", x.number)
	}
	return nil
}

// checkNames enforces 5.3: only resources of the classes named in M1.
func (x *exchange) checkNames() error {
	for _, name := range x.attest.Resources {
		if !slices.Contains(x.hello.Classes, protocol.Class(name)) {
			return refusal.New(protocol.ReasonClassNotRequested, "resource %s", name)
		}
	}
	return nil
}

// verifying runs f when one of the bounded places for expensive work is free.
func (x *exchange) verifying(ctx context.Context, f func() error) error {
	wait := time.NewTimer(x.b.cfg.Limits.Step)
	defer wait.Stop()
	select {
	case x.b.verify <- struct{}{}:
		defer func() { <-x.b.verify }()
		return f()
	case <-wait.C:
		return refusal.New(protocol.ReasonBusy, "no verification finished within %s", x.b.cfg.Limits.Step)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendGrant sends M4 (5.4). A grant opens nothing, so that its record need not be
// durable yet: it becomes so together with the release's, or when the exchange ends
// without one.
func (x *exchange) sendGrant(context.Context) error { return x.send(3, &x.grant) }

// readRequest reads M5 and enforces 5.5: within the grant and its time.
func (x *exchange) readRequest(ctx context.Context) error {
	if err := x.read(ctx, 4, &x.request, x.b.cfg.Limits.Step); err != nil {
		return err
	}
	for _, name := range x.request.Resources {
		if !slices.Contains(x.grant.Resources, name) {
			return refusal.New(protocol.ReasonResourceNotGranted, "resource %s is not in grant %s", name, x.grant.Lease)
		}
	}
	return x.checkGrantTime()
}

func (x *exchange) checkGrantTime() error {
	now, err := x.b.clock.read()
	if err != nil {
		return err
	}
	if now >= x.grant.LeaseEnd {
		return refusal.New(protocol.ReasonGrantExpired, "grant %s ended at %s", x.grant.Lease, x.grant.LeaseEnd.Time())
	}
	return nil
}

// read receives and parses message number i.
func (x *exchange) read(ctx context.Context, i int, m protocol.Message, wait time.Duration) error {
	frame, err := x.receive(ctx, m.Type(), wait)
	if err != nil {
		return err
	}
	x.frames[i] = frame
	return protocol.Parse(frame, m)
}

// receive reads one frame of the only type that the state machine admits now, whole
// within the time: a peer that sends a byte now and then gains nothing.
func (x *exchange) receive(ctx context.Context, t protocol.Type, wait time.Duration) ([]byte, error) {
	_, frame, err := x.receiveAny(ctx, wait, t)
	return frame, err
}

// receiveAny is receive where the state machine admits more than one type.
func (x *exchange) receiveAny(ctx context.Context, wait time.Duration, types ...protocol.Type) (protocol.Type, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := x.conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return 0, nil, &connectionEnd{err}
	}
	t, frame, err := protocol.ReadFrameWithin(x.conn, func(bytes int) error {
		release, err := x.place.Reserve(ctx, int64(bytes))
		if err == nil {
			x.letGo = append(x.letGo, release)
		}
		return err
	}, types...)
	if err == nil {
		return t, frame, nil
	}
	var netErr interface{ Timeout() bool }
	switch _, broke := refusal.ReasonOf(err); {
	case broke:
		return 0, nil, err
	case errors.Is(err, listen.ErrNoMemory):
		return 0, nil, refusal.New(protocol.ReasonBusy, "%s: %w", types, err)
	case errors.As(err, &netErr) && netErr.Timeout():
		return 0, nil, refusal.New(protocol.ReasonDeadline, "waited %s for %s", wait, types)
	}
	return 0, nil, &connectionEnd{err}
}

// send encodes message number i, keeps it for the transcript and writes it.
func (x *exchange) send(i int, m protocol.Message) error {
	frame, err := protocol.Marshal(m)
	if err != nil {
		return err
	}
	if i < len(x.frames) {
		x.frames[i] = frame
	} else {
		x.release = frame
	}
	return x.write(frame)
}

func (x *exchange) write(frame []byte) error {
	if err := x.conn.SetDeadline(time.Now().Add(x.b.cfg.Limits.Step)); err != nil {
		return &connectionEnd{err}
	}
	if _, err := x.conn.Write(frame); err != nil {
		return &connectionEnd{err}
	}
	return nil
}

// connectionEnd is the end of a connection by the peer or the network: there is
// nobody left to refuse.
type connectionEnd struct{ err error }

// Error describes the end.
func (e *connectionEnd) Error() string { return "connection ended: " + e.err.Error() }

// Unwrap returns the connection's error.
func (e *connectionEnd) Unwrap() error { return e.err }

// logger names the connection in each line. Of what strangers cause, repetitions are
// counted instead.
func (x *exchange) log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	attrs = append([]slog.Attr{slog.String("connection", x.id.String()), slog.String("peer", x.peer)}, attrs...)
	logger := x.b.quiet
	if x.attested {
		logger = x.b.cfg.Logger
	}
	logger.LogAttrs(ctx, level, msg, attrs...)
}
