//go:build !release

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// several is a daemon with models of one publisher, and its client.
type several struct {
	d    *daemon
	api  *http.Client
	root identity.Public
	path string
	base settings.Config
}

// config writes a configuration with these models: name, file, resource and part of the memory.
func (s *several) config(t *testing.T, models ...[4]string) {
	t.Helper()
	c := s.base
	text := fmt.Sprintf(`compute: {tee: {provider: software, attestation_ttl_seconds: 600, memory_limit_mb: 64}}
broker: {address: %q, server_name: %q, tls_roots: %q, root_keys: [%q], minimum_epoch: 1}
guest: {image_id: test, state_dir: %q}
socket: {path: %q}
models:
`, c.Broker.Address, c.Broker.ServerName, c.Broker.TLSRoots, c.Broker.RootKeys[0], c.Guest.StateDir, c.Socket.Path)
	for _, m := range models {
		text += fmt.Sprintf("  - {name: %s, path: %q, resource: %s, publisher: %q, threads: 1, context: 64%s}\n", m[0], m[1], m[2], c.Models[0].Publisher, m[3])
	}
	write(t, s.path, []byte(text))
}

// ask wants an answer of a model, whose receipt verifies, and returns the model's id; or a status
// and a code.
func (s *several) ask(t *testing.T, model string) (status int, code string, id [32]byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/v1/completions", strings.NewReader(fmt.Sprintf(`{"model":%q,"prompt":"the cat","max_tokens":4}`, model)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Anchorhold-Receipt", "full")
	resp, err := s.api.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Issued receipt.Issued `json:"issued_receipt"`
		Error  struct{ Code, Message string }
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if resp.StatusCode == http.StatusNotFound && !strings.Contains(answer.Error.Message, "it has tiny, second") {
		t.Errorf("%q does not say which models there are", answer.Error.Message)
	}
	if resp.StatusCode == http.StatusOK {
		report, err := receipt.Verify(answer.Issued.Receipt, []identity.Public{s.root}, receipt.Options{})
		if err != nil || report.Body.ModelName != model {
			t.Errorf("%s: %+v, %v", model, report.Body, err)
		}
		id = answer.Issued.Receipt.Body.ModelID
	}
	return resp.StatusCode, answer.Error.Code, id
}

// serves waits until a model answers.
func (s *several) serves(t *testing.T, model string, id [32]byte) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, code, got := s.ask(t, model)
		if status == http.StatusOK {
			if got != id {
				t.Errorf("%s is model %x, want %x", model, got, id)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %d %s", model, status, code)
		}
	}
}

func (s *several) refuses(t *testing.T, model, want string) {
	t.Helper()
	if status, code, _ := s.ask(t, model); code != want {
		t.Errorf("%s: %d %s, want %s", model, status, code, want)
	}
}

// names are those that the API lists.
func (s *several) names(t *testing.T) (names []string) {
	t.Helper()
	var list struct{ Data []struct{ ID string } }
	if err := json.Unmarshal(get(t, s.api, "/v1/models"), &list); err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	return names
}

// start runs the agent, with leases of so many seconds until a reload, less than a file may say.
func (s *several) start(t *testing.T, cfg settings.Config, tee attested.Collector, lease int) (stop func(), ended chan error) {
	t.Helper()
	cfg.Compute.TEE.AttestationTTLSeconds = lease
	s.d = &daemon{Options: Options{ConfigPath: s.path, Config: cfg, Collector: tee, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.DiscardHandler)},
		tenure: tenure.New(slog.New(slog.DiscardHandler)), reloading: service.Reloads{Asked: make(chan chan<- error)}}
	s.d.cfg.Store(&cfg)
	if err := s.d.prepare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.d.guest.Close)
	listener, err := s.d.listen()
	if err != nil {
		t.Fatal(err)
	}
	s.d.address = listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- s.d.serve(ctx, listener) }()
	s.api = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}}
	return stop, ended
}

// newSeveral has a broker with the keys of two sealed files, that of the guest and another one.
func newSeveral(t *testing.T) (s *several, f *brokertest.Fixture, g tenuretest.Guest, other string, otherID [32]byte) {
	t.Helper()
	f, g = brokertest.New(t), tenuretest.New(t)
	dir := t.TempDir()
	other = filepath.Join(dir, "other.ahm")
	otherID = g.Seal(t, other, tenuretest.NewKey, 3)
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	f.PutFor("models/other", tenuretest.NewKey, otherID)
	return &several{base: underBroker(t, g.Config, f, dir), path: filepath.Join(dir, "agent.yaml"), root: f.Root.Public()}, f, g, other, otherID
}

// TestSeveralModelsAreServedSideBySide, each under a lease and in a part of the memory of its own:
// what one loses costs no other, and a reload adds, removes, and gives memory from one to another.
func TestSeveralModelsAreServedSideBySide(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	s, f, g, other, otherID := newSeveral(t)
	tiny := [4]string{"tiny", g.Sealed, brokertest.Resource, ", memory_mb: 16"}
	second := [4]string{"second", other, "models/other", ""}
	s.config(t, tiny, second)
	cfg, findings, err := settings.Read(s.path)
	if err := errors.Join(err, findings.Runnable()); err != nil {
		t.Fatal(err)
	}
	stop, ended := s.start(t, cfg, f.TEE, 5) // under the race detector beside other tests, two attestations take seconds
	ctx := t.Context()
	waitServing(t, s.api)
	s.serves(t, "tiny", g.Model)
	s.serves(t, "second", otherID)
	s.refuses(t, "third", "model_not_found")
	if names := s.names(t); !slices.Equal(names, []string{"tiny", "second"}) {
		t.Errorf("listed are %q", names)
	}
	var status tenure.Status
	for deadline := time.Now().Add(20 * time.Second); ; { // on a busy machine a short lease may lapse
		status = tenure.Status{}
		if err := json.Unmarshal(get(t, s.api, "/v1/status"), &status); err != nil {
			t.Fatal(err)
		}
		if status.State == "serving" || time.Now().After(deadline) {
			break
		}
	}
	one, two := status.Models["tiny"], status.Models["second"]
	if status.State != "serving" || len(status.Models) != 2 || one.State != "serving" || two.State != "serving" || one.Lease.ID == two.Lease.ID || two.ID == one.ID || two.Receipts != "verify" {
		t.Errorf("%+v", status)
	}
	if now := s.d.beside.list[0].cfg.Models[0].MemoryMB; now != 64-18-9-16 {
		t.Errorf("what is left is %d MiB", now)
	}

	// The broker grants one key no more: that lease ends, and the other one is renewed.
	lose := func(lost, resource, stays string, id [32]byte) {
		t.Helper()
		f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), "models/*", resource, 1))
		for deadline := time.Now().Add(20 * time.Second); ; {
			if _, code, _ := s.ask(t, lost); code == "lease-expired" {
				break
			} else if code != "" || time.Now().After(deadline) {
				t.Fatalf("%s goes on: %q", lost, code)
			}
		}
		s.serves(t, stays, id)
		get(t, s.api, "/health")
		if err := json.Unmarshal(get(t, s.api, "/v1/status"), &status); err != nil || status.State != "lease-expired" || status.Models[stays].State != "serving" || status.Models[lost].State == "serving" {
			t.Errorf("%+v, %v", status, err)
		}
		f.SetPolicy(brokertest.DefaultPolicy())
	}
	lose("second", brokertest.Resource, "tiny", g.Model)
	if !strings.Contains(status.Detail, "model second") {
		t.Errorf("%+v", status)
	}
	s.serves(t, "second", otherID)
	lose("tiny", "models/other", "second", otherID)
	if err := s.d.reload(ctx); err != nil {
		t.Fatal(err)
	}
	s.serves(t, "tiny", g.Model)

	// Parts that are too much change nothing.
	s.config(t, tiny, [4]string{"second", other, "models/other", ", memory_mb: 22"})
	if reason, _ := refusal.ReasonOf(s.d.reload(ctx)); reason != "models-above-limit" {
		t.Errorf("refused for %q", reason)
	}
	s.serves(t, "second", otherID)

	// From one to the other, and one more.
	s.config(t, [4]string{"second", other, "models/other", ", memory_mb: 6"}, tiny, [4]string{"third", other, "models/other", ", memory_mb: 6"})
	if err := s.d.reload(ctx); err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string][32]byte{"tiny": g.Model, "second": otherID, "third": otherID} {
		s.serves(t, name, id)
	}
	if names := s.names(t); len(s.d.beside.all()) != 2 || len(names) != 3 {
		t.Errorf("%q", names)
	}
	s.config(t, tiny, [4]string{"third", other, "models/other", ", memory_mb: 8"})
	if err := s.d.reload(ctx); err != nil {
		t.Fatal(err)
	}
	s.serves(t, "third", otherID)
	if status, code, _ := s.askQuietly(t, "second"); status != http.StatusNotFound || code != "model_not_found" {
		t.Errorf("a model that was removed: %d %s", status, code)
	}
	// The first cannot be left out alone.
	s.config(t, [4]string{"third", other, "models/other", ""})
	if reason, _ := refusal.ReasonOf(s.d.reload(ctx)); reason != "reload-needs-restart" {
		t.Errorf("refused for %q", reason)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s.d.beside.named("third").tenure.Serving() == nil {
		t.Error("a model is served after the end")
	}
}

// TestReloadsOfOneModelCostNoOther: a model that lost its key stops no reload of others, one that is
// refused takes no other away, and the order in the file is nothing.
func TestReloadsOfOneModelCostNoOther(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	s, f, g, other, otherID := newSeveral(t)
	tiny := [4]string{"tiny", g.Sealed, brokertest.Resource, ", memory_mb: 4"}
	second := [4]string{"second", other, "models/other", ", memory_mb: 4"}
	third := [4]string{"third", g.Sealed, brokertest.Resource, ", memory_mb: 4"}
	s.config(t, tiny, second)
	cfg, findings, err := settings.Read(s.path)
	if err := errors.Join(err, findings.Runnable()); err != nil {
		t.Fatal(err)
	}
	stop, ended := s.start(t, cfg, f.TEE, 300)
	ctx := t.Context()
	s.serves(t, "tiny", g.Model)
	s.serves(t, "second", otherID)

	// The file names the first one last, twice: it keeps its seat and is shown.
	seat := s.d.beside.named("second")
	for range 2 {
		s.config(t, second, tiny)
		if err := s.d.reload(ctx); err != nil {
			t.Fatal(err)
		}
		var status tenure.Status
		if err := json.Unmarshal(get(t, s.api, "/v1/status"), &status); err != nil || status.Models["tiny"].State != "serving" || status.Models["second"].State != "serving" {
			t.Errorf("%+v, %v", status.Models, err)
		}
	}
	if s.d.beside.named("second") != seat {
		t.Error("a reload moved a model")
	}

	// The first is refused as it is to be: the model that was to go stays.
	s.config(t, [4]string{"tiny", filepath.Join(filepath.Dir(other), "none.ahm"), brokertest.Resource, ", memory_mb: 4"}, third)
	if err := s.d.reload(ctx); err == nil {
		t.Error("a missing file was taken")
	}
	s.serves(t, "tiny", g.Model)
	s.serves(t, "second", otherID)

	// One whose key is not granted: the reload says so, and the rest of it is applied.
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), "models/*", brokertest.Resource, 1))
	s.config(t, tiny, second, third)
	if err := s.d.reload(ctx); err == nil || !strings.Contains(err.Error(), "model second") {
		t.Errorf("the refusal of one model is not told: %v", err)
	}
	if s.d.beside.named("third") == nil {
		t.Error("a model was not added because another one lost its key")
	}
	s.serves(t, "third", g.Model)

	// The same of the first.
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), "models/*", "models/other", 1))
	s.config(t, tiny, second, third, [4]string{"fourth", other, "models/other", ", memory_mb: 4"})
	if err := s.d.reload(ctx); err == nil {
		t.Error("the refusal of the first model is not told")
	}
	s.serves(t, "fourth", otherID)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// askQuietly is ask, of a configuration whose list is another one.
func (s *several) askQuietly(t *testing.T, model string) (status int, code string, id [32]byte) {
	t.Helper()
	resp, err := s.api.Post("http://agent/v1/completions", "application/json", strings.NewReader(fmt.Sprintf(`{"model":%q,"prompt":"x"}`, model)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Error struct{ Code string } }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer.Error.Code, id
}

// TestAChatModelAndAnEmbeddingModelSideBySide: each answers what it is for, and says so of the rest.
func TestAChatModelAndAnEmbeddingModelSideBySide(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	f, g, dir := brokertest.New(t), tenuretest.New(t), t.TempDir()
	raw, err := gguftest.Of(gguftest.Encoders[0], 4).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	in, out := filepath.Join(dir, "bert.gguf"), filepath.Join(dir, "bert.ahm")
	write(t, in, raw)
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	f.PutFor("models/bert", tenuretest.NewKey, g.SealFile(t, in, out, tenuretest.NewKey, 1))
	s := &several{base: underBroker(t, g.Config, f, dir), path: filepath.Join(dir, "agent.yaml"), root: f.Root.Public()}
	s.config(t, [4]string{"tiny", g.Sealed, brokertest.Resource, ""}, [4]string{"bert", out, "models/bert", ", memory_mb: 12"})
	cfg, findings, err := settings.Read(s.path)
	if err := errors.Join(err, findings.Runnable()); err != nil {
		t.Fatal(err)
	}
	stop, ended := s.start(t, cfg, f.TEE, 600)
	s.serves(t, "tiny", g.Model)
	for deadline := time.Now().Add(20 * time.Second); s.d.tenureOf("bert").Serving() != nil; {
		if time.Now().After(deadline) {
			t.Fatal(s.d.tenureOf("bert").Serving())
		}
	}
	for _, c := range []struct {
		path, body, code string
		status           int
	}{
		{"/v1/embeddings", `{"model":"bert","input":"The cat!"}`, "", http.StatusOK},
		{"/v1/embeddings", `{"model":"tiny","input":"The cat!"}`, "no-embeddings", http.StatusBadRequest},
		{"/v1/completions", `{"model":"bert","prompt":"The cat"}`, "embeddings-only", http.StatusBadRequest},
		{"/v1/embeddings", `{"model":"other","input":"The cat!"}`, "model_not_found", http.StatusNotFound},
	} {
		resp, err := s.api.Post("http://agent"+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Data  []struct{ Embedding json.RawMessage }
			Error struct{ Code string }
		}
		if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status || answer.Error.Code != c.code || (len(answer.Data) == 1) != (c.status == http.StatusOK) {
			t.Errorf("%s: %d %s", c.body, resp.StatusCode, answer.Error.Code)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
