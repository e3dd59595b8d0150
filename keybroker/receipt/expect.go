package receipt

import (
	"bytes"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Expect is what the reader of a receipt demands of it beyond the chain. What is left
// out is not checked, and the report says so.
type Expect struct {
	// Measurements must all be among the guest's.
	Measurements []evidence.Register
	// Images, Policies and Tenants are lists of which the guest must be in one place each.
	Images   []evidence.ImageDigest
	Policies []protocol.PolicyDigest
	Tenants  []string
	// ModelID is the model that must have answered.
	ModelID *[32]byte
	// MinEpoch is the lowest epoch that is still accepted, of whichever root's broker.
	MinEpoch uint64
	// Permits accepts answers of a guest that ran on a permit, without a lease. Without it they
	// are refused with [protocol.ReasonOnPermit].
	Permits bool
}

// check holds body and lease against the expectations. unrecorded is set where the lease
// is of version 1 and has no tenant.
func (e *Expect) check(b *Body, lease *protocol.LeaseCertificate, unrecorded error) error {
	for _, want := range e.Measurements {
		i := slices.IndexFunc(lease.Registers, func(r evidence.Register) bool { return r.Name == want.Name })
		if i < 0 {
			return refusal.New(ReasonMeasurement, "the guest has no measurement %q", want.Name)
		}
		if got := lease.Registers[i].Value; !bytes.Equal(got, want.Value) {
			return refusal.New(ReasonMeasurement, "the guest's measurement %s is %x, expected %x", want.Name, []byte(got), []byte(want.Value))
		}
	}
	switch {
	case len(e.Images) > 0 && !slices.Contains(e.Images, lease.Image):
		return refusal.New(ReasonImage, "the guest's image is %s, which is not expected", lease.Image)
	case len(e.Policies) > 0 && !slices.Contains(e.Policies, protocol.PolicyDigest(lease.PolicyDigest)):
		return refusal.New(ReasonPolicy, "the decision was by policy %s version %d, digest %x, which is not expected", lease.PolicyID, lease.PolicyVersion, lease.PolicyDigest)
	case e.ModelID != nil && *e.ModelID != b.ModelID:
		return refusal.New(ReasonModel, "model %x answered, expected %x", b.ModelID, *e.ModelID)
	case len(e.Tenants) > 0 && unrecorded != nil:
		return unrecorded
	case len(e.Tenants) > 0 && lease.Tenant == "":
		return refusal.New(ReasonTenant, "policy %s did not check this guest's tenant, so the lease names none", lease.PolicyID)
	case len(e.Tenants) > 0 && !slices.Contains(e.Tenants, lease.Tenant):
		return refusal.New(ReasonTenant, "the guest works for tenant %q, which is not expected", lease.Tenant)
	}
	return nil
}

// Unchecked is one thing that a verified receipt does not prove.
type Unchecked struct {
	Name   string `json:"name"`   // such as "measurement"
	Detail string `json:"detail"` // what may be otherwise, for people
}

// unchecked lists what nobody asked, and what no receipt can say.
func unchecked(r *Report, o Options, roots int) []Unchecked {
	list := []Unchecked{}
	add := func(missing bool, name, detail string) {
		if missing {
			list = append(list, Unchecked{name, detail})
		}
	}
	e := &o.Expect
	add(!r.AuthorityRecorded, "authority", "authority not recorded: a lease of version 1 does not say which models' keys it was granted; any attested guest could have signed this")
	add(roots > 1, "root", "which of the roots that you gave had to vouch: it was the one that is named")
	add(len(e.Measurements) == 0, "measurement", "whether this is the guest that you expect, by its measurements")
	add(len(e.Images) == 0, "image", "whether this is the image that you expect, by its digest")
	add(len(e.Policies) == 0, "policy", "whether the broker decided by the policy that you expect")
	add(e.ModelID == nil, "model", "whether this is the model that you expect, by its id")
	add(len(e.Tenants) == 0, "tenant", "whom the guest worked for")
	add(e.MinEpoch == 0, "epoch floor", "whether the broker's epoch is one that you still accept")
	add(true, "epoch since", "whether the root retired the epoch after the answer, because its key was stolen")
	add(true, "platform since", "whether the processor, its keys or its firmware were revoked after the guest was attested")
	add(r.Permit != nil, "since the restart", "what the guest was when it answered: it was attested before it restarted, and its times are its own word")
	add(!r.InputShown, "input", "what was asked")
	add(!r.OutputShown, "output", "what was answered")
	add(r.SoftwareTEE, "software TEE", "the evidence is of a software TEE, for tests: measurement, image and place of the guest are its own word")
	return list
}
