package fed

import (
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

// NewParams is the command "params".
func NewParams(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("params", "List, check and explain the parameter sets of encrypted sums",
		"Sums are encrypted under named sets that never change. Each is inside the\nstricter of the published tables of 128-bit security.",
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
	return &cobra.Command{Use: "list", Short: "List the sets", Example: "  anchorhold params list", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		var views []setView
		for _, s := range params.All() {
			views = append(views, viewOf(s))
		}
		return inv.Print(c.OutOrStdout(), views, func(w io.Writer) {
			for _, v := range views {
				fmt.Fprintf(w, "%-20s N=%-6d log Q %5.1f  %6.2f bytes a value  %s\n", v.ID, v.RingDegree, v.LogQ, v.BytesPerValue, v.For)
			}
		})
	}}
}

func newParamsCheck(inv *cli.Invocation) *cobra.Command {
	var contributions, minimum, threshold int
	var length uint64
	c := &cobra.Command{
		Use: "check SET|FILE", Short: "Check a set, or the aggregation section of a configuration, for a number of contributions",
		Long: `Says what is left of the noise budget, and how far the published mean is expected to
be from the mean of what was handed in, as a part of the round's L2 bound: with a
round's default rotation and bound of a value, and without rotation. Privacy noise
comes on top.`,
		Example: "  anchorhold params check sum-2048-27 --contributions 64\n  anchorhold params check sum-2048-27 --contributions 16 --minimum 8 --length 10000000 --json\n  anchorhold params check /etc/anchorhold/agent.yaml",
		Args:    cli.Exactly(1, "one set or configuration file"),
		RunE: func(c *cobra.Command, args []string) error {
			set, required, err := namedSet(args[0])
			if err != nil {
				return err
			}
			if threshold == 0 {
				threshold = required
			}
			if minimum == 0 {
				minimum = max(contributions/2, 1)
			}
			if contributions < 1 || minimum < 1 || minimum > contributions || length < 1 || length > federation.MaxLength {
				return cli.Usage(fmt.Errorf("--contributions is 1 or more, --minimum from 1 to --contributions, and --length from 1 to 2^40"))
			}
			if err := set.Check(); err != nil {
				return fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			b, err := set.Require(contributions, threshold)
			if err != nil {
				return fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			rotated, plain, err := expected(set, minimum, contributions, length)
			if err != nil {
				return fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			added, text := b.FloodSD, "added noise included"
			if set.ID == params.Threshold {
				added, text = 0, "no noise is added"
			}
			return inv.Print(c.OutOrStdout(), map[string]any{"set": viewOf(set), "contributions": contributions, "noise_budget_bits": b.NoiseBits,
				"largest_value": b.Limit, "noise_standard_deviation": b.GridSD, "added_standard_deviation": added, "error_of_mean": b.ErrorOfMean,
				"length": length, "expected_error": rotated, "expected_error_without_rotation": plain}, func(w io.Writer) {
				fmt.Fprintf(w, "%s holds: %.1f bits are left after %d contributions; grid values to %d; a value of their mean is off by %.1e of the largest, %s\n",
					set.ID, b.NoiseBits, contributions, b.Limit, b.ErrorOfMean, text)
				fmt.Fprintf(w, "mean of %d of at most %d, %d values: expected to be off by %.2g of the L2 bound (%.2g without rotation), privacy noise apart\n",
					minimum, contributions, length, rotated.Relative, plain.Relative)
			})
		},
	}
	c.Flags().IntVar(&contributions, "contributions", 64, "contributions to one sum, at most")
	c.Flags().IntVar(&minimum, "minimum", 0, "contributions that the mean is of (half of --contributions)")
	c.Flags().Uint64Var(&length, "length", 1_000_000, "values in a vector")
	c.Flags().IntVar(&threshold, "threshold", 0, "bits that must be left (by default the configuration's noise_budget_threshold)")
	return c
}

// namedSet is the set of that name, or of the configuration file, with the bits that must be left.
func namedSet(name string) (params.Set, int, error) {
	set, err := params.Lookup(name)
	if err == nil {
		return set, 0, nil
	}
	if _, missing := os.Stat(name); missing != nil {
		return set, 0, fmt.Errorf("%w: no file, and %w", cli.ErrRefused, err)
	}
	cfg, _, err := settings.Read(name)
	if err != nil {
		return set, 0, fmt.Errorf("%s: %w", name, err)
	}
	a := cfg.Aggregation
	if !a.Stated() {
		return set, 0, fmt.Errorf("%w: %s has no section aggregation; rounds name the set themselves (fed round open --set)", cli.ErrRefused, name)
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
	return &cobra.Command{Use: "explain SET", Short: "Say what a set is and what it rests on", Example: "  anchorhold params explain " + params.Default, Args: cli.Exactly(1, "one set"),
		RunE: func(c *cobra.Command, args []string) error {
			set, err := params.Lookup(args[0])
			if err != nil {
				return fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			return inv.Print(c.OutOrStdout(), map[string]any{"set": viewOf(set), "text": set.Text(), "objects": set.Objects()}, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s\n\n%s\n", set.ID, set.For, strings.TrimSpace(set.Text()))
				fmt.Fprintf(w, "digest %s\n\nsecurity (128 bits, the stricter of the tables of 2018 and 2024; uniform ternary secrets):\n", viewOf(set).Digest)
				for _, o := range set.Objects() {
					fmt.Fprintf(w, "  %-36s %6.1f bits of at most %.0f\n", o.Name, o.LogQ, o.Ceiling)
				}
				fmt.Fprintln(w, "\ncontributions  bits left  largest value  error of the mean")
				for k := 8; k <= min(set.MaxContributions, 1024); k *= 4 {
					if b, err := set.Budget(k); err == nil {
						fmt.Fprintf(w, "%13d  %9.1f  %13d  %.1e\n", k, b.NoiseBits, b.Limit, b.ErrorOfMean)
					}
				}
			})
		}}
}
