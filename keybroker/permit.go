package keybroker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Actions of the service records about restarts without the broker (docs/protocol.md 5.12).
const (
	ActionPermitted = "local-restart-permitted"
	ActionRestarted = "local-restart-used"
	actionReport    = "local-restart-report"
)

// afterwards is what is left of an exchange for a message of 5.12: nothing of the frames and the
// evidence, which may be large, and the connection is kept for long.
func (x *exchange) afterwards(conn stream) *exchange {
	base := x.baseRecord(audit.KindService)
	return &exchange{b: x.b, conn: conn, ekm: x.ekm, peer: x.peer, place: x.place, attested: x.attested, number: x.number, id: x.id, base: &base,
		epoch: x.epoch, claims: evidence.Claims{Kind: x.claims.Kind}, guest: x.guest, gives: x.gives, waived: x.waived, policy: x.policy,
		grant: x.grant, recorded: true, leased: x.leased, signedLease: x.signedLease, hashM6: protocol.HashMessage(x.release),
		attest: protocol.Attest{AgentKey: x.attest.AgentKey, Resources: x.attest.Resources}}
}

// mayPermit says whether the policy permits a restart with any of the keys.
func (x *exchange) mayPermit() bool {
	return slices.ContainsFunc(x.leased.Grants, func(g protocol.Granted) bool { return x.gives[g.Resource].restart.Lasts > 0 })
}

// soon waits for M8, which comes directly after M7 from a guest that wants it, and no longer than
// for any other message. It returns the first byte of whatever comes, and that none comes is no failure.
func (x *exchange) soon() []byte {
	first := make([]byte, 1)
	if x.conn.SetDeadline(time.Now().Add(x.b.cfg.Limits.Step)) != nil {
		return nil
	}
	if n, err := x.conn.Read(first); n != 1 || err != nil {
		return nil
	}
	return first
}

// next reads what follows an exchange: M8, which it answers, or M1 of the next one, which it
// returns. The connection is in order unless it returns an error, which the peer knows.
func (x *exchange) next(ctx context.Context) (hello []byte, err error) {
	defer func() {
		for _, release := range x.letGo {
			release()
		}
		x.letGo = nil
	}()
	t, frame, err := x.receiveAny(ctx, x.b.cfg.Limits.Step, protocol.TypePermitRequest, protocol.TypeHello)
	if err == nil && t == protocol.TypeHello {
		return frame, nil
	}
	if err == nil {
		err = x.guarded(ctx, func(ctx context.Context) error { return x.answerPermit(ctx, frame) })
	}
	if err != nil {
		x.refuse(ctx, err)
	}
	return nil, err
}

// answerPermit takes M8 and sends M9 (5.12). What it says is on record before it leaves.
func (x *exchange) answerPermit(ctx context.Context, frame []byte) error {
	var m8 protocol.PermitRequest
	if err := protocol.Parse(frame, &m8); err != nil {
		return err
	}
	if err := m8.Verify(x.attest.AgentKey, x.ekm, x.hashM6); err != nil {
		return err
	}
	now, err := x.b.clock.read()
	if err != nil {
		return err
	}
	if !x.leased.ValidAt(now) {
		return refusal.New(protocol.ReasonGrantExpired, "the lease %s ended before a permit was asked for", x.leased.Lease)
	}
	if x.b.cfg.Ended != nil {
		done, err := x.b.cfg.Ended(x.attest.AgentKey.ID(), x.base.ChipDigest)
		if err != nil {
			return err
		}
		defer done()
	}
	var records []audit.Record
	if len(m8.Restarts) > 0 {
		if err := x.verifying(ctx, func() error { records = x.restartRecords(&m8); return nil }); err != nil {
			return err
		}
	}
	m9 := &protocol.PermitAnswer{}
	if m8.Sealing != 0 {
		permit, record, err := x.permit(&m8, now)
		if err != nil {
			return err
		}
		if reason, refused := refusal.ReasonOf(record.err); refused {
			m9.Reason = reason
			x.log(ctx, slog.LevelInfo, "no permit for a restart", slog.String("reason", string(reason)), slog.Any("err", record.err))
		} else {
			m9.Permit, records = permit, append(records, record.Record)
		}
	}
	if len(records) > 0 {
		if _, err := x.b.cfg.Audit.AppendAll(ctx, records...); err != nil {
			return because(protocol.ReasonAuditUnavailable, err)
		}
	}
	return x.send(len(x.frames), m9)
}

// permitted is the record of a permit, or why there is none.
type permitted struct {
	audit.Record
	err error
}

// permit decides on a permit by the policy that granted the lease, and signs it. The keys are those
// for which the policy permits this way to seal; the strictest of their rules counts.
func (x *exchange) permit(m8 *protocol.PermitRequest, now protocol.Time) ([]byte, permitted, error) {
	p := protocol.Permit{Broker: x.leased.Broker, Epoch: x.leased.Epoch, Lease: x.leased.Lease, Certificate: x.signedLease, Claims: x.base.ClaimsDigest,
		RestartKey: m8.RestartKey, Sealing: m8.Sealing, NotBefore: now}
	lasts, waived := protocol.MaxPermit, slices.Clone(x.waived)
	for _, g := range x.leased.Grants {
		rule := x.gives[g.Resource].restart
		if !rule.Permits(m8.Sealing) || !g.Roles.Has(protocol.RoleServe) {
			continue
		}
		p.Keys = append(p.Keys, protocol.Permitted{Resource: g.Resource, Version: g.Version})
		lasts = min(lasts, rule.Lasts)
		switch {
		case m8.Sealing.Counts() && (p.Restarts == 0 || rule.Most < p.Restarts):
			p.Restarts = rule.Most
		case !m8.Sealing.Counts() && !slices.Contains(waived, rule.NotCounted()):
			waived = append(waived, rule.NotCounted())
		}
	}
	p.NotAfter = min(now.Add(lasts), x.epoch.NotAfter)
	switch {
	case len(p.Keys) == 0 && x.mayPermit():
		return nil, permitted{err: refusal.New(protocol.ReasonSealing, "the policy permits no restart with keys sealed with %s", m8.Sealing)}, nil
	case len(p.Keys) == 0:
		return nil, permitted{err: refusal.New(protocol.ReasonNoPermit, "the policy permits no restart")}, nil
	case x.guest.ClockSource == evidence.ClockUnknown:
		return nil, permitted{err: refusal.New(protocol.ReasonRestartClock, "the guest does not know its clock, by which a permit ends")}, nil
	case p.NotAfter <= now:
		return nil, permitted{err: refusal.New(protocol.ReasonNoPermit, "the epoch ends at %s", x.epoch.NotAfter.Time())}, nil
	}
	done := x.epoch.signer.Enter()
	defer done()
	signed, err := protocol.SignPermit(x.epoch.signer, p)
	if err != nil {
		return nil, permitted{}, err
	}
	r := x.baseRecord(audit.KindService)
	r.Action, r.Decision, r.Expiry, r.MessageDigest, r.Waived = ActionPermitted, "allowed", p.NotAfter.Time(), digest.Of(signed), waived
	r.Detail = fmt.Sprintf("restarts %d sealed with %s keys %s", p.Restarts, p.Sealing, p.KeyNames())
	return signed, permitted{Record: r}, nil
}

// restartRecords are the records of a report: of each restart that a permit of this broker's
// covers, and of what does not verify an anomaly. The keys have been used by now, so nothing is refused for it.
func (x *exchange) restartRecords(m8 *protocol.PermitRequest) (records []audit.Record) {
	chain, err := protocol.ParsePermitChain(m8.Report)
	for _, signed := range m8.Restarts {
		r := x.baseRecord(audit.KindService)
		r.Action, r.MessageDigest, r.Expiry = ActionRestarted, digest.Of(chain.Permit), time.Time{}
		var a protocol.Authority
		if err == nil {
			chain.Restart = signed
			a, err = chain.VerifyPermit([]identity.Public{x.b.cfg.Root})
		}
		if err != nil {
			r.Kind, r.Action, r.Reasons = audit.KindAnomaly, actionReport, denied(err).reasons
			return append(records, r)
		}
		run := a.Permit
		r.Grant, r.Expiry = run.Permit.Lease.String(), run.Permit.NotAfter.Time()
		r.Detail = fmt.Sprintf("restart %d of %d at %s by the guest's clock (%s), sealed with %s, agent key %x", run.Restart.Number, run.Permit.Restarts,
			run.Restart.At.Time().Format(time.RFC3339), run.Restart.Clock, run.Permit.Sealing, run.Restart.AgentKey.ID())
		records = append(records, r)
	}
	return records
}
