package oip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// kept is what a user was given.
type kept struct {
	uid    uint32
	issued receipt.Issued
}

// prover is a fake of package prove: it keeps answers of their users.
type prover struct {
	taken map[digest.ReceiptID]uint32
	made  map[digest.ReceiptID]receipt.Bundle
	last  classify.Answer
}

const reasonUnknown refusal.Reason = "answer-unknown"

func (p *prover) Take(uid uint32, a classify.Answer) {
	id := a.Receipt.Receipt.Body.ID
	p.taken[id], p.last = uid, a
}

func (p *prover) Prove(_ context.Context, uid uint32, id digest.ReceiptID) (jobs.Info, error) {
	if owner, ok := p.taken[id]; !ok || owner != uid {
		return jobs.Info{}, refusal.New(reasonUnknown, "no answer or proof with receipt %s is kept here", id)
	}
	p.made[id] = receipt.Bundle{Receipt: p.last.Receipt.Receipt, OutputSalt: p.last.Receipt.Salts.Output,
		Proof: statement.Envelope{Statement: prooftestStatement(p.last), Key: digest.Digest{1}, Proof: []byte{1}}}
	return jobs.Info{ID: jobs.ID{7}, State: jobs.Queued}, nil
}

func prooftestStatement(a classify.Answer) statement.Statement {
	return (&provetest.Keys{}).Statement(a.Model, a.Receipt.Receipt.Body.ID, a.Salt, a.Input, a.Outputs)
}

func (p *prover) Bundle(uid uint32, id digest.ReceiptID) (receipt.Bundle, error) {
	b, ok := p.made[id]
	if !ok || p.taken[id] != uid {
		return b, refusal.New(reasonUnknown, "no answer or proof with receipt %s is kept here", id)
	}
	return b, nil
}

type uidKey struct{}

// bench is a service over a real classifier. The user is named by a header, which the
// local API takes from the socket.
type bench struct {
	t       testing.TB
	service *oip.Service
	model   *classifytest.Sealed
	classes *classify.Service
	world   *federationtest.World
	prover  *prover
	kept    []kept
	without error // why there are no proofs
	stopped error // why nothing is served
	mux     *http.ServeMux
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, world: federationtest.New(t), model: classifytest.Seal(t, "tiny", 1), mux: http.NewServeMux(),
		prover: &prover{taken: map[digest.ReceiptID]uint32{}, made: map[digest.ReceiptID]receipt.Bundle{}}}
	agent := b.world.Agent(t, nil)
	agent.Grant(t, b.model.Model.ID())
	b.classes = classify.New(classify.Config{Memory: 1 << 20, AgentKey: agent.Key, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Lease: func(classify.Grant) (receipt.Lease, error) {
		return receipt.Lease{ID: agent.Lease.Lease, EvidenceDigest: agent.Lease.EvidenceDigest, Chain: agent.Chain, Now: federationtest.Begin.Add(time.Minute)}, nil
	}})
	b.classes.Adopt([]settings.Classifier{b.model.Classifier}, map[string]classify.Key{b.model.Resource: {Secret: b.model.Key(t)}})
	t.Cleanup(b.classes.Wipe)
	b.service = &oip.Service{Classifiers: b.classes, Clipped: b.classes.CountClipped, Version: "1.2", Serving: func() error { return b.stopped },
		Proofs: func() (oip.Proofs, error) { return b.prover, b.without },
		Keep:   func(uid uint32, issued receipt.Issued) { b.kept = append(b.kept, kept{uid, issued}) },
		UID:    func(ctx context.Context) uint32 { uid, _ := ctx.Value(uidKey{}).(uint32); return uid },
		Intake: &localapi.Intake{Budget: localapi.NewBudget(32<<20, 32<<20, 4, localapi.Grace), Line: localapi.NewLine(1, 4)}}
	for _, r := range b.service.Routes() {
		b.mux.HandleFunc(r.Method+" "+r.Pattern, func(w http.ResponseWriter, q *http.Request) {
			uid, _ := strconv.ParseUint(q.Header.Get("uid"), 10, 32)
			err := r.Handle(w, q.WithContext(context.WithValue(q.Context(), uidKey{}, uint32(uid))))
			if p, ok := errors.AsType[*localapi.Error](err); ok {
				localapi.WriteError(w, p)
			} else if reason, _ := refusal.ReasonOf(err); err != nil {
				localapi.WriteError(w, &localapi.Error{Status: http.StatusTeapot, Code: string(reason), Message: err.Error()})
			}
		})
	}
	return b
}

// do sends a request of a user and decodes the answer.
func (b *bench) do(uid uint32, method, path, body string, into any) (status int, header http.Header) {
	b.t.Helper()
	q := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
	q.Header.Set("uid", fmt.Sprint(uid))
	w := httptest.NewRecorder()
	b.mux.ServeHTTP(w, q)
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			b.t.Fatalf("%s %s: %v: %q", method, path, err, w.Body)
		}
	}
	return w.Code, w.Result().Header
}

// failure is an error as clients see it.
type failure struct {
	Error struct{ Message, Code string }
}

// TestWholeReceiptsComeWithTheAnswers on demand, in the order of the inputs.
func TestWholeReceiptsComeWithTheAnswers(t *testing.T) {
	b := newBench(t)
	ask := func(value string) *httptest.ResponseRecorder {
		q := httptest.NewRequestWithContext(t.Context(), "POST", inferPath, strings.NewReader(request("INT8", "[2,4]", "[1,2,3,4,5,6,7,8]")))
		q.Header.Set("uid", "1")
		q.Header.Set(localapi.RequestReceipt, value)
		w := httptest.NewRecorder()
		b.mux.ServeHTTP(w, q)
		return w
	}
	var a struct {
		Parameters struct {
			Receipts []string         `json:"receipts"`
			Issued   []receipt.Issued `json:"issued_receipts"`
		} `json:"parameters"`
	}
	w := ask("full")
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK || len(a.Parameters.Issued) != 2 {
		t.Fatal(w.Code, w.Body, err)
	}
	for i, issued := range a.Parameters.Issued {
		if issued.Receipt.Body.ID.String() != a.Parameters.Receipts[i] || issued.Salts != b.kept[i].issued.Salts {
			t.Errorf("receipt %d is another", i)
		}
	}
	if w := ask("id"); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "issued") {
		t.Error(w.Code, w.Body)
	}
	if w := ask("yes"); w.Code != http.StatusBadRequest {
		t.Error(w.Code, w.Body)
	}
}

func (b *bench) refused(what, method, path, body string, status int, code string) failure {
	b.t.Helper()
	var r failure
	if got, _ := b.do(1, method, path, body, &r); got != status || r.Error.Code != code || r.Error.Message == "" {
		b.t.Errorf("%s: %d %+v, want %d %s", what, got, r, status, code)
	}
	return r
}

// answer is the response to an inference.
type answer struct {
	ModelName    string `json:"model_name"`
	ModelVersion string `json:"model_version"`
	ID           string `json:"id"`
	Parameters   struct {
		Receipts []string `json:"receipts"`
		ModelID  string   `json:"model_id"`
	} `json:"parameters"`
	Outputs []struct {
		Name, Datatype string
		Shape          []int64
		Data           json.RawMessage
	} `json:"outputs"`
}

const inferPath = "/v2/models/tiny/infer"

func request(datatype, shape, data string) string {
	return fmt.Sprintf(`{"id":"7","inputs":[{"name":"input","datatype":%q,"shape":%s,"data":%s}]}`, datatype, shape, data)
}

// infer sends a request that is answered, and returns the scores.
func (b *bench) infer(uid uint32, body string) (a answer, scores []int32) {
	b.t.Helper()
	status, header := b.do(uid, "POST", inferPath, body, &a)
	if status != http.StatusOK || len(a.Outputs) != 3 || len(a.Parameters.Receipts) == 0 || header.Get("Anchorhold-Receipt") != a.Parameters.Receipts[0] {
		b.t.Fatalf("%d %+v for %s", status, a, body)
	}
	if err := json.Unmarshal(a.Outputs[0].Data, &scores); err != nil {
		b.t.Fatal(err)
	}
	return a, scores
}

func (b *bench) want(in ...int8) []int32 {
	b.t.Helper()
	out, err := b.model.Network.Forward(in)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestMetadata(t *testing.T) {
	b := newBench(t)
	for path, want := range map[string]string{
		"/v2":                              `{"extensions":["anchorhold_receipts","anchorhold_proofs"],"name":"anchorhold-agent","version":"1.2"}`,
		"/v2/health/live":                  `{"live":true}`,
		"/v2/health/ready":                 `{"ready":true}`,
		"/v2/models/tiny/ready":            `{"name":"tiny","ready":true}`,
		"/v2/models/tiny/versions/3/ready": `{"name":"tiny","ready":true}`,
		"/v2/models/tiny": `{"inputs":[{"name":"input","datatype":"FP32","shape":[-1,4]}],"name":"tiny","outputs":[{"name":"scores","datatype":"INT32","shape":[-1,2]},` +
			`{"name":"class","datatype":"INT64","shape":[-1]},{"name":"label","datatype":"BYTES","shape":[-1]}],"parameters":{"model_id":"` + b.model.Model.ID().String() + `"},"platform":"anchorhold_int8","versions":["3"]}`,
	} {
		var got json.RawMessage
		if status, _ := b.do(1, "GET", path, "", &got); status != http.StatusOK || string(got) != want {
			t.Errorf("%s: %d\n%s\n%s", path, status, got, want)
		}
	}
	var one, two json.RawMessage
	b.do(1, "GET", "/v2/models/tiny", "", &one)
	if b.do(1, "GET", "/v2/models/tiny/versions/3", "", &two); !bytes.Equal(one, two) {
		t.Errorf("%s is not %s", one, two)
	}
	for _, path := range []string{"/v2/models/other", "/v2/models/other/ready", "/v2/models/tiny/versions/2", "/v2/models/tiny/versions/03", "/v2/models/tiny/versions/x/ready"} {
		b.refused(path, "GET", path, "", http.StatusNotFound, "model-not-found")
	}
}

func TestNothingIsServedWithoutALease(t *testing.T) {
	b := newBench(t)
	b.stopped = refusal.New("attesting", "no lease yet")
	for _, path := range []string{"/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready"} {
		b.refused(path, "GET", path, "", http.StatusTeapot, "attesting")
	}
	b.refused("infer", "POST", inferPath, request("INT8", "[4]", "[1,2,3,4]"), http.StatusTeapot, "attesting")
	if status, _ := b.do(1, "GET", "/v2/health/live", "", nil); status != http.StatusOK {
		t.Errorf("not alive: %d", status)
	}
	b.stopped = nil
	b.classes.Wipe()
	b.refused("wiped", "POST", inferPath, request("INT8", "[4]", "[1,2,3,4]"), http.StatusTeapot, "model-unavailable")
	if len(b.kept) != 0 {
		t.Error("a receipt of nothing")
	}
}

func TestAnswersAreTheModels(t *testing.T) {
	b := newBench(t)
	want := b.want(1, -2, 3, -128)
	for what, body := range map[string]string{
		"INT8": request("INT8", "[1,4]", "[1,-2,3,-128]"), "FP32": request("FP32", "[1,4]", "[1.0,-2.2,3e0,-1e30]"), "FP64": request("FP64", "[1,4]", "[1,-2,3.25,-128.4]"),
		"without a batch": request("INT8", "[4]", "[1,-2,3,-128]"), "other dimensions": request("INT8", "[1,2,1,2]", "[1,-2,3,-128]"),
		"nested": request("INT8", "[1,4]", "[[1,-2,3,-128]]"), "nested twice": request("FP32", "[1,2,2]", "[[[1,-2],[3,-128]]]"), "spaces": request("INT8", "[ 4 ]", " [ 1, -2,\n3, -128 ] "),
		"more fields": `{"parameters":{"a":1},"outputs":[{"name":"scores"}],"id":"7","inputs":[{"parameters":{"b":null},"name":"input","datatype":"INT8","shape":[4],"data":[1,-2,3,-128]}]}`,
	} {
		a, scores := b.infer(1, body)
		best := 0
		if want[1] > want[0] {
			best = 1
		}
		if !slices.Equal(scores, want) || string(a.Outputs[1].Data) != fmt.Sprintf("[%d]", best) || string(a.Outputs[2].Data) != fmt.Sprintf("[%q]", b.model.Description.Labels[best]) {
			t.Errorf("%s: %d %s %s, want %d", what, scores, a.Outputs[1].Data, a.Outputs[2].Data, want)
		}
		if a.ModelName != "tiny" || a.ModelVersion != "3" || a.ID != "7" || a.Parameters.ModelID != b.model.Model.ID().String() || len(a.Parameters.Receipts) != 1 {
			t.Errorf("%s: %+v", what, a)
		}
		if !slices.Equal(a.Outputs[0].Shape, []int64{1, 2}) || !slices.Equal(a.Outputs[1].Shape, []int64{1}) || !slices.Equal(a.Outputs[2].Shape, []int64{1}) {
			t.Errorf("%s: shapes of %+v", what, a.Outputs)
		}
	}
	if status, _ := b.do(1, "POST", "/v2/models/tiny/versions/3/infer", request("INT8", "[4]", "[1,2,3,4]"), nil); status != http.StatusOK {
		t.Errorf("by its version: %d", status)
	}
}

// TestClippedValuesAreCounted, of numbers that are quantized here; integers are taken as
// they are.
func TestClippedValuesAreCounted(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		datatype, shape, data string
		values, clipped       uint64 // so far
	}{
		{"FP32", "[1,4]", "[1,-2,3,-128]", 4, 0},
		{"FP32", "[2,4]", "[1,-2,300,-129, 1,2,3,1e30]", 12, 3},
		{"FP64", "[1,4]", "[1000,2,3,4]", 16, 4},
		{"INT8", "[1,4]", "[-128,127,-128,127]", 20, 4},
	} {
		b.infer(1, request(c.datatype, c.shape, c.data))
		if values, clipped := b.classes.Clipped(); values != c.values || clipped != c.clipped {
			t.Errorf("%s %s: %d of %d values, want %d of %d", c.datatype, c.data, clipped, values, c.clipped, c.values)
		}
	}
}

func TestABatchHasAReceiptForEach(t *testing.T) {
	b := newBench(t)
	a, scores := b.infer(5, request("INT8", "[3,4]", "[[1,2,3,4],[5,6,7,8],[1,2,3,4]]"))
	want := slices.Concat(b.want(1, 2, 3, 4), b.want(5, 6, 7, 8), b.want(1, 2, 3, 4))
	if !slices.Equal(scores, want) || !slices.Equal(a.Outputs[0].Shape, []int64{3, 2}) || len(a.Parameters.Receipts) != 3 || len(b.kept) != 3 || len(b.prover.taken) != 3 {
		t.Fatalf("%d, want %d: %+v", scores, want, a)
	}
	for i, k := range b.kept {
		body := k.issued.Receipt.Body
		_, err := receipt.Verify(k.issued.Receipt, b.world.Roots(), receipt.Options{Output: &receipt.Opening{Salt: k.issued.Salts.Output, Data: receipt.EncodeOutputs(want[2*i : 2*i+2])}})
		if err != nil || k.uid != 5 || body.ID.String() != a.Parameters.Receipts[i] || b.prover.taken[body.ID] != 5 {
			t.Errorf("receipt %d: %+v %v", i, body, err)
		}
	}
	rows := strings.TrimSuffix(strings.Repeat("1,2,3,4,", oip.MaxBatch), ",")
	if a, _ := b.infer(5, request("INT8", fmt.Sprintf("[%d,4]", oip.MaxBatch), "["+rows+"]")); len(a.Parameters.Receipts) != oip.MaxBatch {
		t.Errorf("%d receipts", len(a.Parameters.Receipts))
	}
	b.refused("one more", "POST", inferPath, request("INT8", fmt.Sprintf("[%d,4]", oip.MaxBatch+1), "["+rows+",1,2,3,4]"), http.StatusBadRequest, "input-invalid")
}

func TestWhatIsNoInputIsRefused(t *testing.T) {
	b := newBench(t)
	const tensor = `{"name":"input","datatype":"INT8","shape":[4],"data":[1,2,3,4]}`
	for what, body := range map[string]string{
		"empty": "", "no JSON": "{", "a list": "[]", "null": "null", "no inputs": "{}", "empty inputs": `{"inputs":[]}`, "two inputs": `{"inputs":[` + tensor + "," + tensor + `]}`,
		"something follows": `{"inputs":[` + tensor + `]} {}`,
		"no shape":          request("INT8", "[]", "[]"), "null shape": request("INT8", "null", "[1,2,3,4]"), "zero": request("INT8", "[0,4]", "[]"), "negative": request("INT8", "[-1,4]", "[1,2,3,4]"),
		"both negative": request("INT8", "[-1,-4]", "[1,2,3,4]"), "another size": request("INT8", "[5]", "[1,2,3,4,5]"), "a huge shape": request("INT8", "[4000000000,4]", "[]"),
		"a product of 2^64": request("INT8", "[4,4611686018427387904]", "[]"), "a negative product": request("INT8", "[4,2305843009213693952]", "[]"),
		"a product of 2^64 in turn": request("INT8", "[128,128,128,128,128,128,128,32768]", "[]"), "many dimensions": request("INT8", "[4"+strings.Repeat(",1", 20)+"]", "[1,2,3,4]"),
		"beyond 64 bits": request("INT8", "[18446744073709551620]", "[]"), "fractions in a shape": request("INT8", "[4.5]", "[1,2,3,4]"),
		"datatype": request("UINT8", "[4]", "[1,2,3,4]"), "no datatype": request("", "[4]", "[1,2,3,4]"), "lower case": request("int8", "[4]", "[1,2,3,4]"),
		"too few": request("INT8", "[4]", "[1,2,3]"), "too many": request("INT8", "[4]", "[1,2,3,4,5]"), "no data": request("INT8", "[4]", "null"), "a number": request("INT8", "[4]", "4"),
		"strings": request("INT8", "[4]", `["1","2","3","4"]`), "base64": request("INT8", "[4]", `"AQIDBA=="`), "128": request("INT8", "[4]", "[1,2,3,128]"), "fractions": request("INT8", "[4]", "[1,2,3,4.5]"),
		"NaN": request("FP32", "[4]", "[1,2,3,NaN]"), "null among numbers": request("FP32", "[4]", "[1,2,3,null]"), "a nested null": request("FP64", "[2,2]", "[[1,2],[3,null]]"), "a null row": request("FP64", "[2,4]", "[[1,2,3,4],null]"),
		"infinite": request("FP64", "[4]", "[1,2,3,1e400]"), "infinite in 32 bits": request("FP32", "[4]", "[1,2,3,1e39]"), "a string of NaN": request("FP32", "[4]", `[1,2,3,"NaN"]`),
		"ragged": request("INT8", "[2,4]", "[[1,2,3],[4,5,6,7,8]]"), "ragged inside": request("INT8", "[4]", "[[1,2,3],[4]]"), "mixed": request("INT8", "[4]", "[1,2,3,[4]]!"), "an empty row": request("INT8", "[4]", "[[],[1,2,3,4]]"),
		"three rows of four values": request("INT8", "[4]", "[[1],[2],[3]]"), "deep": request("INT8", "[4]", strings.Repeat("[", 9)+"1,2,3,4"+strings.Repeat("]", 9)),
	} {
		b.refused(what, "POST", inferPath, body, http.StatusBadRequest, "input-invalid")
	}
	if len(b.kept) != 0 || len(b.prover.taken) != 0 {
		t.Errorf("%d receipts and %d answers of nothing", len(b.kept), len(b.prover.taken))
	}
	b.refused("another model", "POST", "/v2/models/other/infer", request("INT8", "[4]", "[1,2,3,4]"), http.StatusNotFound, "model-not-found")
	b.refused("another version", "POST", "/v2/models/tiny/versions/4/infer", request("INT8", "[4]", "[1,2,3,4]"), http.StatusNotFound, "model-not-found")
	long := request("INT8", "[4]", "[1,2,3,4]")
	b.refused("too large", "POST", inferPath, strings.Replace(long, "{", "{"+strings.Repeat(" ", 8<<20), 1), http.StatusRequestEntityTooLarge, "request-too-large")
}

// Nested data costs no more than its levels allow: without a bound, each of thousands of
// levels would be read once more.
func TestDeepDataIsRefusedAtOnce(t *testing.T) {
	b := newBench(t)
	deep := strings.Repeat("[", 9000) + strings.Repeat("1,", 400_000) + "1" + strings.Repeat("]", 9000)
	began := time.Now()
	b.refused("deep", "POST", inferPath, request("INT8", "[4]", deep), http.StatusBadRequest, "input-invalid")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestNames(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"image", "Input", "", "input\x00"} {
		body, err := json.Marshal(map[string]any{"inputs": []map[string]any{{"name": name, "datatype": "INT8", "shape": []int{4}, "data": []int{1, 2, 3, 4}}}})
		if err != nil {
			t.Fatal(err)
		}
		if r := b.refused(name, "POST", inferPath, string(body), http.StatusBadRequest, "input-invalid"); !strings.Contains(r.Error.Message, `"input"`) {
			t.Errorf("%q does not say what to send", r.Error.Message)
		}
	}
}

func TestProofsAreOfTheUserWhoAsked(t *testing.T) {
	b := newBench(t)
	a, _ := b.infer(5, request("INT8", "[4]", "[1,2,3,4]"))
	path := "/v1/proofs/" + a.Parameters.Receipts[0]
	b.refused("another user's", "POST", path, "", http.StatusTeapot, string(reasonUnknown))
	var job struct{ Job, State string }
	if status, _ := b.do(5, "POST", path, "", &job); status != http.StatusAccepted || job.Job != (jobs.ID{7}).String() || job.State != string(jobs.Queued) {
		t.Errorf("%d %+v", status, job)
	}
	b.refused("another user's", "GET", path, "", http.StatusTeapot, string(reasonUnknown))
	var raw json.RawMessage
	if status, _ := b.do(5, "GET", path, "", &raw); status != http.StatusOK {
		t.Fatalf("%d %s", status, raw)
	}
	bundle, err := receipt.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Matches(); err != nil {
		t.Error(err)
	}
	for _, method := range []string{"GET", "POST"} {
		for _, id := range []string{"x", strings.Repeat("0", 31), strings.Repeat("G", 32), strings.ToUpper(strings.Repeat("a", 32))} {
			b.refused(id, method, "/v1/proofs/"+id, "", http.StatusBadRequest, "receipt-not-found")
		}
		b.refused("no such receipt", method, "/v1/proofs/"+strings.Repeat("0", 32), "", http.StatusTeapot, string(reasonUnknown))
	}
}

func TestAnswersDoNotNeedProofs(t *testing.T) {
	b := newBench(t)
	b.without = refusal.New("proofs-not-configured", "no keys")
	a, _ := b.infer(5, request("INT8", "[4]", "[1,2,3,4]"))
	if len(b.kept) != 1 || len(b.prover.taken) != 0 {
		t.Errorf("%d receipts, %d answers to be proven", len(b.kept), len(b.prover.taken))
	}
	for _, method := range []string{"GET", "POST"} {
		b.refused(method, method, "/v1/proofs/"+a.Parameters.Receipts[0], "", http.StatusTeapot, "proofs-not-configured")
	}
}

func FuzzInfer(f *testing.F) {
	b := newBench(f)
	for _, seed := range []string{request("INT8", "[4]", "[1,2,3,4]"), request("FP32", "[1,2,2]", "[[[1,2],[3,4]]]"), request("INT8", "[4,4611686018427387904]", "[]"), "{}", "null"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		b.t, b.kept = t, nil
		var a json.RawMessage
		if status, _ := b.do(1, "POST", inferPath, body, &a); status != http.StatusOK && status != http.StatusBadRequest {
			t.Errorf("%d for %q: %s", status, body, a)
		}
	})
}
