package localapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// TestAdmissionComesBeforeDecoding: a request that finds no place costs no decoding, however
// long it is; one that has a place is told its mistake before its turn comes.
func TestAdmissionComesBeforeDecoding(t *testing.T) {
	for name, tc := range map[string]struct {
		queue, status int
		code          string
	}{"no place": {-1, 429, "queue-full"}, "a place": {1, 400, "invalid-json"}} {
		t.Run(name, func(t *testing.T) {
			f := start(t, func(c *setup) { c.Queue = tc.queue })
			f.engine.step, f.engine.started = make(chan struct{}), make(chan struct{}, 1)
			done := make(chan response, 1)
			go func() { done <- f.chat(t, `,"max_tokens":1`) }()
			<-f.engine.started
			if r := f.do(t, "POST", "/v1/chat/completions", `{"model":`); r.status != tc.status || r.code() != tc.code {
				t.Errorf("a malformed request: %d %s", r.status, r.code())
			}
			if _, waiting := f.server.Intake().Line.Load(); waiting != 0 {
				t.Errorf("%d wait", waiting)
			}
			f.engine.step <- struct{}{}
			if r := <-done; r.status != 200 {
				t.Error(r)
			}
		})
	}
}

// leaving sends a chat and returns what makes its client leave, which then waits for the
// server to notice.
func leaving(t *testing.T, f *fixture) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", "http://agent/v1/chat/completions", strings.NewReader(`{"model":"tiny","messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := f.client.Do(req); done <- err }()
	return func() {
		cancel()
		<-done
		await(t, func() bool { running, waiting := f.server.Intake().Line.Load(); return running+waiting == 0 })
	}
}

// TestOneRequestIsDecodedAtATime: others wait for it, and may leave meanwhile.
func TestOneRequestIsDecodedAtATime(t *testing.T) {
	f := start(t, nil)
	f.completions.Decoding <- struct{}{} // one is being decoded
	leave := leaving(t, f)
	await(t, func() bool { running, _ := f.server.Intake().Line.Load(); return running == 1 })
	leave()
	if len(f.engine.seen) != 0 {
		t.Error("a request was answered that had not been decoded")
	}
	<-f.completions.Decoding
	if r := f.chat(t, `,"max_tokens":1`); r.status != 200 {
		t.Error(r)
	}
}

// slowTokens is an engine whose tokenizer works until its client leaves.
type slowTokens struct {
	*fakeEngine
	began chan struct{}
	ended chan error
}

func (e *slowTokens) Chat(ctx context.Context, _ tokenize.Conversation) ([]int32, error) {
	e.began <- struct{}{}
	<-ctx.Done()
	e.ended <- ctx.Err()
	return nil, context.Cause(ctx)
}

// TestTokenizingIsInTheLineAndEndsWithItsClient.
func TestTokenizingIsInTheLineAndEndsWithItsClient(t *testing.T) {
	f := start(t, nil)
	slow := &slowTokens{f.engine, make(chan struct{}, 1), make(chan error, 1)}
	f.completions.Models = &otherEngine{f.fakeGate, slow}
	leave := leaving(t, f)
	<-slow.began
	if running, _ := f.server.Intake().Line.Load(); running != 1 {
		t.Errorf("%d run while one tokenizes", running)
	}
	leave()
	if err := <-slow.ended; err == nil {
		t.Error("it went on")
	}
}
