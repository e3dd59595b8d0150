package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestMain makes the whole program a command of scripts: its main, with its exit status.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"anchorhold": main})
}

// params are how the scripts of a directory run. They have three commands more than others:
//
//	exits STATUS COMMAND...  runs a program that must end with this status
//	serve SOCKET DIRECTORY   answers HTTP on a unix socket until the script ends
//	broker STATE CREDENTIAL  runs a broker on a state directory until the script ends
//
// GET /v1/epochs is answered by the file GET_v1_epochs of the directory; where its first line
// is a number, that is the answer's status. The file "asked" gets a line for every request.
func params(dir, fixtures string) testscript.Params {
	return testscript.Params{
		Dir: dir, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FIXTURES", fixtures)
			env.Setenv("ANCHORHOLD_AGENT", filepath.Join(env.WorkDir, "agent.sock"))
			env.Setenv("ANCHORHOLD_BROKER", filepath.Join(env.WorkDir, "broker.sock"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "serve": serve, "broker": brokerRuns},
	}
}

// exits runs a program and wants an exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("got exit status %d, want %d", got, want)
	}
}

// serve answers requests from the files of a directory.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: serve SOCKET DIRECTORY")
	}
	l, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	server := &http.Server{Handler: &answers{dir: ts.MkAbs(args[1])}}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	ts.Defer(func() {
		ts.Check(server.Close())
		<-ended
	})
}

// brokerRuns runs a broker whose credential is in a file.
func brokerRuns(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: broker STATE CREDENTIAL")
	}
	b := runBroker(ts.MkAbs(args[0]), ts.MkAbs(args[1]), ts.Getenv("ANCHORHOLD_BROKER"))
	ts.Defer(func() { ts.Check(b.stop()) })
	ts.Check(b.answers())
}

// answers is a directory with an answer for each request.
type answers struct {
	dir string
	mu  sync.Mutex // guards the file "asked"
}

// ServeHTTP implements http.Handler.
func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fail := func(err error) { http.Error(w, err.Error(), http.StatusInternalServerError) }
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		fail(err)
		return
	}
	log, err := os.OpenFile(filepath.Join(a.dir, "asked"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fail(err)
		return
	}
	_, err = fmt.Fprintf(log, "%s %s\n", r.Method, r.URL)
	if err = errors.Join(err, log.Close()); err != nil {
		fail(err)
		return
	}
	answer, err := os.ReadFile(filepath.Join(a.dir, r.Method+strings.ReplaceAll(r.URL.EscapedPath(), "/", "_")))
	if err != nil {
		fail(err)
		return
	}
	first, rest, _ := strings.Cut(string(answer), "\n")
	status, err := strconv.Atoi(first)
	if err != nil {
		status, rest = http.StatusOK, string(answer)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Anchorhold-Secret-Version", "7") // an agent says it of secrets
	w.WriteHeader(status)
	_, _ = io.WriteString(w, rest) // the client sees what is missing
}

// TestScripts runs every command as a shell would.
func TestScripts(t *testing.T) {
	longtest.WithoutRace(t, "it starts the program hundreds of times")
	testscript.Run(t, params("testdata/script", fixtures(t)))
}

// TestLongScripts is TestScripts of those that take long.
func TestLongScripts(t *testing.T) {
	longtest.Arithmetic(t, "it holds a ceremony")
	testscript.Run(t, params("testdata/long", fixtures(t)))
}

// leaves calls f for each command of the program that does something itself, with its path.
func leaves(f func(c *cobra.Command, path string)) {
	everyCommand(command.Root(), func(c *cobra.Command) {
		if c.Hidden || c.HasAvailableSubCommands() || c.Name() == "help" || strings.HasPrefix(c.CommandPath(), "anchorhold completion") {
			return
		}
		f(c, c.CommandPath())
	})
}

// TestEveryCommandHelps: with status 0, an example and a description of each flag.
func TestEveryCommandHelps(t *testing.T) {
	longtest.WithoutRace(t, "it starts the program hundreds of times")
	commands, each := 0, 8 // starts so many fewer processes in an ordinary run
	if longtest.All() {
		each = 1
	}
	dir := t.TempDir()
	var script strings.Builder
	leaves(func(c *cobra.Command, path string) {
		if commands++; commands%each == 0 {
			fmt.Fprintf(&script, "exits 0 %s --help\nstdout 'Examples:'\nstdout '^  %s'\n! stderr .\n", path, path)
		}
		for _, line := range strings.Split(c.LocalFlags().FlagUsages(), "\n") {
			if line != "" && !regexp.MustCompile(`--[a-z0-9-]+( [a-zA-Z0-9]+)? {2,}\S`).MatchString(line) {
				t.Errorf("%s: nothing is said of %q", path, line)
			}
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "help.txtar"), []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(dir, ""))
}

// cannotFail are commands without arguments of their own and without anything to refuse.
var cannotFail = []string{"anchorhold version", "anchorhold policy checks", "anchorhold params list"}

// TestEveryCommandHasAScript that has it do its work, refuse, and fail as JSON.
func TestEveryCommandHasAScript(t *testing.T) {
	names, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	var lines []string
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(raw), "\n")...)
	}
	has := func(status, path string, json bool) bool {
		line := regexp.MustCompile(`^exits ` + status + ` ` + path + `( |$)`)
		return slices.ContainsFunc(lines, func(l string) bool {
			return line.MatchString(l) && (!json || strings.Contains(l, " --json"))
		})
	}
	leaves(func(_ *cobra.Command, path string) {
		if !has("0", path, false) {
			t.Errorf("no script has %s succeed", path)
		}
		if slices.Contains(cannotFail, path) {
			return
		}
		if !has("[1-4]", path, false) {
			t.Errorf("no script has %s refuse", path)
		}
		if !has("[1-4]", path, true) {
			t.Errorf("no script has %s fail with --json", path)
		}
	})
}

// TestStatusesAreDocumented: the help names the statuses that scripts rely on.
func TestStatusesAreDocumented(t *testing.T) {
	if long := command.Root().Long; !strings.Contains(long, fmt.Sprintf("%d failed", cli.StatusFailed)) || !strings.Contains(long, fmt.Sprintf("%d refused", cli.StatusRefused)) {
		t.Errorf("%s", long)
	}
}
