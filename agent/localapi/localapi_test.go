package localapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/receipt"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

func TestModels(t *testing.T) {
	f := start(t, nil)
	if r := f.do(t, "GET", "/v1/models", ""); r.status != 200 || !strings.Contains(r.body, `"id":"tiny"`) {
		t.Error(r)
	}
	if r := f.do(t, "GET", "/v1/models/tiny", ""); r.status != 200 || !strings.Contains(r.body, `"object":"model"`) {
		t.Error(r)
	}
	if r := f.do(t, "GET", "/v1/models/other", ""); r.status != 404 || r.code() != "model_not_found" {
		t.Error(r)
	}
}

func TestChatAnswersWithUsageAndReceipt(t *testing.T) {
	f := start(t, nil)
	body := `{"model":"tiny","messages":[{"role":"user","content":"one two"}],"max_tokens":3,"temperature":0}`
	r := f.do(t, "POST", "/v1/chat/completions", body)
	var o struct {
		ID, Object, Model, Receipt string
		Choices                    []struct {
			Message      struct{ Role, Content string }
			FinishReason string `json:"finish_reason"`
		}
		Usage usage
	}
	if err := json.Unmarshal([]byte(r.body), &o); err != nil || r.status != 200 {
		t.Fatal(r, err)
	}
	if o.Object != "chat.completion" || o.Model != "tiny" || len(o.Choices) != 1 || o.Choices[0].Message.Content != "w0 w1 w2 " ||
		o.Choices[0].Message.Role != "assistant" || o.Choices[0].FinishReason != "length" || o.Usage != (usage{8, 3, 11}) {
		t.Errorf("%+v", o)
	}
	if o.Receipt == "" || r.header.Get(ReceiptHeader) != o.Receipt || o.ID != "chatcmpl-"+o.Receipt {
		t.Errorf("receipt %q, header %q, id %q", o.Receipt, r.header.Get(ReceiptHeader), o.ID)
	}
	issued := f.receipt(t, o.Receipt)
	b := issued.Receipt.Body
	if b.InputCommitment != receipt.CommitInput(issued.Salts.Input, []byte(body)) || b.OutputCommitment != receipt.CommitOutput(issued.Salts.Output, []byte("w0 w1 w2 ")) {
		t.Error("the receipt does not commit to what was sent and answered")
	}
	if b.ModelName != "tiny" || b.ModelVersion != 3 || b.ModelID != [32]byte{1} || b.PromptTokens != 8 || b.CompletionTokens != 3 {
		t.Errorf("receipt %+v", b)
	}
}

func (f *fixture) receipt(t testing.TB, id string) receipt.Issued {
	t.Helper()
	r := f.do(t, "GET", "/v1/receipts/"+id, "")
	var issued receipt.Issued
	if err := json.Unmarshal([]byte(r.body), &issued); err != nil || r.status != 200 {
		t.Fatal(r, err)
	}
	return issued
}

func TestChatStreams(t *testing.T) {
	f := start(t, nil)
	r := f.chat(t, `,"max_completion_tokens":2,"stream":true,"stream_options":{"include_usage":true}`)
	events := r.events(t)
	if r.status != 200 || r.header.Get("Content-Type") != "text/event-stream" || len(events) != 6 || events[5] != "[DONE]" {
		t.Fatalf("%d %v %q", r.status, r.header, events)
	}
	id := r.header.Get(ReceiptHeader)
	for i, want := range []string{
		`"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null`,
		`"delta":{"content":"w0 "}`, `"delta":{"content":"w1 "}`,
		`"delta":{},"logprobs":null,"finish_reason":"length"`,
		`"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10},"receipt":"` + id + `"`,
	} {
		if !strings.Contains(events[i], want) || !strings.Contains(events[i], `"object":"chat.completion.chunk"`) {
			t.Errorf("event %d is %s, want %s", i, events[i], want)
		}
	}
	issued := f.receipt(t, id)
	if issued.Receipt.Body.OutputCommitment != receipt.CommitOutput(issued.Salts.Output, []byte("w0 w1 ")) {
		t.Error("the receipt does not commit to the streamed text")
	}
	last := f.chat(t, `,"max_tokens":1,"stream":true`).events(t)
	if !strings.Contains(last[len(last)-2], `"receipt":"`) || strings.Contains(last[len(last)-2], "usage") {
		t.Errorf("last chunk without usage: %s", last[len(last)-2])
	}
}

func TestPlainCompletion(t *testing.T) {
	f := start(t, nil)
	r := f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":"a b c","max_tokens":2}`)
	if r.status != 200 || !strings.Contains(r.body, `"object":"text_completion"`) || !strings.Contains(r.body, `"text":"w0 w1 "`) || !strings.Contains(r.body, `"prompt_tokens":3`) {
		t.Error(r)
	}
	r = f.do(t, "POST", "/v1/completions", `{"model":"tiny","prompt":["a b c"],"max_tokens":2,"stream":true}`)
	if ev := r.events(t); len(ev) != 4 || !strings.Contains(ev[0], `"text":"w0 "`) || !strings.Contains(ev[2], `"finish_reason":"length"`) || ev[3] != "[DONE]" {
		t.Error(ev)
	}
}

func TestParametersReachTheEngine(t *testing.T) {
	f := start(t, nil)
	f.chat(t, `,"temperature":0.5,"top_p":0.9,"top_k":40,"seed":-7,"stop":"w3","max_tokens":9,"n":1,"user":"me","logprobs":false,"response_format":{ "type": "text" },"tools":null,"frequency_penalty":0.0`)
	f.chat(t, `,"stop":["a","b"]`)
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.engine.seen[0]
	if g.Temperature != 0.5 || g.TopP != 0.9 || g.TopK != 40 || *g.Seed != ^uint64(6) || !slices.Equal(g.Stop, []string{"w3"}) || g.MaxTokens != 9 {
		t.Errorf("%+v", g)
	}
	g = f.engine.seen[1]
	if g.Temperature != 1 || g.TopP != 1 || g.Seed != nil || len(g.Stop) != 2 || g.MaxTokens != 64-8 {
		t.Errorf("defaults: %+v", g)
	}
}

func TestParametersRefusedByName(t *testing.T) {
	f := start(t, nil)
	for extra, want := range map[string][2]string{
		`,"n":2`:                {"n", "unsupported-value"},
		`,"n":"1"`:              {"n", "unsupported-value"},
		`,"tools":[{}]`:         {"tools", "unsupported-parameter"},
		`,"logprobs":true`:      {"logprobs", "unsupported-parameter"},
		`,"logit_bias":{"1":2}`: {"logit_bias", "unsupported-parameter"},
		`,"response_format":{"type":"json_object"}`: {"response_format", "unsupported-parameter"},
		`,"frequency_penalty":0.5`:                  {"frequency_penalty", "unsupported-value"},
		`,"brand_new":1`:                            {"brand_new", "unsupported-parameter"},
		`,"temperature":3`:                          {"temperature", "invalid-value"},
		`,"temperature":"hot"`:                      {"temperature", "invalid-type"},
		`,"top_p":0`:                                {"top_p", "invalid-value"},
		`,"top_k":-1`:                               {"top_k", "invalid-value"},
		`,"seed":1.5`:                               {"seed", "invalid-type"},
		`,"max_tokens":0`:                           {"max_tokens", "invalid-value"},
		`,"max_tokens":1,"max_completion_tokens":1`: {"max_completion_tokens", "invalid-value"},
		`,"stop":["a","b","c","d","e"]`:             {"stop", "invalid-value"},
		`,"stop":""`:                                {"stop", "invalid-value"},
		`,"stop":7`:                                 {"stop", "invalid-type"},
		`,"stream":1`:                               {"stream", "invalid-type"},
		`,"stream_options":{"include_usage":true}`:  {"stream_options", "invalid-value"},
		`,"stream":true,"stream_options":{"x":1}`:   {"stream_options.x", "unsupported-parameter"},
		`,"stream":true,"stream_options":{"include_obfuscation":true}`: {"stream_options.include_obfuscation", "unsupported-parameter"},
		`,"messages":[]`: {"messages", "missing-parameter"},
		`,"messages":{}`: {"messages", "invalid-type"},
		`,"messages":[{"role":"tool","content":"x"}]`:                                {"messages[0].role", "unsupported-role"},
		`,"messages":[{"role":3,"content":"x"}]`:                                     {"messages[0].role", "invalid-type"},
		`,"messages":[{"role":"user"}]`:                                              {"messages[0].content", "invalid-type"},
		`,"messages":[{"role":"user","content":"x","name":"y"}]`:                     {"messages[0].name", "unsupported-parameter"},
		`,"messages":[{"role":"user","content":[{"type":"image_url"}]}]`:             {"messages[0].content", "unsupported-content"},
		`,"messages":[{"role":"assistant","content":"raise"}]`:                       {"messages", "template-refused"},
		`,"messages":[{"role":"user","content":"` + strings.Repeat("x ", 70) + `"}]`: {"messages", "context_length_exceeded"},
		`,"model":""`:      {"model", "missing-parameter"},
		`,"model":"other"`: {"model", "model_not_found"},
	} {
		r := f.chat(t, extra)
		if r.status/100 != 4 || r.param() != want[0] || r.code() != want[1] {
			t.Errorf("%.70s: %d %s, want %v", extra, r.status, r.body, want)
		}
	}
	var many strings.Builder
	for range maxMessages + 1 {
		many.WriteString(`{"role":"user","content":"x"},`)
	}
	if r := f.chat(t, `,"messages":[`+strings.TrimSuffix(many.String(), ",")+`]`); r.code() != "too-many-messages" {
		t.Error(r)
	}
	for body, code := range map[string]string{"": "invalid-json", "[]": "invalid-json", "null": "invalid-json", "{": "invalid-json", "{\"model\":\"\xff\"}": "invalid-json",
		`{"model":"tiny"}`: "missing-parameter", `{"model":"tiny","prompt":["a","b"]}`: "invalid-type", `{"model":"tiny","prompt":""}`: "invalid-value",
		`{"model":"tiny","prompt":"` + strings.Repeat("x ", 70) + `"}`: "context_length_exceeded"} {
		if r := f.do(t, "POST", "/v1/completions", body); r.status != 400 || r.code() != code {
			t.Errorf("%.40q: %+v, want %s", body, r, code)
		}
	}
}

func TestContentPartsAndDeveloperRole(t *testing.T) {
	f := start(t, nil)
	r := f.chat(t, `,"messages":[{"role":"developer","content":"be brief"},{"role":"user","content":[{"type":"text","text":"a b "},{"type":"text","text":"c"}],"refusal":null}]`)
	if r.status != 200 || !strings.Contains(r.body, `"prompt_tokens":14`) {
		t.Error(r)
	}
}

func TestPathsAndMethods(t *testing.T) {
	f := start(t, nil)
	if r := f.do(t, "GET", "/v1/chat/completions", ""); r.status != 405 || r.code() != "method-not-allowed" {
		t.Error(r)
	}
	for _, path := range []string{"/", "/v1/nothing", "/v1/status"} {
		if r := f.do(t, "GET", path, ""); r.status != 404 || r.code() != "not-found" {
			t.Error(path, r)
		}
	}
	f = start(t, func(c *Config) { c.Status = func() any { return map[string]string{"state": "fine"} } })
	if r := f.do(t, "GET", "/v1/status", ""); r.status != 200 || r.body != `{"state":"fine"}` {
		t.Error(r)
	}
}

func TestPeerNotOnTheListIsRefusedEverywhere(t *testing.T) {
	f := start(t, func(c *Config) { c.AllowedUIDs = []uint32{4242424} })
	for _, r := range f.server.routes() {
		if r.method == "GET" {
			if got := f.do(t, "GET", strings.NewReplacer("{model}", "tiny", "{id}", "x").Replace(r.pattern), ""); got.status != 403 || got.code() != "peer-not-allowed" {
				t.Error(r.pattern, got)
			}
		}
	}
	if got := f.chat(t, ""); got.status != 403 || len(f.engine.seen) != 0 {
		t.Error(got)
	}
	f = start(t, func(c *Config) { c.AllowedGIDs, c.AllowedUIDs = []uint32{gid()}, nil })
	if got := f.chat(t, ""); got.status != 200 {
		t.Error("the peer's group is allowed, but:", got)
	}
}

func TestConnectionWithoutCredentialsIsRefused(t *testing.T) {
	f := start(t, nil)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if f.server.allowed(withPeer(context.Background(), a)) {
		t.Error("a connection without peer credentials is allowed")
	}
}

func TestNewRefusesAnEmptyAllowList(t *testing.T) {
	f := start(t, nil)
	cfg := f.server.cfg
	cfg.AllowedUIDs = nil
	if _, err := New(cfg); err == nil {
		t.Error("a server that allows nobody by mistake was made")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a server without gate was made")
	}
}

func TestReceiptOfAnotherUserIsNotFound(t *testing.T) {
	f := start(t, nil)
	id := receipt.ID{5}
	f.server.receipts.Put(77, receipt.Issued{Receipt: receipt.Receipt{Body: receipt.Body{ID: id}}})
	for _, path := range []string{id.String(), receipt.ID{6}.String(), "nonsense"} {
		if r := f.do(t, "GET", "/v1/receipts/"+path, ""); r.status != 404 || r.code() != "receipt-not-found" {
			t.Error(path, r)
		}
	}
}

func TestNothingIsServedOutsideALease(t *testing.T) {
	f := start(t, nil)
	if r := f.do(t, "GET", "/health", ""); r.status != 200 || r.body != `{"status":"ready"}` {
		t.Error(r)
	}
	f.expire()
	for _, r := range []response{f.do(t, "GET", "/health", ""), f.chat(t, ""), f.chat(t, `,"stream":true`)} {
		if r.status != 503 || r.code() != "lease-expired" || r.header.Get("Retry-After") == "" {
			t.Error(r)
		}
	}
	if len(f.engine.seen) != 0 {
		t.Error("the engine ran")
	}
	if r := f.do(t, "GET", "/metrics", ""); !strings.Contains(r.body, "anchorhold_ready 0") {
		t.Error(r.body)
	}
}

func TestStreamEndsWithTheLease(t *testing.T) {
	f := start(t, nil)
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, `,"stream":true`) }()
	<-f.engine.started
	f.engine.step <- struct{}{}
	f.engine.step <- struct{}{} // the first word has been sent
	f.expire()
	events := (<-done).events(t)
	last := events[len(events)-1]
	if !strings.Contains(last, `"code":"lease-expired"`) || slices.Contains(events, "[DONE]") {
		t.Errorf("events %q", events)
	}
}

func TestAnswerUnderWayEndsWithTheLease(t *testing.T) {
	f := start(t, nil)
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, "") }()
	<-f.engine.started
	f.expire()
	if r := <-done; r.status != 503 || r.code() != "lease-expired" || r.header.Get(ReceiptHeader) != "" {
		t.Error(r)
	}
}

// TestNoReceiptAfterTheLease: the lease ends between the last word and the
// signature; the client must not get an answer that looks finished.
func TestNoReceiptAfterTheLease(t *testing.T) {
	f := start(t, nil)
	s, err := f.Session("tiny")
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.fakeGate.reason = nil
	f.mu.Unlock()
	c := &completion{server: f.server, request: &request{model: "tiny"}, session: s}
	f.expire()
	ctx := context.WithValue(t.Context(), peerKey{}, peer{uid: 1})
	if reason, _ := evidence.ReasonOf(c.sign(ctx, "text", infer.Result{})); reason != "lease-expired" {
		t.Error(reason)
	}
}

// deafEngine finishes although the lease ended while it computed.
type deafEngine struct {
	*fakeEngine
	during func()
}

func (e *deafEngine) Generate(context.Context, infer.Request, func(string) error) (infer.Result, error) {
	e.during()
	return infer.Result{FinishReason: "stop"}, nil
}

func TestEngineThatFinishesAfterItsTimeIsNotBelieved(t *testing.T) {
	f := start(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("too late")
	c := &completion{server: f.server, request: &request{}, session: Session{Engine: &deafEngine{f.engine, func() { cancel(late) }}}}
	if _, err := c.generate(ctx, &strings.Builder{}, nil); !errors.Is(err, late) {
		t.Error(err)
	}
}

func TestQueueFullIs429WithRetryAfter(t *testing.T) {
	f := start(t, func(c *Config) { c.Queue = 1 })
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 2)
	done := make(chan response, 2)
	for range 2 {
		go func() { done <- f.chat(t, `,"max_tokens":1`) }()
	}
	<-f.engine.started
	await(t, func() bool { _, waiting := f.server.answers.load(); return waiting == 1 })
	if r := f.chat(t, ""); r.status != 429 || r.code() != "queue-full" || r.header.Get("Retry-After") == "" {
		t.Error(r)
	}
	f.engine.step <- struct{}{}
	f.engine.step <- struct{}{}
	for range 2 {
		if r := <-done; r.status != 200 {
			t.Error("a request that was queued:", r)
		}
	}
}

func TestNoQueueAtAll(t *testing.T) {
	f := start(t, func(c *Config) { c.Queue = -1 })
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, `,"max_tokens":1`) }()
	<-f.engine.started
	if r := f.chat(t, ""); r.status != 429 {
		t.Error(r)
	}
	f.engine.step <- struct{}{}
	<-done
}

func TestRequestTimeIsBounded(t *testing.T) {
	f := start(t, func(c *Config) { c.RequestTime = 30 * time.Millisecond })
	f.engine.step = make(chan struct{})
	if r := f.chat(t, ""); r.status != 504 || r.code() != "request-timeout" {
		t.Error(r)
	}
}

func TestBodyIsBounded(t *testing.T) {
	f := start(t, func(c *Config) { c.MaxBodyBytes = 100 })
	if r := f.chat(t, `,"user":"`+strings.Repeat("x", 100)+`"`); r.status != 413 || r.code() != "request-too-large" {
		t.Error(r)
	}
}

func TestClientThatLeavesStopsItsAnswer(t *testing.T) {
	f := start(t, nil)
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://agent/v1/completions", strings.NewReader(`{"model":"tiny","prompt":"x"}`))
	done := make(chan error, 1)
	go func() { _, err := f.client.Do(req); done <- err }()
	<-f.engine.started
	cancel()
	<-done
	await(t, func() bool { running, _ := f.server.answers.load(); return running == 0 })
}

// TestSlowReaderIsCutOff: a client that asks for a stream and never reads it.
func TestSlowReaderIsCutOff(t *testing.T) {
	f := start(t, func(c *Config) { c.WriteTime = 50 * time.Millisecond })
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"model":"tiny","prompt":"x","stream":true,"max_tokens":12}`
	f.engine.step = make(chan struct{})
	big := &bigEngine{fakeEngine: f.engine, ended: make(chan error, 1)}
	f.server.cfg.Gate = &otherEngine{f.fakeGate, big}
	fmt.Fprintf(conn, "POST /v1/completions HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	var timeout net.Error
	if err := <-big.ended; !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the engine was stopped by %v", err)
	}
}

// bigEngine emits more than any socket buffer holds.
type bigEngine struct {
	*fakeEngine
	ended chan error
}

func (e *bigEngine) Generate(_ context.Context, _ infer.Request, emit func(string) error) (infer.Result, error) {
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		err = emit(strings.Repeat("x", 64<<10))
	}
	e.ended <- err
	return infer.Result{}, err
}

type otherEngine struct {
	*fakeGate
	engine Engine
}

func (g *otherEngine) Session(name string) (Session, error) {
	s, err := g.fakeGate.Session(name)
	s.Engine = g.engine
	return s, err
}

func TestDrainLetsAnswersEnd(t *testing.T) {
	f := start(t, func(c *Config) { c.DrainTime = 10 * time.Second })
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, `,"max_tokens":2`) }()
	<-f.engine.started
	f.stop()
	await(t, func() bool { return f.server.serving() != nil })
	if reason, _ := evidence.ReasonOf(f.server.serving()); reason != ReasonDraining {
		t.Error(reason)
	}
	f.engine.step <- struct{}{}
	f.engine.step <- struct{}{}
	if r := <-done; r.status != 200 {
		t.Error(r)
	}
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
	close(f.ended)
}

func TestDrainCutsOffWhatDoesNotEnd(t *testing.T) {
	f := start(t, func(c *Config) { c.DrainTime = 20 * time.Millisecond })
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, "") }()
	<-f.engine.started
	f.stop()
	if r := <-done; r.status != 503 || r.code() != "draining" {
		t.Error(r)
	}
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
	close(f.ended)
}

func TestConnectionsAreBounded(t *testing.T) {
	f := start(t, func(c *Config) { c.Connections = 1 })
	first, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(first, "GET /health HTTP/1.1\r\nHost: agent\r\n\r\n")
	if _, err := first.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	done := make(chan response, 1)
	go func() { done <- f.do(t, "GET", "/health", "") }()
	select {
	case r := <-done:
		t.Error("a second connection was served:", r)
	case <-time.After(30 * time.Millisecond):
	}
	first.Close()
	if r := <-done; r.status != 200 {
		t.Error(r)
	}
}

func TestAttestationIsBoundToTheNonceUnderItsOwnLabel(t *testing.T) {
	f := start(t, nil)
	nonce := strings.Repeat("ab", 16)
	r := f.do(t, "GET", "/v1/attestation?nonce="+nonce, "")
	var a attestation
	if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != 200 {
		t.Fatal(r, err)
	}
	raw, _ := hex.DecodeString(nonce)
	want := evidence.CallerBinding{Nonce: raw, AgentKeyID: [32]byte{0xaa}}.ReportData()
	env, err := evidence.ParseEnvelope(a.Evidence)
	if err != nil || !strings.HasSuffix(string(env.Report), string(want[:])) || a.ReportData != hex.EncodeToString(want[:]) || a.Nonce != nonce {
		t.Errorf("%+v %v", a, err)
	}
	if r := f.do(t, "GET", "/v1/attestation?nonce=q6urq6urq6urq6urq6urqw", ""); !strings.Contains(r.body, nonce) {
		t.Error("base64url:", r)
	}
	for _, bad := range []string{"", "abcd", "!!!", strings.Repeat("ab", 65), strings.Repeat("ab", 15), strings.Repeat("a", 200)} {
		if r := f.do(t, "GET", "/v1/attestation?nonce="+bad, ""); r.status != 400 || r.param() != "nonce" {
			t.Errorf("%q: %v", bad, r)
		}
	}
	f.attester.fail = errors.New("the device is gone")
	if r := f.do(t, "GET", "/v1/attestation?nonce="+nonce, ""); r.status != 500 || strings.Contains(r.body, "device") {
		t.Error(r)
	}
}

func TestMetricsHaveNoLabelsFromClients(t *testing.T) {
	f := start(t, func(c *Config) {
		c.Gauges = func() []Gauge { return []Gauge{{"anchorhold_lease_remaining_seconds", "Left of the lease.", 12.5}} }
	})
	f.chat(t, `,"max_tokens":2`)
	for i := range 5 {
		f.do(t, "GET", fmt.Sprintf("/made-up-%d", i), "")
		f.chat(t, fmt.Sprintf(`,"model":"made-up-%d"`, i))
	}
	r := f.do(t, "GET", "/metrics", "")
	for _, want := range []string{
		`anchorhold_requests_total{route="chat",status="200"} 1`, `anchorhold_requests_total{route="chat",status="404"} 5`,
		`anchorhold_requests_total{route="unknown",status="404"} 5`, `anchorhold_tokens_total{direction="completion"} 2`,
		"anchorhold_ready 1", "anchorhold_lease_remaining_seconds 12.5", "# TYPE anchorhold_answers_waiting gauge",
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("no %s in\n%s", want, r.body)
		}
	}
	if strings.Contains(r.body, "made-up") {
		t.Error(r.body)
	}
}

// TestPromptsAndAnswersNeverReachTheLog puts a canary into every place that a
// client can fill and looks for it in the log and the metrics.
func TestPromptsAndAnswersNeverReachTheLog(t *testing.T) {
	const canary = "CANARY-4711"
	f := start(t, func(c *Config) { c.RequestTime = 100 * time.Millisecond })
	bodies := []string{
		`{"model":"tiny","messages":[{"role":"user","content":"` + canary + `"}],"user":"` + canary + `","stop":"` + canary + `"}`,
		`{"model":"tiny","messages":[{"role":"user","content":"` + canary + `"}],"stream":true}`,
		`{"model":"` + canary + `","messages":[{"role":"user","content":"x"}]}`,
		`{"model":"tiny","messages":[{"role":"` + canary + `","content":"x"}]}`,
		`{"model":"tiny","` + canary + `":1,"messages":[{"role":"user","content":"x"}]}`,
		`{"` + canary,
	}
	send := func() {
		for _, b := range bodies {
			f.do(t, "POST", "/v1/chat/completions", b)
		}
		f.do(t, "GET", "/"+canary+"?x="+canary, "")
		f.do(t, "GET", "/v1/receipts/"+canary, "")
	}
	send()
	f.engine.fail = errors.New("the engine broke")
	send()
	f.engine.fail, f.engine.step = nil, make(chan struct{})
	send() // time-outs
	f.expire()
	send()
	if log := f.log.String(); strings.Contains(log, canary) || !strings.Contains(log, "the engine broke") {
		t.Errorf("log: %s", log)
	}
	if r := f.do(t, "GET", "/metrics", ""); strings.Contains(r.body, canary) {
		t.Error(r.body)
	}
}

func TestInternalErrorsAreOpaque(t *testing.T) {
	f := start(t, nil)
	f.engine.fail = errors.New("secret detail")
	r := f.chat(t, "")
	if r.status != 500 || r.code() != "internal-error" || strings.Contains(r.body, "secret") {
		t.Error(r)
	}
	if !strings.Contains(f.log.String(), "secret detail") {
		t.Error("the log has no detail")
	}
}
