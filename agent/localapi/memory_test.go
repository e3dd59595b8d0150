package localapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// What an agent gives to requests, where it serves classifiers and where it does not, and
// what is left to its process beside weights. The agent's own figures are the same.
const (
	withClassifiers = 16 << 20
	chatAlone       = 4 << 20
	processReserve  = 18 << 20
)

// TestFiftyClassifierRequestsStayInsideTheBudget: 50 requests of 8 MiB went past the queue,
// were all read and decoded at once, and held 801 MiB of an agent with a limit of 128.
func TestFiftyClassifierRequestsStayInsideTheBudget(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		serveForMemory(t, withClassifiers)
		return
	}
	longtest.Arithmetic(t, "it sends 400 MiB of requests")
	values := strings.Repeat("0.125,", (8<<20)/6-64)
	body := fmt.Sprintf(`{"inputs":[{"name":"input","datatype":"FP32","shape":[%d,%d],"data":[%s0.125]}]}`, 42, wide, values[:6*(42*wide-1)])
	underLoad(t, 50, "/v2/models/wide/infer", body, withClassifiers)
}

// TestTwoHundredChatsStayInsideTheBudget: 200 requests of one message of 1 MiB held 228 MiB,
// for they waited in line with body and copies in memory.
func TestTwoHundredChatsStayInsideTheBudget(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		serveForMemory(t, chatAlone)
		return
	}
	longtest.WithoutRace(t, "a process takes other memory under it")
	body := `{"model":"tiny","messages":[{"role":"user","content":"` + strings.Repeat("x", 1<<20-128) + `"}]}`
	underLoad(t, 200, "/v1/chat/completions", body, chatAlone)
}

const childVariable = "ANCHORHOLD_MEMORY_TEST"

// TestManyMembersStayInsideTheBudget: a body of short members held twelve times its bytes.
func TestManyMembersStayInsideTheBudget(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		serveForMemory(t, withClassifiers)
		return
	}
	longtest.WithoutRace(t, "a process takes other memory under it")
	members := func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, `,"%x":0`, i)
		}
		return b.String()
	}
	refusedUnderLoad(t, withClassifiers,
		load{4, "/v2/models/wide/infer", `{"id":"x"` + members(8<<20-64) + "}"},
		load{60, "/v1/completions", `{"model":"tiny","prompt":"x"` + members(1<<20-64) + "}"},
		load{60, "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"x"` + members(1<<20-128) + "}]}"},
		load{60, "/v1/completions", `{"model":"tiny","prompt":[` + strings.Repeat(`"",`, (1<<20)/3-32) + `""]}`},
		load{60, "/v1/completions", `{"model":"tiny","prompt":"x","stop":[` + strings.Repeat(`"",`, (1<<20)/3-32) + `""]}`})
}

// TestToolsAndFormatsStayInsideTheBudget: what is many small values in a body is refused before it
// is read into memory, or has its memory beside the body's.
func TestToolsAndFormatsStayInsideTheBudget(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		serveForMemory(t, chatAlone)
		return
	}
	longtest.WithoutRace(t, "a process takes other memory under it")
	many := func(begin, each, end string) string {
		return begin + strings.Repeat(each+",", (1<<20-len(begin)-len(end)-512)/(len(each)+1)) + each + end
	}
	const chat = `{"model":"tiny","messages":[{"role":"user","content":"x"}],`
	const schema = `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":`
	refusedUnderLoad(t, chatAlone,
		load{40, "/v1/chat/completions", many(chat+`"tools":[`, `{"type":"function","function":{"name":"f"}}`, `]}`)},
		load{40, "/v1/chat/completions", many(chat+`"tools":[{"type":"function","function":{"name":"f","parameters":{"enum":[`, `[]`, `]}}}]}`)},
		load{40, "/v1/chat/completions", many(chat+schema+`{"enum":[`, `1`, `]}}}}`)},
		load{40, "/v1/chat/completions", many(`{"model":"tiny","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[`, `{"function":{"name":"f","arguments":"{}"}}`, `]}]}`)},
		load{40, "/v1/chat/completions", many(`{"model":"tiny","messages":[{"role":"user","content":"x"},`, `{"role":"assistant","tool_calls":[{"id":"abcd","function":{"name":"f","arguments":"{}"}},{"id":"abce","function":{"name":"f","arguments":"{}"}}]}`, `]}`)},
		load{40, "/v1/responses", many(`{"model":"tiny","input":[`, `{"role":"user","content":""}`, `]}`)},
		load{40, "/v1/chat/completions", many(chat+`"grammar":"root ::= [`, `a`, `]"}`)})
}

// TestGrammarsStayInsideTheBudget: the largest that are taken, many at once.
func TestGrammarsStayInsideTheBudget(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		serveForMemory(t, chatAlone)
		return
	}
	longtest.WithoutRace(t, "a process takes other memory under it")
	const chat = `{"model":"tiny","messages":[{"role":"user","content":"x"}],`
	underLoad(t, 60, "/v1/chat/completions", chat+`"grammar":"root ::= `+strings.Repeat("[a-\u00e9] | ", 2500)+`\"a\""}`, chatAlone)
}

// load is so many requests at the same time.
type load struct {
	n          int
	path, body string
}

// underLoad has another process serve so many requests at the same time, and holds its
// peak, as the kernel counted it, against what an agent has for requests and itself.
func underLoad(t *testing.T, n int, path, body string, budget int64) {
	t.Helper()
	if counts := loaded(t, budget, load{n, path, body}); counts[http.StatusOK] == 0 || counts[0] > 0 {
		t.Errorf("statuses %v", counts)
	}
}

// refusedUnderLoad is underLoad for requests that must be refused, one load after the other.
func refusedUnderLoad(t *testing.T, budget int64, loads ...load) {
	t.Helper()
	if counts := loaded(t, budget, loads...); counts[http.StatusBadRequest] == 0 || counts[http.StatusOK] > 0 || counts[0] > 0 {
		t.Errorf("statuses %v", counts)
	}
}

// loaded returns how often each status was answered.
func loaded(t *testing.T, budget int64, loads ...load) map[int]int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	socket := word(t, lines, "socket")
	idle := word(t, lines, "idle")
	counts := map[int]int{}
	for _, l := range loads {
		var wg sync.WaitGroup
		statuses := make(chan int, l.n)
		for range l.n {
			wg.Go(func() { statuses <- post(t, socket, l.path, l.body) })
		}
		wg.Wait()
		close(statuses)
		for s := range statuses {
			counts[s]++
		}
		t.Logf("%d requests of %d bytes: statuses %v", l.n, len(l.body), counts)
	}
	in.Close()
	peak, err := strconv.ParseInt(word(t, lines, "peak"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%s kB before, peak %d kB", idle, peak)
	if most := (processReserve + 2*budget) >> 10; peak > most {
		t.Errorf("the process took %d kB; requests have %d kB, and it must stay below %d", peak, budget>>10, most)
	}
	return counts
}

// word returns the word that follows a name in the other process's output.
func word(t *testing.T, lines *bufio.Scanner, name string) string {
	t.Helper()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return rest
		}
	}
	t.Fatalf("no %s: %v", name, lines.Err())
	return ""
}

func post(t *testing.T, socket, path, body string) int {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://agent"+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := transport.RoundTrip(req)
	for _, early := range []error{syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed, io.EOF} {
		if errors.Is(err, early) {
			return http.StatusTooManyRequests // refused, and on a slow machine the body was still on its way
		}
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// serveForMemory is the other process: an API as the agent runs it, until its input ends.
func serveForMemory(t *testing.T, budget int64) {
	debug.SetMemoryLimit(9<<20 + budget - chatAlone)
	debug.SetGCPercent(50)
	f := start(t, func(c *setup) {
		c.Memory, c.RequestTime = budget, time.Minute
		c.Classifiers = &oip.Service{Classifiers: wideClassifier{}, Proofs: func() (oip.Proofs, error) { return nil, errors.New("none") }}
	})
	fmt.Printf("socket %s\nidle %d\n", f.socket, peakMemory(t))
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Printf("peak %d\n", peakMemory(t))
}

// peakMemory is the most that was ever resident, in kB.
func peakMemory(t *testing.T) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		var kb int64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %d kB", &kb); n == 1 {
			return kb
		}
	}
	t.Fatal("the kernel does not say how much memory was taken")
	return 0
}

// wide is the number of values of an input.
const wide = 32768

// wideClassifier answers in no time.
type wideClassifier struct{}

func (wideClassifier) Models() []classify.Model {
	m, _ := wideClassifier{}.Model("wide")
	return []classify.Model{m}
}

func (wideClassifier) Model(name string) (classify.Model, error) {
	return classify.Model{Name: name, Version: 1, Description: &classifier.Description{
		Architecture: intnet.Architecture{Input: intnet.Shape{C: 1, H: 1, W: wide}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 10}}},
		Quantizer:    classifier.Quantizer{Features: []classifier.Feature{{Multiplier: 1, Shift: 1}}}}}, nil
}

func (wideClassifier) Classify(_ context.Context, name string, input []int8) (classify.Answer, error) {
	return classify.Answer{Name: name, Input: input, Outputs: make([]int32, 10)}, nil
}
