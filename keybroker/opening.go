package keybroker

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Volumes answers openings of volumes; *volumes.Service is one. admit is told whose word an opening is, once
// that is verified, and may refuse it. What it returns is asked again before a state is recorded, and stays allowed until
// done: in between, databases are asked.
type Volumes interface {
	Answer(ctx context.Context, connection digest.Digest, signed []byte, now protocol.Time, admit func(volume string, lease *protocol.LeaseCertificate) (still func() (done func(), err error), err error)) ([]byte, error)
}

// opening is one connection on which a guest says which generation of a volume it opened (docs/protocol.md
// 17): one statement, one answer. One goroutine has it.
type opening struct {
	b     *Broker
	conn  *hybridtls.Conn
	place *listen.Conn
	peer  string
	id    digest.ExchangeID
	// Once the statement is verified: the volume, and whose lease it was made under.
	volume string
	lease  *protocol.LeaseCertificate
}

// opening serves a connection to its end.
func (b *Broker) opening(ctx context.Context, raw net.Conn, conn *hybridtls.Conn) {
	defer raw.Close()
	defer conn.Close()
	o := &opening{b: b, conn: conn, place: listen.Of(raw), peer: peerOf(raw), id: newID[digest.Exchange]()}
	o.place.Advance(listen.Ready)
	if err := o.answer(ctx); err != nil {
		o.refuse(ctx, err)
	}
}

// answer takes the statement and answers it.
func (o *opening) answer(ctx context.Context) error {
	signed, release, err := o.receive(ctx)
	if err != nil {
		return err
	}
	defer release()
	now, err := o.b.clock.read()
	if err != nil {
		return err
	}
	exporter := o.conn.Exporter()
	answer, err := o.b.cfg.Volumes.Answer(ctx, generation.ConnectionOf(exporter[:]), signed, now, func(volume string, lease *protocol.LeaseCertificate) (func() (func(), error), error) {
		o.volume, o.lease = volume, lease
		if !o.b.pace.take(lease.AgentKey.ID(), 1, now.Time()) {
			return nil, refusal.New(protocol.ReasonBusy, "this guest spoke of volumes more often than limits.per_guest allows")
		}
		still := func() (func(), error) { return o.checkEnded(ctx) }
		done, err := still()
		if err != nil {
			return nil, err
		}
		done() // an operator who ends leases, and all releases behind that, would wait for a fleet's database
		return still, nil
	})
	if err != nil {
		return err
	}
	return o.write(answer)
}

// checkEnded asks whether an operator ended this agent, or the processor that the lease was granted to.
func (o *opening) checkEnded(ctx context.Context) (done func(), err error) {
	if o.b.cfg.Ended == nil {
		return func() {}, nil
	}
	var chip digest.Digest
	if o.b.cfg.Processor != nil {
		if chip, err = o.b.cfg.Processor(ctx, o.lease.Lease); err != nil {
			return nil, err
		}
	}
	return o.b.cfg.Ended(o.lease.AgentKey.ID(), chip)
}

// receive reads one statement behind its length, whole within Limits.Step.
func (o *opening) receive(ctx context.Context) (signed []byte, release func(), err error) {
	if err := o.conn.SetDeadline(time.Now().Add(o.b.cfg.Limits.Step)); err != nil {
		return nil, nil, &connectionEnd{err}
	}
	var head [4]byte
	if _, err := io.ReadFull(o.conn, head[:]); err != nil {
		return nil, nil, ended(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > generation.MaxSignedBytes {
		return nil, nil, refusal.New(protocol.ReasonMessageTooLarge, "a statement of %d bytes, limit %d", n, generation.MaxSignedBytes)
	}
	if release, err = o.place.Reserve(ctx, int64(n)); err != nil {
		return nil, nil, refusal.New(protocol.ReasonBusy, "%w", err)
	}
	signed = make([]byte, n)
	if _, err := io.ReadFull(o.conn, signed); err != nil {
		release()
		return nil, nil, ended(err)
	}
	return signed, release, nil
}

// ended tells a peer that was too slow from one that is gone.
func ended(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return refusal.New(protocol.ReasonDeadline, "no statement came in time")
	}
	return &connectionEnd{err}
}

// write sends a statement or a refusal behind its length.
func (o *opening) write(statement []byte) error {
	if err := o.conn.SetDeadline(time.Now().Add(o.b.cfg.Limits.Step)); err != nil {
		return &connectionEnd{err}
	}
	if _, err := o.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(statement))), statement...)); err != nil {
		return &connectionEnd{err}
	}
	return nil
}

// refuse ends the connection: details to the audit log, code and id to the guest.
func (o *opening) refuse(ctx context.Context, err error) {
	if end, ok := errors.AsType[*connectionEnd](err); ok {
		o.b.quiet.LogAttrs(ctx, slog.LevelInfo, "connection about a volume ended", slog.String("peer", o.peer), slog.Any("err", end.err))
		return
	}
	d := denied(err)
	id := newID[digest.Exchange]()
	o.b.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "volume refused", slog.String("volume", o.volume), slog.String("reason", string(d.code())), slog.String("peer", o.peer), slog.String("refusal", id.String()), slog.Any("err", err))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTimeout)
	defer cancel()
	o.record(ctx, id, d)
	frame, err := protocol.Marshal(&protocol.Refusal{Reason: d.code(), ID: id})
	if err == nil {
		err = o.write(frame)
	}
	if err != nil {
		o.b.quiet.LogAttrs(ctx, slog.LevelInfo, "refusal not delivered", slog.String("peer", o.peer), slog.Any("err", err))
	}
}

func (o *opening) record(ctx context.Context, id digest.ExchangeID, d *denial) {
	r := audit.Record{Kind: audit.KindRefusal, Time: o.b.cfg.Now().UTC(), Connection: o.id.String(), Peer: o.peer, RefusalID: id.String(),
		Resource: o.volume, Decision: "refused", Reasons: d.reasons, Detail: "opening of a volume"}
	if now, err := o.b.clock.read(); err == nil {
		r.Time = now.Time()
	}
	if l := o.lease; l != nil {
		r.Grant, r.AgentKey, r.Epoch, r.EvidenceKind, r.EvidenceDigest = l.Lease.String(), l.AgentKey.ID(), l.Epoch, string(l.Kind), l.EvidenceDigest
	}
	if _, err := o.b.cfg.Audit.AppendBounded(ctx, cmp.Or(o.place.Source(), o.peer), o.lease != nil, r); err != nil {
		o.b.cfg.Logger.LogAttrs(ctx, slog.LevelError, "refusal not recorded", slog.String("refusal", id.String()), slog.Any("err", err))
	}
}
