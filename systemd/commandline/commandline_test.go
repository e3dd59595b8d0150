package commandline

import (
	"errors"
	"strings"
	"testing"
)

var daemon = Daemon{Name: "anchorhold-test", Config: "/etc/default.yaml", Configured: []string{"run", "check"}}

func TestKnownCommandLines(t *testing.T) {
	for _, c := range []struct {
		args            string
		command, config string
	}{
		{"run", "run", "/etc/default.yaml"},
		{"check --config x.yaml", "check", "x.yaml"},
		{"check -config=x.yaml", "check", "x.yaml"},
		{"check -config x=y", "check", "x=y"},
		{"version", "version", ""},
		{"--version", "version", ""},
	} {
		command, config, err := daemon.Parse(strings.Fields(c.args))
		if err != nil || command != c.command || config != c.config || ExitCode(err) != 0 {
			t.Errorf("%s: %q %q %v", c.args, command, config, err)
		}
	}
	for _, args := range []string{"help", "-h", "--help", "run --help", "version -h"} {
		if _, _, err := daemon.Parse(strings.Fields(args)); !errors.Is(err, ErrHelp) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// TestUnknownWordsAreRefused: the default configuration is never taken for them.
func TestUnknownWordsAreRefused(t *testing.T) {
	for args, says := range map[string]string{
		"":                     "a command is required: run, check, reload, version",
		"chck":                 `unknown command "chck"`,
		"chck --config x.yaml": `unknown command "chck"`,
		"check FILE":           "with --config FILE",
		"run FILE":             "with --config FILE",
		"run --config x stray": "with --config FILE",
		"run --conf x":         `"--conf"`,
		"run --config":         "needs a file",
		"run --config=":        "needs a file",
		"version stray":        "takes no arguments",
		"--version stray":      `unknown command "--version"`,
		"version --config x":   "takes no arguments",
		"help stray":           `unknown command "help"`,
		"--config x.yaml":      `unknown command "--config"`,
	} {
		command, config, err := daemon.Parse(strings.Fields(args))
		if ExitCode(err) != ExitUsage || command+config != "" || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "anchorhold-test --help") {
			t.Errorf("%q: %q %q %v", args, command, config, err)
		}
	}
	another := errors.New("another")
	if ExitCode(another) != ExitFailure {
		t.Error("a failure has another status")
	}
	if err := Misconfigured(another); ExitCode(err) != ExitUsage || !errors.Is(err, another) {
		t.Errorf("a wrong configuration: %v", err)
	}
}
