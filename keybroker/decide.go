package keybroker

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// appraise enforces 5.3 up to the claims: the agent key signed M3 on this
// connection, and the hardware's report binds exactly this connection, both
// hello messages, KK, AK and the guest's claims.
func (x *exchange) appraise(ctx context.Context) (err error) {
	hashM1, hashM2 := protocol.HashMessage(x.frames[0]), protocol.HashMessage(x.frames[1])
	if err := x.attest.Verify(x.ekm, hashM1, hashM2); err != nil {
		return err
	}
	if x.guest, err = evidence.ParseGuestClaims(x.attest.Claims); err != nil {
		return err
	}
	if x.evidence, err = evidence.ParseEnvelope(x.attest.Evidence); err != nil {
		return err
	}
	x.attest.Evidence = nil // its parts are copies: the budget counts the frame, and not three times its size
	if x.evidence.Kind != x.choice.Kind {
		return refusal.New(protocol.ReasonKindUnsupported, "evidence is %s, chosen was %s", x.evidence.Kind, x.choice.Kind)
	}
	now, err := x.b.clock.read()
	if err != nil {
		return err
	}
	binding := x.attest.Binding(x.ekm, hashM1, hashM2, x.guest.Digest())
	x.claims, err = x.b.cfg.Appraiser.Appraise(ctx, x.evidence, binding.Challenge(), now.Time())
	if err == nil {
		x.claimsDigest = x.claims.Digest()
	}
	return err
}

// checkEnded asks whether an operator ended this agent or its processor.
func (x *exchange) checkEnded() (done func(), err error) {
	if x.b.cfg.Ended == nil {
		return func() {}, nil
	}
	return x.b.cfg.Ended(x.attest.AgentKey.ID(), sha256.Sum256(x.claims.Processor()))
}

// decide asks the policy for every resource and fills the grant. One refused
// resource refuses the exchange: an agent asks for what it needs, and half of
// that would only fail later and less clearly (5.4).
func (x *exchange) decide(ctx context.Context) error {
	now, err := x.b.clock.read()
	if err != nil {
		return err
	}
	x.policy = x.b.cfg.Policy()
	if x.policy == nil {
		return refusal.New(protocol.ReasonNoPolicy, "no policy is loaded")
	}
	if !x.epoch.AllowsPolicy(x.policy.Digest()) {
		return refusal.New(protocol.ReasonPolicyNotPinned, "epoch %d pins another policy than %s", x.epoch.Epoch, x.policy.ID())
	}
	ttl := x.b.cfg.Limits.Lease
	if !x.b.pace.take(x.claims.Instance(), len(x.attest.Resources), now.Time()) {
		return refusal.New(protocol.ReasonBusy, "this guest asked for more than the %d keys in %s that limits.per_guest allows", x.b.cfg.Limits.PerGuest, PaceWindow)
	}
	x.asked = policy.Request{Now: now.Time(), Resources: x.attest.Resources, Claims: x.claims, Guest: x.guest}
	ruling := x.asked.Decide(x.policy)
	if !ruling.Allowed {
		return denialOf(ruling)
	}
	x.gives = make(map[string]authority, len(x.attest.Resources))
	for i, decision := range ruling.Decisions {
		x.waived = decision.Waived
		x.gives[x.attest.Resources[i]] = authority{decision.Roles, decision.Tenant, decision.Restart}
	}
	ttl = min(ttl, ruling.LeaseTTL).Truncate(time.Millisecond)
	if ttl <= 0 {
		return refusal.New(protocol.ReasonNoLease, "policy %s grants no lease time", x.policy.ID())
	}
	x.grant = protocol.Grant{
		Lease: newID[digest.Lease](), PolicyID: x.policy.ID(), PolicyVersion: x.policy.Version(), PolicyDigest: x.policy.Digest(),
		Resources: x.attest.Resources, BrokerTime: now, LeaseEnd: now.Add(ttl),
	}
	return nil
}

// passGate asks the broker's own state about every resource and about who gets it, by what
// the certificate will say.
func (x *exchange) passGate(ctx context.Context) error {
	if x.b.cfg.Gate == nil {
		return nil
	}
	grants := make([]protocol.Granted, len(x.attest.Resources))
	for i, name := range x.attest.Resources {
		grants[i].Resource = name
	}
	guest, err := x.certificate(grants)
	if err != nil {
		return err
	}
	for _, name := range x.attest.Resources {
		if err := x.b.cfg.Gate(ctx, name, &guest); err != nil {
			return err
		}
	}
	return nil
}

// authority is what the policy gives with one resource.
type authority struct {
	roles   protocol.Role
	tenant  string
	restart policy.Restarts
}

// denialOf keeps every reason of a ruling. A ruling without any is a
// refusal, too: silence is not consent.
func denialOf(r policy.Ruling) error {
	out := &denial{}
	for _, f := range r.Reasons {
		out.reasons = append(out.reasons, audit.Reason{Code: string(f.Reason), Detail: r.Refused + ": " + f.Detail})
	}
	if len(out.reasons) == 0 {
		return refusal.New(protocol.ReasonNoPolicy, "%s: refused without a reason", r.Refused)
	}
	return out
}

// baseRecord is what every record of this exchange says, as far as it is known.
func (x *exchange) baseRecord(kind audit.Kind) audit.Record {
	if x.base != nil {
		r := *x.base
		r.Kind, r.Time = kind, x.recordTime()
		return r
	}
	r := audit.Record{Kind: kind, Time: x.recordTime(), Connection: x.id.String(), Peer: x.peer}
	if x.epoch != nil {
		r.Epoch = x.epoch.Epoch
	}
	if !x.attest.AgentKey.IsZero() {
		r.AgentKey = x.attest.AgentKey.ID()
	}
	if x.evidence.Kind != "" {
		r.EvidenceKind, r.EvidenceDigest = string(x.evidence.Kind), x.evidence.Digest()
	}
	if x.claims.Kind != "" {
		r.ClaimsDigest = x.claimsDigest
		r.ChipDigest = sha256.Sum256(x.claims.Processor())
		if image := x.claims.Image(); len(image) > 0 {
			r.Measurement = image[0].Value.String()
		}
	}
	if x.policy != nil {
		r.PolicyID, r.PolicyVersion, r.PolicyDigest = x.policy.ID(), x.policy.Version(), x.policy.Digest()
		r.Waived = x.waived
	}
	if x.grant.LeaseEnd != 0 {
		r.Grant, r.Expiry = x.grant.Lease.String(), x.grant.LeaseEnd.Time()
	}
	return r
}

// recordTime is broker time, or the plain clock when broker time is what failed:
// the refusal must be recordable.
func (x *exchange) recordTime() time.Time {
	if now, err := x.b.clock.read(); err == nil {
		return now.Time()
	}
	return x.b.cfg.Now().UTC()
}

// grantRecord records the decision with everything that it rests on.
func (x *exchange) grantRecord() audit.Record {
	r := x.baseRecord(audit.KindGrant)
	r.Time, r.Decision = x.grant.BrokerTime.Time(), "allowed"
	r.Detail = x.describe()
	r.InputDigest = x.keepInput(false)
	return r
}

// keepInput keeps what the policy was asked, so that another policy can be asked the same later. It is
// zero if no policy was asked.
func (x *exchange) keepInput(refused bool) digest.Digest {
	if x.asked.Now.IsZero() {
		return digest.Digest{}
	}
	if x.input.IsZero() {
		document, err := x.asked.Document()
		if err != nil {
			return digest.Digest{} // no field of a request can fail to encode
		}
		x.input = x.b.cfg.Audit.KeepInput(x.asked.Now, document, refused)
	}
	return x.input
}

// recordUnused records a grant whose exchange ended before a release: nothing left,
// and the decision is still told.
func (x *exchange) recordUnused(ctx context.Context) {
	if x.grant.LeaseEnd == 0 || x.recorded {
		return
	}
	if err := x.b.cfg.Audit.AppendLater(context.WithoutCancel(ctx), x.grantRecord()); err != nil {
		x.log(ctx, slog.LevelError, "grant not recorded", slog.String("lease", x.grant.Lease.String()), slog.Any("err", err))
	}
}
