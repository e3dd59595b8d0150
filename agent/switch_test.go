//go:build !release

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// whole is an agent that runs under a real broker, with a language model and a classifier.
type whole struct {
	t     *testing.T
	f     *brokertest.Fixture
	guest tenuretest.Guest
	class *classifytest.Sealed
	path  string // of the classifier's file
	api   *http.Client
	mu    sync.Mutex // guards the answers of models
	of    map[[32]byte]int
}

// newWhole starts one with a memory limit, which ends with the test.
func newWhole(t *testing.T, memory int) *whole {
	t.Helper()
	dir := t.TempDir()
	w := &whole{t: t, f: brokertest.New(t), guest: tenuretest.New(t), class: classifytest.SealONNX(t, "small", 1), path: filepath.Join(dir, "small.ahm"), of: map[[32]byte]int{}}
	w.f.PutFor(brokertest.Resource, tenuretest.ModelKey, w.guest.Model)
	w.f.PutFor(w.class.Resource, string(w.class.Secret), w.class.Model.ID())
	tenuretest.Install(t, w.class.Path, w.path)
	cfg := underBroker(t, w.guest.Config, w.f, dir)
	cfg.Compute.TEE.MemoryLimitMB = memory
	c := w.class
	text := append(configText(cfg), fmt.Appendf(nil, "classifiers: [{name: small, sealed_name: small, path: %q, resource: %s, publisher: %q, minimum_version: %d}]\n", w.path, c.Resource, c.Publisher, c.MinimumVersion)...)
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, []byte(strings.Replace(string(text), "memory_limit_mb: 64", fmt.Sprintf("memory_limit_mb: %d", memory), 1)))
	cfg, _, err := settings.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("RUNTIME_DIRECTORY", dir)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Config: cfg, Collector: w.f.TEE, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.api = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}}
	waitServing(t, w.api)
	return w
}

// ask makes one request, which must be answered with a receipt that verifies.
func (w *whole) ask(path, body string) error {
	q, err := http.NewRequest(http.MethodPost, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set(localapi.RequestReceipt, "full")
	resp, err := w.api.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s %v", path, resp.Status, data, err)
	}
	var a struct {
		Issued     *receipt.Issued `json:"issued_receipt"`
		Parameters struct {
			Issued []receipt.Issued `json:"issued_receipts"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return err
	}
	issued := a.Parameters.Issued
	if a.Issued != nil {
		issued = append(issued, *a.Issued)
	}
	if len(issued) != 1 {
		return fmt.Errorf("%d receipts in %s", len(issued), data)
	}
	report, err := receipt.Verify(issued[0].Receipt, []identity.Public{w.f.Root.Public()}, receipt.Options{})
	if err != nil {
		return fmt.Errorf("the receipt of %s does not verify: %w", path, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of[report.Body.ModelID]++
	return nil
}

const (
	completions = `{"model":"tiny","prompt":"the cat","max_tokens":8}`
	inference   = `{"inputs":[{"name":"input","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}`
)

// stream asks for both without a pause until the function that it returns is called, which
// waits until the last answers are there.
func (w *whole) stream() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 3 {
		for path, body := range map[string]string{"/v1/completions": completions, "/v2/models/small/infer": inference} {
			all.Go(func() {
				for ctx.Err() == nil {
					if err := w.ask(path, body); err != nil {
						w.t.Errorf("refused in the middle of a switch: %v", err)
						return
					}
				}
			})
		}
	}
	return func() { cancel(); all.Wait() }
}

func (w *whole) status() (s tenure.Status) {
	w.t.Helper()
	if err := json.Unmarshal(get(w.t, w.api, "/v1/status"), &s); err != nil || s.Lease == nil || s.Model == nil {
		w.t.Fatalf("%+v %v", s, err)
	}
	return s
}

// answered wants answers of a model from now on.
func (w *whole) answered(model [32]byte) {
	w.t.Helper()
	count := func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.of[model] }
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for before, limit := count(), time.After(time.Minute); count() < before+2; {
		select {
		case <-tick.C:
			if w.t.Failed() {
				w.t.FailNow()
			}
		case <-limit:
			w.t.Fatalf("no answers of %x", model[:4])
		}
	}
}

// TestASwitchToAnotherFileRefusesNobody is the documented rotation of keys, at an agent that
// requests come to all the time: model and classifier are sealed anew under new keys, first
// into files that do not open. Every request is answered, with a receipt that verifies; what
// is served goes on while another file opens, and if it does not.
func TestASwitchToAnotherFileRefusesNobody(t *testing.T) {
	for name, memory := range map[string]int{"room for two models": 64, "room for one": 32} {
		t.Run(name, func(t *testing.T) {
			if memory == 64 {
				longtest.Run(t, "it runs the rotation once more, with more memory")
			}
			if !inSubprocess(t) {
				return
			}
			w := newWhole(t, memory)
			stop := w.stream()
			w.answered(w.guest.Model)
			w.answered(w.class.Model.ID())
			damage := func(path string) string {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				public, err := chunkseal.Inspect(bytes.NewReader(data), int64(len(data)))
				if err != nil {
					t.Fatal(err)
				}
				at, _ := public.Slot(public.Chunks - 1)
				data[at] ^= 1 // the public part is what it was
				damaged := filepath.Join(t.TempDir(), "damaged")
				write(t, damaged, data)
				return damaged
			}
			reload := func() error { return service.AskReload(t.Context(), "anchorhold-agent") }

			sealed := filepath.Join(t.TempDir(), "new.ahm")
			model := w.guest.Seal(t, sealed, tenuretest.NewKey, 4)
			w.f.PutFor(brokertest.Resource, tenuretest.NewKey, model)
			foreign := filepath.Join(t.TempDir(), "foreign.ahm")
			tenuretest.New(t).Seal(t, foreign, tenuretest.NewKey, 4) // of another publisher
			tenuretest.Install(t, foreign, w.guest.Sealed)
			if err := reload(); !errors.Is(err, service.ErrReloadRefused) || !strings.Contains(w.status().ModelUpdate, w.guest.Sealed) {
				t.Errorf("the reload with another publisher's file: %v; %s", err, w.status().ModelUpdate)
			}
			tenuretest.Install(t, damage(sealed), w.guest.Sealed)
			before := w.status().Lease.ID
			if err := reload(); !errors.Is(err, service.ErrReloadRefused) || !strings.Contains(err.Error(), "the previous model stays in service") {
				t.Errorf("the reload with a damaged file: %v", err)
			}
			for limit := time.Now().Add(time.Minute); ; { // it asks for the key of the old file again
				s := w.status()
				if !strings.Contains(s.ModelUpdate, "not served") || s.Model.KeyVersion != 2 {
					t.Fatalf("%+v, %+v", s, s.Model)
				}
				if s.Lease.ID != before && s.Model.Receipts == openmodel.ReceiptsVerify && s.Lease.AuditIndex > 0 {
					break
				}
				if time.Now().After(limit) {
					t.Fatal("no renewal for the model before")
				}
			}
			w.answered(w.guest.Model)
			if text := string(get(t, w.api, "/metrics")); !strings.Contains(text, "anchorhold_model_update_refused 1") {
				t.Error(text)
			}
			tenuretest.Install(t, sealed, w.guest.Sealed)
			if err := reload(); err != nil {
				t.Errorf("the reload with the good file: %v", err)
			}
			w.answered(model)
			if s := w.status(); s.ModelUpdate != "" || s.Model.KeyVersion != 3 || s.Model.Receipts != openmodel.ReceiptsVerify {
				t.Errorf("%+v, %+v", s, s.Model)
			}

			next := w.class.Next(t, 2)
			w.f.PutFor(next.Resource, string(next.Secret), next.Model.ID())
			tenuretest.Install(t, damage(next.Path), w.path)
			if err := reload(); !errors.Is(err, service.ErrReloadRefused) || !strings.Contains(err.Error(), "classifier small") {
				t.Errorf("the reload with a damaged classifier: %v", err)
			}
			w.answered(w.class.Model.ID())
			tenuretest.Install(t, next.Path, w.path)
			if err := reload(); err != nil {
				t.Errorf("the reload with the good classifier: %v", err)
			}
			w.answered(next.Model.ID())
			stop()
			for _, v := range []struct {
				resource string
				last     uint64
			}{{brokertest.Resource, 2}, {next.Resource, 1}} {
				for version := range v.last {
					if err := w.f.Store.Retire(t.Context(), v.resource, version+1); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := errors.Join(reload(), w.ask("/v1/completions", completions), w.ask("/v2/models/small/infer", inference)); err != nil {
				t.Errorf("after the old keys were retired: %v", err)
			}
			t.Logf("answers by model: %v", len(w.of))
		})
	}
}
