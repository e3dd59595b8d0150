//go:build !release

package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/score"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// serveVariable has the figures measured; $ANCHORHOLD_BENCH_SERVE_JSON is a file for them.
const serveVariable = "ANCHORHOLD_BENCH_SERVE"

// serveFigures are those of one number of clients.
type serveFigures struct {
	Clients   int     `json:"clients"`
	Requests  int     `json:"requests"`
	Tokens    int     `json:"tokens"`
	Renewals  int     `json:"renewals"` // of the lease, meanwhile
	Cut       int     `json:"cut"`      // streams that did not come to their end
	PerSecond float64 `json:"tokens_per_second"`
	PerCPU    float64 `json:"tokens_per_cpu_second"` // of the whole test, with broker and clients
	// First is from the request to the first text, Between from one piece to the next, in
	// milliseconds.
	First50   float64 `json:"first_ms_p50"`
	First99   float64 `json:"first_ms_p99"`
	Between50 float64 `json:"between_ms_p50"`
	Between99 float64 `json:"between_ms_p99"`
}

// TestServeFigures measures streams of a whole agent at 1, 4 and 16 clients, under leases of twenty
// seconds, of which each level sees several. `make bench-serve` runs it.
func TestServeFigures(t *testing.T) {
	if os.Getenv(serveVariable) == "" {
		t.Skip("SKIPPED: `make bench-serve` measures")
	}
	const sequences, each, lease = 16, 50 * time.Second, 20
	model := realModel(t)
	f, g, dir := brokertest.New(t), tenuretest.New(t), t.TempDir()
	sealed := filepath.Join(dir, "model.ahm")
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.SealFile(t, model, sealed, tenuretest.ModelKey, 1))
	info, err := os.Stat(model)
	if err != nil {
		t.Fatal(err)
	}
	cfg := underBroker(t, g.Config, f, dir)
	cfg.Compute.TEE.MemoryLimitMB = int(info.Size()>>20)*5/4 + 700 // resident, with room for every context
	cfg.Models[0].Path, cfg.Models[0].Threads, cfg.Models[0].Context, cfg.Models[0].Sequences = sealed, runtime.NumCPU(), 1024, sequences
	cfg.Socket.Queue = 2 * sequences
	s := &several{base: cfg, path: filepath.Join(dir, "agent.yaml"), root: f.Root.Public()}
	stop, ended := s.start(t, cfg, f.TEE, lease)
	for deadline := time.Now().Add(2 * time.Minute); s.d.tenure.Serving() != nil; {
		pauseFor(t.Context(), 100*time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not serve: %v", s.d.tenure.Serving())
		}
	}
	s.api.Transport.(*http.Transport).MaxIdleConnsPerHost = sequences
	var all []serveFigures
	t.Logf("%8s %9s %9s %10s %10s %8s %22s %22s", "clients", "requests", "renewals", "cut", "tokens/s", "/CPU s", "first text p50/p99 ms", "between p50/p99 ms")
	for _, clients := range []int{1, 4, 16} {
		before := releases(f)
		fig := s.streams(t, clients, each)
		fig.Renewals = releases(f) - before
		all = append(all, fig)
		t.Logf("%8d %9d %9d %10d %10.1f %8.1f %11.0f /%9.0f %11.1f /%9.1f", clients, fig.Requests, fig.Renewals, fig.Cut, fig.PerSecond, fig.PerCPU, fig.First50, fig.First99, fig.Between50, fig.Between99)
		if fig.Cut > 0 || fig.Renewals < 3 || fig.Requests == 0 {
			t.Errorf("%+v", fig)
		}
	}
	scored := s.scoring(t, cfg.Socket.Path, dir, 16*sequences)
	t.Logf("anchorhold score: %d lines, %d tokens, %.1f tokens/s, %.2f times the %d streams' for a second of the processor", scored.Requests, scored.Tokens, scored.PerSecond,
		scored.PerCPU/all[len(all)-1].PerCPU, sequences)
	if path := os.Getenv("ANCHORHOLD_BENCH_SERVE_JSON"); path != "" {
		raw, err := json.MarshalIndent(map[string]any{"model": filepath.Base(model), "threads": runtime.NumCPU(), "lease_seconds": lease, "levels": all, "score": scored}, "", "  ")
		if err := errors.Join(err, os.WriteFile(path, append(raw, '\n'), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// streams has so many clients ask one question after another for a time.
func (s *several) streams(t *testing.T, clients int, each time.Duration) (fig serveFigures) {
	t.Helper()
	fig.Clients = clients
	var mu sync.Mutex
	var first, between []float64
	var all sync.WaitGroup
	began, busy := time.Now(), processorTime(t)
	for c := range clients {
		all.Go(func() {
			for n := 0; time.Since(began) < each; n++ {
				got, err := s.stream(fmt.Sprintf("Client %d, question %d: tell a story about the number %d.", c, n, c*1000+n))
				mu.Lock()
				if err != nil {
					t.Log(err)
					fig.Cut++
				}
				fig.Requests++
				fig.Tokens += got.tokens
				first, between = append(first, got.first), append(between, got.between...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	fig.PerSecond = float64(fig.Tokens) / time.Since(began).Seconds()
	fig.PerCPU = float64(fig.Tokens) / (processorTime(t) - busy).Seconds()
	fig.First50, fig.First99 = quantile(first, 0.5), quantile(first, 0.99)
	fig.Between50, fig.Between99 = quantile(between, 0.5), quantile(between, 0.99)
	return fig
}

// scoring has `anchorhold score` ask so many questions like those of streams.
func (s *several) scoring(t *testing.T, socket, dir string, lines int) (fig serveFigures) {
	t.Helper()
	in := filepath.Join(dir, "questions.jsonl")
	var text strings.Builder
	for n := range lines {
		fmt.Fprintf(&text, `{"messages":[{"role":"user","content":"Client %d, question %d: tell a story about the number %d."}]}`+"\n", n%16, n, n)
	}
	if err := os.WriteFile(in, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	command := score.New(&cli.Invocation{AsJSON: true})
	command.SetOut(&out)
	command.SetErr(io.Discard)
	command.SetArgs([]string{in, "--out", filepath.Join(dir, "answers.jsonl"), "--agent", socket, "--max-tokens", "64", "--temperature", "0.8", "--seed", "1"})
	began, busy := time.Now(), processorTime(t)
	if err := command.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	took, cpu := time.Since(began), processorTime(t)-busy
	var sum struct {
		Done, Failed int
		Tokens       int `json:"completion_tokens"`
	}
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil || sum.Done != lines || sum.Failed != 0 {
		t.Fatalf("%s: %v", out.Bytes(), err)
	}
	return serveFigures{Requests: lines, Tokens: sum.Tokens, PerSecond: float64(sum.Tokens) / took.Seconds(), PerCPU: float64(sum.Tokens) / cpu.Seconds()}
}

// releases is how many leases the broker has granted.
func releases(f *brokertest.Fixture) (n int) {
	for _, r := range f.Records() {
		if r.Kind == audit.KindGrant {
			n++
		}
	}
	return n
}

// processorTime is what this process has taken.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[int(q*float64(len(list)-1)+0.5)]
}

// streamed is one stream: its times in milliseconds.
type streamed struct {
	tokens  int
	first   float64
	between []float64
}

func (s *several) stream(question string) (got streamed, err error) {
	raw, err := json.Marshal(question)
	if err != nil {
		return got, err
	}
	began := time.Now()
	resp, err := s.api.Post("http://agent/v1/chat/completions", "application/json", strings.NewReader(`{"model":"tiny","max_tokens":64,"temperature":0.8,"seed":1,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":`+string(raw)+`}]}`))
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	last, whole := time.Time{}, false
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			whole = true
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta struct{ Content string }
			}
			Usage *struct {
				Tokens int `json:"completion_tokens"`
			}
			Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil || chunk.Error != nil {
			return got, fmt.Errorf("%s: %w", data, err)
		}
		if chunk.Usage != nil {
			got.tokens = chunk.Usage.Tokens
		}
		if len(chunk.Choices) == 0 || chunk.Choices[0].Delta.Content == "" {
			continue
		}
		now := time.Now()
		if last.IsZero() {
			got.first = float64(now.Sub(began).Microseconds()) / 1000
		} else {
			got.between = append(got.between, float64(now.Sub(last).Microseconds())/1000)
		}
		last = now
	}
	if !whole {
		return got, errors.Join(lines.Err(), fmt.Errorf("status %d: the stream was cut", resp.StatusCode))
	}
	return got, nil
}
