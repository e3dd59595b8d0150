package cli

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// emptyFlags refuses a flag that is given without a value, as a script does whose variable is
// not set: --dir "" would verify the broker's own log in place of a copy, --root "" no root. Nor
// is NaN a number: it passes every comparison.
func emptyFlags(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if kind, value := f.Value.Type(), f.Value.String(); kind == "string" && value == "" || kind == "stringSlice" && value == "[]" {
			err = errors.Join(err, fmt.Errorf("--%s has no value: %s; give one, or leave the flag out", f.Name, f.Usage))
		}
		if d, parsed := time.ParseDuration(f.Value.String()); f.Name == "timeout" && (parsed != nil || d <= 0) {
			err = errors.Join(err, fmt.Errorf("--timeout %s leaves no time: %s", f.Value, f.Usage))
		}
		if v, parsed := strconv.ParseFloat(f.Value.String(), 64); f.Value.Type() == "float64" && (parsed != nil || math.IsNaN(v) || math.IsInf(v, 0)) {
			err = errors.Join(err, fmt.Errorf("--%s %s is no finite number: %s", f.Name, f.Value, f.Usage))
		}
	})
	return err
}

// Exactly is cobra.ExactArgs with an error that counts as a wrong command line.
func Exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return Usage(fmt.Errorf("%s needs %s\nSee '%s --help'", c.CommandPath(), what, c.CommandPath()))
		}
		return nil
	}
}

// Need refuses a command line on which one of these flags is missing or has no value.
func Need(c *cobra.Command, flags ...string) error {
	var missing []string
	for _, name := range flags {
		if slices.Contains([]string{"", "0", "[]"}, c.Flags().Lookup(name).Value.String()) {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	last := c.Flags().Lookup(strings.TrimPrefix(missing[len(missing)-1], "--"))
	text := strings.Join(missing, ", ") + " are needed"
	switch {
	case len(missing) == 1 && last.Changed:
		text = fmt.Sprintf("--%s cannot be %q: %s", last.Name, last.Value, last.Usage)
	case len(missing) == 1:
		text = fmt.Sprintf("--%s is needed: %s", last.Name, last.Usage)
	}
	return Usage(fmt.Errorf("%s\nSee '%s --help'", text, c.CommandPath()))
}

// Given are those of the flags that the command line has.
func Given(c *cobra.Command, names ...string) []string {
	var list []string
	for _, name := range names {
		if c.Flags().Lookup(name).Changed {
			list = append(list, "--"+name)
		}
	}
	return list
}
