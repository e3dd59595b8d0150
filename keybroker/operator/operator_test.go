package operator

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// bench is a server with everything real but the epochs.
type bench struct {
	server   *Server
	log      *audit.Log
	client   *Client
	socket   string
	epochs   *fakeEpochs
	output   *bytes.Buffer
	keys     identity.Public
	auditKey *identity.Private
}

type fakeEpochs struct {
	calls []string
	key   identity.Public
}

func (f *fakeEpochs) List() []EpochInfo {
	return []EpochInfo{{Epoch: 1, State: "active", Key: f.key}}
}

func (f *fakeEpochs) Prepare(context.Context) (EpochRequest, error) {
	f.calls = append(f.calls, "prepare")
	return EpochRequest{Epoch: 2, Key: f.key, AuditKey: f.key}, nil
}

func (f *fakeEpochs) Request(_ context.Context, ask EpochAsk) (SignedEpochRequest, error) {
	f.calls = append(f.calls, fmt.Sprint("request ", ask.MinEpoch))
	return SignedEpochRequest{Request: []byte("request")}, nil
}

func (f *fakeEpochs) Activate(_ context.Context, st []byte) (EpochInfo, error) {
	f.calls = append(f.calls, "activate "+string(st))
	return EpochInfo{Epoch: 2, State: "prepared", Key: f.key}, nil
}

func (f *fakeEpochs) Retire(_ context.Context, n uint64) error {
	f.calls = append(f.calls, fmt.Sprint("retire ", n))
	if n == 9 {
		return errors.New("this broker has no epoch 9")
	}
	return nil
}

func newBench(t *testing.T, operators, viewers []uint32) *bench {
	t.Helper()
	dir := t.TempDir()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(filepath.Join(dir, "audit"), key, audit.Options{SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	kek, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(filepath.Join(dir, "k.db"), kek)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := OpenPolicies(filepath.Join(dir, "policies"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{log: log, epochs: &fakeEpochs{key: key.Public()}, output: &bytes.Buffer{}, keys: key.Public(), auditKey: key}
	b.server, err = NewServer(Options{Policies: policies, Secrets: store, Audit: log, AuditKeys: []identity.Public{key.Public()},
		Epochs: b.epochs, Status: func() Status { return Status{Version: "test"} }, Operators: operators, Viewers: viewers,
		Metrics: func() map[string]int64 { return map[string]int64{"anchorhold_broker_releases_total": 5} },
		Logger:  slog.New(slog.NewTextHandler(b.output, nil))})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := Listen(t.Context(), socket, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, l) }()
	b.client, b.socket = NewClient(socket), socket
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := errors.Join(log.Close(), store.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the socket is still there")
		}
	})
	return b
}

func me() []uint32 { return []uint32{uint32(os.Getuid())} }

func policyText(version int, measurement string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
format: 2
id: demo
version: %d
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
require: {kinds: [sev-snp], reference_values: [%s], sev_snp: {products: [Genoa], vmpl: 0}}
rules: [{resources: [models/*]}]
waive:
`, version, measurement)
	for _, c := range policy.ChecksOf(evidence.KindSNP) {
		if c.Waivable {
			fmt.Fprintf(&b, "  - {check: %s, reason: a demonstration}\n", c.Name)
		}
	}
	return b.String()
}

func valuesText(id string) []byte {
	return fmt.Appendf(nil, "format: 1\nreference_values:\n  - {id: %s, measurement: %s, software: true}\n", id, hex.EncodeToString(bytes.Repeat([]byte{0xab}, 48)))
}

func secret(t *testing.T, s string) *keybuf.Buffer {
	t.Helper()
	b, err := keybuf.Take([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

func TestPolicyLifeCycle(t *testing.T) {
	b := newBench(t, me(), nil)
	ctx, c := t.Context(), b.client
	var e *Error
	if _, err := c.Policy(ctx); !errors.As(err, &e) || e.Status != 404 || e.Code != "no-policy" {
		t.Fatalf("%v", err)
	}
	info, err := c.ImportPolicy(ctx, []byte(policyText(1, "demo/one")))
	if err != nil || info.Version != 1 || !info.Active || len(info.Waived) == 0 {
		t.Fatalf("%+v %v", info, err)
	}
	inForce, err := c.Policy(ctx)
	if err != nil || len(info.Warnings) == 0 || !strings.Contains(info.Warnings[0], "software TEE") || !slices.Equal(inForce.Warnings, info.Warnings) {
		t.Fatalf("got the warnings %q and %q, %v", info.Warnings, inForce.Warnings, err)
	}
	test := TestRequest{Resource: "models/x", Claims: evidence.Claims{Kind: evidence.KindSNP, Platform: "Genoa", SoftwareTEE: true,
		Registers: []evidence.Measured{evidence.LaunchRegister(bytes.Repeat([]byte{0xab}, 48))}, SNP: &evidence.SNPClaims{}}}
	if d, err := c.TestPolicy(ctx, test); err != nil || d.Allowed {
		t.Fatalf("allowed without reference values: %+v %v", d, err)
	}
	if !slices.Equal(info.Unmatched, []string{"demo/one"}) {
		t.Fatalf("a policy whose reference values are not there yet: %q", info.Unmatched)
	}
	before := info.Digest
	if n, err := c.ImportReferenceValues(ctx, valuesText("demo/one"), false); err != nil || n.Total != 1 || n.Unmatched != nil || n.PolicyDigest == before || n.PolicyDigest == (digest.Digest{}) {
		t.Fatal(n, err)
	}
	if n, err := c.ImportReferenceValues(ctx, valuesText("demo/one"), false); err != nil || n.PolicyDigest != (digest.Digest{}) {
		t.Fatal("the same value again", n, err)
	}
	if n, err := c.ImportReferenceValues(ctx, valuesText("elsewhere/one"), true); err != nil || !slices.Equal(n.Unmatched, []string{"demo/one"}) {
		t.Fatal("the policy's value was replaced", n, err)
	}
	if n, err := c.ImportReferenceValues(ctx, valuesText("demo/one"), true); err != nil || n.Unmatched != nil {
		t.Fatal(n, err)
	}
	if d, err := c.TestPolicy(ctx, test); err != nil || !d.Allowed {
		t.Fatalf("%+v %v", d, err)
	}
	test.Source = policyText(5, "demo/other")
	if d, err := c.TestPolicy(ctx, test); err != nil || d.Allowed {
		t.Fatalf("another policy: %+v %v", d, err)
	}
	test.Source = "nonsense"
	if _, err := c.TestPolicy(ctx, test); !errors.As(err, &e) || e.Code != "policy-invalid" {
		t.Fatal(err)
	}
	for _, old := range []int{0, 1} {
		if _, err := c.ImportPolicy(ctx, []byte(policyText(old, "demo/one"))); err == nil {
			t.Errorf("version %d was imported over version 1", old)
		}
	}
	if _, err := c.ImportPolicy(ctx, []byte(policyText(2, "demo/*"))); err != nil {
		t.Fatal(err)
	}
	shown, err := c.Policy(ctx)
	if err != nil || shown.Version != 2 || shown.Digest == before || !strings.Contains(shown.Explanation, "WARNING") || len(shown.ReferenceValues) != 1 || shown.Source == "" {
		t.Fatalf("%+v %v", shown, err)
	}
	list, err := c.Policies(ctx)
	if err != nil || len(list) != 2 || !list[1].Active || list[0].Active {
		t.Fatalf("%+v %v", list, err)
	}
	if list[0].Digest != info.Digest || list[1].Digest != shown.Digest {
		t.Errorf("the list has digests that no command showed: %s and %s, want %s and %s", list[0].Digest, list[1].Digest, info.Digest, shown.Digest)
	}
	if n, err := c.ImportReferenceValues(ctx, valuesText("demo/two"), true); err != nil || n.Total != 1 {
		t.Fatal(n, err)
	}
	if v, err := c.ReferenceValues(ctx); err != nil || len(v) != 1 || v[0].ID != "demo/two" {
		t.Fatal(v, err)
	}
	if _, err := c.ImportReferenceValues(ctx, []byte("x"), false); err == nil {
		t.Fatal("nonsense was imported")
	}
	// What was acknowledged is there after a restart.
	again, err := OpenPolicies(b.server.opts.Policies.dir, time.Now)
	if err != nil || again.Current().Version() != 2 || len(again.ReferenceValues()) != 1 {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(again.dir, activePolicyFile), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := again.Reload(); err == nil || again.Current().Version() != 2 {
		t.Fatal("a broken file replaced the policy", err)
	}
}

// TestPitfall31SecretsGoInAndNeverOut looks for the secret in every answer, the
// log and the audit log.
func TestPitfall31SecretsGoInAndNeverOut(t *testing.T) {
	b := newBench(t, me(), nil)
	ctx, c := t.Context(), b.client
	const canary = "canary-value-5f2a"
	meta := keystore.Meta{Kind: "model-key", Description: "d"}
	for mode, want := range map[PutMode]uint64{PutCreate: 1} {
		if v, err := c.PutSecret(ctx, "models/a", secret(t, canary), meta, mode); err != nil || v != want {
			t.Fatal(v, err)
		}
	}
	if v, err := c.PutSecret(ctx, "models/a", secret(t, canary+"2"), meta, PutNext); err != nil || v != 2 {
		t.Fatal(v, err)
	}
	if v, err := c.PutSecret(ctx, "models/a", secret(t, canary+"3"), meta, PutRotate); err != nil || v != 3 {
		t.Fatal(v, err)
	}
	var e *Error
	if _, err := c.PutSecret(ctx, "models/a", secret(t, canary), meta, PutCreate); !errors.As(err, &e) || e.Status != http.StatusConflict {
		t.Fatal(err)
	}
	for _, bad := range []func() (uint64, error){
		func() (uint64, error) { return c.PutSecret(ctx, "../a", secret(t, canary), meta, PutNext) },
		func() (uint64, error) { return c.PutSecret(ctx, "a", secret(t, canary), meta, "other") },
		func() (uint64, error) {
			return c.PutSecret(ctx, "a", secret(t, strings.Repeat("x", keystore.MaxSecretBytes+1)), meta, PutNext)
		},
		func() (uint64, error) { return 0, c.RetireSecret(ctx, "models/a", 0) },
		func() (uint64, error) { return 0, c.DestroySecret(ctx, "models/absent", 1) },
		func() (uint64, error) { return 0, c.DestroySecret(ctx, "/", 1) },
	} {
		if _, err := bad(); err == nil {
			t.Error("accepted")
		}
	}
	if err := errors.Join(c.RetireSecret(ctx, "models/a", 3), c.DestroySecret(ctx, "models/a", 1)); err != nil {
		t.Fatal(err)
	}
	list, err := c.Secrets(ctx, "models/")
	if err != nil || len(list.Secrets) != 3 || list.Secrets[0].State != keystore.Destroyed || list.Secrets[2].State != keystore.Retired {
		t.Fatalf("%+v %v", list, err)
	}
	entries, err := c.ShowAudit(ctx, audit.Filter{Kind: audit.KindOperator})
	if err != nil || len(entries) < 8 {
		t.Fatal(len(entries), err)
	}
	metrics, err := c.Metrics(ctx)
	if err != nil || !strings.Contains(metrics, "anchorhold_broker_secrets 1") || !strings.Contains(metrics, "releases_total 5") || strings.ContainsAny(metrics, "{") || strings.Contains(metrics, "models") {
		t.Fatalf("%s %v", metrics, err) // failure 42 of docs/known-failures.md: no labels, no names
	}
	everything := fmt.Sprintf("%+v %+v %s %s", list, entries, metrics, b.output)
	for _, seg := range mustGlob(t, filepath.Join(b.log.Dir(), "*.seg")) {
		raw, err := os.ReadFile(seg)
		if err != nil {
			t.Fatal(err)
		}
		everything += string(raw)
	}
	if strings.Contains(everything, canary) {
		t.Fatal("a secret came out")
	}
}

func mustGlob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names
}

func TestAuditAndEpochCommands(t *testing.T) {
	b := newBench(t, me(), nil)
	ctx, c := t.Context(), b.client
	if _, err := b.log.Append(ctx, audit.Record{Kind: audit.KindRefusal, Time: time.Now(), RefusalID: "abc", Connection: "c1", Reasons: []audit.Reason{{Code: "debug-enabled"}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Explain(ctx, "abc"); err != nil || len(got) != 1 || got[0].Record.Reasons[0].Code != "debug-enabled" {
		t.Fatal(got, err)
	}
	var e *Error
	if _, err := c.Explain(ctx, "nobody"); !errors.As(err, &e) || e.Code != "not-found" {
		t.Fatal(err)
	}
	proof, err := c.Prove(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(proof.Checkpoint.Verify(b.keys), proof.Proof.Verify(proof.Leaf.Hash, proof.Checkpoint.Root)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prove(ctx, 99); err == nil {
		t.Fatal("proved what is not there")
	}
	if err := c.HealAudit(ctx); err != nil {
		t.Fatal(err)
	}
	if req, err := c.PrepareEpoch(ctx); err != nil || req.Epoch != 2 || !req.Key.Equal(b.epochs.key) {
		t.Fatal(req, err)
	}
	if _, err := c.ActivateEpoch(ctx, []byte("statement")); err != nil {
		t.Fatal(err)
	}
	if err := c.RetireEpoch(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.RetireEpoch(ctx, 9); err == nil {
		t.Fatal("no error")
	}
	if want := "prepare,activate statement,retire 1,retire 9"; strings.Join(b.epochs.calls, ",") != want {
		t.Fatal(b.epochs.calls)
	}
	if list, err := c.Epochs(ctx); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	st, err := c.Status(ctx)
	if err != nil || st.Version != "test" || st.AuditRecords == 0 || len(st.Epochs) != 1 || st.Policy != nil {
		t.Fatalf("%+v %v", st, err)
	}
	if _, err := NewClient(filepath.Join(t.TempDir(), "absent")).Status(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestPitfall24EveryRouteNeedsARole walks the whole route table: nobody, an
// unknown peer and a role that is too low are refused by each, and every route
// that is not a GET is mutating or known to be harmless.
func TestPitfall24EveryRouteNeedsARole(t *testing.T) {
	b := newBench(t, []uint32{1}, []uint32{2})
	h := b.server.Handler()
	for _, r := range b.server.routes() {
		if r.role == RoleNone || r.action == "" {
			t.Errorf("%s %s needs no role", r.method, r.path)
		}
		if r.method != http.MethodGet && !r.mutating && r.path != "/v1/policy/test" && r.path != "/v1/audit/verify" {
			t.Errorf("%s %s changes something without a record", r.method, r.path)
		}
		if r.mutating && r.role != RoleOperator {
			t.Errorf("%s %s changes something for viewers", r.method, r.path)
		}
		path := strings.NewReplacer("{name...}", "a/b", "{id}", "x", "{index}", "0", "{epoch}", "1").Replace(r.path)
		for name, who := range map[string]any{"nobody": nil, "unknown": peer{}, "unlisted": peer{uid: 3, known: true}, "unlisted root": peer{uid: 0, known: true},
			"viewer": peer{uid: 2, known: true}, "unproven operator": peer{uid: 1}} {
			if name == "viewer" && r.role == RoleViewer {
				continue
			}
			req := httptest.NewRequest(r.method, path, strings.NewReader("x"))
			if who != nil {
				req = req.WithContext(context.WithValue(req.Context(), peerKey{}, who))
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "not-authorised") {
				t.Errorf("%s %s by %s: %d %s", r.method, r.path, name, w.Code, w.Body)
			}
		}
	}
	if len(b.epochs.calls) != 0 {
		t.Errorf("something was done: %v", b.epochs.calls)
	}
	req := httptest.NewRequest("GET", "/v1/other", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusNotFound {
		t.Error(w.Code)
	}
}

func TestUnlistedUIDIsRefusedOverTheSocket(t *testing.T) {
	b := newBench(t, []uint32{uint32(os.Getuid()) + 1}, nil)
	var e *Error
	if _, err := b.client.Status(t.Context()); !errors.As(err, &e) || e.Status != http.StatusForbidden {
		t.Fatal(err)
	}
}

// TestNoChangeWithoutARecord: when the log cannot record, nothing is changed.
func TestNoChangeWithoutARecord(t *testing.T) {
	b := newBench(t, me(), nil)
	if err := b.log.Close(); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := b.client.PutSecret(t.Context(), "a", secret(t, "x"), keystore.Meta{}, PutNext); !errors.As(err, &e) || e.Code != "audit-unavailable" {
		t.Fatal(err)
	}
	if list, err := b.client.Secrets(t.Context(), ""); err != nil || len(list.Secrets) != 0 {
		t.Fatal("the secret was stored", list, err)
	}
}

func TestStrictRequests(t *testing.T) {
	b := newBench(t, me(), nil)
	for name, body := range map[string]string{"unknown field": `{"x":1}`, "two values": `{} {}`, "not JSON": "x"} {
		var out any
		if err := b.client.call(t.Context(), "POST", "/v1/policy/test", nil, strings.NewReader(body), &out); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var e *Error
	var out any
	if err := b.client.call(t.Context(), "POST", "/v1/policy", nil, bytes.NewReader(make([]byte, maxBodyBytes+1)), &out); !errors.As(err, &e) || e.Code != "too-large" {
		t.Error(err)
	}
	for _, path := range []string{"/v1/audit/proof/x", "/v1/audit/records?"} {
		err := b.client.call(t.Context(), "GET", path, map[string][]string{"filter": {"{"}}, nil, &out)
		if err == nil {
			t.Errorf("%s: accepted", path)
		}
	}
	if err := b.client.call(t.Context(), "POST", "/v1/epochs/activate", nil, strings.NewReader("!"), &out); err == nil {
		t.Error("accepted")
	}
	if err := b.client.call(t.Context(), "POST", "/v1/epochs/retire/x", nil, nil, &out); err == nil {
		t.Error("accepted")
	}
	if _, err := NewServer(Options{}); err == nil {
		t.Error("a server of nothing")
	}
}

// TestReferenceValuesAreRemovable one by one, in the log, and not under the policy in force
// unless somebody says so.
func TestReferenceValuesAreRemovable(t *testing.T) {
	b := newBench(t, me(), nil)
	ctx, c := t.Context(), b.client
	for _, id := range []string{"demo/one", "demo/two", "other/a"} {
		if _, err := c.ImportReferenceValues(ctx, valuesText(id), false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.ImportPolicy(ctx, []byte(policyText(1, "demo/*"))); err != nil {
		t.Fatal(err)
	}
	before := b.server.opts.Policies.Current().Digest()
	wantCode := func(id, code string) {
		t.Helper()
		_, err := c.RemoveReferenceValue(ctx, id, false)
		if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != code {
			t.Errorf("%s: %v, want %s", id, err, code)
		}
	}
	wantCode("demo/three", "not-found")
	if out, err := c.RemoveReferenceValue(ctx, "other/a", false); err != nil || out.Accepted || out.Total != 2 || out.PolicyDigest != before {
		t.Errorf("one that the policy does not name: %+v %v", out, err)
	}
	if out, err := c.RemoveReferenceValue(ctx, "demo/one", false); err != nil || !out.Accepted || out.Unmatched != nil || out.PolicyDigest == before {
		t.Errorf("one of two: %+v %v", out, err)
	}
	wantCode("demo/two", string(ReasonValueNeeded))
	if out, err := c.RemoveReferenceValue(ctx, "demo/two", true); err != nil || out.Total != 0 || !slices.Equal(out.Unmatched, []string{"demo/*"}) {
		t.Errorf("the last one: %+v %v", out, err)
	}
	again, err := OpenPolicies(b.server.opts.Policies.dir, time.Now)
	if err != nil || len(again.ReferenceValues()) != 0 || len(again.Current().ReferenceValues()) != 0 {
		t.Errorf("after a restart: %v %v", again.ReferenceValues(), err)
	}
	for id, want := range map[string]int{"demo/one": 1, "demo/two": 3} { // asked, refused, asked
		found, err := b.server.opts.Audit.Find(audit.Query{Kind: audit.KindOperator, Action: "reference-values-remove", Resource: id})
		if err != nil || len(found) != want {
			t.Errorf("%s is in the log %d times, want %d: %v", id, len(found), want, err)
		}
	}
}
