package localapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
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

// usage is that of an answer, as clients read it.
type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
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
	if o.Receipt == "" || r.header.Get(localapi.ReceiptHeader) != o.Receipt || o.ID != "chatcmpl-"+o.Receipt {
		t.Errorf("receipt %q, header %q, id %q", o.Receipt, r.header.Get(localapi.ReceiptHeader), o.ID)
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

// TestAWholeReceiptComesWithTheAnswer: whoever asks for it loses nothing when the agent
// forgets it, which it does at once here.
func TestAWholeReceiptComesWithTheAnswer(t *testing.T) {
	f := start(t, func(c *setup) { c.Receipts = receipt.Limits{Kept: 1} })
	ask := func(value, extra string) response {
		body := `{"model":"tiny","messages":[{"role":"user","content":"one two"}],"max_tokens":2` + extra + `}`
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://agent/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(localapi.RequestReceipt, value)
		return f.send(t, req)
	}
	whole := func(raw string) {
		t.Helper()
		var o struct {
			Receipt string          `json:"receipt"`
			Issued  *receipt.Issued `json:"issued_receipt"`
		}
		if err := json.Unmarshal([]byte(raw), &o); err != nil || o.Issued == nil {
			t.Fatal(raw, err)
		}
		b := o.Issued.Receipt.Body
		if b.ID.String() != o.Receipt || b.OutputCommitment != receipt.CommitOutput(o.Issued.Salts.Output, []byte("w0 w1 ")) {
			t.Errorf("%+v", b)
		}
		if _, err := o.Issued.Receipt.Marshal(); err != nil {
			t.Error(err)
		}
	}
	first := ask("full", "")
	whole(first.body)
	for _, extra := range []string{`,"stream":true`, `,"stream":true,"stream_options":{"include_usage":true}`} {
		events := ask("full", extra).events(t)
		whole(events[len(events)-2])
		for _, e := range events[:len(events)-2] {
			if strings.Contains(e, "issued_receipt") {
				t.Error("before the end:", e)
			}
		}
	}
	if r := f.do(t, "GET", "/v1/receipts/"+first.header.Get(localapi.ReceiptHeader), ""); r.code() != "receipt-not-found" {
		t.Error("the first receipt is not forgotten:", r)
	}
	for _, value := range []string{"", "id"} {
		if r := ask(value, ""); r.status != 200 || strings.Contains(r.body, "issued_receipt") {
			t.Error(value, r)
		}
	}
	if r := ask("all", ""); r.status != 400 || r.code() != "unsupported-value" || r.param() != localapi.RequestReceipt {
		t.Error(r)
	}
}

func TestChatStreams(t *testing.T) {
	f := start(t, nil)
	r := f.chat(t, `,"max_completion_tokens":2,"stream":true,"stream_options":{"include_usage":true}`)
	events := r.events(t)
	if r.status != 200 || r.header.Get("Content-Type") != "text/event-stream" || len(events) != 6 || events[5] != "[DONE]" {
		t.Fatalf("%d %v %q", r.status, r.header, events)
	}
	id := r.header.Get(localapi.ReceiptHeader)
	for i, want := range []string{
		`"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null`,
		`"delta":{"content":"w0 "}`, `"delta":{"content":"w1 "}`,
		`"delta":{},"logprobs":null,"finish_reason":"length"`,
		`"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":5}},"receipt":"` + id + `"`,
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
	f.chat(t, `,"top_k":-1,"min_p":0.1,"frequency_penalty":-1,"presence_penalty":2,"repeat_penalty":1.1,"repeat_last_n":-1,"logit_bias":{"7":-100,"8":0.5},"logprobs":true,"top_logprobs":20`)
	f.chat(t, `,"store":false,"parallel_tool_calls":true,"n":1,"best_of":1.0,"logit_bias":{},"service_tier":"auto","metadata":{"a":"b"},"tool_choice":"auto","modalities":[ "text" ],"typical_p":1.0`)
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.engine.seen[0]
	if g.Temperature != 0.5 || g.TopP != 0.9 || g.TopK != 40 || *g.Seed != ^uint64(6) || !slices.Equal(g.Stop, []string{"w3"}) || g.MaxTokens != 9 {
		t.Errorf("%+v", g)
	}
	g = f.engine.seen[1]
	if want := fmt.Sprintf("uid %d", os.Getuid()); g.Owner != want {
		t.Errorf("got owner %q, want %q: prefixes are shared by user", g.Owner, want)
	}
	if g.Temperature != 1 || g.TopP != 1 || g.Seed != nil || len(g.Stop) != 2 || g.MaxTokens != 64-8 {
		t.Errorf("defaults: %+v", g)
	}
	g = f.engine.seen[2]
	if g.TopK != 0 || g.MinP != 0.1 || g.Penalties != (infer.Penalties{Last: 64, Repeat: 1.1, Frequency: -1, Presence: 2}) || !slices.Equal(g.Bias, []infer.Bias{{Token: 7, Add: -100}, {Token: 8, Add: 0.5}}) ||
		g.Top != 20 || g.Observe == nil {
		t.Errorf("%+v", g)
	}
	g = f.engine.seen[3]
	if g.Penalties != (infer.Penalties{Last: 64, Repeat: 1}) || g.Bias != nil || g.Observe != nil || g.MinP != 0 {
		t.Errorf("neutral values: %+v", g)
	}
}

func TestParametersRefusedByName(t *testing.T) {
	f := start(t, nil)
	for extra, want := range map[string][2]string{
		`,"n":9`:                                    {"n", "invalid-value"},
		`,"n":0`:                                    {"n", "invalid-value"},
		`,"n":"1"`:                                  {"n", "invalid-type"},
		`,"best_of":2`:                              {"best_of", "unsupported-value"},
		`,"tools":[{}]`:                             {"tools[0].type", "unsupported-tool"},
		`,"logprobs":2`:                             {"logprobs", "invalid-type"},
		`,"top_logprobs":2`:                         {"top_logprobs", "invalid-value"},
		`,"logprobs":true,"top_logprobs":21`:        {"top_logprobs", "invalid-value"},
		`,"logit_bias":[]`:                          {"logit_bias", "invalid-type"},
		`,"logit_bias":{"x":2}`:                     {"logit_bias", "invalid-type"},
		`,"logit_bias":{"1":null}`:                  {"logit_bias", "invalid-type"},
		`,"logit_bias":{"1":101}`:                   {"logit_bias", "invalid-value"},
		`,"logit_bias":{"1001":1}`:                  {"logit_bias", "invalid-value"},
		`,"frequency_penalty":2.5`:                  {"frequency_penalty", "invalid-value"},
		`,"presence_penalty":-3`:                    {"presence_penalty", "invalid-value"},
		`,"repeat_penalty":0`:                       {"repeat_penalty", "invalid-value"},
		`,"repeat_penalty":1e-40`:                   {"repeat_penalty", "invalid-value"},
		`,"repeat_last_n":-2`:                       {"repeat_last_n", "invalid-value"},
		`,"min_p":1.5`:                              {"min_p", "invalid-value"},
		`,"mirostat":2`:                             {"mirostat", "unsupported-value"},
		`,"service_tier":"flex"`:                    {"service_tier", "unsupported-value"},
		`,"brand_new":1`:                            {"brand_new", "unsupported-parameter"},
		`,"temperature":3`:                          {"temperature", "invalid-value"},
		`,"temperature":"hot"`:                      {"temperature", "invalid-type"},
		`,"top_p":0`:                                {"top_p", "invalid-value"},
		`,"top_k":-2`:                               {"top_k", "invalid-value"},
		`,"seed":1.5`:                               {"seed", "invalid-type"},
		`,"max_tokens":0`:                           {"max_tokens", "invalid-value"},
		`,"max_tokens":1,"max_completion_tokens":1`: {"max_completion_tokens", "invalid-value"},
		`,"stop":["a"` + strings.Repeat(`,"a"`, 16) + `]`: {"stop", "invalid-value"},
		`,"stop":""`:  {"stop", "invalid-value"},
		`,"stop":7`:   {"stop", "invalid-type"},
		`,"stream":1`: {"stream", "invalid-type"},
		`,"stream_options":{"include_usage":true}`:                     {"stream_options", "invalid-value"},
		`,"stream":true,"stream_options":{"x":1}`:                      {"stream_options.x", "unsupported-parameter"},
		`,"stream":true,"stream_options":{"include_obfuscation":true}`: {"stream_options.include_obfuscation", "unsupported-parameter"},
		`,"messages":[]`: {"messages", "missing-parameter"},
		`,"messages":{}`: {"messages", "invalid-type"},
		`,"messages":[{"role":"judge","content":"x"}]`:                               {"messages[0].role", "unsupported-role"},
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
	for range 1024 + 1 {
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
	if r := f.do(t, "GET", "/v1/chat/completions", ""); r.status != 405 || r.code() != "method-not-allowed" || r.header.Get("Allow") != "POST" || !strings.Contains(r.body, "does not take GET, but POST\"") {
		t.Error(r)
	}
	for _, path := range []string{"/", "/v1/nothing", "/v1/status"} {
		if r := f.do(t, "GET", path, ""); r.status != 404 || r.code() != "not-found" {
			t.Error(path, r)
		}
	}
	for path, code := range map[string]string{"GET /v1/proofs/00": "proofs-not-configured", "POST /v1/proofs/00": "proofs-not-configured", "GET /v2": "model-not-found",
		"POST /v2/models/digits/infer": "model-not-found", "GET /v1/fed/rounds/" + strings.Repeat("0", 32): "federation-not-configured", "GET /v1/jobs": "federation-not-configured"} {
		method, path, _ := strings.Cut(path, " ")
		if r := f.do(t, method, path, ""); r.status != 404 || r.code() != code {
			t.Errorf("%s %s where it is not configured: %v", method, path, r)
		}
	}
	f = start(t, func(c *setup) { c.Status = func() any { return map[string]string{"state": "fine"} } })
	if r := f.do(t, "GET", "/v1/status", ""); r.status != 200 || r.body != `{"state":"fine"}` {
		t.Error(r)
	}
}

func TestPeerNotOnTheListIsRefusedEverywhere(t *testing.T) {
	f := start(t, func(c *setup) { c.AllowedUIDs = []uint32{4242424} })
	for _, r := range f.server.Routes() {
		if r.Method == "GET" {
			if got := f.do(t, "GET", strings.NewReplacer("{model}", "tiny", "{id}", "x").Replace(r.Pattern), ""); got.status != 403 || got.code() != "peer-not-allowed" {
				t.Error(r.Pattern, got)
			}
		}
	}
	if got := f.chat(t, ""); got.status != 403 || len(f.engine.seen) != 0 {
		t.Error(got)
	}
	f = start(t, func(c *setup) { c.AllowedGIDs, c.AllowedUIDs = []uint32{gid()}, nil })
	if got := f.chat(t, ""); got.status != 200 {
		t.Error("the peer's group is allowed, but:", got)
	}
}

func TestConnectionWithoutCredentialsIsRefused(t *testing.T) {
	f := start(t, nil)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if f.server.Allowed(localapi.WithPeer(context.Background(), a)) {
		t.Error("a connection without peer credentials is allowed")
	}
}

func TestNewRefusesAnEmptyAllowList(t *testing.T) {
	f := start(t, nil)
	cfg := f.server.Settings()
	cfg.AllowedUIDs = nil
	if _, err := localapi.New(cfg); err == nil {
		t.Error("a server that allows nobody by mistake was made")
	}
	if _, err := localapi.New(localapi.Config{}); err == nil {
		t.Error("a server without gate was made")
	}
}

func TestReceiptOfAnotherUserIsNotFound(t *testing.T) {
	f := start(t, nil)
	id := digest.ReceiptID{5}
	f.server.Receipts().Put(77, receipt.Issued{Receipt: receipt.Receipt{Body: receipt.Body{ID: id}}})
	for _, path := range []string{id.String(), digest.ReceiptID{6}.String(), "nonsense"} {
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
	if r := <-done; r.status != 503 || r.code() != "lease-expired" || r.header.Get(localapi.ReceiptHeader) != "" {
		t.Error(r)
	}
}

func TestQueueFullIs429WithRetryAfter(t *testing.T) {
	f := start(t, func(c *setup) { c.Queue = 1 })
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 2)
	done := make(chan response, 2)
	for range 2 {
		go func() { done <- f.chat(t, `,"max_tokens":1`) }()
	}
	<-f.engine.started
	await(t, func() bool { _, waiting := f.server.Intake().Line.Load(); return waiting == 1 })
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
	f := start(t, func(c *setup) { c.Queue = -1 })
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
