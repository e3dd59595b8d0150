// Package round has the operator's commands for federated rounds: open, close, finish and abandon
// them, and show the privacy that they spent.
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
	"github.com/anchorhold/anchorhold/agent/cli/partykey"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/spf13/cobra"
)

// The words of "round".
const (
	roundShort = "Open, show, close, finish and abandon rounds"
	roundLong  = "Commands of the broker's operator."
)

// The words of "open".
const (
	openUse     = "open --model NAME --length N --clip-l2 X --contributor-tenant T --decryptor-image D"
	openShort   = "Open a round and hand it to the aggregators"
	openExample = `  anchorhold fed round open --model digits --length 650 --clip-l2 1 --epsilon 1 --minimum 8 \
    --contributor-tenant acme --decryptor-tenant acme --decryptor-image sha256:5f2c... --aggregator /run/anchorhold-aggregator/admin.sock
  anchorhold fed round open --model m --length 1000000 --clip-l2 5 --clip-linf 0.1 --multiplier 4 --rate 0.01 --duration 2h \
    --contributors everyone --decryptor-policy 88ab... --json`
	openKeyNeedsRoot   = "--key needs --root, the trusted root, and --aggregator, which keeps the agents' messages"
	openNotTaken       = "%w: round %s is open at the broker, but the aggregator at %s did not take it: %w"
	openNormKeysTwo    = "%w: %s has keys of 8 and of 16 bits for updates of %d values: name a directory with only the keys that the round is to use"
	openNormKeysNone   = "%w: %s has no keys for updates of %d values: make them with anchorhold proof setup --gradient %d"
	openFlagModel      = "name of what is trained, for people"
	openFlagSealed     = "charge the privacy account of this sealed model, all its versions (default the broker's only account)"
	openFlagDataset    = "charge the privacy account of this dataset: a file from anchorhold fed dataset"
	openFlagLength     = "values in a vector"
	openFlagClipL2     = "bound on a vector's Euclidean norm"
	openFlagClipLinf   = "bound on each value, after rotation (default 6 / sqrt(values in a block) times --clip-l2, which practically every vector keeps; without rotation --clip-l2)"
	openFlagRotate     = "apply a random rotation to each block of values before they are bounded, wherever proofs, rule and noise allow it"
	openFlagMaxError   = "largest expected error of the mean, as a fraction of --clip-l2, at which a round without privacy opens (default 0.1)"
	openFlagSet        = "parameter set from anchorhold params list (default " + params.Default + ", with --key " + params.Threshold + ")"
	openFlagMaxWeight  = "largest weight of a contribution (default 1)"
	openFlagMinimum    = "smallest cohort that may close (default rounds.privacy.minimum_cohort of the broker's configuration)"
	openFlagMaximum    = "largest cohort (default twice --minimum); a smaller one allows finer values"
	openFlagPerGuest   = "contributions from one processor (default 1)"
	openFlagEpsilon    = "privacy of this round alone, to which the noise is calibrated, at the delta of the broker's configuration; between cohorts that differ by " + federation.AdjacencyText
	openFlagMultiplier = "noise in units of the sensitivity, instead of --epsilon"
	openFlagMechanism  = "discrete-gaussian, discrete-laplace or none (default discrete-gaussian with --epsilon or --multiplier, otherwise none)"
	openFlagShare      = "further noise that the participants add together, in the unit of --multiplier; epsilon does not rely on it"
	openFlagRate       = "probability that a participant is in a round, for the second epsilon that is reported (default 1)"
	openFlagRule       = "weighted-mean, trimmed-mean or median (default weighted-mean)"
	openFlagTrim       = "values that a trimmed mean drops on each side"
	openFlagRecount    = "have the decrypting guest add the contributions again, so that the aggregator need not be trusted"
	openFlagKey        = "round whose key agents set up together (fed key open)"
	openFlagRoot       = "with --key: the broker's root identity (ahpub1... or a file)"
	openFlagNormKeys   = "directory of keys for updates of this length: accept only updates proven to be within the bounds"
	openFlagDuration   = "how long contributions are accepted (default 1h)"
)

// The words of "status".
const (
	statusUse     = "status [ID]"
	statusShort   = "Show one round, or all"
	statusTakes   = "one round's id"
	statusExample = "  anchorhold fed round status"
	statusNone    = "no rounds"
	statusLine    = "%s  %-10s %-16s %d of %d to %d\n"
)

// The words of "abandon".
const (
	abandonUse     = "abandon ID"
	abandonShort   = "End an open round: destroy its key and charge nothing"
	abandonExample = "  anchorhold fed round abandon 5f2c..."
	abandonNeeds   = "one round"
)

// The words of a round as it is shown.
const (
	roundHead             = "round    %s (%s)\nmodel    %s, %d values, set %s\ncohort   %d to %d, %d admitted\nbounds   L2 %g, %s %.4g\n"
	roundError            = "error    %.2g of the L2 bound expected in the mean of %d contributions"
	roundErrorWeight      = " of weight %d; lighter ones multiply it by %d / their mean weight"
	roundWarning          = "warning  %s\n"
	roundNoNoise          = "privacy  no noise"
	roundPrivacy          = "privacy  %s, multiplier %.4f: epsilon %.4f at delta %g\n         (%s)\n"
	roundProofs           = "proofs   of a norm up to %.4g, rounding in %d bits included, key %s\n"
	roundAccount          = "account  %s\nguests   %s contribute; %s\n"
	roundCloses           = "closes   %s\n"
	roundEachValue        = "each value"
	roundEachRotatedValue = "each rotated value"
	audienceEveryone      = "all guests with the role"
	audienceGuests        = "guests "
	audienceTenant        = "of tenant "
	audienceImage         = "image "
	audiencePolicy        = "policy "
	audienceOr            = " or "
	decryptorsParties     = "%d of %d parties decrypt"
	decryptorsGuests      = "%s decrypt"
)

// New is the command "fed round".
func New(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("round", roundShort, roundLong,
		newRoundOpen(inv), newRoundStatus(inv), newRoundClose(inv), newRoundFinish(inv), newRoundAbandon(inv))
	dial.BrokerFlag(inv, c)
	return c
}

// openOptions are the flags of "open".
type openOptions struct {
	spec        rounds.Spec
	aggregators []string // --aggregator
	rule        string   // --rule
	mechanism   string   // --mechanism
	key         string   // --key
	normKeys    string   // --norm-keys
	roots       []string // --root
	guests      *roundGuests
	model       string // --sealed
	dataset     string // --dataset
	rotate      bool   // --rotate
}

func newRoundOpen(inv *cli.Invocation) *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use: openUse, Short: openShort,
		Example: openExample,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("rotate") {
				o.spec.Rotate = &o.rotate
			}
			return inv.RunE(o.run, "model", "length", "clip-l2")(c, args)
		},
	}
	o.guests = newRoundGuests(c)
	f := c.Flags()
	f.StringVar(&o.spec.Model, "model", "", openFlagModel)
	f.StringVar(&o.model, "sealed", "", openFlagSealed)
	f.StringVar(&o.dataset, "dataset", "", openFlagDataset)
	f.Uint64Var(&o.spec.Length, "length", 0, openFlagLength)
	f.Float64Var(&o.spec.ClipL2, "clip-l2", 0, openFlagClipL2)
	f.Float64Var(&o.spec.ClipLinf, "clip-linf", 0, openFlagClipLinf)
	f.BoolVar(&o.rotate, "rotate", true, openFlagRotate)
	f.Float64Var(&o.spec.MaxError, "max-error", 0, openFlagMaxError)
	f.StringVar(&o.spec.Set, "set", "", openFlagSet)
	f.Uint32Var(&o.spec.MaxWeight, "max-weight", 0, openFlagMaxWeight)
	f.Uint32Var(&o.spec.Minimum, "minimum", 0, openFlagMinimum)
	f.Uint32Var(&o.spec.Maximum, "maximum", 0, openFlagMaximum)
	f.Uint32Var(&o.spec.PerGuest, "per-guest", 0, openFlagPerGuest)
	f.Float64Var(&o.spec.Epsilon, "epsilon", 0, openFlagEpsilon)
	f.Float64Var(&o.spec.Multiplier, "multiplier", 0, openFlagMultiplier)
	f.StringVar(&o.mechanism, "mechanism", "", openFlagMechanism)
	f.Float64Var(&o.spec.Share, "share", 0, openFlagShare)
	f.Float64Var(&o.spec.Rate, "rate", 0, openFlagRate)
	f.StringVar(&o.rule, "rule", "", openFlagRule)
	f.Uint32Var(&o.spec.Trim, "trim", 0, openFlagTrim)
	f.BoolVar(&o.spec.Recount, "recount", false, openFlagRecount)
	f.StringVar(&o.key, "key", "", openFlagKey)
	f.StringSliceVar(&o.roots, "root", nil, openFlagRoot)
	f.StringVar(&o.normKeys, "norm-keys", "", openFlagNormKeys)
	f.DurationVar(&o.spec.Duration, "duration", 0, openFlagDuration)
	f.StringSliceVar(&o.aggregators, "aggregator", nil, flagAggregator)
	return c
}

func (o *openOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	var err error
	if o.spec.Contributors, o.spec.Decryptors, err = o.guests.read(o.key != ""); err != nil {
		return err
	}
	if o.model != "" {
		if o.spec.Sealed, _, err = sealed.Part(o.model); err != nil {
			return err
		}
	}
	if o.dataset != "" {
		if o.spec.Dataset, err = os.ReadFile(o.dataset); err != nil {
			return err
		}
	}
	o.spec.Rule, o.spec.Mechanism = federation.Rule(o.rule), federation.Mechanism(o.mechanism)
	if o.key != "" {
		id, err := dial.Round(o.key)
		if err != nil {
			return err
		}
		if len(o.roots) == 0 || len(o.aggregators) == 0 {
			return cli.Usage(errors.New(openKeyNeedsRoot))
		}
		if o.spec.Parties, err = partykey.Collect(ctx, o.aggregators[0], o.roots, id); err != nil {
			return err
		}
	}
	if o.normKeys != "" {
		if o.spec.NormCircuit, err = normCircuit(o.normKeys, o.spec.Length); err != nil {
			return err
		}
	}
	st, err := dial.Broker(inv).OpenRound(ctx, o.spec)
	if err != nil {
		return dial.Explain(err, inv.Broker)
	}
	for _, socket := range o.aggregators {
		if err := dial.Aggregator(socket).AddRound(ctx, st.Signed); err != nil {
			return fmt.Errorf(openNotTaken, cli.ErrRefused, st.Round.ID, socket, err)
		}
	}
	return inv.Print(roundView{st.Round, st.ExpectedError, st.Adjacency, st.Warning}, func(w io.Writer) { printRound(w, st) })
}

// normCircuit finds the keys of a directory that prove vectors of a length.
func normCircuit(dir string, length uint64) (*federation.NormCircuit, error) {
	sets, err := keyset.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	var found []*federation.NormCircuit
	for _, s := range keyset.ForGradients(sets, length) {
		found = append(found, &federation.NormCircuit{Circuit: s.Record.Circuit, VerifyingKey: s.Record.VerifyingKey, Bits: s.Record.Gradient.Bits})
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		return nil, fmt.Errorf(openNormKeysTwo, cli.ErrRefused, dir, length)
	}
	return nil, fmt.Errorf(openNormKeysNone, cli.ErrRefused, dir, length, length)
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
	each := roundEachValue
	if r.Rotation != nil {
		each = roundEachRotatedValue
	}
	fmt.Fprintf(w, roundHead, r.ID, st.State, r.Model, r.Length, r.Set,
		r.Minimum, r.Maximum, len(st.Members), r.ClipL2, each, r.ClipLinf)
	if e := st.ExpectedError; e != nil {
		fmt.Fprintf(w, roundError, e.Relative, e.Cohort)
		if r.MaxWeight > 1 {
			fmt.Fprintf(w, roundErrorWeight, r.MaxWeight, r.MaxWeight)
		}
		fmt.Fprintln(w)
	}
	if st.Warning != "" {
		fmt.Fprintf(w, roundWarning, st.Warning)
	}
	if r.Noise.Mechanism == federation.NoNoise {
		fmt.Fprintln(w, roundNoNoise)
	} else {
		fmt.Fprintf(w, roundPrivacy, r.Noise.Mechanism, r.Noise.Multiplier, r.Epsilon, r.Delta, federation.AdjacencyText)
	}
	if n := r.NormCircuit; n != nil {
		fmt.Fprintf(w, roundProofs, r.NormBound(), n.Bits, n.VerifyingKey)
	}
	fmt.Fprintf(w, roundAccount, r.Account, audienceText(r.Contributors), decryptorsText(r))
	fmt.Fprintf(w, roundCloses, r.Closes.Time().Format(time.RFC3339))
}

// audienceText is an audience for people.
func audienceText(a protocol.Audience) string {
	if a.Everyone {
		return audienceEveryone
	}
	var parts []string
	if len(a.Tenants) > 0 {
		parts = append(parts, audienceTenant+strings.Join(a.Tenants, audienceOr))
	}
	for _, d := range a.Images {
		parts = append(parts, audienceImage+d.String())
	}
	for _, d := range a.Policies {
		parts = append(parts, audiencePolicy+d.String())
	}
	return audienceGuests + strings.Join(parts, ", ")
}

func decryptorsText(r federation.Round) string {
	if r.Parties != nil {
		return fmt.Sprintf(decryptorsParties, r.Parties.Threshold, len(r.Parties.Agents))
	}
	return fmt.Sprintf(decryptorsGuests, audienceText(r.Decryptors))
}

func newRoundStatus(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: statusUse, Short: statusShort, Example: statusExample, Args: cli.AtMostOne(statusTakes), RunE: inv.RunE(runStatus)}
}

func runStatus(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if len(args) == 0 {
			list, err := b.Rounds(ctx)
			return cli.List("rounds", list), func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, statusNone)
				}
				for _, st := range list {
					fmt.Fprintf(w, statusLine, st.Round.ID, st.State, st.Round.Model, st.Contributors, st.Round.Minimum, st.Round.Maximum)
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
	return &cobra.Command{Use: abandonUse, Short: abandonShort, Example: abandonExample, Args: cli.Exactly(1, abandonNeeds), RunE: inv.RunE(runAbandon)}
}

func runAbandon(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		id, err := dial.Round(args[0])
		if err != nil {
			return nil, nil, err
		}
		st, err := b.AbandonRound(ctx, id)
		return st, func(w io.Writer) { printRound(w, st) }, err
	})
}
