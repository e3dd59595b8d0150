package round

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/spf13/cobra"
)

// The words of the flags that name guests.
const (
	guestFlagTenant    = "tenants whose guests may %s, where the broker's policy checks tenants"
	guestFlagImage     = "images whose guests may %s (digests as in a lease, sha256:...)"
	guestFlagPolicy    = "policies under which guests may %s (digests as in anchorhold policy list)"
	guestFlagAll       = "%q: every guest to which a policy gives the role may %s"
	guestNobody        = "say who may %s: --%s-tenant, --%s-image or --%s-policy (guests must match each one given), or --%ss %s"
	guestImageInvalid  = "--%s-image %s: %w"
	guestPolicyInvalid = "--%s-policy %s: %w"
	guestOneWord       = "--%ss accepts only the word %s"
	guestInvalid       = "who may %s: %w"
	guestsWithKey      = "with --key, the agents that set up the key decrypt: leave out the flags that say who may decrypt"
)

// everyone is the word for an audience of whoever has the role.
const everyone = "everyone"

// guestFlags name the guests that may do something in a round.
type guestFlags struct {
	flag, verb                string // "contributor", "contribute"
	all                       string
	tenants, images, policies []string
}

// add defines the flags.
func (g *guestFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVar(&g.tenants, g.flag+"-tenant", nil, fmt.Sprintf(guestFlagTenant, g.verb))
	f.StringSliceVar(&g.images, g.flag+"-image", nil, fmt.Sprintf(guestFlagImage, g.verb))
	f.StringSliceVar(&g.policies, g.flag+"-policy", nil, fmt.Sprintf(guestFlagPolicy, g.verb))
	f.StringVar(&g.all, g.flag+"s", "", fmt.Sprintf(guestFlagAll, everyone, g.verb))
}

func (g *guestFlags) named() bool {
	return g.all != "" || len(g.tenants) > 0 || len(g.images) > 0 || len(g.policies) > 0
}

// audience reads the flags. Nobody named is an error that says what to write.
func (g *guestFlags) audience() (a protocol.Audience, err error) {
	if !g.named() {
		return a, cli.Usage(fmt.Errorf(guestNobody, g.verb, g.flag, g.flag, g.flag, g.flag, everyone))
	}
	a.Tenants, a.Everyone = g.tenants, g.all == everyone
	for _, text := range g.images {
		var d evidence.ImageDigest
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return a, cli.Usage(fmt.Errorf(guestImageInvalid, g.flag, text, err))
		}
		a.Images = append(a.Images, d)
	}
	for _, text := range g.policies {
		var d protocol.PolicyDigest
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return a, cli.Usage(fmt.Errorf(guestPolicyInvalid, g.flag, text, err))
		}
		a.Policies = append(a.Policies, d)
	}
	if g.all != "" && g.all != everyone {
		return a, cli.Usage(fmt.Errorf(guestOneWord, g.flag, everyone))
	}
	a.Sort()
	if err := a.Check(); err != nil {
		return a, cli.Usage(fmt.Errorf(guestInvalid, g.verb, err))
	}
	return a, nil
}

// roundGuests are the flags of fed round open.
type roundGuests struct{ contributors, decryptors guestFlags }

func newRoundGuests(c *cobra.Command) *roundGuests {
	g := &roundGuests{guestFlags{flag: "contributor", verb: "contribute"}, guestFlags{flag: "decryptor", verb: "decrypt"}}
	g.contributors.add(c)
	g.decryptors.add(c)
	return g
}

// read returns who may do what. Where parties hold the key, it is they who decrypt.
func (g *roundGuests) read(parties bool) (contributors, decryptors protocol.Audience, err error) {
	if contributors, err = g.contributors.audience(); err != nil {
		return contributors, decryptors, err
	}
	if parties {
		if g.decryptors.named() {
			return contributors, decryptors, cli.Usage(errors.New(guestsWithKey))
		}
		return contributors, decryptors, nil
	}
	decryptors, err = g.decryptors.audience()
	return contributors, decryptors, err
}
