package broker

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of "leases".
const (
	leasesShort = "List active leases, and stop their renewal"
	leasesLong  = "A lease lasts at most 15 minutes and is renewed by a new attestation. What was granted\ncannot be revoked; its renewal can be refused."
)

// The words of "list".
const (
	leasesListUse     = "list"
	leasesListShort   = "List active leases, and who was ended"
	leasesListExample = "  anchorhold leases list\n  anchorhold leases list --json"
	leasesListLong    = `Lists the active leases, newest first, as the audit log has them: each with its agent
key, processor (the SHA-256 of the chip's id), image, tenant, released keys and end. A
guest that has renewed has two for a while. The agents and processors that were ended
follow.`
)

// The words of "end".
const (
	leasesEndUse     = "end"
	leasesEndShort   = "Stop renewing the leases of an agent or a processor"
	leasesEndExample = "  anchorhold leases end --lease 0a58be861184a6fe594f8c4aa79a7d6d\n  anchorhold leases end --agent 3c9d...\n  anchorhold leases end --processor 77e0..."
	leasesEndLong    = `From now on the broker gives the agent, or every guest on the processor, no key and no
lease: it is refused with "ended-by-operator". This is recorded in the audit log and
survives restarts.

A lease that was granted cannot be revoked: until it ends, at the time that the command
prints, its guest has the keys and may sign. Answers, receipts and contributions carry
its certificate until then.

--lease ends the agent that has the lease. An agent key lives for one boot: a guest that
restarts has another one, and gets a lease if the policy allows it. To keep a machine
out, name the processor; to keep an image out, remove its reference value (anchorhold
policy values remove).`
	leasesEndFlagLease     = "the agent of this lease"
	leasesEndFlagAgent     = "the agent with this key, by its id"
	leasesEndFlagProcessor = "every guest on the processor, by the SHA-256 of its chip id"
)

// The words of "allow".
const (
	leasesAllowUse           = "allow"
	leasesAllowShort         = "Let an agent or a processor that was ended get leases again"
	leasesAllowExample       = "  anchorhold leases allow --processor 77e0..."
	leasesAllowResult        = "%s may get leases again, if the policy allows it\n"
	leasesAllowFlagAgent     = "the agent with this key, by its id"
	leasesAllowFlagProcessor = "the processor, by the SHA-256 of its chip id"
)

// The words of a lease as it is shown, and of the flags that name one.
const (
	leaseHead        = "lease      %s, until %s\n  agent      %s\n  processor  %s\n  image      %s (says it is %q)\n"
	leaseTenant      = "  tenant     %s\n"
	leaseKeys        = "  keys       %s\n"
	leasesListMore   = "... and more"
	leasesListNone   = "no lease is active"
	leasesListEnded  = "ended      %s, at %s\n"
	leaseKey         = "%s version %d"
	leasesNoSubject  = "give exactly one of %s; \"anchorhold leases list\" shows their values"
	leasesEndFlags   = "--lease, --agent and --processor"
	leasesAllowFlags = "--agent and --processor"
	leasesEndResult  = "%s is ended: it gets no more leases or keys\n"
	leasesEndNone    = "none of its leases is active"
	leasesEndRunning = "leases that are active and cannot be revoked: %d; the last certificate ends %s\n"
)

// newLeases is the command "leases".
func newLeases(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("leases", leasesShort,
		leasesLong,
		newLeasesList(inv), newLeasesEnd(inv), newLeasesAllow(inv))
	dial.BrokerFlag(inv, c)
	return c
}

func newLeasesList(inv *cli.Invocation) *cobra.Command {
	c := &cobra.Command{Use: leasesListUse, Short: leasesListShort, Example: leasesListExample, Args: cobra.NoArgs, RunE: inv.RunE(runList)}
	c.Long = leasesListLong
	return c
}

func runList(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		all, err := b.Leases(ctx)
		all.Leases = append([]operator.Lease{}, all.Leases...) // in JSON an empty list is []
		return all, func(w io.Writer) { printLeases(w, all) }, err
	})
}

func printLeases(w io.Writer, all operator.LeaseList) {
	for _, l := range all.Leases {
		fmt.Fprintf(w, leaseHead, l.Lease, l.Ends.Format(time.RFC3339), l.Agent, l.Processor, l.Image, l.ImageID)
		if l.Tenant != "" {
			fmt.Fprintf(w, leaseTenant, l.Tenant)
		}
		var keys []string
		for _, name := range slices.Sorted(maps.Keys(l.Resources)) {
			keys = append(keys, fmt.Sprintf(leaseKey, name, l.Resources[name]))
		}
		fmt.Fprintf(w, leaseKeys, strings.Join(keys, ", "))
	}
	if all.More {
		fmt.Fprintln(w, leasesListMore)
	}
	if len(all.Leases) == 0 {
		fmt.Fprintln(w, leasesListNone)
	}
	for _, e := range all.Ended {
		fmt.Fprintf(w, leasesListEnded, e.Who, e.At.Format(time.RFC3339))
	}
}

// subject is whom a command is about; exactly one field is set, by one of the flags.
type subject struct{ lease, agent, processor string }

func (s *subject) name(flags string) (string, error) {
	var names []string
	for kind, id := range map[string]string{"lease": s.lease, "agent": s.agent, "processor": s.processor} {
		if id != "" {
			names = append(names, kind+"/"+id)
		}
	}
	if len(names) != 1 {
		return "", cli.Usage(fmt.Errorf(leasesNoSubject, flags))
	}
	return names[0], nil
}

// endOptions are the flags of "end".
type endOptions struct {
	s subject
}

func newLeasesEnd(inv *cli.Invocation) *cobra.Command {
	var o endOptions
	c := &cobra.Command{Use: leasesEndUse, Short: leasesEndShort, Example: leasesEndExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Long = leasesEndLong
	c.Flags().StringVar(&o.s.lease, "lease", "", leasesEndFlagLease)
	c.Flags().StringVar(&o.s.agent, "agent", "", leasesEndFlagAgent)
	c.Flags().StringVar(&o.s.processor, "processor", "", leasesEndFlagProcessor)
	return c
}

func (o *endOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		name, err := o.s.name(leasesEndFlags)
		if err != nil {
			return nil, nil, err
		}
		out, err := b.EndLeases(ctx, name)
		return out, func(w io.Writer) { printEnded(w, out) }, err
	})
}

func printEnded(w io.Writer, e operator.LeasesEnded) {
	fmt.Fprintf(w, leasesEndResult, e.Who)
	if e.LastEnds.IsZero() {
		fmt.Fprintln(w, leasesEndNone)
		return
	}
	fmt.Fprintf(w, leasesEndRunning, len(e.Running), e.LastEnds.Format(time.RFC3339))
}

// allowOptions are the flags of "allow".
type allowOptions struct {
	s subject
}

func newLeasesAllow(inv *cli.Invocation) *cobra.Command {
	var o allowOptions
	c := &cobra.Command{Use: leasesAllowUse, Short: leasesAllowShort, Example: leasesAllowExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.s.agent, "agent", "", leasesAllowFlagAgent)
	c.Flags().StringVar(&o.s.processor, "processor", "", leasesAllowFlagProcessor)
	return c
}

func (o *allowOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		name, err := o.s.name(leasesAllowFlags)
		if err != nil {
			return nil, nil, err
		}
		out, err := b.AllowLeases(ctx, name)
		return out, func(w io.Writer) { fmt.Fprintf(w, leasesAllowResult, out.Who) }, err
	})
}
