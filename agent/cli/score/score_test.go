package score

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// fakeAgent has places for some requests, refuses those beyond, and answers each with its own words.
type fakeAgent struct {
	places int32
	delay  time.Duration
	mute   bool // takes requests and says nothing
	embeds bool // its model makes vectors alone

	under, most atomic.Int32
	refused     atomic.Int32
	mu          sync.Mutex
	answered    map[string]int // bodies
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	problem := func(status int, code string) {
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "0")
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"message":"no","code":%q}}`, code)
	}
	switch r.URL.Path {
	case "/v1/models":
		_, _ = io.WriteString(w, `{"data":[{"id":"tiny"},{"id":"other"}]}`)
		return
	case "/api/show":
		kind := "completion"
		if a.embeds {
			kind = "embedding"
		}
		fmt.Fprintf(w, `{"capabilities":[%q]}`, kind)
		return
	case "/v1/status":
		_, _ = io.WriteString(w, `{"model":{"name":"tiny","id":"aa"}}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if a.mute {
		<-r.Context().Done()
		return
	}
	if n := a.under.Add(1); n > a.places {
		a.under.Add(-1)
		a.refused.Add(1)
		problem(http.StatusTooManyRequests, "queue-full")
		return
	} else if n > a.most.Load() {
		a.most.Store(n)
	}
	defer a.under.Add(-1)
	pauseFor(r, a.delay)
	var q struct {
		Prompt   string
		Messages []struct{ Content string }
		Echo     bool
		Issued   string
	}
	switch {
	case json.Unmarshal(body, &q) != nil:
		problem(http.StatusBadRequest, "invalid-type")
		return
	case q.Prompt == "internal":
		problem(http.StatusInternalServerError, "internal-error")
		return
	case q.Prompt == "garbage": // whole, and always the same
		_, _ = io.WriteString(w, `{"choices":`)
		return
	case q.Prompt == "refuse":
		problem(http.StatusBadRequest, "unsupported-parameter")
		return
	}
	a.mu.Lock()
	if a.answered == nil {
		a.answered = map[string]int{}
	}
	a.answered[string(body)]++
	a.mu.Unlock()
	issued := ""
	if r.Header.Get("Anchorhold-Receipt") == "full" {
		issued = `,"issued_receipt":{"receipt":"r"}`
	}
	says := fmt.Sprintf(`{"text":%q}`, "re: "+q.Prompt)
	if q.Messages != nil {
		says = fmt.Sprintf(`{"message":{"content":%q}}`, "re: "+q.Messages[0].Content)
	}
	if q.Echo {
		says = `{"text":"t","logprobs":{"token_logprobs":[null,-1.5,-0.25]}}`
	}
	fmt.Fprintf(w, `{"choices":[%s],"usage":{"prompt_tokens":3,"completion_tokens":2},"receipt":"id"%s}`, says, issued)
}

// pauseFor waits, unless the client leaves.
func pauseFor(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// questions are lines of an input, of which each has another text.
func questions(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, `{"id":%d,"messages":[{"role":"user","content":"m%d"}]}`+"\n", i, i)
		case 1:
			fmt.Fprintf(&b, `{"id":"id %d","prompt":"p%d","max_tokens":7}`+"\n", i, i)
		case 2:
			fmt.Fprintf(&b, `{"text":"t%d"}`+"\n", i)
		}
	}
	return clitest.Write(t, filepath.Join(t.TempDir(), "in.jsonl"), b.String())
}

func defaults(out string) options {
	return options{out: out, maxTokens: 16, parallel: 64, timeout: time.Minute, patience: time.Minute, busyPatience: time.Minute}
}

// records reads an output, which must have each line once and nothing else.
func records(t *testing.T, path string, lines int) []record {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	list := make([]record, len(all)-1)
	for i, line := range all[1:] {
		if err := json.Unmarshal(line, &list[i]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	slices.SortFunc(list, func(a, b record) int { return a.Line - b.Line })
	if len(list) != lines {
		t.Fatalf("%d records, want %d", len(list), lines)
	}
	for i, r := range list {
		if r.Line != i+1 {
			t.Fatalf("record %d is of line %d", i+1, r.Line)
		}
	}
	return list
}

// TestEveryLineIsAskedOnceAndKept: with as many requests under way as the agent takes.
func TestEveryLineIsAskedOnceAndKept(t *testing.T) {
	agent := &fakeAgent{places: 20, delay: time.Millisecond}
	socket := clitest.ServeUnix(t, agent)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	in := questions(t, 2000)
	o := defaults(out)
	text := clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, JSON: true, Says: `"done": 2000`}.Expect(t, "all lines")
	for i, r := range records(t, out, 2000) {
		ok := r.Error == nil && r.Usage != nil && r.Receipt == "id" && r.Issued == nil
		switch i % 3 {
		case 0:
			ok = ok && string(r.ID) == fmt.Sprint(i) && string(r.Choices) == fmt.Sprintf(`[{"message":{"content":"re: m%d"}}]`, i)
		case 1:
			ok = ok && string(r.ID) == fmt.Sprintf(`"id %d"`, i) && string(r.Choices) == fmt.Sprintf(`[{"text":"re: p%d"}]`, i)
		case 2:
			ok = ok && r.Logprob != nil && *r.Logprob == -1.75 && r.Tokens == 3 && r.Choices == nil
		}
		if !ok {
			t.Errorf("line %d: %+v", i+1, r)
		}
	}
	if len(agent.answered) != 2000 || agent.most.Load() != 20 || agent.refused.Load() > 400 {
		t.Errorf("%d lines, %d at a time, %d refused", len(agent.answered), agent.most.Load(), agent.refused.Load())
	}
	for body, n := range agent.answered {
		if n != 1 {
			t.Errorf("%s was asked %d times", body, n)
		}
	}
	var sum summary
	if err := json.Unmarshal([]byte(text), &sum); err != nil || sum.ModelID != "aa" || sum.PromptTokens != 6000 || len(sum.OutputDigest) != 64 {
		t.Errorf("%+v, %v", sum, err)
	}
	// Once more there is nothing to do.
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, JSON: true, Says: `"before": 2000`}.Expect(t, "again")
	records(t, out, 2000)
	if len(agent.answered) != 2000 {
		t.Error("lines were asked again")
	}
}

// TestAnOutputCutAnywhereIsTakenUp: at each of its bytes.
func TestAnOutputCutAnywhereIsTakenUp(t *testing.T) {
	agent := &fakeAgent{places: 8}
	socket := clitest.ServeUnix(t, agent)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	in := questions(t, 2)
	o := defaults(out)
	o.receipts = true
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket}.Expect(t, "whole")
	whole, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records(t, out, 2) {
		if r.Receipt != "id" || string(r.Issued) != `{"receipt":"r"}` || agent.answered[r.Request] != 1 || r.Choices == nil {
			t.Errorf("%+v", r)
		}
	}
	text := defaults(out + "2")
	text.receipts = true
	clitest.Call{Run: text.run, Args: []string{questions(t, 3)}, Agent: socket}.Expect(t, "a text")
	if r := records(t, text.out, 3)[2]; r.Output != `{"token_logprobs":[null,-1.5,-0.25]}` || string(r.Issued) != `{"receipt":"r"}` || *r.Logprob != -1.75 {
		t.Errorf("%+v", r)
	}
	step := 7
	if longtest.All() {
		step = 1
	}
	for n := 0; n < len(whole); n += step {
		if err := os.WriteFile(out, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		clitest.Call{Run: o.run, Args: []string{in}, Agent: socket}.Expect(t, fmt.Sprint("cut at ", n))
		records(t, out, 2)
		got, err := os.ReadFile(out)
		if kept := bytes.LastIndexByte(whole[:n], '\n') + 1; err != nil || !bytes.Equal(got[:kept], whole[:kept]) {
			t.Fatalf("cut at %d: what was whole is not kept: %v", n, err)
		}
	}
}

// TestOutputsOfOtherRunsAreRefused, and left as they are.
func TestOutputsOfOtherRunsAreRefused(t *testing.T) {
	socket := clitest.ServeUnix(t, &fakeAgent{places: 8})
	dir := t.TempDir()
	in, other := questions(t, 6), questions(t, 7)
	out := filepath.Join(dir, "out.jsonl")
	o := defaults(out)
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket}.Expect(t, "first")
	whole, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(whole), "\n")
	longer, sampled, kept, named := o, o, o, o
	longer.maxTokens, sampled.temperature, kept.receipts, named.model = 17, 1, true, "other"
	refuse := func(name string, o options, in, content, reason, says string) {
		t.Helper()
		if err := os.WriteFile(out, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: reason, Says: says}.Expect(t, name)
		if got, err := os.ReadFile(out); err != nil || string(got) != content {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
	refuse("input", o, other, string(whole), "output-mismatch", "another input")
	refuse("limit", longer, in, string(whole), "output-mismatch", "set of flags")
	refuse("temperature", sampled, in, string(whole), "output-mismatch", "set of flags")
	refuse("receipts", kept, in, string(whole), "output-mismatch", "set of flags")
	refuse("model", named, in, string(whole), "output-mismatch", "another model")
	refuse("digest", o, in, strings.Replace(string(whole), `"aa"`, `"bb"`, 1), "output-mismatch", "another model")
	refuse("version", o, in, strings.Replace(string(whole), `score":1`, `score":2`, 1), "output-mismatch", "another version")
	refuse("words", o, in, "my diary\n", "output-mismatch", "not an output of score")
	refuse("words without an end", o, in, "my diary", "output-mismatch", "not an output of score")
	refuse("no record", o, in, head+"\nx\n"+rest, "output-damaged", "line 2 of")
	refuse("a line twice", o, in, head+"\n"+rest+rest, "output-damaged", "line 8 of")
	refuse("a line behind the last", o, in, head+"\n"+`{"line":7}`+"\n", "output-damaged", "line 2 of")
	refuse("line zero", o, in, head+"\n"+`{"line":0}`+"\n", "output-damaged", "")

	held, err := openOutput(out+"2", 1, header{Format: format}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	taken := o
	taken.out = out + "2"
	clitest.Call{Run: taken.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: "output-busy"}.Expect(t, "two runs")
	if _, err := held.close(); err != nil {
		t.Fatal(err)
	}
	linked := o
	linked.out = filepath.Join(dir, "link")
	if err := os.Symlink(out, linked.out); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"a directory": dir, "no directory": filepath.Join(dir, "none", "out"), "a link": linked.out} {
		o.out = bad
		clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed}.Expect(t, name)
	}
}

// badLines are lines with the reason that their record has.
var badLines = [][2]string{
	{"no JSON", "line-invalid"},
	{"[1]", "line-invalid"},
	{"null", "line-invalid"},
	{`{"id":4}`, "line-invalid"},
	{`{"prompt":"a","text":"b"}`, "line-invalid"},
	{`{"prompt":"a","stream":true}`, "line-invalid"},
	{`{"prompt":"a","model":"other"}`, "line-invalid"},
	{`{"text":"a","max_tokens":4}`, "line-invalid"},
	{`{"prompt":7}`, "invalid-type"},
	{"{\"id\":\"\xff\",\"prompt\":\"a\"}", "line-invalid"},
	{"\f", "line-invalid"},
	{strings.Repeat(" ", maxLine+1), "line-too-long"},
	{`{"prompt":"refuse"}`, "unsupported-parameter"},
	{`{"prompt":"garbage"}`, "failed"},
	{`{"prompt":"internal"}`, "internal-error"},
	{`{"prompt":"` + strings.Repeat("x", maxLine) + `"}`, "line-too-long"},
}

// TestBadLinesHaveAReason: the others are answered, and the exit status says so; --strict ends at
// the first.
func TestBadLinesHaveAReason(t *testing.T) {
	agent := &fakeAgent{places: 8}
	socket := clitest.ServeUnix(t, agent)
	for i, bad := range badLines {
		in := clitest.Write(t, filepath.Join(t.TempDir(), "in.jsonl"), `{"prompt":"good"}`+"\n"+bad[0]+"\n"+`{"text":"good","model":"tiny"}`)
		o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
		clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: "lines-failed", Says: "1 of 3 lines"}.Expect(t, bad[0][:min(len(bad[0]), 40)])
		got := records(t, o.out, 3)
		if got[0].Error != nil || got[2].Error != nil || got[1].Error == nil || got[1].Error.Reason != bad[1] || got[1].Error.Message == "" {
			t.Errorf("%d: %+v", i, got)
		}
		clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: "lines-failed"}.Expect(t, "taken up")
		records(t, o.out, 3)
		o.strict, o.out = true, o.out+"2"
		call := clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: bad[1], Says: "without --strict"}
		if !strings.HasPrefix(bad[1], "line-") && bad[1] != "failed" {
			call.Status = cli.StatusRefused
		}
		call.Expect(t, "strict")
	}
	empty := clitest.Write(t, filepath.Join(t.TempDir(), "in.jsonl"), "")
	o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	parallel, patience := o, o
	parallel.parallel, patience.patience = maxParallel+1, 0
	unknown := o
	unknown.model = "none"
	in := questions(t, 1)
	clitest.Calls(t, map[string]clitest.Call{
		"no lines":         {Run: o.run, Args: []string{empty}, Agent: socket, Status: cli.StatusFailed, Says: "has no lines"},
		"no file":          {Run: o.run, Args: []string{empty + "x"}, Agent: socket, Status: cli.StatusFailed, Says: "no such file"},
		"a directory":      {Run: o.run, Args: []string{t.TempDir()}, Agent: socket, Status: cli.StatusFailed, Says: "not a regular file"},
		"too many at once": {Run: parallel.run, Args: []string{in}, Agent: socket, Status: cli.StatusUsage, Says: "--parallel 225"},
		"no patience":      {Run: patience.run, Args: []string{in}, Agent: socket, Status: cli.StatusUsage, Says: "--patience"},
		"no such model":    {Run: unknown.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: "model-not-found", Says: `["tiny" "other"]`},
		"no agent":         {Run: o.run, Args: []string{in}, Agent: empty + "x", Status: cli.StatusFailed, Reason: "agent-unreachable"},
	})
}

// TestBlankLinesAreNoLines, and the last one needs no end.
func TestBlankLinesAreNoLines(t *testing.T) {
	socket := clitest.ServeUnix(t, &fakeAgent{places: 8})
	in := clitest.Write(t, filepath.Join(t.TempDir(), "in.jsonl"), "\n  \r\n"+`{"prompt":"a"}`+"\r\n\n"+`{"prompt":"b"}`)
	o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, JSON: true, Says: `"lines": 2`}.Expect(t, "blank lines")
	raw, err := os.ReadFile(o.out)
	if err != nil || !bytes.Contains(raw, []byte(`{"line":3,`)) || !bytes.Contains(raw, []byte(`{"line":5,`)) {
		t.Errorf("%s %v", raw, err)
	}
}

// TestAnAgentThatComesBackGoesOn: it ends with requests under way, several times.
func TestAnAgentThatComesBackGoesOn(t *testing.T) {
	dir, err := os.MkdirTemp("", "score")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	agent := &fakeAgent{places: 12, delay: time.Millisecond}
	in := questions(t, 2000)
	o := defaults(filepath.Join(dir, "out.jsonl"))
	ended, stopped := make(chan struct{}), make(chan struct{})
	listen := func() (*http.Server, net.Listener) {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Error(err)
		}
		return &http.Server{Handler: agent}, l
	}
	server, l := listen()
	go func() {
		defer close(stopped)
		for stops := 0; ; stops++ {
			failed := make(chan error, 1)
			go func() { failed <- server.Serve(l) }()
			last := len(ended) > 0
			if stops < 5 && !last {
				<-agent.after(100 * (stops + 1))
			} else {
				<-ended
				last = true
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			if <-failed; last {
				return
			}
			server, l = listen()
		}
	}()
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Says: "2000 of 2000 lines done"}.Expect(t, "restarts")
	close(ended)
	<-stopped
	for _, r := range records(t, o.out, 2000) {
		if r.Error != nil {
			t.Errorf("%+v", r.Error)
		}
	}
}

// count is how many lines were answered.
func (a *fakeAgent) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.answered)
}

// after tells when so many lines were answered.
func (a *fakeAgent) after(n int) <-chan struct{} {
	told := make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if a.count() >= n {
				return
			}
		}
	}()
	return told
}

// TestAnAgentThatNeverAnswersEndsTheRun in time, and so does one that serves nothing.
func TestAnAgentThatNeverAnswersEndsTheRun(t *testing.T) {
	in := questions(t, 3)
	o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	o.timeout, o.patience = 50*time.Millisecond, 120*time.Millisecond
	mute := clitest.ServeUnix(t, &fakeAgent{places: 8, mute: true})
	refusing := clitest.Serve(t, map[string]any{"GET /v1/models": `{"data":[{"id":"tiny"}]}`, "GET /v1/status": `{"model":{"name":"tiny","id":"aa"}}`,
		"POST /v1/completions":      clitest.Refusal{Status: 503, Code: "lease-expired", Message: "not serving"},
		"POST /v1/chat/completions": clitest.Refusal{Status: 503, Code: "lease-expired", Message: "not serving"}}).Socket
	clitest.Calls(t, map[string]clitest.Call{
		"mute":      {Run: o.run, Args: []string{in}, Agent: mute, Status: cli.StatusFailed, Reason: "agent-silent", Says: "0 of 3 lines are done"},
		"refusing":  {Run: o.run, Args: []string{in}, Agent: refusing, Status: cli.StatusRefused, Reason: "lease-expired", Says: "nothing has come back from the agent for 120ms"},
		"cancelled": {Run: o.run, Args: []string{in}, Agent: mute, Status: cli.StatusFailed, Cancelled: true, Reason: "interrupted"},
	})
	o.patience = time.Minute
	silentFromStart := clitest.ServeUnix(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	clitest.Call{Run: o.run, Args: []string{in}, Agent: silentFromStart, Status: cli.StatusFailed, Reason: "agent-silent"}.Expect(t, "from the start")
	o.timeout = time.Minute
	clitest.Call{Run: o.run, Args: []string{in}, Agent: clitest.ServeUnix(t, &fakeAgent{places: 8}), Says: "3 of 3 lines done"}.Expect(t, "taken up")
	records(t, o.out, 3)
}

// TestAnInputThatChangesIsNoticed, and a model that is another at the end.
func TestAnInputThatChangesIsNoticed(t *testing.T) {
	in := questions(t, 3)
	swaps := false
	agent := &fakeAgent{places: 8}
	var asked atomic.Int32
	socket := clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/status" && swaps:
			fmt.Fprintf(w, `{"models":{"tiny":{"name":"tiny","id":"%d"}}}`, asked.Add(1))
			return
		case r.URL.Path == "/v1/models" && !swaps:
			if err := os.WriteFile(in, []byte(`{"prompt":"x"}`+"\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
		agent.ServeHTTP(w, r)
	}))
	o := defaults(filepath.Join(t.TempDir(), "out.jsonl"))
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Reason: "input-changed", Says: "0 of 3 lines are done"}.Expect(t, "input")
	if len(agent.answered) > 0 {
		t.Errorf("lines of another input were asked: %v", agent.answered)
	}
	swaps = true
	o.out += "2"
	clitest.Call{Run: o.run, Args: []string{questions(t, 3)}, Agent: socket, Status: cli.StatusFailed, Reason: "model-changed"}.Expect(t, "model")
}

// TestChangesAnywhereInTheInputAreFound: in each block, and at the end.
func TestChangesAnywhereInTheInputAreFound(t *testing.T) {
	line := []byte(`{"prompt":"` + strings.Repeat("x", 1000) + `"}` + "\n")
	for name, change := range map[string]func(f *os.File, size int64) error{
		"none":      func(*os.File, int64) error { return nil },
		"first":     func(f *os.File, _ int64) error { _, err := f.WriteAt([]byte("y"), 20); return err },
		"last":      func(f *os.File, size int64) error { _, err := f.WriteAt([]byte("y"), size-9); return err },
		"longer":    func(f *os.File, size int64) error { _, err := f.WriteAt(line, size); return err },
		"shorter":   func(f *os.File, size int64) error { return f.Truncate(size - int64(len(line))) },
		"one block": func(f *os.File, _ int64) error { return f.Truncate(blockBytes) },
	} {
		path := clitest.Write(t, filepath.Join(t.TempDir(), "in.jsonl"), string(bytes.Repeat(line, 3000)))
		in, err := openInput(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.close()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(change(f, int64(3000*len(line))), f.Close()); err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = in.again(t.Context(), func(_ int, got []byte, _ bool) error {
			if seen++; !bytes.Equal(got, line[:len(line)-1]) {
				t.Errorf("%s: a line that was changed is passed on", name)
			}
			return nil
		})
		if changed := err != nil; changed != (name != "none") || !changed && seen != 3000 || seen > 3000 {
			t.Errorf("%s: %d lines, %v", name, seen, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openInput(ctx, questions(t, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("reading goes on after it was cancelled: %v", err)
	}
}

// TestProgressIsShown: lines, tokens and time left, for people and for scripts.
func TestProgressIsShown(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&cli.Invocation{Err: &b, AsJSON: true}, 10, 2)
	p.show()
	p.add(&usage{PromptTokens: 30, CompletionTokens: 10})
	p.done(false)
	p.done(true)
	p.began = p.began.Add(-4 * time.Second)
	p.show()
	p.json = false
	p.show()
	p.terminal = true
	p.show()
	lines := strings.SplitAfter(b.String(), "\n")
	if len(lines) != 4 || lines[0] != `{"done":2,"lines":10,"failed":0,"tokens_per_second":0,"seconds_left":null}`+"\n" {
		t.Fatalf("%q", lines)
	}
	var s shown
	if err := json.Unmarshal([]byte(lines[1]), &s); err != nil || s.Done != 4 || s.Failed != 1 || s.TokensPerSecond < 9 || s.TokensPerSecond > 10 || *s.SecondsLeft < 12 || *s.SecondsLeft > 13 {
		t.Errorf("%+v, %v", s, err)
	}
	if lines[2] != "4 of 10 lines, 1 failed, 10 tokens/s, 12s left\n" || lines[3] != "\r\x1b[K4 of 10 lines, 1 failed, 10 tokens/s, 12s left" {
		t.Errorf("%q", lines[2:])
	}
}
