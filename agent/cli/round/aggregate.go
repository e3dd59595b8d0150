package round

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/spf13/cobra"
)

// The words of "aggregate".
const (
	aggregateUse        = "aggregate ROUND --aggregator SOCKET"
	aggregateShort      = "Have the aggregators add what is complete, without closing the round"
	aggregateExample    = "  anchorhold fed aggregate 5f2c... --aggregator /run/anchorhold-aggregator/admin.sock"
	aggregateNeeds      = "one round"
	aggregateResult     = "%d contributions added, %d blocks, sum %s\n"
	aggregatorFailed    = "%w: aggregator %s: %w"
	aggregateOutOfOrder = "aggregator %s holds another shard than its place in the list: name the shards in order"
	flagAggregator      = "admin socket of an aggregator (repeat for shards, in order)"
)

// aggregated is the sum of one cohort over all shards.
type aggregated struct {
	Round         digest.RoundID `json:"round"`
	Count         int            `json:"count"`
	Sum           digest.Digest  `json:"sum"`
	Cohort        digest.Digest  `json:"cohort"`
	Blocks        int            `json:"blocks"`
	contributions [][]byte
	members       []digest.Digest
}

// complete returns the contributions that every shard has whole.
func complete(ctx context.Context, sockets []string, id digest.RoundID) ([][]byte, error) {
	count := map[digest.Digest]int{}
	var first [][]byte
	for i, socket := range sockets {
		list, err := dial.Aggregator(socket).Contributions(ctx, id)
		if err != nil {
			return nil, fmt.Errorf(aggregatorFailed, cli.ErrRefused, socket, err)
		}
		if i == 0 {
			first = list
		}
		for _, signed := range list {
			count[digest.Of(signed)]++
		}
	}
	return slices.DeleteFunc(first, func(signed []byte) bool { return count[digest.Of(signed)] != len(sockets) }), nil
}

// aggregate has every shard add the same cohort.
func aggregate(ctx context.Context, sockets []string, id digest.RoundID, signed [][]byte) (aggregated, error) {
	a := aggregated{Round: id, Count: len(signed), contributions: signed}
	for _, s := range signed {
		a.members = append(a.members, digest.Of(s))
	}
	a.Cohort = federation.CohortDigest(a.members)
	var hashes []digest.Digest
	for _, socket := range sockets {
		sum, err := dial.Aggregator(socket).MakeSum(ctx, id, a.members)
		if err != nil {
			return a, fmt.Errorf(aggregatorFailed, cli.ErrRefused, socket, err)
		}
		if sum.First != uint64(len(hashes)) {
			return a, fmt.Errorf(aggregateOutOfOrder, socket)
		}
		hashes = append(hashes, sum.Hashes...)
	}
	a.Blocks, a.Sum = len(hashes), federation.UploadDigest(id, hashes)
	return a, nil
}

// aggregateOptions are the flags of "aggregate".
type aggregateOptions struct {
	sockets []string
}

// NewAggregate is the command "fed aggregate".
func NewAggregate(inv *cli.Invocation) *cobra.Command {
	var o aggregateOptions
	c := &cobra.Command{
		Use: aggregateUse, Short: aggregateShort,
		Example: aggregateExample, Args: cli.Exactly(1, aggregateNeeds),
		RunE: inv.RunE(o.run),
	}
	aggregatorFlag(c, &o.sockets)
	return c
}

func (o *aggregateOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	id, err := dial.Round(args[0])
	if err != nil {
		return err
	}
	signed, err := complete(ctx, o.sockets, id)
	if err != nil {
		return err
	}
	a, err := aggregate(ctx, o.sockets, id, signed)
	if err != nil {
		return err
	}
	return inv.Print(a, func(w io.Writer) {
		fmt.Fprintf(w, aggregateResult, a.Count, a.Blocks, a.Sum)
	})
}

func aggregatorFlag(c *cobra.Command, sockets *[]string) {
	c.Flags().StringSliceVar(sockets, "aggregator", []string{"/run/anchorhold-aggregator/admin.sock"}, flagAggregator)
}
