// Package round is the operator's commands of federated rounds: open, close, finish, abandon,
// and the privacy that they spent.
package round

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/partykey"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/spf13/cobra"
)

// New is the command "fed round".
func New(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("round", "Open, show, close, finish and abandon rounds", "Commands of the broker's operator.",
		newRoundOpen(inv), newRoundStatus(inv), newRoundClose(inv), newRoundFinish(inv), newRoundAbandon(inv))
	dial.BrokerFlag(inv, c)
	return c
}

func newRoundOpen(inv *cli.Invocation) *cobra.Command {
	var spec rounds.Spec
	var aggregators []string
	var rule, mechanism, key, normKeys string
	var roots []string
	var guests *roundGuests
	var model, dataset string
	var rotate bool
	c := &cobra.Command{
		Use: "open --model NAME --length N --clip-l2 X --contributor-tenant T --decryptor-image D", Short: "Open a round and hand it to the aggregators",
		Example: `  anchorhold fed round open --model digits --length 650 --clip-l2 1 --epsilon 1 --minimum 8 \
    --contributor-tenant acme --decryptor-tenant acme --decryptor-image sha256:5f2c... --aggregator /run/anchorhold-aggregator/admin.sock
  anchorhold fed round open --model m --length 1000000 --clip-l2 5 --clip-linf 0.1 --multiplier 4 --rate 0.01 --duration 2h \
    --contributors everyone --decryptor-policy 88ab... --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := cli.Need(c, "model", "length", "clip-l2")
			if err != nil {
				return err
			}
			if spec.Contributors, spec.Decryptors, err = guests.read(key != ""); err != nil {
				return err
			}
			if model != "" {
				if spec.Sealed, _, err = sealed.Part(model); err != nil {
					return err
				}
			}
			if dataset != "" {
				if spec.Dataset, err = os.ReadFile(dataset); err != nil {
					return err
				}
			}
			if c.Flags().Changed("rotate") {
				spec.Rotate = &rotate
			}
			spec.Rule, spec.Mechanism = federation.Rule(rule), federation.Mechanism(mechanism)
			if key != "" {
				id, err := dial.Round(key)
				if err != nil {
					return err
				}
				if len(roots) == 0 || len(aggregators) == 0 {
					return cli.Usage(errors.New("--key needs --root, whom to believe, and --aggregator, where the agents' messages lie"))
				}
				publics, err := keyfile.Publics(roots)
				if err != nil {
					return err
				}
				if spec.Parties, err = partykey.Collect(c.Context(), aggregators[0], publics, id); err != nil {
					return fmt.Errorf("%w: %w", cli.ErrRefused, err)
				}
			}
			if normKeys != "" {
				if spec.NormCircuit, err = normCircuit(normKeys, spec.Length); err != nil {
					return err
				}
			}
			st, err := dial.Broker(inv, c).OpenRound(c.Context(), spec)
			if err != nil {
				return dial.Explain(err, inv.Broker)
			}
			for _, socket := range aggregators {
				if err := dial.Aggregator(socket).AddRound(c.Context(), st.Signed); err != nil {
					return fmt.Errorf("%w: round %s is open at the broker, but the aggregator at %s does not take it: %w", cli.ErrRefused, st.Round.ID, socket, err)
				}
			}
			return inv.Print(c.OutOrStdout(), roundView{st.Round, st.ExpectedError, st.Adjacency, st.Warning}, func(w io.Writer) { printRound(w, st) })
		},
	}
	guests = newRoundGuests(c)
	f := c.Flags()
	f.StringVar(&spec.Model, "model", "", "what is trained, for people")
	f.StringVar(&model, "sealed", "", "charge the privacy of this sealed model, all its versions (by default the broker's one account)")
	f.StringVar(&dataset, "dataset", "", "charge the privacy of this dataset: a file that anchorhold fed dataset made")
	f.Uint64Var(&spec.Length, "length", 0, "values in a vector")
	f.Float64Var(&spec.ClipL2, "clip-l2", 0, "bound of a vector's Euclidean norm")
	f.Float64Var(&spec.ClipLinf, "clip-linf", 0, "bound of each value, as rotated; by default 6 / sqrt(values in a block) of --clip-l2, which any vector keeps, and without rotation --clip-l2")
	f.BoolVar(&rotate, "rotate", true, "spread each block of values by a random rotation before they are bounded; by default wherever proofs, rule and noise allow it")
	f.Float64Var(&spec.MaxError, "max-error", 0, "expected error of the mean, as a part of --clip-l2, up to which a round without privacy is opened (0.1)")
	f.StringVar(&spec.Set, "set", "", "parameter set of anchorhold params list (by default "+params.Default+", with --key "+params.Threshold+")")
	f.Uint32Var(&spec.MaxWeight, "max-weight", 0, "largest weight of a contribution (1)")
	f.Uint32Var(&spec.Minimum, "minimum", 0, "smallest cohort that may close (the broker's policy)")
	f.Uint32Var(&spec.Maximum, "maximum", 0, "largest cohort (twice --minimum); fewer leave finer values")
	f.Uint32Var(&spec.PerGuest, "per-guest", 0, "contributions from one processor (1)")
	f.Float64Var(&spec.Epsilon, "epsilon", 0, "privacy of this round alone, to which the noise is calibrated, at the delta of the broker's configuration; between cohorts of which one has "+federation.AdjacencyText)
	f.Float64Var(&spec.Multiplier, "multiplier", 0, "noise in units of the sensitivity, instead of --epsilon")
	f.StringVar(&mechanism, "mechanism", "", "discrete-gaussian, discrete-laplace or none (discrete-gaussian with --epsilon or --multiplier, else none)")
	f.Float64Var(&spec.Share, "share", 0, "further noise that the participants add together, as --multiplier; the epsilon does not count on it")
	f.Float64Var(&spec.Rate, "rate", 0, "chance of a participant to be in a round, for the second epsilon that is reported (1)")
	f.StringVar(&rule, "rule", "", "weighted-mean, trimmed-mean or median (weighted-mean)")
	f.Uint32Var(&spec.Trim, "trim", 0, "values that a trimmed mean drops on each side")
	f.BoolVar(&spec.Recount, "recount", false, "the decrypting guest adds the contributions again, so that the aggregator need not be believed")
	f.StringVar(&key, "key", "", "round whose key agents set up together (fed key open)")
	f.StringSliceVar(&roots, "root", nil, "with --key: the broker's root identity (ahpub1... or a file)")
	f.StringVar(&normKeys, "norm-keys", "", "directory of keys for updates of this length: only updates proven to be inside the bounds are taken")
	f.DurationVar(&spec.Duration, "duration", 0, "how long contributions are taken (1h)")
	f.StringSliceVar(&aggregators, "aggregator", nil, "admin socket of an aggregator (repeat for shards, in their order)")
	return c
}

// normCircuit finds the keys of a directory that prove vectors of a length.
func normCircuit(dir string, length uint64) (*federation.NormCircuit, error) {
	sets, err := keyset.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	var found []*federation.NormCircuit
	for _, s := range sets {
		if g := s.Record.Gradient; g != nil && uint64(g.Coordinates) == length && s.Record.System == statement.Groth16 {
			found = append(found, &federation.NormCircuit{Circuit: federation.Digest(s.Record.Circuit), VerifyingKey: federation.Digest(s.Record.VerifyingKey), Bits: g.Bits})
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("%w: %s has keys of 8 and of 16 bits for updates of %d values: name a directory with those that the round is to use", cli.ErrRefused, dir, length)
	}
	return nil, fmt.Errorf("%w: %s has no keys for updates of %d values: make them with anchorhold proof setup --gradient %d", cli.ErrRefused, dir, length, length)
}

// roundView is an open round as scripts see it: what was signed, and what follows from it.
type roundView struct {
	federation.Round
	ExpectedError *federation.Accuracy `json:"expected_error,omitempty"`
	Adjacency     string               `json:"adjacency,omitempty"`
	Warning       string               `json:"warning,omitempty"`
}

func printRound(w io.Writer, st rounds.Status) {
	r := st.Round
	each := "each value"
	if r.Rotation != nil {
		each = "each rotated value"
	}
	fmt.Fprintf(w, "round    %s (%s)\nmodel    %s, %d values, set %s\ncohort   %d to %d, %d admitted\nbounds   L2 %g, %s %.4g\n", r.ID, st.State, r.Model, r.Length, r.Set,
		r.Minimum, r.Maximum, len(st.Members), r.ClipL2, each, r.ClipLinf)
	if e := st.ExpectedError; e != nil {
		fmt.Fprintf(w, "error    %.2g of the L2 bound expected in the mean of %d contributions", e.Relative, e.Cohort)
		if r.MaxWeight > 1 {
			fmt.Fprintf(w, " of weight %d; if lighter, %d / their mean weight times as much", r.MaxWeight, r.MaxWeight)
		}
		fmt.Fprintln(w)
	}
	if st.Warning != "" {
		fmt.Fprintf(w, "warning  %s\n", st.Warning)
	}
	if r.Noise.Mechanism == federation.NoNoise {
		fmt.Fprintln(w, "privacy  no noise")
	} else {
		fmt.Fprintf(w, "privacy  %s, multiplier %.4f: epsilon %.4f at delta %g\n         (%s)\n", r.Noise.Mechanism, r.Noise.Multiplier, r.Epsilon, r.Delta, federation.AdjacencyText)
	}
	if n := r.NormCircuit; n != nil {
		fmt.Fprintf(w, "proofs   of a norm up to %.4g, rounding in %d bits included, key %s\n", r.NormBound(), n.Bits, n.VerifyingKey)
	}
	fmt.Fprintf(w, "account  %s\nguests   %s contribute; %s\n", r.Account, audienceText(r.Contributors), decryptorsText(r))
	fmt.Fprintf(w, "closes   %s\n", r.Closes.Time().Format(time.RFC3339))
}

// audienceText is an audience for people.
func audienceText(a protocol.Audience) string {
	if a.Everyone {
		return "all guests with the role"
	}
	var parts []string
	if len(a.Tenants) > 0 {
		parts = append(parts, "of tenant "+strings.Join(a.Tenants, " or "))
	}
	for _, d := range a.Images {
		parts = append(parts, "image "+d.String())
	}
	for _, d := range a.Policies {
		parts = append(parts, "policy "+d.String())
	}
	return "guests " + strings.Join(parts, ", ")
}

func decryptorsText(r federation.Round) string {
	if r.Parties != nil {
		return fmt.Sprintf("%d of %d parties decrypt", r.Parties.Threshold, len(r.Parties.Agents))
	}
	return audienceText(r.Decryptors) + " decrypt"
}

func newRoundStatus(inv *cli.Invocation) *cobra.Command {
	return dial.Operate(inv, "status [ID]", "Show one round, or all", "  anchorhold fed round status", cobra.MaximumNArgs(1),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			if len(args) == 0 {
				list, err := b.Rounds(ctx)
				return list, func(w io.Writer) {
					for _, st := range list {
						fmt.Fprintf(w, "%s  %-10s %-16s %d of %d to %d\n", st.Round.ID, st.State, st.Round.Model, st.Contributors, st.Round.Minimum, st.Round.Maximum)
					}
				}, err
			}
			id, err := dial.Round(args[0])
			if err != nil {
				return nil, nil, err
			}
			st, err := b.Round(ctx, id)
			return st, func(w io.Writer) { printRound(w, st) }, err
		})
}

func newRoundAbandon(inv *cli.Invocation) *cobra.Command {
	return dial.Operate(inv, "abandon ID", "End an open round: its key is destroyed, nothing is charged", "  anchorhold fed round abandon 5f2c...", cli.Exactly(1, "one round"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			id, err := dial.Round(args[0])
			if err != nil {
				return nil, nil, err
			}
			st, err := b.AbandonRound(ctx, id)
			return st, func(w io.Writer) { printRound(w, st) }, err
		})
}
