package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// left is the socket of a process that has ended.
func left(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "left.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAnAgentThatDoesNotAnswerIsExplained: by status and reason for scripts, and by what to do.
func TestAnAgentThatDoesNotAnswerIsExplained(t *testing.T) {
	server := clitest.Serve(t, map[string]any{
		"GET /refused":   clitest.Refusal{Status: http.StatusConflict, Code: "a-code", Message: "the words"},
		"GET /named":     clitest.Refusal{Status: http.StatusForbidden, Code: "a-code", Message: "a-code: the words"},
		"GET /bare":      clitest.Refusal{Status: http.StatusForbidden, Code: "a-code", Message: "a-code"},
		"GET /nonsense":  clitest.Refusal{Status: http.StatusInternalServerError},
		"GET /malformed": "{",
		"GET /good":      map[string]int{"answer": 42},
	})
	killed := clitest.ServeUnix(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	get := func(path string) cli.Run {
		return func(ctx context.Context, inv *cli.Invocation, _ []string) error {
			var into struct{ Answer int }
			if err := Agent(inv.Agent).GetJSON(ctx, path, &into); err != nil {
				return err
			}
			return inv.Print(into, func(w io.Writer) { fmt.Fprintln(w, into.Answer) })
		}
	}
	clitest.Calls(t, map[string]clitest.Call{
		"an answer":    {Run: get("/good"), Agent: server.Socket, Says: "42\n"},
		"a refusal":    {Run: get("/refused"), Agent: server.Socket, Status: cli.StatusRefused, Reason: "a-code", Says: "refused: the words (a-code)"},
		"said once":    {Run: get("/named"), Agent: server.Socket, Status: cli.StatusRefused, Reason: "a-code", Says: "refused: the words (a-code)", Silent: "a-code: "},
		"the code":     {Run: get("/bare"), Agent: server.Socket, Status: cli.StatusRefused, Reason: "a-code", Says: "refused: a-code", Silent: "(a-code)"},
		"no reason":    {Run: get("/nonsense"), Agent: server.Socket, Status: cli.StatusFailed, Reason: "failed", Says: "the agent answered 500 Internal Server Error: "},
		"no JSON":      {Run: get("/malformed"), Agent: server.Socket, Status: cli.StatusFailed, Reason: "failed"},
		"no socket":    {Run: get("/good"), Agent: filepath.Join(t.TempDir(), "none"), Status: cli.StatusFailed, Reason: "agent-unreachable", Says: "is anchorhold-agent running? (--agent names another socket)"},
		"no listener":  {Run: get("/good"), Agent: left(t), Status: cli.StatusFailed, Reason: "agent-unreachable", Says: "anchorhold-agent has stopped; see its journal"},
		"cut off":      {Run: get("/good"), Agent: killed, Status: cli.StatusFailed, Reason: "agent-cut-off", Says: "anchorhold jobs list shows whether it did what was asked"},
		"an interrupt": {Run: get("/good"), Agent: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
	})
	forbidden := Agent("a.sock").explain(&net.OpError{Op: "dial", Err: fs.ErrPermission})
	if f := cli.FailureOf(forbidden); f.Reason != "agent-unreachable" || f.Message != "this user may not open a.sock: ask to be added to the socket's group" {
		t.Errorf("without permission: %+v", f)
	}
}

// TestBodiesGoAsTheyAre with their media type, and headers with them.
func TestBodiesGoAsTheyAre(t *testing.T) {
	server := clitest.Serve(t, map[string]any{"POST /x": map[string]bool{"ok": true}})
	agent := Agent(server.Socket)
	var into struct{ OK bool }
	if err := agent.Post(t.Context(), "/x?y=1", "application/octet-stream", strings.NewReader("\x00raw"), &into); err != nil || !into.OK {
		t.Errorf("%+v, %v", into, err)
	}
	if got, want := server.Last(), (clitest.Asked{Line: "POST /x?y=1", Media: "application/octet-stream", Body: "\x00raw"}); got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	resp, err := agent.DoWith(t.Context(), http.MethodPost, "/x", map[string]int{"n": 1}, http.Header{"X-A": {"b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Decode(resp, &into); err != nil || server.Last().Body != `{"n":1}` || server.Last().Media != "application/json" {
		t.Errorf("asked %+v, %v", server.Last(), err)
	}
	if err := agent.Post(t.Context(), "/other", "text/plain", nil, &into); cli.StatusOf(err) != cli.StatusRefused {
		t.Errorf("a refused body: %v", err)
	}
	if _, err := agent.Do(t.Context(), http.MethodPost, "/x", func() {}); err == nil {
		t.Error("a value that is not JSON was sent")
	}
}

// TestABrokerThatDoesNotAnswerIsExplained: each failure once, and no other error is changed.
func TestABrokerThatDoesNotAnswerIsExplained(t *testing.T) {
	dialed := func(err error) error { return &net.OpError{Op: "dial", Err: err} }
	local := errors.New("of a local file")
	for name, c := range map[string]struct {
		err    error
		status int
		reason string
		says   string
	}{
		"a refusal":     {&operator.Error{Code: "a-code", Message: "the words"}, cli.StatusRefused, "a-code", "the words"},
		"silence":       {fmt.Errorf("%w: nothing came", operator.ErrSilent), cli.StatusFailed, "broker-unresponsive", "its process is stopped or hangs"},
		"a cut":         {fmt.Errorf("%w: EOF", operator.ErrCut), cli.StatusFailed, "broker-cut-off", "anchorhold audit show tells whether"},
		"no socket":     {dialed(fs.ErrNotExist), cli.StatusFailed, "broker-unreachable", "no operator socket at s.sock: is anchorhold-broker running?"},
		"no listener":   {dialed(syscall.ECONNREFUSED), cli.StatusFailed, "broker-unreachable", "nothing listens on s.sock"},
		"no permission": {dialed(fs.ErrPermission), cli.StatusFailed, "broker-unreachable", "this user may not open s.sock"},
		"another dial":  {dialed(syscall.EMFILE), cli.StatusFailed, "failed", "too many open files"},
		"a local file":  {local, cli.StatusFailed, "failed", "of a local file"},
		"a read":        {&net.OpError{Op: "read", Err: fs.ErrNotExist}, cli.StatusFailed, "failed", "read"},
	} {
		err := Explain(c.err, "s.sock")
		if f := cli.FailureOf(err); cli.StatusOf(err) != c.status || f.Reason != c.reason || !strings.Contains(f.Message, c.says) || !errors.Is(err, c.err) && strings.HasPrefix(name, "a ") {
			t.Errorf("%s: status %d, %+v, want %d, %s with %q", name, cli.StatusOf(err), f, c.status, c.reason, c.says)
		}
	}
}

// TestAnIncompleteAnswerIsPrintedAndFails, and a whole one does not fail.
func TestAnIncompleteAnswerIsPrintedAndFails(t *testing.T) {
	ask := func(answer error) cli.Run {
		return func(ctx context.Context, inv *cli.Invocation, _ []string) error {
			return Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
				return 7, func(w io.Writer) { fmt.Fprintln(w, "seven") }, answer
			})
		}
	}
	clitest.Calls(t, map[string]clitest.Call{
		"whole":           {Run: ask(nil), Says: "seven\n"},
		"as JSON":         {Run: ask(nil), JSON: true, Says: "7\n"},
		"incomplete":      {Run: ask(Incomplete(errors.New("the eighth is missing"))), Status: cli.StatusFailed, Says: "seven\nthe eighth is missing"},
		"refused":         {Run: ask(&operator.Error{Code: "a-code", Message: "no"}), Status: cli.StatusRefused, Reason: "a-code", Silent: "seven"},
		"on a full disk":  {Run: ask(nil), Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
		"wrong arguments": {Run: ask(cli.Usage(errors.New("no"))), Status: cli.StatusUsage},
	})
}

// TestStatementsAreThoseThatTheRootSigned: an epoch without one is not certified yet.
func TestStatementsAreThoseThatTheRootSigned(t *testing.T) {
	server := clitest.Serve(t, map[string]any{"GET /v1/epochs": `[{"epoch":1,"statement":"b25l"},{"epoch":2}]`})
	if got, err := Statements(t.Context(), operator.NewClient(server.Socket)); err != nil || fmt.Sprint(got) != "[one]" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRoundsAreNamedByTheirID(t *testing.T) {
	id := strings.Repeat("0f", 16)
	if got, err := Round(id); err != nil || got.String() != id {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "x", id[:31], id + "0", strings.ToUpper(id)} {
		if _, err := Round(bad); cli.StatusOf(err) != cli.StatusUsage || !strings.Contains(err.Error(), "want 32 hexadecimal digits") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestSocketsComeFromFlagsThenTheEnvironment, then from the packages.
func TestSocketsComeFromFlagsThenTheEnvironment(t *testing.T) {
	sockets := func(args ...string) string {
		inv, c := &cli.Invocation{}, &cobra.Command{}
		AgentFlag(inv, c)
		BrokerFlag(inv, c)
		if err := c.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		return inv.Agent + " " + inv.Broker + " " + inv.Patience.String()
	}
	if got, want := sockets(), defaultAgentSocket+" "+defaultBrokerSocket+" "+operator.DefaultSilence.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	t.Setenv("ANCHORHOLD_AGENT", "a")
	t.Setenv("ANCHORHOLD_BROKER", "b")
	if got, want := sockets("--timeout", "3s"), "a b 3s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := sockets("--agent", "x", "--broker", "y", "--timeout", "3s"), "x y 3s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAJobIsWaitedFor: its phases are told once each, and its end decides.
func TestAJobIsWaitedFor(t *testing.T) {
	phase := func(name string) jobs.Info {
		return jobs.Info{State: jobs.Leased, Progress: &jobs.Progress{Phase: name, Done: 1, Total: 2}}
	}
	server := clitest.Serve(t, map[string]any{
		"GET /v1/jobs/good": []any{jobs.Info{State: jobs.Queued}, phase("reading"), phase("reading"), phase("writing"), jobs.Info{State: jobs.Done, Result: []byte(`{"n":1}`)}},
		"GET /v1/jobs/bad":  jobs.Info{State: jobs.Dead, Reason: "a-code", Detail: "it broke"},
		"GET /v1/jobs/slow": jobs.Info{State: jobs.Queued},
	})
	var told strings.Builder
	info, err := WaitJob(t.Context(), Agent(server.Socket), "good", &told)
	if err != nil || info.State != jobs.Done || told.String() != "reading ...\nwriting ...\n" {
		t.Errorf("%+v, %q, %v", info, told.String(), err)
	}
	_, err = WaitJob(t.Context(), Agent(server.Socket), "bad", io.Discard)
	if f := cli.FailureOf(err); cli.StatusOf(err) != cli.StatusRefused || f.Reason != "a-code" || !strings.Contains(f.Message, "it broke") {
		t.Errorf("a dead job: %+v", f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := WaitJob(ctx, Agent(server.Socket), "slow", io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a job that stays: %v", err)
	}
	if _, err := WaitJob(t.Context(), Agent(server.Socket), "unknown", io.Discard); cli.StatusOf(err) != cli.StatusRefused {
		t.Errorf("a job that is unknown: %v", err)
	}
}

// TestAJobIsShown with what it has: progress while it runs, an error, a result.
func TestAJobIsShown(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for want, info := range map[string]jobs.Info{
		"state    queued, try 0\nupdated  2026-03-04T05:06:07Z\n":                   {State: jobs.Queued, Updated: at},
		"progress encrypting 3 of 4\n":                                              {State: jobs.Leased, Progress: &jobs.Progress{Phase: "encrypting", Done: 3, Total: 4}},
		"state    done, try 2\nupdated  2026-03-04T05:06:07Z\nresult   {\"n\":1}\n": {State: jobs.Done, Tries: 2, Updated: at, Progress: &jobs.Progress{Phase: "over"}, Result: []byte(`{"n":1}`)},
		"a-code: it broke\n": {State: jobs.Dead, Reason: "a-code", Detail: "it broke"},
	} {
		var out strings.Builder
		if PrintJob(&out, info); !strings.HasSuffix(out.String(), want) {
			t.Errorf("got %q, want %q at its end", out.String(), want)
		}
	}
}
