package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/heparams"
	"github.com/spf13/cobra"
)

func newParams(inv *invocation) *cobra.Command {
	return subcommands("params", "List, check and explain the parameter sets of encrypted sums",
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

func viewOf(s heparams.Set) setView {
	d := s.Digest()
	return setView{s.ID, fmt.Sprintf("%x", d), string(s.Encoding), 1 << s.LogN, s.LogQ(), s.LogQP(), s.BytesPerValue(), s.MaxContributions, s.For}
}

func newParamsList(inv *invocation) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the sets", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		var views []setView
		for _, s := range heparams.All() {
			views = append(views, viewOf(s))
		}
		return inv.print(c.OutOrStdout(), views, func(w io.Writer) {
			for _, v := range views {
				fmt.Fprintf(w, "%-14s N=%-6d log Q %5.1f  %6.2f bytes a value  %s\n", v.ID, v.RingDegree, v.LogQ, v.BytesPerValue, v.For)
			}
		})
	}}
}

func newParamsCheck(inv *invocation) *cobra.Command {
	var contributions, threshold int
	c := &cobra.Command{
		Use: "check SET|FILE", Short: "Check a set, or the aggregation section of a configuration, for a number of contributions",
		Example: "  anchorhold params check sum-2048-27 --contributions 64\n  anchorhold params check /etc/anchorhold/agent.yaml",
		Args:    exactly(1, "one set or configuration file"),
		RunE: func(c *cobra.Command, args []string) error {
			set, err := heparams.Lookup(args[0])
			if _, missing := os.Stat(args[0]); err != nil && missing == nil {
				cfg, _, readErr := settings.Read(args[0])
				if readErr != nil {
					return readErr
				}
				a := cfg.Aggregation
				if threshold == 0 {
					threshold = a.NoiseBudgetThreshold
				}
				set, err = heparams.Match(a.PolynomialModulusDegree, a.CoefficientModulus, a.Scale.Log2())
			}
			if err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			if err := set.Check(); err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			b, err := set.Require(contributions, threshold)
			if err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			return inv.print(c.OutOrStdout(), map[string]any{"set": viewOf(set), "contributions": contributions, "noise_budget_bits": b.NoiseBits,
				"largest_value": b.Limit, "noise_standard_deviation": b.NoiseSD, "error_of_mean": b.ErrorOfMean}, func(w io.Writer) {
				fmt.Fprintf(w, "%s holds: %.1f bits are left after %d contributions; grid values to %d; the mean is exact to %.1e of the largest value\n",
					set.ID, b.NoiseBits, contributions, b.Limit, b.ErrorOfMean)
			})
		},
	}
	c.Flags().IntVar(&contributions, "contributions", 64, "contributions to one sum")
	c.Flags().IntVar(&threshold, "threshold", 0, "bits that must be left (by default the configuration's noise_budget_threshold)")
	return c
}

func newParamsExplain(inv *invocation) *cobra.Command {
	return &cobra.Command{Use: "explain SET", Short: "Say what a set is and what it rests on", Args: exactly(1, "one set"),
		RunE: func(c *cobra.Command, args []string) error {
			set, err := heparams.Lookup(args[0])
			if err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			return inv.print(c.OutOrStdout(), map[string]any{"set": viewOf(set), "text": set.Text(), "objects": set.Objects()}, func(w io.Writer) {
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
