package round

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/spf13/cobra"
)

// The words of "close".
const (
	closeUse   = "close ROUND --aggregator SOCKET"
	closeShort = "Admit and add what is complete, and close the round over it for good"
	closeLong  = `Hands the complete contributions to the broker, which verifies each one; has the
aggregators add those that it admits; has the broker close the round over that cohort
and sum; and hands the broker's ticket to the aggregators. From then on the sum can be
decrypted, once, and the round takes no more contributions. After an interruption run it
again: it continues where it stopped.`
	closeExample        = "  anchorhold fed round close 5f2c... --aggregator /run/anchorhold-aggregator/admin.sock"
	closeTicketNotTaken = "%w: round %s is closed at the broker, but the aggregator at %s did not take its ticket (run this again): %w"
	closeNeeds          = "one round"
	closeResult         = "round %s is closed over %d contributions, sum %s\n"
	closeNotAdmitted    = "  refused %s: %s\n"
	closeWrongBlocks    = "the aggregators' sum has %d blocks, the round's vector %d: name every shard; do not trust one that adds other blocks"
	closeListedTwice    = "an aggregator lists contribution %s twice"
)

// The words of "finish".
const (
	finishUse          = "finish ROUND --aggregator SOCKET"
	finishShort        = "Hand the published result to the broker, which destroys the round's key"
	finishExample      = "  anchorhold fed round finish 5f2c..."
	finishNeeds        = "one round"
	finishNoAggregator = "--aggregator is required"
	finishResult       = "round %s is published: values %s, noise %.1f steps; its key is destroyed\n"
)

// closed is what closing a round came to.
type closed struct {
	aggregated
	Refused []rounds.Admission `json:"refused,omitempty"`
}

// closeOptions are the flags of "close".
type closeOptions struct {
	sockets []string
}

func newRoundClose(inv *cli.Invocation) *cobra.Command {
	var o closeOptions
	c := &cobra.Command{
		Use: closeUse, Short: closeShort,
		Long:    closeLong,
		Example: closeExample, Args: cli.Exactly(1, closeNeeds),
		RunE: inv.RunE(o.run),
	}
	aggregatorFlag(c, &o.sockets)
	return c
}

func (o *closeOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	id, err := dial.Round(args[0])
	if err != nil {
		return err
	}
	result, err := o.close(ctx, inv, id)
	if err != nil {
		return err
	}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, closeResult, id, result.Count, result.Sum)
		for _, r := range result.Refused {
			fmt.Fprintf(w, closeNotAdmitted, r.Contribution, r.Detail)
		}
	})
}

// admitBatch bounds one request to the broker.
const admitBatch = 128

// close does the steps that are left. An error of the broker is explained where it is seen: one
// of an aggregator looks the same, and is none of the broker's.
func (o *closeOptions) close(ctx context.Context, inv *cli.Invocation, id digest.RoundID) (closed, error) {
	broker := dial.Broker(inv)
	st, err := broker.Round(ctx, id)
	if err != nil {
		return closed{}, dial.Explain(err, inv.Broker)
	}
	if st.State != rounds.Open { // an earlier run was interrupted after the broker closed
		return closed{aggregated: aggregated{Round: id, Count: len(st.Members)}}, handTicket(ctx, o.sockets, id, st.Ticket)
	}
	blocks, err := st.Round.Blocks()
	if err != nil {
		return closed{}, err
	}
	signed, err := complete(ctx, o.sockets, id)
	if err != nil {
		return closed{}, err
	}
	var result closed
	admitted := map[digest.Digest]bool{}
	for batch := range slices.Chunk(signed, admitBatch) {
		list, err := broker.AdmitContributions(ctx, id, batch)
		if err != nil {
			return closed{}, dial.Explain(err, inv.Broker)
		}
		for _, a := range list {
			if admitted[a.Contribution] = a.Reason == ""; a.Reason != "" {
				result.Refused = append(result.Refused, a)
			}
		}
	}
	signed = slices.DeleteFunc(signed, func(s []byte) bool { return !admitted[digest.Of(s)] })
	if result.aggregated, err = aggregate(ctx, o.sockets, id, signed); err != nil {
		return result, err
	}
	if err := wholeSum(result.aggregated, blocks); err != nil { // nothing was charged yet
		return result, err
	}
	ticket, err := broker.CloseRound(ctx, id, rounds.Closing{Cohort: result.members, Sum: result.Sum})
	if err != nil {
		return result, dial.Explain(err, inv.Broker)
	}
	return result, handTicket(ctx, o.sockets, id, ticket)
}

// reasonSum is the agent's word for a sum that is not the ticket's.
const reasonSum refusal.Reason = "sum-mismatch"

// wholeSum refuses to close over a sum that no agent would decrypt: it has the blocks of the
// round's vector, and nobody's contribution twice.
func wholeSum(a aggregated, blocks uint64) error {
	if uint64(a.Blocks) != blocks {
		return fmt.Errorf("%w: %w", cli.ErrRefused, refusal.New(reasonSum, closeWrongBlocks, a.Blocks, blocks))
	}
	seen := map[digest.Digest]bool{}
	for _, d := range a.members {
		if seen[d] {
			return fmt.Errorf("%w: %w", cli.ErrRefused, refusal.New(reasonSum, closeListedTwice, d))
		}
		seen[d] = true
	}
	return nil
}

func handTicket(ctx context.Context, sockets []string, id digest.RoundID, ticket []byte) error {
	for _, socket := range sockets {
		if err := dial.Aggregator(socket).SetTicket(ctx, id, ticket); err != nil {
			return fmt.Errorf(closeTicketNotTaken, cli.ErrRefused, id, socket, err)
		}
	}
	return nil
}

// finishOptions are the flags of "finish".
type finishOptions struct {
	sockets []string
}

func newRoundFinish(inv *cli.Invocation) *cobra.Command {
	var o finishOptions
	c := &cobra.Command{
		Use: finishUse, Short: finishShort,
		Example: finishExample, Args: cli.Exactly(1, finishNeeds),
		RunE: inv.RunE(o.run),
	}
	aggregatorFlag(c, &o.sockets)
	return c
}

func (o *finishOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	id, err := dial.Round(args[0])
	if err != nil {
		return err
	}
	if len(o.sockets) == 0 {
		return cli.Usage(errors.New(finishNoAggregator))
	}
	signed, err := dial.Aggregator(o.sockets[0]).SignedResult(ctx, id)
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	result, err := dial.Broker(inv).FinishRound(ctx, id, signed)
	if err != nil {
		return dial.Explain(err, inv.Broker)
	}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, finishResult, id, result.Values, result.Sigma)
	})
}
