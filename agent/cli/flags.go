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
			err = errors.Join(err, fmt.Errorf("--%s %s is not a finite number: %s", f.Name, f.Value, f.Usage))
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

// AtLeast is cobra.MinimumNArgs with an error that counts as a wrong command line.
func AtLeast(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < n {
			return Usage(fmt.Errorf("%s needs %s\nSee '%s --help'", c.CommandPath(), what, c.CommandPath()))
		}
		return nil
	}
}

// AtMostOne is cobra.MaximumNArgs(1) with an error that says of what.
func AtMostOne(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return Usage(fmt.Errorf("got %d arguments, want at most %s\nSee '%s --help'", len(args), what, c.CommandPath()))
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
	var text string
	switch {
	case len(missing) == 1 && last.Changed:
		text = fmt.Sprintf("--%s cannot be %q: %s", last.Name, last.Value, last.Usage)
	case len(missing) == 1:
		text = fmt.Sprintf("--%s is required: %s", last.Name, last.Usage)
	default:
		text = andJoined(missing) + " are required"
	}
	return Usage(fmt.Errorf("%s\nSee '%s --help'", text, c.CommandPath()))
}

// andJoined lists two names or more.
func andJoined(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// invalidValue says what a flag takes in place of what the parsing function said of its text;
// other errors stay.
func invalidValue(err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	f := invalid.GetFlag()
	want, known := map[string]string{
		"uint32":      "a whole number from 0 to 4294967295",
		"uint64":      "a whole number from 0 to 18446744073709551615",
		"int":         "a whole number",
		"int64":       "a whole number",
		"intSlice":    "whole numbers separated by commas",
		"float64":     "a number",
		"duration":    "a duration such as 90s, 10m or 2h",
		"bool":        "true or false",
		"stringSlice": "values separated by commas",
	}[f.Value.Type()]
	if !known {
		return err
	}
	return fmt.Errorf("--%s: got %q, want %s: %s", f.Name, invalid.GetValue(), want, f.Usage)
}

// Given returns those of the flags that were given on the command line, with their dashes.
func Given(c *cobra.Command, names ...string) []string {
	var list []string
	for _, name := range names {
		if c.Flags().Lookup(name).Changed {
			list = append(list, "--"+name)
		}
	}
	return list
}
