package keybroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keyseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// sendRelease is the step that lets keys out (5.6). Its order is the point: the
// record is durable before a key is read, so a crash may leave a record of a
// release that never happened, never the reverse.
func (x *exchange) sendRelease(ctx context.Context) error {
	m6, grants, err := x.recordRelease(ctx)
	if err != nil {
		return err
	}
	transcript := protocol.Transcript(x.ekm, x.frames[0], x.frames[1], x.frames[2], x.frames[3], x.frames[4])
	left := protocol.MaxReleasedBytes
	for i := range m6.Items {
		size, err := x.seal(ctx, &m6.Items[i], i, transcript, left)
		if err != nil {
			return err
		}
		left -= size
	}
	if err := x.certify(m6, grants, transcript); err != nil {
		return err
	}
	// The clock is asked once more: appending may have waited for a slow disk.
	if err := x.checkGrantTime(); err != nil {
		return err
	}
	if err := x.send(5, m6); err != nil {
		return err
	}
	x.log(ctx, slog.LevelInfo, "keys released", slog.String("lease", x.grant.Lease.String()),
		slog.Any("resources", x.request.Resources), slog.Uint64("audit", m6.AuditIndex))
	return nil
}

// recordRelease makes the decision durable in one step: the grant, and each key that
// is about to leave, by version. The release carries the leaf of the last record.
func (x *exchange) recordRelease(ctx context.Context) (*protocol.Release, []protocol.Granted, error) {
	m6 := &protocol.Release{Items: make([]protocol.Item, len(x.request.Resources))}
	grants := make([]protocol.Granted, len(x.request.Resources))
	records := []audit.Record{x.grantRecord()}
	for i, name := range x.request.Resources {
		info, err := x.choose(ctx, name)
		if err != nil {
			return nil, nil, because(protocol.ReasonResourceUnavailable, err)
		}
		r := x.baseRecord(audit.KindRelease)
		r.Decision, r.Resource, r.ResourceVersion = "allowed", name, info.Version
		r.Detail = ReleaseDetail{x.request.Idempotency.String(), x.guest.ImageID, x.tenant()}.String()
		records = append(records, r)
		m6.Items[i].Resource, m6.Items[i].Version = name, info.Version
		grants[i] = protocol.Granted{Resource: name, Version: info.Version, Subject: info.Subject}
	}
	// Held until the record is durable: what an operator is told of the leases that still
	// run is then all of them.
	done, err := x.checkEnded()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	x.recorded = true
	leaves, err := x.b.cfg.Audit.AppendAll(ctx, records...)
	if err != nil {
		return nil, nil, because(protocol.ReasonAuditUnavailable, err)
	}
	last := leaves[len(leaves)-1]
	m6.AuditIndex, m6.AuditLeaf = last.Index, last.Hash
	return m6, grants, nil
}

// ReleaseDetail is what the record of a release says in words.
type ReleaseDetail struct{ Request, ImageID, Tenant string }

const releaseDetail = "request %s image %q tenant %q"

// String is the record's text.
func (d ReleaseDetail) String() string {
	return fmt.Sprintf(releaseDetail, d.Request, d.ImageID, d.Tenant)
}

// ParseReleaseDetail reads it. Of a record of an earlier version it knows the request alone.
func ParseReleaseDetail(text string) (d ReleaseDetail) {
	_, _ = fmt.Sscanf(text, releaseDetail, &d.Request, &d.ImageID, &d.Tenant) // reads as far as it goes
	return d
}

// tenant is the one that the lease will name, if any.
func (x *exchange) tenant() (tenant string) {
	for _, name := range x.request.Resources {
		if given := x.gives[name]; given.tenant != "" {
			tenant = given.tenant
		}
	}
	return tenant
}

// choose picks the version of a key (5.6): the one that opens the first of the guest's
// sealed files that has one, so that a newer key takes none of its models away; else the
// newest. What it opens to compare stays here.
func (x *exchange) choose(ctx context.Context, name string) (keystore.Info, error) {
	for _, sealed := range x.request.Sealed {
		if sealed.Resource != name {
			continue
		}
		for _, f := range sealed.Files {
			info, err := x.b.cfg.Secrets.ForFile(ctx, name, keystore.File(f))
			if !errors.Is(err, keystore.ErrNotFound) {
				return info, err
			}
		}
	}
	return x.b.cfg.Secrets.Stat(ctx, name, 0)
}

// seal fetches one key, seals it to KK and wipes it. left is how many bytes the release still has
// room for; it returns how many the key took.
func (x *exchange) seal(ctx context.Context, item *protocol.Item, sequence int, transcript protocol.Digest, left int) (int, error) {
	secret, _, err := x.b.cfg.Secrets.Get(ctx, item.Resource, item.Version)
	if err != nil {
		return 0, because(protocol.ReasonResourceUnavailable, err)
	}
	defer secret.Wipe()
	if secret.Len() > protocol.MaxKeyBytes {
		return 0, refusal.New(protocol.ReasonResourceUnavailable, "%s has %d bytes, a release carries %d", item.Resource, secret.Len(), protocol.MaxKeyBytes)
	}
	if secret.Len() > left {
		return 0, refusal.New(protocol.ReasonResourceUnavailable, "%s has %d bytes, and the release, which carries %d, has room for %d more", item.Resource, secret.Len(), protocol.MaxReleasedBytes, left)
	}
	info := protocol.KeyInfo(transcript, x.grant.Lease, item.Resource, item.Version, sequence, x.grant.LeaseEnd)
	sealed, err := keyseal.Seal(x.attest.KEMKey, info, secret, protocol.ReceiptKey)
	item.Enc, item.Ciphertext = sealed.Enc, sealed.Ciphertext
	x.receiptKey = append(x.receiptKey, sealed.Export...)
	return secret.Len(), err
}

// certify signs the lease certificate, and with it the whole release (3.5). It says what
// this release granted and nothing more: a resource that the policy allowed and the guest
// did not request gives it no role.
func (x *exchange) certify(m6 *protocol.Release, grants []protocol.Granted, transcript protocol.Digest) error {
	exchange, err := m6.Exchange(transcript)
	if err != nil {
		return err
	}
	cert, err := x.certificate(grants)
	if err != nil {
		return err
	}
	cert.Exchange = exchange
	m6.Lease, err = protocol.SignLease(x.epoch.signer, cert)
	x.leased, x.signedLease = cert, digest.Of(m6.Lease)
	x.signed()
	return err
}

// certificate says who the guest is and what it is granted: the policy's roles are put to
// each key.
func (x *exchange) certificate(grants []protocol.Granted) (protocol.LeaseCertificate, error) {
	cert := protocol.LeaseCertificate{
		Lease: x.grant.Lease, Broker: x.epoch.Broker, Epoch: x.epoch.Epoch, AgentKey: x.attest.AgentKey,
		Kind: x.evidence.Kind, SoftwareTEE: x.claims.SoftwareTEE, EvidenceDigest: x.evidence.Digest(),
		Processor: protocol.ProcessorOf(x.epoch.Broker, x.epoch.Epoch, x.evidence.Kind, x.claims.Processor()),
		Registers: x.claims.Image(x.policy.CountedPCRs(x.claims)...), Grants: grants,
		ImageID: x.guest.ImageID, PolicyID: x.grant.PolicyID, PolicyVersion: x.grant.PolicyVersion, PolicyDigest: x.grant.PolicyDigest,
		NotBefore: x.grant.BrokerTime, NotAfter: x.grant.LeaseEnd,
	}
	for i := range grants {
		given := x.gives[grants[i].Resource]
		grants[i].Roles = given.roles
		if given.tenant != "" {
			cert.Tenant = given.tenant
		}
	}
	var err error
	cert.Image, err = evidence.ImageOf(cert.Kind, cert.Registers)
	return cert, err
}

// readReceipt reads M7 and records it, or records that none came (5.7). The key
// has left by now and nothing here can take it back, so that nothing waits for the
// record either. It says whether a right one came.
func (x *exchange) readReceipt(ctx context.Context) bool {
	r := x.baseRecord(audit.KindReceipt)
	r.Decision = "confirmed"
	err := x.acceptReceipt(ctx)
	r.Time = x.recordTime()
	if err != nil {
		d := denied(err)
		var end *connectionEnd
		if errors.As(err, &end) {
			d = because(protocol.ReasonReceiptMissing, err)
		}
		r.Kind, r.Decision, r.Reasons = audit.KindAnomaly, "", d.reasons
		x.log(ctx, slog.LevelWarn, "release without a valid receipt", slog.String("reason", string(d.code())))
	}
	r.MessageDigest = digest.Digest(digest32(x.release))
	// The connection's context may be over; the record is still wanted.
	if err := x.b.cfg.Audit.AppendLater(context.WithoutCancel(ctx), r); err != nil {
		x.log(ctx, slog.LevelError, "receipt not recorded", slog.Any("err", err))
	}
	return r.Kind == audit.KindReceipt
}

func (x *exchange) acceptReceipt(ctx context.Context) error {
	frame, err := x.receive(ctx, protocol.TypeReceipt, x.b.cfg.Limits.Step)
	if err != nil {
		return err
	}
	var m7 protocol.Receipt
	if err := protocol.Parse(frame, &m7); err != nil {
		return err
	}
	return m7.Verify(x.receiptKey, x.ekm, protocol.HashMessage(x.release))
}
