package workapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// rounds is the agent's part in one round of four values.
type rounds struct {
	queue  *jobs.Queue
	begin  error
	signs  error
	takes  error
	got    []fed.Submission
	vector []byte
}

var round = digest.RoundID{5}

func (f *rounds) known(id digest.RoundID) error {
	if id != round {
		return refusal.New("round-unknown", "round %s", id)
	}
	return nil
}

func (f *rounds) Round(_ context.Context, id digest.RoundID) (fed.Round, error) {
	return fed.Round{ID: id, Length: 4}, f.known(id)
}

func (f *rounds) Begin(ctx context.Context, id digest.RoundID) (fed.Round, error) {
	r, err := f.Round(ctx, id)
	return r, errors.Join(err, f.begin)
}

func (f *rounds) Attested() (fed.Attested, error) {
	return fed.Attested{Agent: digest.Digest{3}}, f.signs
}

func (f *rounds) Submit(ctx context.Context, uid uint32, id digest.RoundID, sub fed.Submission, body io.Reader) (jobs.Info, error) {
	data, err := io.ReadAll(body)
	if err := errors.Join(err, f.known(id), f.takes); err != nil {
		return jobs.Info{}, err
	}
	if len(data) != 4*sub.Format.Bytes() {
		return jobs.Info{}, refusal.New(fedtask.ReasonVector, "%d bytes", len(data))
	}
	f.got, f.vector = append(f.got, sub), data
	spec, err := json.Marshal(sub)
	if err != nil {
		return jobs.Info{}, err
	}
	info, _, err := f.queue.Submit(ctx, jobs.Job{Class: fedtask.ClassContribute, Owner: uid, Spec: spec, Memory: 1 << 20, TimeMax: time.Minute})
	return info, err
}

func (f *rounds) Decrypt(ctx context.Context, uid uint32, id digest.RoundID) (jobs.Info, error) {
	if err := f.known(id); err != nil {
		return jobs.Info{}, err
	}
	info, _, err := f.queue.Submit(ctx, jobs.Job{Class: fedtask.ClassDecrypt, Owner: uid, Spec: []byte(`{}`), Memory: 1 << 20, TimeMax: time.Minute})
	return info, err
}

func (f *rounds) Result(_ context.Context, id digest.RoundID) (decrypt.Published, error) {
	return decrypt.Published{}, f.known(id)
}

func (f *rounds) Values(_ context.Context, _ uint32, id digest.RoundID, w io.Writer) error {
	if err := f.known(id); err != nil {
		return err
	}
	_, err := w.Write([]byte("mean"))
	return err
}

// parties has every key but those that are not the round's.
type parties struct {
	users  []uint32 // who joined, who shared
	active []int
}

func (p *parties) Join(_ context.Context, uid uint32, id digest.RoundID) (party.Status, error) {
	p.users = append(p.users, uid)
	return p.Status(id)
}

func (p *parties) Share(_ context.Context, uid uint32, id digest.RoundID, active []int) (party.Status, error) {
	p.users, p.active = append(p.users, uid), active
	return p.Status(id)
}

func (p *parties) Status(id digest.RoundID) (party.Status, error) {
	if id != round {
		return party.Status{}, refusal.New(party.ReasonUnknown, "key %s", id)
	}
	return party.Status{}, nil
}

// prover queues proofs of the answers that it was given.
type prover struct {
	queue *jobs.Queue
	taken []digest.ReceiptID
	fails error
}

func (p *prover) Take(_ uint32, a classify.Answer) {
	p.taken = append(p.taken, a.Receipt.Receipt.Body.ID)
}

func (p *prover) Prove(ctx context.Context, uid uint32, id digest.ReceiptID) (jobs.Info, error) {
	if !slices.Contains(p.taken, id) {
		return jobs.Info{}, refusal.New("answer-unknown", "receipt %s", id)
	}
	info, _, err := p.queue.Submit(ctx, jobs.Job{Class: "prove", Owner: uid, Spec: []byte(strconv.Quote(id.String())), Memory: 1 << 20, TimeMax: time.Minute})
	return info, errors.Join(err, p.fails)
}

func (p *prover) Bundle(uint32, digest.ReceiptID) (receipt.Bundle, error) { panic("nobody asks") }

type uidKey struct{}

// bench is the service over a real classifier and a real queue.
type bench struct {
	t       testing.TB
	queue   *jobs.Queue
	rounds  *rounds
	parties *parties
	prover  *prover
	work    error // why there is no long work
	unwired bool  // no aggregators
	service *workapi.Service
	mux     *http.ServeMux
}

func newBench(t testing.TB) *bench {
	t.Helper()
	queue, err := jobs.Open(filepath.Join(t.TempDir(), "jobs.db"), federationtest.Seed(t), jobs.Options{Boot: "b", Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := queue.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, queue: queue, rounds: &rounds{queue: queue}, parties: &parties{}, prover: &prover{queue: queue}, mux: http.NewServeMux()}
	agent, model := federationtest.New(t).Agent(t, nil), classifytest.Seal(t, "tiny", 1)
	classes := classify.New(classify.Config{Memory: 1 << 20, AgentKey: agent.Key, Logger: quiet(), Lease: func(classify.Grant) (receipt.Lease, error) {
		return receipt.Lease{ID: agent.Lease.Lease, EvidenceDigest: agent.Lease.EvidenceDigest, Chain: agent.Chain, Now: federationtest.Begin.Add(time.Minute)}, nil
	}})
	classes.Adopt([]settings.Classifier{model.Classifier}, map[string]classify.Key{model.Resource: {Secret: model.Key(t)}})
	t.Cleanup(classes.Wipe)
	uid := func(ctx context.Context) uint32 { u, _ := ctx.Value(uidKey{}).(uint32); return u }
	b.service = &workapi.Service{UID: uid,
		Work: func() (workapi.Work, error) {
			if b.unwired {
				return workapi.Work{Queue: queue}, b.work
			}
			return workapi.Work{Queue: queue, Federation: b.rounds, Decryption: b.rounds, Party: b.parties}, b.work
		},
		Classifiers: &oip.Service{Intake: &localapi.Intake{Budget: localapi.NewBudget(32<<20, 32<<20, 4, localapi.Grace), Line: localapi.NewLine(1, 4)}, Classifiers: classes, UID: uid, Serving: func() error { return nil }, Keep: func(uint32, receipt.Issued) {}, Proofs: func() (oip.Proofs, error) { return b.prover, nil }}}
	for _, r := range b.service.Routes() {
		b.mux.HandleFunc(r.Method+" "+r.Pattern, func(w http.ResponseWriter, q *http.Request) {
			u, _ := strconv.ParseUint(q.Header.Get("uid"), 10, 32)
			err := r.Handle(w, q.WithContext(context.WithValue(q.Context(), uidKey{}, uint32(u))))
			if err == nil {
				return
			}
			// The local API's own form says the same; what matters here is step and cause.
			p := localapi.Error{Status: http.StatusTeapot, Message: err.Error()}
			if refused, ok := errors.AsType[*localapi.Error](err); ok {
				p.Code = refused.Code
			} else if reason, ok := refusal.ReasonOf(err); ok {
				p.Code = string(reason)
			}
			if step, ok := errors.AsType[*fed.StepError](err); ok {
				p.Code = string(step.Step) + " " + p.Code
			}
			localapi.WriteError(w, &p)
		})
	}
	return b
}

// do sends a request of a user; a status of 418 is an error's.
func (b *bench) do(uid uint32, method, path, media, body string) (status int, answer map[string]any, raw string) {
	b.t.Helper()
	q := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
	q.Header.Set("uid", fmt.Sprint(uid))
	q.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	b.mux.ServeHTTP(w, q)
	_ = json.Unmarshal(w.Body.Bytes(), &answer) // values are no JSON
	return w.Code, answer, w.Body.String()
}

func (b *bench) refused(what, method, path, media, body, code string) {
	b.t.Helper()
	status, answer, raw := b.do(7, method, path, media, body)
	e, _ := answer["error"].(map[string]any)
	if status != http.StatusTeapot || e["code"] != code {
		b.t.Errorf("%s: %d %s, want %s", what, status, raw, code)
	}
}

const path = "/v1/fed/rounds/05000000000000000000000000000000"

// form is a body with these parts, name by name.
func form(t testing.TB, parts ...[3]string) (media, body string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, p := range parts {
		h := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q", p[0])}, "Content-Type": {p[1]}}
		part, err := w.CreatePart(h)
		if err == nil {
			_, err = io.WriteString(part, p[2])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), buf.String()
}

var (
	asked  = [3]string{"inference", "application/json", `{"inputs":[{"name":"input","datatype":"INT8","shape":[2,4],"data":[1,2,3,4,5,6,7,8]}]}`}
	vector = [3]string{"vector", "application/octet-stream", "0123456789abcdef"}
)

func TestAnUpdateTakesEveryStep(t *testing.T) {
	b := newBench(t)
	media, body := form(t, asked, [3]string{"vector", "application/vnd.anchorhold.float16", "01234567"})
	status, answer, raw := b.do(7, "POST", path+"/updates?model=tiny&weight=3&excess=refuse", media, body)
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, raw)
	}
	var steps []string
	for _, s := range answer["steps"].([]any) {
		s := s.(map[string]any)
		steps = append(steps, fmt.Sprint(s["step"], " ", s["state"]))
	}
	if want := []string{"session done", "attestation done", "inference done", "proof queued", "gradient queued", "send queued"}; !slices.Equal(steps, want) {
		t.Errorf("%v", steps)
	}
	if len(b.rounds.got) != 1 || len(b.prover.taken) != 2 {
		t.Fatalf("%+v, %v", b.rounds.got, b.prover.taken)
	}
	if got := b.rounds.got[0]; got.Weight != 3 || !got.Strict || got.Format != fedtask.Float16 || !slices.Equal(got.With, b.prover.taken) || string(b.rounds.vector) != "01234567" {
		t.Errorf("%+v %q", got, b.rounds.vector)
	}
	outputs := answer["answer"].(map[string]any)["outputs"].([]any)
	proofs := answer["proofs"].([]any)
	if len(outputs) != 3 || len(proofs) != 2 || proofs[1].(map[string]any)["receipt"] != b.prover.taken[1].String() {
		t.Errorf("%s", raw)
	}
	id := answer["job"].(map[string]any)["job"].(string)
	if status, _, raw := b.do(7, "GET", "/v1/jobs/"+id, "", ""); status != http.StatusOK {
		t.Errorf("%d %s", status, raw)
	}
}

// Each step that fails has its own reason, and the later ones are not taken.
func TestAStepThatFailsEndsTheUpdate(t *testing.T) {
	full := [][3]string{asked, vector}
	cases := map[string]struct {
		change func(*bench)
		query  string
		parts  [][3]string
		want   string
		queued int // jobs
	}{
		"session":               {func(b *bench) { b.rounds.begin = refusal.New("aggregator-unreachable", "x") }, "?model=tiny", full, "update-session-failed aggregator-unreachable", 0},
		"attestation":           {func(b *bench) { b.rounds.signs = refusal.New("attesting", "x") }, "?model=tiny", full, "update-attestation-failed attesting", 0},
		"another model":         {nil, "?model=other", full, "update-inference-failed model-not-found", 0},
		"no inference":          {nil, "?model=tiny", [][3]string{vector}, "update-inference-failed vector-invalid", 0},
		"another shape":         {nil, "?model=tiny", [][3]string{{"inference", "", strings.Replace(asked[2], "[2,4]", "[2,5]", 1)}, vector}, "update-inference-failed input-invalid", 0},
		"no proofs":             {func(b *bench) { b.prover.fails = refusal.New("proof-key-missing", "x") }, "?model=tiny", full, "update-proof-failed proof-key-missing", 1},
		"no vector":             {nil, "?model=tiny", [][3]string{asked}, "update-gradient-failed vector-invalid", 2},
		"another part":          {nil, "?model=tiny", [][3]string{asked, asked}, "update-gradient-failed vector-invalid", 2},
		"a short vector":        {nil, "?model=tiny", [][3]string{asked, {"vector", "", "0123"}}, "update-gradient-failed vector-invalid", 2},
		"another media type":    {nil, "?model=tiny", [][3]string{asked, {"vector", "text/plain", vector[2]}}, "update-gradient-failed vector-invalid", 2},
		"over the norm":         {func(b *bench) { b.rounds.takes = refusal.New("norm-exceeded", "x") }, "?model=tiny", full, "update-gradient-failed norm-exceeded", 2},
		"no model":              {nil, "", full, "model-not-found", 0},
		"a weight that is none": {nil, "?model=tiny&weight=x", full, "vector-invalid", 0},
		"another excess":        {nil, "?model=tiny&excess=x", full, "vector-invalid", 0},
		"no classifiers":        {func(b *bench) { b.service.Classifiers = nil }, "?model=tiny", full, "model-not-found", 0},
		"no aggregators":        {func(b *bench) { b.unwired = true }, "?model=tiny", full, "federation-not-configured", 0},
		"no lease yet":          {func(b *bench) { b.work = refusal.New("attesting", "x") }, "?model=tiny", full, "attesting", 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.change != nil {
				c.change(b)
			}
			media, body := form(t, c.parts...)
			b.refused(name, "POST", path+"/updates"+c.query, media, body, c.want)
			if n := len(b.queue.List(nil)); n != c.queued || len(b.rounds.got) != 0 {
				t.Errorf("%d jobs, %d vectors", n, len(b.rounds.got))
			}
		})
	}
	b := newBench(t)
	b.refused("no form", "POST", path+"/updates?model=tiny", "application/json", "{}", "vector-invalid")
	media, body := form(t, asked, vector)
	b.refused("cut short", "POST", path+"/updates?model=tiny", media, body[:100], "update-inference-failed vector-invalid")
	b.service.Classifiers.Proofs = func() (oip.Proofs, error) { return nil, refusal.New("proofs-not-configured", "x") }
	b.refused("no proofs configured", "POST", path+"/updates?model=tiny", media, body, "update-proof-failed proofs-not-configured")
}

func TestRounds(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		method, path, media, body string
		status                    int
	}{
		{"GET", path, "", "", 200},
		{"POST", path + "/contributions?weight=2&excess=clip", "", vector[2], 202},
		{"POST", path + "/decrypt", "", "", 202},
		{"GET", path + "/result", "", "", 200},
		{"GET", path + "/result/values", "", "", 200},
	} {
		if status, _, raw := b.do(7, c.method, c.path, c.media, c.body); status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, raw)
		}
	}
	if len(b.rounds.got) != 1 || b.rounds.got[0].Weight != 2 || b.rounds.got[0].Strict || b.rounds.got[0].With != nil {
		t.Errorf("%+v", b.rounds.got)
	}
	unknown := strings.Replace(path, "05", "06", 1)
	for _, c := range [][4]string{
		{"GET", unknown, "", "round-unknown"},
		{"GET", "/v1/fed/rounds/x", "", "round-invalid"},
		{"POST", unknown + "/decrypt", "", "round-unknown"},
		{"GET", unknown + "/result", "", "round-unknown"},
		{"GET", unknown + "/result/values", "", "round-unknown"},
		{"POST", path + "/contributions?weight=-1", vector[2], "vector-invalid"},
		{"POST", path + "/contributions?excess=both", vector[2], "vector-invalid"},
		{"POST", path + "/contributions", "0123", "vector-invalid"},
	} {
		b.refused(c[0]+" "+c[1], c[0], c[1], "", c[2], c[3])
	}
	b.refused("text", "POST", path+"/contributions", "text/plain", vector[2], "vector-invalid")
	b.service.Work = nil
	b.refused("nothing configured", "GET", path, "", "", "federation-not-configured")
}

func TestKeysOfParties(t *testing.T) {
	b := newBench(t)
	const key = "/v1/fed/keys/05000000000000000000000000000000"
	for _, c := range []struct {
		method, path, body string
		status             int
	}{{"POST", key + "/join", "", 202}, {"GET", key, "", 200}, {"POST", key + "/share", `{"active":[1,3]}`, 202}} {
		if status, _, raw := b.do(7, c.method, c.path, "", c.body); status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, raw)
		}
	}
	if !slices.Equal(b.parties.active, []int{1, 3}) || !slices.Equal(b.parties.users, []uint32{7, 7}) {
		t.Errorf("%+v", b.parties)
	}
	b.refused("who decrypts", "POST", key+"/share", "", `{"other":[1]}`, string(party.ReasonActive))
	b.refused("no round", "POST", "/v1/fed/keys/5/share", "", "", "round-invalid")
	unknown := strings.Replace(key, "05", "06", 1)
	b.refused("unknown", "GET", unknown, "", "", string(party.ReasonUnknown))
	b.refused("unknown", "POST", unknown+"/join", "", "", string(party.ReasonUnknown))
}

// A user sees and ends only his own jobs; root all.
func TestJobsAreTheirOwners(t *testing.T) {
	b := newBench(t)
	_, answer, _ := b.do(7, "POST", path+"/contributions", "", vector[2])
	id := answer["job"].(string)
	count := func(uid uint32) int {
		_, answer, _ := b.do(uid, "GET", "/v1/jobs", "", "")
		return len(answer["data"].([]any))
	}
	if count(7) != 1 || count(8) != 0 || count(0) != 1 {
		t.Errorf("%d, %d, %d", count(7), count(8), count(0))
	}
	for _, c := range [][2]string{{"GET", "/v1/jobs/" + id}, {"DELETE", "/v1/jobs/" + id}, {"POST", "/v1/jobs/" + id + "/retry"}} {
		if status, answer, _ := b.do(8, c[0], c[1], "", ""); status == http.StatusOK || answer["error"].(map[string]any)["code"] != string(jobs.ReasonUnknown) {
			t.Errorf("another user: %s %s: %d %v", c[0], c[1], status, answer)
		}
	}
	if status, answer, _ := b.do(7, "GET", "/v1/jobs/"+id, "", ""); status != http.StatusOK || answer["spec"] != nil || answer["state"] != "queued" {
		t.Errorf("%d %v", status, answer)
	}
	b.refused("a job that waits", "POST", "/v1/jobs/"+id+"/retry", "", "", string(jobs.ReasonState))
	if status, answer, _ := b.do(7, "DELETE", "/v1/jobs/"+id, "", ""); status != http.StatusOK || answer["state"] != "cancelled" {
		t.Errorf("%d %v", status, answer)
	}
	b.refused("cancelled already", "DELETE", "/v1/jobs/"+id, "", "", string(jobs.ReasonState))
	b.refused("no id", "GET", "/v1/jobs/x", "", "", string(jobs.ReasonUnknown))
}
