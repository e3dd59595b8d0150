package receipt

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Link is one step of the chain that was checked and holds.
type Link struct {
	Name   string `json:"name"`   // such as "lease certificate"
	Detail string `json:"detail"` // who vouches for what, for people
}

// Guest is what a lease certificate says about the guest that answered.
type Guest struct {
	Kind           evidence.Kind         `json:"evidence"`
	EvidenceDigest string                `json:"evidence_digest"`
	Processor      string                `json:"processor"` // by its name in this epoch; zeros if nobody knows which
	Measurements   []evidence.Register   `json:"measurements"`
	Image          evidence.ImageDigest  `json:"image"`
	ImageID        string                `json:"image_id"` // what the guest calls itself
	Tenant         string                `json:"tenant"`   // empty if the policy did not check it
	Roles          string                `json:"roles"`
	Policy         string                `json:"policy"`
	PolicyVersion  uint64                `json:"policy_version"`
	PolicyDigest   protocol.PolicyDigest `json:"policy_digest"`
	Granted        *GrantedKey           `json:"granted"` // nil in version 1
	AgentKey       string                `json:"agent_key"`
	Lease          string                `json:"lease"`
	Broker         string                `json:"broker"`
	Epoch          uint64                `json:"epoch"`
}

// GrantedKey is the key by which the lease speaks for the model.
type GrantedKey struct {
	Resource string `json:"resource"`
	Version  uint64 `json:"version"`
	ModelID  string `json:"model_id"`
}

// PermitUsed is the permit that a guest ran on when it answered.
type PermitUsed struct {
	Permit    digest.Digest `json:"permit"`
	Sealing   string        `json:"sealing"`
	Restart   uint16        `json:"restart"`  // zero if nobody counts
	Restarts  uint16        `json:"restarts"` // how many are permitted
	Restarted time.Time     `json:"restarted"`
	Until     time.Time     `json:"until"`
	// LeaseEnded is the end of the last lease, under which the broker attested the guest.
	LeaseEnded time.Time `json:"lease_ended"`
}

func permitOf(r *protocol.Running) *PermitUsed {
	if r == nil {
		return nil
	}
	return &PermitUsed{r.Digest, r.Permit.Sealing.String(), r.Restart.Number, r.Permit.Restarts, r.Restart.At.Time(), r.Permit.NotAfter.Time(), r.LeaseEnd.Time()}
}

func guestOf(b *Body, c *protocol.LeaseCertificate) Guest {
	agent := c.AgentKey.ID()
	g := Guest{Kind: c.Kind, EvidenceDigest: hex.EncodeToString(c.EvidenceDigest[:]), Processor: hex.EncodeToString(c.Processor[:]), Measurements: c.Registers, Image: c.Image, ImageID: c.ImageID,
		Tenant: c.Tenant, Roles: c.Roles().String(), Policy: c.PolicyID, PolicyVersion: c.PolicyVersion, PolicyDigest: c.PolicyDigest,
		AgentKey: hex.EncodeToString(agent[:]), Lease: c.Lease.String(), Broker: hex.EncodeToString(c.Broker[:]), Epoch: c.Epoch}
	if i := slices.IndexFunc(c.Grants, func(k protocol.Granted) bool { return k.Subject == b.ModelID }); i >= 0 {
		g.Granted = &GrantedKey{c.Grants[i].Resource, c.Grants[i].Version, hex.EncodeToString(b.ModelID[:])}
	}
	return g
}

// explain writes down the chain, from what the verifier trusts to what it learns.
func (r *Report) explain() {
	add := func(name, format string, args ...any) {
		r.Links = append(r.Links, Link{Name: name, Detail: fmt.Sprintf(format, args...)})
	}
	add("broker root", "identity %x is one of the roots given", r.Epoch.Broker[:8])
	add("epoch statement", "the root certifies the broker's key for epoch %d, %s to %s",
		r.Epoch.Epoch, stamp(r.Epoch.NotBefore), stamp(r.Epoch.NotAfter))
	kind := string(r.Lease.Kind)
	if r.SoftwareTEE {
		kind = "software TEE (NO protection, for tests)"
	}
	until := r.Lease.NotAfter.Time()
	if r.Permit != nil {
		until = r.Permit.LeaseEnded
	}
	add("lease certificate", "the broker attested image %q (%s, image %s) under policy %s version %d and leased until %s",
		r.Lease.ImageID, kind, r.Lease.Image, r.Lease.PolicyID, r.Lease.PolicyVersion, until.Format(time.RFC3339))
	if k := r.Guest.Granted; k != nil {
		add("authority", "the lease has the roles %s and was granted %s version %d, the key of this model", r.Guest.Roles, k.Resource, k.Version)
	} else {
		add("authority", "authority not recorded: the lease is of version 1 and does not say which keys it was granted")
	}
	if p := r.Permit; p != nil {
		count := "not counted"
		if p.Restarts > 0 {
			count = fmt.Sprintf("number %d of %d", p.Restart, p.Restarts)
		}
		add("permit", "the guest restarted at %s without its broker (%s), on a permit of the lease until %s, with keys sealed by %s; the times are its own word",
			p.Restarted.Format(time.RFC3339), count, p.Until.Format(time.RFC3339), p.Sealing)
	}
	id := r.Lease.AgentKey.ID()
	add("agent key", "key %x, attested in lease %s, signed the body", id[:8], r.Lease.Lease)
	add("body", "model %s version %d (%x) answered with %d tokens to %d at %s, within the lease"+within(r.Permit),
		r.Body.ModelName, r.Body.ModelVersion, r.Body.ModelID[:8], r.Body.CompletionTokens, r.Body.PromptTokens, stamp(r.Body.Time))
	if r.InputShown {
		add("input", "the salt opens the input commitment to the bytes given")
	}
	if r.OutputShown {
		add("output", "the salt opens the output commitment to the bytes given")
	}
}

func within(p *PermitUsed) string {
	if p == nil {
		return ""
	}
	return "'s permit"
}

func stamp(t protocol.Time) string { return t.Time().Format(time.RFC3339) }
