package localapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// fakeEngine behaves like a model whose tokens are words: it answers "w0 w1 ..."
// until the limit, a stop string, or its own end after 12 words.
type fakeEngine struct {
	mu      sync.Mutex
	seen    []infer.Request
	asked   tokenize.Conversation // last
	says    []string              // if set, these pieces are the answer: see say
	step    chan struct{}         // if set, a word is emitted for each receive
	started chan struct{}         // if set, told of each generation that begins
	fail    error
}

// say sets the pieces of the answer, nil for words. It locks, because the requests of another process
// come over connections that order nothing for the race detector: it does not see splice.
func (e *fakeEngine) say(pieces ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.says = pieces
}

func (e *fakeEngine) Chat(_ context.Context, c tokenize.Conversation) ([]int32, error) {
	n := 3
	e.mu.Lock()
	e.asked = c
	e.mu.Unlock()
	for _, m := range c.Messages {
		if m.Role == "assistant" && m.Content == "raise" {
			return nil, localapi.BadRequest("messages", "template-refused", "the model's chat template refused: no")
		}
		n += 3 + len(strings.Fields(m.Content))
	}
	return make([]int32, n), nil
}

func (e *fakeEngine) Text(_ context.Context, prompt string) ([]int32, error) {
	return make([]int32, len(strings.Fields(prompt))), nil
}

func (e *fakeEngine) ContextSize() int { return 64 }

// Tokens has a token for each word, behind 1000; special words are 2000.
func (e *fakeEngine) Tokens(_ context.Context, text string, begin, special bool, limit int) ([]int32, error) {
	var ids []int32
	if begin {
		ids = append(ids, 1000)
	}
	for i, word := range strings.Fields(text) {
		if len(ids) > limit {
			break
		}
		if id := int32(i); special && word == "<end>" {
			ids = append(ids, 2000)
		} else {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Piece is "wN ", but for half a character, 999, and ids that there are not.
func (e *fakeEngine) Piece(id int32) []byte {
	switch {
	case id == 999:
		return []byte("\xc3")
	case id < 0 || id > 2000:
		return nil
	}
	return fmt.Appendf(nil, "w%d ", id)
}

// scored is a word with the likeliest ones, of which the last cannot come.
func scored(i, top int) infer.Scored {
	s := infer.Scored{Likelihood: infer.Likelihood{Token: int32(i), Logprob: -0.5}}
	for j := range top {
		s.Top = append(s.Top, infer.Likelihood{Token: int32(i + j), Logprob: -0.5 - float32(j)})
	}
	if top > 1 {
		s.Top[top-1].Logprob = float32(math.Inf(-1))
	}
	return s
}

func (e *fakeEngine) Generate(ctx context.Context, g infer.Request, emit func(string) error) (infer.Result, error) {
	e.mu.Lock()
	e.seen = append(e.seen, g)
	says := e.says
	e.mu.Unlock()
	if e.fail != nil {
		return infer.Result{}, e.fail
	}
	if len(g.Bias) > 0 && g.Bias[0].Token > 1000 {
		return infer.Result{}, infer.ErrBias
	}
	if e.started != nil {
		e.started <- struct{}{}
	}
	r := infer.Result{PromptTokens: len(g.Prompt), ReusedTokens: max(0, len(g.Prompt)-3), FinishReason: "length"}
	if says != nil {
		for i, piece := range says {
			r.CompletionTokens++
			if g.Observe != nil {
				if err := g.Observe([]infer.Scored{scored(i, g.Top)}); err != nil {
					return r, err
				}
			}
			if err := emit(piece); err != nil {
				return r, err
			}
		}
		r.FinishReason = "stop"
		return r, nil
	}
	text := ""
	for i := 0; i < g.MaxTokens; i++ {
		if e.step != nil {
			select {
			case <-e.step:
			case <-ctx.Done():
				return r, ctx.Err()
			}
		}
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		word := fmt.Sprintf("w%d ", i)
		if g.Temperature > 0 && g.Seed != nil {
			word = fmt.Sprintf("s%d-%d ", *g.Seed, i)
		}
		r.CompletionTokens++
		for _, stop := range g.Stop {
			if strings.Contains(text+word, stop) {
				r.FinishReason = "stop"
				return r, nil
			}
		}
		if i == 12 {
			r.FinishReason = "stop"
			return r, nil
		}
		text += word
		if g.Observe != nil {
			if err := g.Observe([]infer.Scored{scored(i, g.Top)}); err != nil {
				return r, err
			}
		}
		if err := emit(word); err != nil {
			return r, err
		}
	}
	return r, nil
}

// fakeGate is an agent's tenure: a lease that can end.
type fakeGate struct {
	more   []string // models beside tiny
	engine *fakeEngine
	key    *identity.Private
	mu     sync.Mutex
	reason error
	lease  context.Context
	end    context.CancelCauseFunc
}

func newFakeGate(t testing.TB) *fakeGate {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	g := &fakeGate{engine: &fakeEngine{}, key: key}
	g.lease, g.end = context.WithCancelCause(context.Background())
	t.Cleanup(func() { g.end(nil) })
	return g
}

func (g *fakeGate) Models() []string { return append([]string{"tiny"}, g.more...) }

func (g *fakeGate) Serving() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason
}

// Classifying is Serving, but for a language model that is refused.
func (g *fakeGate) Classifying() error {
	err := g.Serving()
	if reason, _ := refusal.ReasonOf(err); reason == "model-unsupported" {
		return nil
	}
	return err
}

func (g *fakeGate) Session(context.Context, string) (openai.Session, error) {
	if err := g.Serving(); err != nil {
		return openai.Session{}, err
	}
	return openai.Session{Engine: g.engine, ModelID: [32]byte{1}, Version: 3, Lease: g.lease, Issue: g.issue, Done: func() {}}, nil
}

func (g *fakeGate) issue(a receipt.Answer) (receipt.Issued, error) {
	if err := g.Serving(); err != nil {
		return receipt.Issued{}, err
	}
	return receipt.Issue(g.key, receipt.Lease{Chain: []byte("chain"), Now: 1_795_000_000_000}, a)
}

// expire ends the lease, as the agent's keeper does.
func (g *fakeGate) expire() {
	err := refusal.New("lease-expired", "the lease has ended")
	g.mu.Lock()
	g.reason = err
	g.mu.Unlock()
	g.end(err)
}

type fakeAttester struct{ fail error }

func (a *fakeAttester) AgentKeyID() [32]byte { return [32]byte{0xaa} }

func (a *fakeAttester) Collect(_ context.Context, reportData [64]byte) (evidence.Envelope, error) {
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: append([]byte("report over "), reportData[:]...)}}}, a.fail
}

// fixture is a server on a socket, its client and its log.
type fixture struct {
	*fakeGate
	server      *localapi.Server
	completions *openai.Service
	attester    *fakeAttester
	socket      string
	client      *http.Client
	log         *safeBuffer
	stop        context.CancelFunc
	ended       chan error
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setup is what the agent configures of its API and of the parts that it mounts.
type setup struct {
	localapi.Config
	MaxBodyBytes int64
	Classifiers  *oip.Service
	Models       func(*fakeGate) openai.Models // nil: the gate itself
}

// mount mounts every part, as the agent does.
func mount(t testing.TB, api *localapi.Server, cfg setup, gate *fakeGate) *openai.Service {
	t.Helper()
	completions := &openai.Service{Models: gate, MaxBodyBytes: cfg.MaxBodyBytes, Version: "1.2.3"}
	if cfg.Models != nil {
		completions.Models = cfg.Models(gate)
	}
	if err := completions.Mount(api); err != nil {
		t.Fatal(err)
	}
	if cfg.Classifiers != nil {
		cfg.Classifiers.Mount(api, gate.Classifying)
	} else {
		oip.MountNone(api)
	}
	(&workapi.Service{Classifiers: cfg.Classifiers}).Mount(api)
	return completions
}

func start(t testing.TB, change func(*setup)) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fixture{fakeGate: newFakeGate(t), attester: &fakeAttester{}, socket: filepath.Join(dir, "s"), log: &safeBuffer{}, ended: make(chan error, 1)}
	cfg := setup{Config: localapi.Config{
		Gate: f.fakeGate, Attester: f.attester, AllowedUIDs: []uint32{uint32(os.Getuid())},
		Logger:    slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		DrainTime: 200 * time.Millisecond,
	}}
	if change != nil {
		change(&cfg)
	}
	if f.server, err = localapi.New(cfg.Config); err != nil {
		t.Fatal(err)
	}
	f.completions = mount(t, f.server, cfg, f.fakeGate)
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() { f.ended <- f.server.Serve(ctx, l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.socket)
	}}
	f.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err, ok := <-f.ended; ok && err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error("Serve:", err)
		}
	})
	return f
}

// response is what came back.
type response struct {
	status int
	header http.Header
	body   string
}

// code is the error object's code.
func (r response) code() string {
	var e struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Param   string `json:"param"`
		} `json:"error"`
	}
	_ = json.Unmarshal([]byte(r.body), &e)
	return e.Error.Code
}

func (r response) param() string {
	var e struct {
		Error struct {
			Param string `json:"param"`
		} `json:"error"`
	}
	_ = json.Unmarshal([]byte(r.body), &e)
	return e.Error.Param
}

func (f *fixture) do(t testing.TB, method, path, body string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return f.send(t, req)
}

func (f *fixture) send(t testing.TB, req *http.Request) response {
	t.Helper()
	resp, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(raw)}
}

func (f *fixture) chat(t testing.TB, extra string) response {
	t.Helper()
	return f.do(t, "POST", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"one two"}]`+extra+`}`)
}

// events returns the data of a stream's events.
func (r response) events(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, block := range strings.Split(strings.TrimSuffix(r.body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(block, "data: ")
		if !ok {
			t.Fatalf("event %q", block)
		}
		out = append(out, data)
	}
	return out
}
