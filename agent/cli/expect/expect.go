// Package expect reads what someone who verifies receipts and proofs expects of the guest, and
// prints what was not checked.
//
// Only what was asked for is expected, with one exception: a guest in a software TEE is refused
// unless the flag accepts it.
package expect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// The words of the flags that say what is expected, and of a guest as it is shown.
const (
	flagMeasurement       = "the guest's measurement in hexadecimal, with or without sha384: in front: the launch digest, or NAME=HEX for another register (repeat for several, which must all hold)"
	flagImage             = "digest of the guest's image, sha256:... (repeat to accept any of several)"
	flagPolicy            = "digest of the policy that decided, in hexadecimal (repeat to accept any of several)"
	flagTenant            = "tenant that the policy checked (repeat to accept any of several)"
	flagModelID           = "id of the model, as \"anchorhold seal\" printed it"
	flagMinEpoch          = "refuse receipts from the broker's epochs below this one"
	flagAcceptSoftwareTEE = "accept receipts of a software TEE, for tests: no hardware vouches for the guest"
	flagAcceptPermit      = "accept answers of a guest that restarted without its broker, on a permit: it was last attested when its lease began"
	measurementInvalid    = "%q is not a measurement: want [NAME=]HEX, as \"anchorhold evidence\" and leases show it (48 bytes for SEV-SNP)"
	modelIDInvalid        = "want 64 hexadecimal digits"
	softwareTEERefused    = "all signatures hold, but the guest was a software TEE, which proves nothing: no hardware vouches for what ran (--accept-software-tee accepts it, for tests)"
	guestBroker           = "  broker       %s, epoch %d\n  guest        %s, lease %s\n"
	guestMeasurement      = "  measurement  %s %x\n"
	guestImage            = "  image        %s, calls itself %q\n  policy       %s version %d, digest %s\n"
	guestNoAuthority      = "  authority    not recorded: the lease does not say what it was granted"
	guestTenant           = "  tenant       %s\n  roles        %s\n"
	guestGranted          = "  granted      %s version %d, the key of this model\n"
	guestTenantUnchecked  = "not checked by the policy"
	uncheckedLine         = "  NOT CHECKED  %s: %s%s\n"
	optionRoot            = "--root alone"
)

// Expectation is what a reader of receipts expects, as given on the command line.
type Expectation struct {
	measurements, images, policies, tenants []string
	model                                   string
	minEpoch                                uint64
	software, permits                       bool
}

// Flags adds the flags.
func (e *Expectation) Flags(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVar(&e.measurements, "measurement", nil, flagMeasurement)
	f.StringSliceVar(&e.images, "image", nil, flagImage)
	f.StringSliceVar(&e.policies, "policy", nil, flagPolicy)
	f.StringSliceVar(&e.tenants, "tenant", nil, flagTenant)
	f.StringVar(&e.model, "model-id", "", flagModelID)
	f.Uint64Var(&e.minEpoch, "min-epoch", 0, flagMinEpoch)
	f.BoolVar(&e.permits, "accept-permit", false, flagAcceptPermit)
	f.BoolVar(&e.software, "accept-software-tee", false, flagAcceptSoftwareTEE)
}

// Parse reads what was given; what was not is not expected.
func (e *Expectation) Parse() (receipt.Expect, error) {
	out := receipt.Expect{Tenants: e.tenants, MinEpoch: e.minEpoch, Permits: e.permits}
	bad := func(flag string, err error) (receipt.Expect, error) {
		return receipt.Expect{}, cli.Usage(fmt.Errorf("--%s: %w", flag, err))
	}
	for _, text := range e.measurements {
		r := evidence.Register{Name: evidence.RegisterLaunch}
		if name, value, named := strings.Cut(text, "="); named {
			r.Name, text = name, value
		}
		value, err := hex.DecodeString(strings.TrimPrefix(text, "sha384:"))
		if r.Value = value; err != nil || !r.Valid() {
			return bad("measurement", fmt.Errorf(measurementInvalid, text))
		}
		out.Measurements = append(out.Measurements, r)
	}
	for _, text := range e.images {
		d, err := evidence.ParseImageDigest(text)
		if err != nil {
			return bad("image", err)
		}
		out.Images = append(out.Images, d)
	}
	for _, text := range e.policies {
		var d protocol.PolicyDigest
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return bad("policy", err)
		}
		out.Policies = append(out.Policies, d)
	}
	if e.model != "" {
		id, err := hex.DecodeString(e.model)
		if err != nil || len(id) != 32 {
			return bad("model-id", errors.New(modelIDInvalid))
		}
		out.ModelID = (*[32]byte)(id)
	}
	return out, nil
}

// Vouched refuses what holds by its signatures alone: a guest in a software TEE says of itself
// whatever it likes.
func (e *Expectation) Vouched(software bool) error {
	if !software || e.software {
		return nil
	}
	return refusal.New(policy.ReasonSoftwareTEE, softwareTEERefused)
}

// PrintGuest shows what a lease certificate says of a guest.
func PrintGuest(w io.Writer, g receipt.Guest, recorded bool) {
	fmt.Fprintf(w, guestBroker, g.Broker, g.Epoch, g.Kind, g.Lease)
	for _, r := range g.Measurements {
		fmt.Fprintf(w, guestMeasurement, r.Name, []byte(r.Value))
	}
	fmt.Fprintf(w, guestImage, g.Image, g.ImageID, g.Policy, g.PolicyVersion, g.PolicyDigest)
	if !recorded {
		fmt.Fprintln(w, guestNoAuthority)
		return
	}
	tenant := g.Tenant
	if tenant == "" {
		tenant = guestTenantUnchecked
	}
	fmt.Fprintf(w, guestTenant, tenant, g.Roles)
	if k := g.Granted; k != nil {
		fmt.Fprintf(w, guestGranted, k.Resource, k.Version)
	}
}

// PrintUnchecked says plainly what a receipt that holds leaves open.
func PrintUnchecked(w io.Writer, list []receipt.Unchecked) {
	for _, u := range list {
		fmt.Fprintf(w, uncheckedLine, u.Name, u.Detail, askedWith(u.Name))
	}
}

// askedWith names the option that would have it checked.
func askedWith(name string) string {
	option, ok := map[string]string{"root": optionRoot, "measurement": "--measurement", "image": "--image", "policy": "--policy", "tenant": "--tenant",
		"model": "--model-id", "epoch floor": "--min-epoch", "input": "--input", "output": "--output"}[name]
	if !ok {
		return ""
	}
	return " (" + option + ")"
}
