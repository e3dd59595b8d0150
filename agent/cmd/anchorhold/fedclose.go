package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/uplink"
	"github.com/spf13/cobra"
)

// localAggregator is an aggregator's admin socket. What comes from there is only
// handed on to those who verify it.
func localAggregator(socket string) *uplink.Client { return uplink.NewLocal(socket, nil) }

// aggregated is the sum of one cohort over all shards.
type aggregated struct {
	Round         federation.ID     `json:"round"`
	Count         int               `json:"count"`
	Sum           federation.Digest `json:"sum"`
	Cohort        federation.Digest `json:"cohort"`
	Blocks        int               `json:"blocks"`
	contributions [][]byte
	members       []federation.Digest
}

// complete returns the contributions that every shard has whole.
func complete(ctx context.Context, sockets []string, id federation.ID) ([][]byte, error) {
	count := map[federation.Digest]int{}
	var first [][]byte
	for i, socket := range sockets {
		list, err := localAggregator(socket).Contributions(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("%w: aggregator %s: %w", errRefused, socket, err)
		}
		if i == 0 {
			first = list
		}
		for _, signed := range list {
			count[federation.DigestOf(signed)]++
		}
	}
	return slices.DeleteFunc(first, func(signed []byte) bool { return count[federation.DigestOf(signed)] != len(sockets) }), nil
}

// aggregate has every shard add the same cohort.
func aggregate(ctx context.Context, sockets []string, id federation.ID, signed [][]byte) (aggregated, error) {
	a := aggregated{Round: id, Count: len(signed), contributions: signed}
	for _, s := range signed {
		a.members = append(a.members, federation.DigestOf(s))
	}
	a.Cohort = federation.CohortDigest(a.members)
	var hashes []federation.Digest
	for _, socket := range sockets {
		sum, err := localAggregator(socket).MakeSum(ctx, id, a.members)
		if err != nil {
			return a, fmt.Errorf("%w: aggregator %s: %w", errRefused, socket, err)
		}
		if sum.First != uint64(len(hashes)) {
			return a, fmt.Errorf("aggregator %s holds another part than its place in the list: name the shards in their order", socket)
		}
		hashes = append(hashes, sum.Hashes...)
	}
	a.Blocks, a.Sum = len(hashes), federation.UploadDigest(id, hashes)
	return a, nil
}

func newFedAggregate(inv *invocation) *cobra.Command {
	var sockets []string
	c := &cobra.Command{
		Use: "aggregate ROUND --aggregator SOCKET", Short: "Have the aggregators add what is complete; closes nothing",
		Example: "  anchorhold fed aggregate 5f2c... --aggregator /run/anchorhold-aggregator/admin.sock", Args: exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseRound(args[0])
			if err != nil {
				return err
			}
			signed, err := complete(c.Context(), sockets, id)
			if err != nil {
				return err
			}
			a, err := aggregate(c.Context(), sockets, id, signed)
			if err != nil {
				return err
			}
			return inv.print(c.OutOrStdout(), a, func(w io.Writer) {
				fmt.Fprintf(w, "%d contributions added, %d blocks, sum %s\n", a.Count, a.Blocks, a.Sum)
			})
		},
	}
	aggregatorFlag(c, &sockets)
	return c
}

func aggregatorFlag(c *cobra.Command, sockets *[]string) {
	c.Flags().StringSliceVar(sockets, "aggregator", []string{"/run/anchorhold-aggregator/admin.sock"}, "admin socket of an aggregator (repeat for shards, in their order)")
}

// closed is what closing a round came to.
type closed struct {
	aggregated
	Refused []rounds.Admission `json:"refused,omitempty"`
}

func newRoundClose(inv *invocation) *cobra.Command {
	var sockets []string
	c := &cobra.Command{
		Use: "close ROUND --aggregator SOCKET", Short: "Admit what is complete, add it, and close the round over it for ever",
		Long: `Hands the complete contributions to the broker, which verifies each; has the
aggregators add those that it admits; has the broker close the round over that
cohort and sum; and hands the broker's ticket to the aggregators. From then on
the sum can be decrypted, once, and the round takes nothing more. Run again after
an interruption, it goes on where it stopped.`,
		Example: "  anchorhold fed round close 5f2c... --aggregator /run/anchorhold-aggregator/admin.sock", Args: exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseRound(args[0])
			if err != nil {
				return err
			}
			result, err := closeRound(c.Context(), brokerClient(inv, c), sockets, id)
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			return inv.print(c.OutOrStdout(), result, func(w io.Writer) {
				fmt.Fprintf(w, "round %s is closed over %d contributions, sum %s\n", id, result.Count, result.Sum)
				for _, r := range result.Refused {
					fmt.Fprintf(w, "  refused %s: %s\n", r.Contribution, r.Detail)
				}
			})
		},
	}
	aggregatorFlag(c, &sockets)
	return c
}

// admitBatch bounds one request to the broker.
const admitBatch = 128

func closeRound(ctx context.Context, broker *operator.Client, sockets []string, id federation.ID) (closed, error) {
	st, err := broker.Round(ctx, id)
	if err != nil {
		return closed{}, err
	}
	if st.State != rounds.Open { // an earlier run was interrupted after the broker closed
		return closed{aggregated: aggregated{Round: id, Count: len(st.Members)}}, handTicket(ctx, sockets, id, st.Ticket)
	}
	blocks, err := st.Round.Blocks()
	if err != nil {
		return closed{}, err
	}
	signed, err := complete(ctx, sockets, id)
	if err != nil {
		return closed{}, err
	}
	var result closed
	admitted := map[federation.Digest]bool{}
	for batch := range slices.Chunk(signed, admitBatch) {
		list, err := broker.AdmitContributions(ctx, id, batch)
		if err != nil {
			return closed{}, err
		}
		for _, a := range list {
			if admitted[a.Contribution] = a.Reason == ""; a.Reason != "" {
				result.Refused = append(result.Refused, a)
			}
		}
	}
	signed = slices.DeleteFunc(signed, func(s []byte) bool { return !admitted[federation.DigestOf(s)] })
	if result.aggregated, err = aggregate(ctx, sockets, id, signed); err != nil {
		return result, err
	}
	if err := wholeSum(result.aggregated, blocks); err != nil { // nothing was charged yet
		return result, err
	}
	ticket, err := broker.CloseRound(ctx, id, rounds.Closing{Cohort: result.members, Sum: result.Sum})
	if err != nil {
		return result, err
	}
	return result, handTicket(ctx, sockets, id, ticket)
}

// reasonSum is the agent's word for a sum that is not the ticket's.
const reasonSum evidence.Reason = "sum-mismatch"

// wholeSum refuses to close over a sum that no agent would decrypt: it has the blocks of the
// round's vector, and nobody's contribution twice.
func wholeSum(a aggregated, blocks uint64) error {
	if uint64(a.Blocks) != blocks {
		return fmt.Errorf("%w: %w", errRefused, evidence.Refuse(reasonSum, "the aggregators' sum has %d blocks, the round's vector %d: name every shard, and distrust one that adds others", a.Blocks, blocks))
	}
	seen := map[federation.Digest]bool{}
	for _, d := range a.members {
		if seen[d] {
			return fmt.Errorf("%w: %w", errRefused, evidence.Refuse(reasonSum, "an aggregator lists contribution %s twice", d))
		}
		seen[d] = true
	}
	return nil
}

func handTicket(ctx context.Context, sockets []string, id federation.ID, ticket []byte) error {
	for _, socket := range sockets {
		if err := localAggregator(socket).SetTicket(ctx, id, ticket); err != nil {
			return fmt.Errorf("%w: aggregator %s: %w", errRefused, socket, err)
		}
	}
	return nil
}

func newRoundFinish(inv *invocation) *cobra.Command {
	var sockets []string
	c := &cobra.Command{
		Use: "finish ROUND --aggregator SOCKET", Short: "Hand the published result to the broker, which destroys the round's key",
		Example: "  anchorhold fed round finish 5f2c...", Args: exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := parseRound(args[0])
			if err != nil {
				return err
			}
			if len(sockets) == 0 {
				return usageError{errors.New("--aggregator is needed")}
			}
			signed, err := localAggregator(sockets[0]).SignedResult(c.Context(), id)
			if err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			result, err := brokerClient(inv, c).FinishRound(c.Context(), id, signed)
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			return inv.print(c.OutOrStdout(), result, func(w io.Writer) {
				fmt.Fprintf(w, "round %s is published: values %s, noise %.1f steps; its key is destroyed\n", id, result.Values, result.Sigma)
			})
		},
	}
	aggregatorFlag(c, &sockets)
	return c
}
