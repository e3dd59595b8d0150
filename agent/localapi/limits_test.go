package localapi_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

func TestRequestTimeIsBounded(t *testing.T) {
	f := start(t, func(c *setup) { c.RequestTime = 30 * time.Millisecond })
	f.engine.step = make(chan struct{})
	if r := f.chat(t, ""); r.status != 504 || r.code() != "request-timeout" {
		t.Error(r)
	}
}

func TestBodyIsBounded(t *testing.T) {
	f := start(t, func(c *setup) { c.MaxBodyBytes = 100 })
	if r := f.chat(t, `,"user":"`+strings.Repeat("x", 100)+`"`); r.status != 413 || r.code() != "request-too-large" {
		t.Error(r)
	}
}

// TestClassifiersWaitInTheLineOfChat: requests of classifiers went past the queue, so that
// nothing bounded how many were answered at once.
func TestClassifiersWaitInTheLineOfChat(t *testing.T) {
	f := start(t, func(c *setup) {
		c.Queue, c.Memory = -1, 16<<20
		c.Classifiers = &oip.Service{Classifiers: wideClassifier{}, Proofs: func() (oip.Proofs, error) { return nil, errors.New("none") }}
	})
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, `,"max_tokens":1`) }()
	<-f.engine.started
	body := fmt.Sprintf(`{"inputs":[{"name":"input","datatype":"INT8","shape":[%d],"data":[%s0]}]}`, wide, strings.Repeat("0,", wide-1))
	if r := f.do(t, "POST", "/v2/models/wide/infer", body); r.status != 429 || r.code() != "queue-full" || r.header.Get("Retry-After") == "" {
		t.Error(r.status, r.code())
	}
	f.engine.step <- struct{}{}
	<-done
	if r := f.do(t, "POST", "/v2/models/wide/infer", body); r.status != 200 {
		t.Error(r)
	}
}

// TestAModelThatIsRefusedKeepsNoClassifierFromAnswering.
func TestAModelThatIsRefusedKeepsNoClassifierFromAnswering(t *testing.T) {
	f := start(t, func(c *setup) {
		c.Memory = 16 << 20
		c.Classifiers = &oip.Service{Classifiers: wideClassifier{}, Proofs: func() (oip.Proofs, error) { return nil, errors.New("none") }}
	})
	body := fmt.Sprintf(`{"inputs":[{"name":"input","datatype":"INT8","shape":[%d],"data":[%s0]}]}`, wide, strings.Repeat("0,", wide-1))
	for reason, want := range map[refusal.Reason]int{"model-unsupported": 200, "attesting": 503} {
		f.mu.Lock()
		f.reason = refusal.New(reason, "no")
		f.mu.Unlock()
		if r := f.do(t, "POST", "/v2/models/wide/infer", body); r.status != want {
			t.Errorf("%s: %d %s", reason, r.status, r.code())
		}
		if r := f.do(t, "GET", "/v2/health/ready", ""); r.status != want {
			t.Errorf("%s: ready is %d", reason, r.status)
		}
		if r := f.chat(t, ""); r.status != 503 || r.code() != string(reason) {
			t.Errorf("%s: the model is %d %s", reason, r.status, r.code())
		}
	}
}

// TestBodiesThatStandStillKeepNobodyOut: connections that announce a body and never send
// it have the memory of all requests; an honest one of the same user is served all the same.
func TestBodiesThatStandStillKeepNobodyOut(t *testing.T) {
	f := start(t, nil)
	var conns []net.Conn
	for range 64 {
		conn, err := net.Dial("unix", f.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n{", 1<<20)
		await(t, func() bool { return f.server.Intake().Budget.Used() > 2<<20 }) // by the first
	}
	begun := time.Now()
	// A body that is waited for takes half a minute, one that gives way a second.
	if r := f.chat(t, `,"max_tokens":1`); r.status != 200 || time.Since(begun) > 15*time.Second {
		t.Errorf("%v after %s", r, time.Since(begun))
	}
	told(t, conns[0], http.StatusRequestTimeout, localapi.ReasonSlow)
}

// told reads an answer from a connection.
func told(t *testing.T, conn net.Conn, status int, reason refusal.Reason) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), fmt.Sprintf("HTTP/1.1 %d ", status)) || !strings.Contains(string(answer), string(reason)) {
		t.Errorf("got %q and %v, want %d %s", answer, err, status, reason)
	}
}

// TestABodyThatEndsEarlyIsToldSo: net/http ends a request's context at any error of reading its body.
func TestABodyThatEndsEarlyIsToldSo(t *testing.T) {
	f := start(t, nil)
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: agent\r\nContent-Length: 5\r\n\r\n{")
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	told(t, conn, http.StatusBadRequest, localapi.ReasonIncomplete)
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
	await(t, func() bool { running, _ := f.server.Intake().Line.Load(); return running == 0 })
}

// TestSlowReaderIsCutOff: a client that asks for a stream and never reads it.
func TestSlowReaderIsCutOff(t *testing.T) {
	f := start(t, func(c *setup) { c.WriteTime = 50 * time.Millisecond })
	conn, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"model":"tiny","prompt":"x","stream":true,"max_tokens":12}`
	f.engine.step = make(chan struct{})
	big := &bigEngine{fakeEngine: f.engine, ended: make(chan error, 1)}
	f.completions.Models = &otherEngine{f.fakeGate, big}
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
	engine openai.Engine
}

func (g *otherEngine) Session(ctx context.Context, name string) (openai.Session, error) {
	s, err := g.fakeGate.Session(ctx, name)
	s.Engine = g.engine
	return s, err
}

func TestDrainLetsAnswersEnd(t *testing.T) {
	f := start(t, func(c *setup) { c.DrainTime = 10 * time.Second })
	f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
	done := make(chan response, 1)
	go func() { done <- f.chat(t, `,"max_tokens":2`) }()
	<-f.engine.started
	f.stop()
	await(t, func() bool { return f.server.Serving() != nil })
	if reason, _ := refusal.ReasonOf(f.server.Serving()); reason != localapi.ReasonDraining {
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
	f := start(t, func(c *setup) { c.DrainTime = 20 * time.Millisecond })
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

func TestAConnectionAtRestGivesWayToANewOne(t *testing.T) {
	f := start(t, func(c *setup) { c.Limits = listen.Limits{Connections: 1} })
	first, err := net.Dial("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	fmt.Fprint(first, "GET /health HTTP/1.1\r\nHost: agent\r\n\r\n")
	if _, err := first.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if r := f.do(t, "GET", "/health", ""); r.status != 200 {
		t.Error(r)
	}
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Log(err) // ended in one way or another
	}
}

func TestAttestationIsBoundToTheNonceUnderItsOwnLabel(t *testing.T) {
	f := start(t, nil)
	nonce := strings.Repeat("ab", 16)
	r := f.do(t, "GET", "/v1/attestation?nonce="+nonce, "")
	var a localapi.Attestation
	if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != 200 {
		t.Fatal(r, err)
	}
	raw, _ := hex.DecodeString(nonce)
	want := evidence.CallerBinding{Nonce: raw, AgentKeyID: [32]byte{0xaa}}.Challenge()
	env, err := evidence.ParseEnvelope(a.Evidence)
	if err != nil || !strings.HasSuffix(string(env.Primary()), string(want[:])) || a.ReportData != hex.EncodeToString(want[:]) || a.Nonce != nonce {
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
	f := start(t, func(c *setup) {
		c.Gauges = func() []localapi.Gauge {
			return []localapi.Gauge{{"anchorhold_lease_remaining_seconds", "Left of the lease.", 12.5}}
		}
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
	f := start(t, func(c *setup) { c.RequestTime = 100 * time.Millisecond })
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

// TestAChangedChunkIsAnInternalError: a model's file that was changed under a running answer
// is a fault of this machine. The refusal of the chunk is no refusal of the request.
func TestAChangedChunkIsAnInternalError(t *testing.T) {
	f := start(t, nil)
	f.engine.fail = fmt.Errorf("layer 3: %w", &chunkseal.Failure{Chunk: 7, Tensor: "blk.3.ffn_up.weight", Err: chunkseal.Refuse(chunkseal.ReasonDigest, "changed").Err})
	r := f.chat(t, "")
	if r.status != 500 || r.code() != "internal-error" || strings.Contains(r.body, "chunk") {
		t.Error(r)
	}
	if !strings.Contains(f.log.String(), "sealed file, chunk 7 of blk.3.ffn_up.weight: chunk-digest: changed") {
		t.Errorf("log: %s", f.log.String())
	}
}
