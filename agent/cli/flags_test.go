package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// everyKind is a program with one command, which has a flag of each type and needs two.
func everyKind(ran *int) Program {
	return Program{Version: "test", Commands: func(inv *Invocation) []*cobra.Command {
		c := &cobra.Command{Use: "work", Args: Exactly(1, "a file"), RunE: inv.RunE(func(context.Context, *Invocation, []string) error {
			*ran++
			return nil
		}, "text", "words")}
		f := c.Flags()
		f.String("text", "", "the text")
		f.StringSlice("words", nil, "the words")
		f.Uint64("version", 0, "the version")
		f.Uint32("weight", 0, "the weight")
		f.Int("days", 0, "the days")
		f.Int64("seed", 0, "the seed")
		f.IntSlice("active", nil, "the parties")
		f.Float64("rate", 0, "the rate")
		f.Bool("wait", false, "wait")
		f.Duration("timeout", time.Second, "the time")
		return []*cobra.Command{c, Subcommands("group", "", "", &cobra.Command{Use: "leaf", RunE: inv.RunE(nil)})}
	}}
}

// TestWrongFlagsAreExplained: each is an error of the command line, in words of the flag, and
// the command does not run.
func TestWrongFlagsAreExplained(t *testing.T) {
	for line, want := range map[string]string{
		"--version -1":           `--version: got "-1", want a whole number from 0 to 18446744073709551615: the version`,
		"--version 1e3":          `--version: got "1e3", want a whole number`,
		"--weight 4294967296":    `--weight: got "4294967296", want a whole number from 0 to 4294967295: the weight`,
		"--days soon":            `--days: got "soon", want a whole number: the days`,
		"--seed 0.5":             `--seed: got "0.5", want a whole number: the seed`,
		"--active 1,two":         `--active: got "1,two", want whole numbers separated by commas: the parties`,
		"--rate half":            `--rate: got "half", want a number: the rate`,
		"--rate NaN":             "--rate NaN is not a finite number: the rate",
		"--rate=-inf":            "--rate -Inf is not a finite number",
		"--wait=perhaps":         `--wait: got "perhaps", want true or false: wait`,
		"--timeout 10":           `--timeout: got "10", want a duration such as 90s, 10m or 2h: the time`,
		"--timeout 0s":           "--timeout 0s leaves no time",
		"--timeout -1s":          "--timeout -1s leaves no time",
		"--text=":                "--text has no value: the text; give one, or leave the flag out",
		"--words=":               "--words has no value",
		"--bogus":                "unknown flag: --bogus",
		"--text x":               "--words is required: the words",
		"--words x":              "--text is required: the text",
		"":                       "--text and --words are required",
		"--text x --words y two": "work needs a file",
	} {
		ran := 0
		p := everyKind(&ran)
		err := p.Run(t.Context(), append([]string{"work", "file"}, strings.Fields(line)...), io.Discard)
		if ran != 0 || StatusOf(err) != StatusUsage || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "See 'anchorhold work --help'") || strings.Contains(err.Error(), "strconv") {
			t.Errorf("%q: ran %d times, status %d, %v; want %s", line, ran, StatusOf(err), err, want)
		}
	}
	ran := 0
	if err := everyKind(&ran).Run(t.Context(), strings.Fields("work file --text x --words a,b --version 2 --weight 3 --days -1 --active 1,3 --rate 0.5 --timeout 2s --wait"), io.Discard); err != nil || ran != 1 {
		t.Errorf("every flag right: ran %d times, %v", ran, err)
	}
}

// TestGroupsAndUnknownCommands: a group alone does nothing, and a misspelt word is met with what is near.
func TestGroupsAndUnknownCommands(t *testing.T) {
	for line, want := range map[string]string{
		"group":      "anchorhold group needs a command; see 'anchorhold group --help'",
		"group laef": `"laef" is not a command of anchorhold group`,
		"wrok":       `"wrok" is not a command of anchorhold; did you mean work?`,
		"help wrok":  `"wrok" is not a command of anchorhold`,
	} {
		ran := 0
		err := everyKind(&ran).Run(t.Context(), strings.Fields(line), io.Discard)
		if err == nil || StatusOf(err) != StatusUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: status %d, %v; want %s", line, StatusOf(err), err, want)
		}
	}
}

// TestStatusesAndReasons: what a script gets of each kind of error.
func TestStatusesAndReasons(t *testing.T) {
	why := errors.New("why")
	for name, c := range map[string]struct {
		err    error
		status int
		want   Failure
	}{
		"plain":       {why, StatusFailed, Failure{"failed", "why"}},
		"usage":       {Usage(why), StatusUsage, Failure{"command-line-invalid", "why"}},
		"refused":     {errors.Join(ErrRefused, why), StatusRefused, Failure{"refused", "refused\nwhy"}},
		"open":        {errors.Join(ErrOpen, why), StatusOpen, Failure{"not-known-to-be-sound", ErrOpen.Error() + "\nwhy"}},
		"named":       {Named("a-reason", why), StatusFailed, Failure{"a-reason", "why"}},
		"named twice": {Named("a-reason", errors.New("why (a-reason)")), StatusFailed, Failure{"a-reason", "why"}},
		"unnamed":     {Named("", why), StatusFailed, Failure{"failed", "why"}},
		"interrupted": {Named("a-reason", context.Canceled), StatusFailed, Failure{"interrupted", "context canceled"}},
	} {
		if got := FailureOf(c.err); StatusOf(c.err) != c.status || got != c.want {
			t.Errorf("%s: status %d, %+v; want %d, %+v", name, StatusOf(c.err), got, c.status, c.want)
		}
	}
}

// TestJSONIsOneObject: of a list the caller says the name, and an empty one is no null.
func TestJSONIsOneObject(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
		err   error
	}{
		{List("jobs", []string{"a"}), `{"jobs":["a"]}`, nil},
		{List[string]("jobs", nil), `{"jobs":[]}`, nil},
		{[]string{"a"}, "", errBareList},
		{[1]string{"a"}, "", errBareList},
		{[]string(nil), "", errBareList},
	} {
		var out bytes.Buffer
		err := (&Invocation{Out: &out, AsJSON: true}).Print(c.value, nil)
		var got bytes.Buffer
		if err == nil {
			err = json.Compact(&got, bytes.TrimSpace(out.Bytes()))
		}
		if !errors.Is(err, c.err) || got.String() != c.want {
			t.Errorf("%v: got %s, %v, want %s, %v", c.value, &got, err, c.want, c.err)
		}
	}
}
