package localapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/openai"
)

// twoModels serves a second model beside the fixture's.
type twoModels struct {
	*fakeGate
	other *fakeEngine
}

func (g twoModels) Models() []string { return []string{"tiny", "other"} }

func (g twoModels) Session(ctx context.Context, name string) (openai.Session, error) {
	s, err := g.fakeGate.Session(ctx, name)
	if name == "other" {
		s.Engine = g.other
	}
	return s, err
}

// startTwo is an agent with two models, of which the first answers a word for each step.
func startTwo(t *testing.T) *fixture {
	t.Helper()
	f := start(t, func(c *setup) {
		c.Concurrent = 2
		c.Config.Models = func() []localapi.Slots { return []localapi.Slots{{Model: "tiny", N: 1}, {Model: "other", N: 1}} }
		c.Models = func(g *fakeGate) openai.Models { return twoModels{g, &fakeEngine{}} }
	})
	f.engine.step = make(chan struct{})
	return f
}

// TestAFloodedModelDelaysNoRequestForAnother: one user's requests for a model fill all that they may,
// and his request for another is answered at once. A body that names both takes the place of the one
// that it is for.
func TestAFloodedModelDelaysNoRequestForAnother(t *testing.T) {
	for name, body := range map[string]string{
		"one name":  `{"model":"tiny","prompt":"x"}`,
		"two names": `{"model":"other","prompt":"x","model":"tiny"}`,
		"an escape": `{"model":"\u0074iny","prompt":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := startTwo(t)
			ctx, cancel := context.WithCancel(t.Context())
			var under sync.WaitGroup
			defer under.Wait()
			defer cancel()
			full := make(chan struct{}, 64)
			for range 40 {
				under.Go(func() {
					req, err := http.NewRequestWithContext(ctx, "POST", "http://agent/v1/completions", strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					if resp, err := f.client.Do(req); err == nil {
						resp.Body.Close()
						full <- struct{}{}
						if resp.StatusCode != http.StatusTooManyRequests {
							t.Error(resp.Status)
						}
					}
				})
			}
			await(t, func() bool { return len(full) == 40-10 }) // one runs, nine wait
			if run, wait := f.server.Intake().Line.LoadOf("tiny"); run != 1 || wait != 9 {
				t.Errorf("%d run, %d wait", run, wait)
			}
			for range 3 {
				if r := f.do(t, "POST", "/v1/completions", `{"model":"other","prompt":"x"}`); r.status != http.StatusOK {
					t.Error(r)
				}
			}
			if r := f.do(t, "POST", "/v1/completions", `{"model":"none","prompt":"x"}`); r.status != http.StatusNotFound {
				t.Error(r)
			}
			metrics := f.do(t, "GET", "/metrics", "").body
			for _, want := range []string{`anchorhold_model_requests{model="tiny",state="running"} 1`, `anchorhold_model_requests{model="tiny",state="waiting"} 9`, `anchorhold_model_requests{model="other",state="waiting"} 0`} {
				if !strings.Contains(metrics, want) {
					t.Errorf("no %s", want)
				}
			}
		})
	}
}

// TestEmbeddingsThatWaitHoldNoMemoryForVectors: they held what one user gets, so that his other
// requests waited for memory until all of them were answered.
func TestEmbeddingsThatWaitHoldNoMemoryForVectors(t *testing.T) {
	f, _ := startEmbeddings(t, nil)
	place, err := f.server.Intake().Line.Join(99, "", nil) // the slot
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan response, 1)
	go func() {
		_, r := f.embed(t, "/v1/embeddings", fmt.Sprintf(`"input":["%s"]`, strings.Repeat(`a b c d","`, 400)+"a"))
		done <- r
	}()
	await(t, func() bool { _, waiting := f.server.Intake().Line.Load(); return waiting == 1 })
	if used := f.server.Intake().Budget.Used(); used > 128<<10 {
		t.Errorf("it holds %d bytes while it waits", used)
	}
	place.Leave()
	if r := <-done; r.status != http.StatusOK {
		t.Error(r.status, r.code())
	}
}
