package localapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// trickle is a connection whose client takes 40 KB of what was sent, every nine seconds. As the
// server does, it sends small writes when they are flushed.
type trickle struct {
	*httptest.ResponseRecorder
	deadline   time.Time
	sent, room int
}

func (w *trickle) SetWriteDeadline(t time.Time) error { w.deadline = t; return nil }
func (w *trickle) SetReadDeadline(time.Time) error    { return nil }

func (w *trickle) FlushError() error {
	w.room -= w.Body.Len() - w.sent
	w.sent = w.Body.Len()
	if w.room >= 0 {
		return nil
	}
	w.room = 40_000
	wait := min(9*time.Second, time.Until(w.deadline))
	time.Sleep(wait)
	if wait < 9*time.Second {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// longEngine makes answers of any length, with a pause before each token.
type longEngine struct {
	*fakeEngine
	pause time.Duration
}

func (e longEngine) Generate(_ context.Context, g infer.Request, emit func(string) error) (r infer.Result, err error) {
	for i := 0; i < g.MaxTokens && err == nil; i++ {
		time.Sleep(e.pause)
		err = emit("token ")
	}
	return r, err
}

func (longEngine) ContextSize() int { return 16_384 }

// longServer is one whose answers are long.
func longServer(t *testing.T, pause time.Duration) *localapi.Server {
	t.Helper()
	gate := newFakeGate(t)
	s, err := localapi.New(localapi.Config{Gate: gate, Attester: &fakeAttester{}, Logger: slog.New(slog.DiscardHandler), AllowedUIDs: []uint32{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	mount(t, s, setup{}, gate).Models = &otherEngine{gate, longEngine{gate.engine, pause}}
	return s
}

func complete(t *testing.T, s *localapi.Server, w http.ResponseWriter, uid uint32, extra string) {
	t.Helper()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(localapi.AsUser(t.Context(), uid), "POST", "/v1/completions", strings.NewReader(`{"model":"tiny","prompt":"x"`+extra+`}`)))
}

// TestAReaderWhoTricklesLeavesTheLine: a stream was held in the line for as long as each of its
// writes ended in time, up to the time of the whole request, though its tokens were made long before.
func TestAReaderWhoTricklesLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := longServer(t, 0)
		slow := &trickle{ResponseRecorder: httptest.NewRecorder()}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			complete(t, s, slow, 1, `,"stream":true`)
		}()
		synctest.Wait()
		begun := time.Now()
		honest := httptest.NewRecorder()
		complete(t, s, honest, 2, `,"max_tokens":2`)
		if took := time.Since(begun); honest.Code != 200 || took > s.Settings().WriteTime+time.Second {
			t.Errorf("behind a reader who trickles a request waited %s: %d %s", took, honest.Code, honest.Body)
		}
		<-ended
		if strings.Contains(slow.Body.String(), "[DONE]") {
			t.Error("a stream that was cut off says that it is whole")
		}
	})
}

// TestAStreamMayLastLongerThanItsWrites: what a reader's client waits for the engine is not the
// reader's time.
func TestAStreamMayLastLongerThanItsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := longServer(t, 17*time.Millisecond)
		w, begun := httptest.NewRecorder(), time.Now()
		complete(t, s, w, 1, `,"stream":true`)
		if took := time.Since(begun); took < 20*s.Settings().WriteTime || !strings.HasSuffix(w.Body.String(), "[DONE]\n\n") {
			t.Errorf("a stream ended after %s: %.100s", took, w.Body)
		}
	})
}
