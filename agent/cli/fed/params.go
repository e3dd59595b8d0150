package fed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/spf13/cobra"
)

// The words of "params".
const (
	paramsShort = "List, check and explain the parameter sets of encrypted sums"
	paramsLong  = "Sums are encrypted under named sets that never change. Each is within the\nstricter of the published tables for 128-bit security."
)

// The words of "list".
const (
	paramsListUse     = "list"
	paramsListShort   = "List the sets"
	paramsListExample = "  anchorhold params list"
	paramsListLine    = "%-20s N=%-6d log Q %5.1f  %6.2f bytes a value  %s\n"
)

// The words of "check".
const (
	paramsCheckUse   = "check SET|FILE"
	paramsCheckShort = "Check a set, or the aggregation section of a configuration, for a number of contributions"
	paramsCheckLong  = `Reports how much of the noise budget is left, and how far the published mean is expected
to be from the mean of what was submitted, as a fraction of the round's L2 bound: with a
round's default rotation and bound on each value, and without rotation. Privacy noise
comes on top.`
	paramsCheckExample           = "  anchorhold params check sum-2048-27 --contributions 64\n  anchorhold params check sum-2048-27 --contributions 16 --minimum 8 --length 10000000 --json\n  anchorhold params check /etc/anchorhold/agent.yaml"
	paramsCheckNeeds             = "one set or configuration file"
	paramsCheckOutOfRange        = "--contributions must be 1 or more, --minimum from 1 to --contributions, and --length from 1 to 2^40"
	paramsCheckHolds             = "%s holds: %.1f bits are left after %d contributions; grid values up to %d; a value of their mean is off by %.1e of the largest, %s\n"
	paramsCheckError             = "mean of %d of at most %d contributions, %d values each: expected to be off by %.2g of the L2 bound (%.2g without rotation), not counting privacy noise\n"
	paramsCheckFlagContributions = "largest number of contributions to one sum"
	paramsCheckFlagMinimum       = "number of contributions in the mean (default half of --contributions)"
	paramsCheckFlagLength        = "values in a vector"
	paramsCheckFlagThreshold     = "bits that must be left (default the configuration's noise_budget_threshold)"
	paramsCheckAdded             = "added noise included"
	paramsCheckUnadded           = "no noise is added"
	paramsCheckNotFound          = "%w: %w, and there is no such file"
	paramsCheckNoSection         = "%w: %s has no aggregation section; rounds name the set themselves (fed round open --set)"
)

// The words of "explain".
const (
	paramsExplainUse      = "explain SET"
	paramsExplainShort    = "Explain a set and what its security rests on"
	paramsExplainExample  = "  anchorhold params explain " + params.Default
	paramsExplainNeeds    = "one set"
	paramsExplainSecurity = "digest %s\n\nsecurity (128 bits, the stricter of the tables of 2018 and 2024; uniform ternary secrets):\n"
	paramsExplainObject   = "  %-36s %6.1f bits of at most %.0f\n"
	paramsExplainTable    = "\ncontributions  bits left  largest value  error of the mean"
)

// NewParams is the command "params".
func NewParams(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("params", paramsShort,
		paramsLong,
		newParamsList(inv), newParamsCheck(inv), newParamsExplain(inv))
}

// setView is a set as scripts see it.
type setView struct {
	ID            string  `json:"id"`
	Digest        string  `json:"digest"`
	Encoding      string  `json:"encoding"`
	RingDegree    int     `json:"ring_degree"`
	LogQ          float64 `json:"log_q"`
	LogQP         float64 `json:"log_qp"`
	BytesPerValue float64 `json:"bytes_per_value"`
	Contributions int     `json:"max_contributions"`
	For           string  `json:"for"`
}

func viewOf(s params.Set) setView {
	d := s.Digest()
	return setView{s.ID, fmt.Sprintf("%x", d), string(s.Encoding), 1 << s.LogN, s.LogQ(), s.LogQP(), s.BytesPerValue(), s.MaxContributions, s.For}
}

func newParamsList(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: paramsListUse, Short: paramsListShort, Example: paramsListExample, Args: cobra.NoArgs, RunE: inv.RunE(runParamsList)}
}

func runParamsList(ctx context.Context, inv *cli.Invocation, _ []string) error {
	var views []setView
	for _, s := range params.All() {
		views = append(views, viewOf(s))
	}
	return inv.Print(cli.List("sets", views), func(w io.Writer) {
		for _, v := range views {
			fmt.Fprintf(w, paramsListLine, v.ID, v.RingDegree, v.LogQ, v.BytesPerValue, v.For)
		}
	})
}

// paramsCheckOptions are the flags of "check".
type paramsCheckOptions struct {
	contributions int    // --contributions
	minimum       int    // --minimum
	threshold     int    // --threshold
	length        uint64 // --length
}

func newParamsCheck(inv *cli.Invocation) *cobra.Command {
	var o paramsCheckOptions
	c := &cobra.Command{
		Use: paramsCheckUse, Short: paramsCheckShort,
		Long:    paramsCheckLong,
		Example: paramsCheckExample,
		Args:    cli.Exactly(1, paramsCheckNeeds),
		RunE:    inv.RunE(o.run),
	}
	c.Flags().IntVar(&o.contributions, "contributions", 64, paramsCheckFlagContributions)
	c.Flags().IntVar(&o.minimum, "minimum", 0, paramsCheckFlagMinimum)
	c.Flags().Uint64Var(&o.length, "length", 1_000_000, paramsCheckFlagLength)
	c.Flags().IntVar(&o.threshold, "threshold", 0, paramsCheckFlagThreshold)
	return c
}

func (o *paramsCheckOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	set, required, err := namedSet(args[0])
	if err != nil {
		return err
	}
	if o.threshold == 0 {
		o.threshold = required
	}
	if o.minimum == 0 {
		o.minimum = max(o.contributions/2, 1)
	}
	if o.contributions < 1 || o.minimum < 1 || o.minimum > o.contributions || o.length < 1 || o.length > federation.MaxLength {
		return cli.Usage(errors.New(paramsCheckOutOfRange))
	}
	if err := set.Check(); err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	b, err := set.Require(o.contributions, o.threshold)
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	rotated, plain, err := expected(set, o.minimum, o.contributions, o.length)
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	added, text := b.FloodSD, paramsCheckAdded
	if set.ID == params.Threshold {
		added, text = 0, paramsCheckUnadded
	}
	return inv.Print(map[string]any{"set": viewOf(set), "contributions": o.contributions, "noise_budget_bits": b.NoiseBits,
		"largest_value": b.Limit, "noise_standard_deviation": b.GridSD, "added_standard_deviation": added, "error_of_mean": b.ErrorOfMean,
		"length": o.length, "expected_error": rotated, "expected_error_without_rotation": plain}, func(w io.Writer) {
		fmt.Fprintf(w, paramsCheckHolds,
			set.ID, b.NoiseBits, o.contributions, b.Limit, b.ErrorOfMean, text)
		fmt.Fprintf(w, paramsCheckError,
			o.minimum, o.contributions, o.length, rotated.Relative, plain.Relative)
	})
}

// namedSet is the set of that name, or of the configuration file, with the bits that must be left.
func namedSet(name string) (params.Set, int, error) {
	set, err := params.Lookup(name)
	if err == nil {
		return set, 0, nil
	}
	if _, missing := os.Stat(name); missing != nil {
		return set, 0, fmt.Errorf(paramsCheckNotFound, cli.ErrRefused, err)
	}
	cfg, _, err := settings.Read(name)
	if err != nil {
		return set, 0, fmt.Errorf("%s: %w", name, err)
	}
	a := cfg.Aggregation
	if !a.Stated() {
		return set, 0, fmt.Errorf(paramsCheckNoSection, cli.ErrRefused, name)
	}
	if err := a.Check().Runnable(); err != nil {
		return set, 0, fmt.Errorf("%w: %s: %w", cli.ErrRefused, name, err)
	}
	if set, err = a.Set(); err != nil {
		return set, 0, fmt.Errorf("%w: %s: %w", cli.ErrRefused, name, err)
	}
	return set, a.NoiseBudgetThreshold, nil
}

// expected is the error of the mean in a round without privacy noise, with the rotation and bound
// of a value that rounds have by default, and without rotation and with the bound of the norm as that of a value.
func expected(set params.Set, minimum, maximum int, length uint64) (rotated, plain federation.Accuracy, err error) {
	r := federation.Round{Set: set.ID, SetDigest: set.Digest(), Length: length, ClipL2: 1, ClipLinf: 1, MaxWeight: 1, Minimum: uint32(minimum), Maximum: uint32(maximum),
		Rule: federation.WeightedMean, Noise: federation.Noise{Mechanism: federation.NoNoise}}
	if set.ID == params.Threshold {
		r.Parties = &federation.Parties{} // who open it add no noise
	}
	if plain, err = r.Accuracy(r.Minimum); err != nil {
		return rotated, plain, err
	}
	r.ClipLinf, r.Rotation = federation.SafeClipLinf(1, set.ValuesPerBlock()), &federation.Rotation{}
	rotated, err = r.Accuracy(r.Minimum)
	return rotated, plain, err
}

func newParamsExplain(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: paramsExplainUse, Short: paramsExplainShort, Example: paramsExplainExample, Args: cli.Exactly(1, paramsExplainNeeds),
		RunE: inv.RunE(runParamsExplain)}
}

func runParamsExplain(ctx context.Context, inv *cli.Invocation, args []string) error {
	set, err := params.Lookup(args[0])
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	return inv.Print(map[string]any{"set": viewOf(set), "text": set.Text(), "objects": set.Objects()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s\n\n%s\n", set.ID, set.For, strings.TrimSpace(set.Text()))
		fmt.Fprintf(w, paramsExplainSecurity, viewOf(set).Digest)
		for _, o := range set.Objects() {
			fmt.Fprintf(w, paramsExplainObject, o.Name, o.LogQ, o.Ceiling)
		}
		fmt.Fprintln(w, paramsExplainTable)
		for k := 8; k <= min(set.MaxContributions, 1024); k *= 4 {
			if b, err := set.Budget(k); err == nil {
				fmt.Fprintf(w, "%13d  %9.1f  %13d  %.1e\n", k, b.NoiseBits, b.Limit, b.ErrorOfMean)
			}
		}
	})
}
