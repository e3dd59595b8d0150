package broker

import (
	"context"
	"errors"
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

// NewLeases is the command "leases".
func NewLeases(inv *cli.Invocation) *cobra.Command {
	list := dial.Operate(inv, "list", "List the leases that run, and who was ended", "  anchorhold leases list\n  anchorhold leases list --json", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			all, err := b.Leases(ctx)
			return all, func(w io.Writer) { printLeases(w, all) }, err
		})
	list.Long = `Lists the leases that run, newest first, as the audit log has them: each with its agent key,
processor (the SHA-256 of the chip's id), image, tenant, released keys and end. A guest that
renewed has two for a while. Then who was ended.`
	c := cli.Subcommands("leases", "List leases that run, and end renewals",
		"A lease lasts 15 minutes at most and is renewed by a new attestation. What was granted\ncannot be called back; what comes after it can be refused.",
		list, newLeasesEnd(inv), newLeasesAllow(inv))
	dial.BrokerFlag(inv, c)
	return c
}

func printLeases(w io.Writer, all operator.LeaseList) {
	for _, l := range all.Leases {
		fmt.Fprintf(w, "lease      %s, until %s\n  agent      %s\n  processor  %s\n  image      %s (says it is %q)\n", l.Lease, l.Ends.Format(time.RFC3339), l.Agent, l.Processor, l.Image, l.ImageID)
		if l.Tenant != "" {
			fmt.Fprintf(w, "  tenant     %s\n", l.Tenant)
		}
		var keys []string
		for _, name := range slices.Sorted(maps.Keys(l.Resources)) {
			keys = append(keys, fmt.Sprintf("%s version %d", name, l.Resources[name]))
		}
		fmt.Fprintf(w, "  keys       %s\n", strings.Join(keys, ", "))
	}
	if all.More {
		fmt.Fprintln(w, "... and more than are listed")
	}
	if len(all.Leases) == 0 {
		fmt.Fprintln(w, "no lease runs")
	}
	for _, e := range all.Ended {
		fmt.Fprintf(w, "ended      %s, at %s\n", e.Who, e.At.Format(time.RFC3339))
	}
}

// subject is whom a command is about; exactly one field is set.
type subject struct{ lease, agent, processor string }

func (s *subject) name() (string, error) {
	var names []string
	for kind, id := range map[string]string{"lease": s.lease, "agent": s.agent, "processor": s.processor} {
		if id != "" {
			names = append(names, kind+"/"+id)
		}
	}
	if len(names) != 1 {
		return "", cli.Usage(errors.New("say whom by exactly one of the flags; \"anchorhold leases list\" shows their values"))
	}
	return names[0], nil
}

func newLeasesEnd(inv *cli.Invocation) *cobra.Command {
	var s subject
	c := dial.Operate(inv, "end", "Renew no lease of an agent or a processor any more",
		"  anchorhold leases end --lease 0a58be861184a6fe594f8c4aa79a7d6d\n  anchorhold leases end --agent 3c9d...\n  anchorhold leases end --processor 77e0...", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			name, err := s.name()
			if err != nil {
				return nil, nil, err
			}
			out, err := b.EndLeases(ctx, name)
			return out, func(w io.Writer) { printEnded(w, out) }, err
		})
	c.Long = `From now on the broker gives the agent, or every guest on the processor, no key and no lease:
such a guest is refused with "ended-by-operator". It is in the audit log and survives restarts.

A lease that was given cannot be called back: its guest has the keys, and may sign, until the
lease's end, which the command prints. Answers, receipts and contributions carry its
certificate until then.

--lease ends the agent that has the lease. An agent key lives for one boot: a guest that starts
anew has another, and gets a lease if the policy allows it. To keep a machine out name the
processor; to keep an image out, remove its reference value (anchorhold policy values remove).`
	c.Flags().StringVar(&s.lease, "lease", "", "the agent of this lease")
	c.Flags().StringVar(&s.agent, "agent", "", "the agent with this key, by its id")
	c.Flags().StringVar(&s.processor, "processor", "", "every guest on the processor, by the SHA-256 of its chip id")
	return c
}

func printEnded(w io.Writer, e operator.LeasesEnded) {
	fmt.Fprintf(w, "%s is ended: it gets no lease and no key any more\n", e.Who)
	if e.LastEnds.IsZero() {
		fmt.Fprintln(w, "none of its leases runs")
		return
	}
	fmt.Fprintf(w, "%d of its leases run and cannot be called back; the last certificate ends %s\n", len(e.Running), e.LastEnds.Format(time.RFC3339))
}

func newLeasesAllow(inv *cli.Invocation) *cobra.Command {
	var s subject
	c := dial.Operate(inv, "allow", "Take an end back", "  anchorhold leases allow --processor 77e0...", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			name, err := s.name()
			if err != nil {
				return nil, nil, err
			}
			out, err := b.AllowLeases(ctx, name)
			return out, func(w io.Writer) { fmt.Fprintf(w, "%s may get leases again, if the policy allows it\n", out.Who) }, err
		})
	c.Flags().StringVar(&s.agent, "agent", "", "the agent with this key, by its id")
	c.Flags().StringVar(&s.processor, "processor", "", "the processor, by the SHA-256 of its chip id")
	return c
}
