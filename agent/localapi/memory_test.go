package localapi

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
	"github.com/anchorhold/anchorhold/crypto/intnet"
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
	body := `{"model":"tiny","messages":[{"role":"user","content":"` + strings.Repeat("x", 1<<20-128) + `"}]}`
	underLoad(t, 200, "/v1/chat/completions", body, chatAlone)
}

const childVariable = "ANCHORHOLD_MEMORY_TEST"

// underLoad has another process serve so many requests at the same time, and holds its
// peak, as the kernel counted it, against what an agent has for requests and itself.
func underLoad(t *testing.T, n int, path, body string, budget int64) {
	t.Helper()
	if raceDetector {
		t.Skip("SKIPPED: under the race detector a process takes other memory")
	}
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
	var load sync.WaitGroup
	statuses := make(chan int, n)
	for range n {
		load.Go(func() { statuses <- post(t, socket, path, body) })
	}
	load.Wait()
	close(statuses)
	counts := map[int]int{}
	for s := range statuses {
		counts[s]++
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
	t.Logf("%d requests of %d bytes: statuses %v; %s kB before, peak %d kB", n, len(body), counts, idle, peak)
	if counts[http.StatusOK] == 0 || counts[0] > 0 {
		t.Errorf("statuses %v", counts)
	}
	if most := (processReserve + 2*budget) >> 10; peak > most {
		t.Errorf("the process took %d kB; requests have %d kB, and it must stay below %d", peak, budget>>10, most)
	}
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
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return http.StatusTooManyRequests // refused, and on a slow machine the body was still on its way
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
	f := start(t, func(c *Config) {
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
		Architecture: intnet.Architecture{Input: intnet.Shape{C: 1, H: 1, W: wide}, Layers: []intnet.Layer{{Out: 10}}},
		Quantizer:    classifier.Quantizer{Features: []classifier.Feature{{Multiplier: 1, Shift: 1}}}}}, nil
}

func (wideClassifier) Classify(_ context.Context, name string, input []int8) (classify.Answer, error) {
	return classify.Answer{Name: name, Input: input, Outputs: make([]int32, 10)}, nil
}
