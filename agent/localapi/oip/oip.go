// Package oip serves classifiers by version 2 of the Open Inference Protocol (REST),
// and their proofs.
//
// Every answer has a receipt and carries its ID, and no user learns what another asked. A
// tensor whose name, shape or type differs from the model's is refused with a message that
// says what to send. The package trusts its caller to have checked the peer.
//
// The agent mounts a [Service] on its API. The parameters and outputs of a request are
// ignored, which the protocol allows.
package oip

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// Classifiers answer; *classify.Service does.
type Classifiers interface {
	Models() []classify.Model
	Model(name string) (classify.Model, error)
	Classify(ctx context.Context, name string, input []int8) (classify.Answer, error)
}

// Proofs are made later; *prove.Service does.
type Proofs interface {
	Take(owner uint32, a classify.Answer)
	Prove(ctx context.Context, uid uint32, id digest.ReceiptID) (jobs.Info, error)
	Bundle(uid uint32, id digest.ReceiptID) (receipt.Bundle, error)
}

// Service serves the protocol. All fields are required but Clipped, and Proofs, which
// returns why there are none now.
type Service struct {
	Classifiers Classifiers
	Proofs      func() (Proofs, error)
	// Serving returns nil, or why no classifier is served.
	Serving func() error
	// Keep keeps a receipt for the user who asked.
	Keep func(uid uint32, issued receipt.Issued)
	// Clipped is told how many of a request's input values lay outside the ranges that the
	// model was calibrated for; nil counts nothing.
	Clipped func(model string, values, clipped int)
	// UID is the peer's user.
	UID func(ctx context.Context) uint32
	// Intake lets requests in.
	Intake *localapi.Intake
	// MaxBody bounds a body, in bytes; 0 is MaxBodyBytes.
	MaxBody int64
	// Version of the agent.
	Version string
}

// Limits of a request.
const (
	MaxBatch     = 64
	MaxBodyBytes = 8 << 20
	maxNesting   = 8 // dimensions of a tensor
	// What one answer costs beside its input, without and with the receipt as text, and
	// each of its outputs: as a number, as text, and as text that is copied.
	answerBytes = 12 << 10
	fullBytes   = 64 << 10
	outputBytes = 32
)

// Routes are the protocol's paths, and those of proofs.
func (s *Service) Routes() []localapi.Route {
	live := func(w http.ResponseWriter, _ *http.Request) error {
		localapi.WriteJSON(w, http.StatusOK, map[string]bool{"live": true})
		return nil
	}
	return []localapi.Route{
		{Method: "GET", Pattern: "/v2", Name: "v2", Handle: s.server},
		{Method: "GET", Pattern: "/v2/health/live", Name: "v2-health", Handle: live},
		{Method: "GET", Pattern: "/v2/health/ready", Name: "v2-health", Handle: s.ready},
		{Method: "GET", Pattern: "/v2/models/{model}", Name: "v2-model", Handle: s.model},
		{Method: "GET", Pattern: "/v2/models/{model}/ready", Name: "v2-model", Handle: s.modelReady},
		{Method: "POST", Pattern: "/v2/models/{model}/infer", Name: "v2-infer", Handle: s.infer},
		{Method: "GET", Pattern: "/v2/models/{model}/versions/{version}", Name: "v2-model", Handle: s.model},
		{Method: "GET", Pattern: "/v2/models/{model}/versions/{version}/ready", Name: "v2-model", Handle: s.modelReady},
		{Method: "POST", Pattern: "/v2/models/{model}/versions/{version}/infer", Name: "v2-infer", Handle: s.infer},
		{Method: "GET", Pattern: "/v1/proofs/{id}", Name: "proofs", Handle: s.showProof},
		{Method: "POST", Pattern: "/v1/proofs/{id}", Name: "proofs", Handle: s.makeProof},
	}
}

func (s *Service) server(w http.ResponseWriter, _ *http.Request) error {
	localapi.WriteJSON(w, http.StatusOK, map[string]any{"name": "anchorhold-agent", "version": s.Version, "extensions": []string{"anchorhold_receipts", "anchorhold_proofs"}})
	return nil
}

func (s *Service) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := s.Serving(); err != nil {
		return err
	}
	localapi.WriteJSON(w, http.StatusOK, map[string]bool{"ready": true})
	return nil
}

// named returns the model of a name.
func (s *Service) named(name string) (classify.Model, error) {
	if err := s.Serving(); err != nil {
		return classify.Model{}, err
	}
	m, err := s.Classifiers.Model(name)
	if reason, _ := refusal.ReasonOf(err); reason == classify.ReasonUnknown {
		p := localapi.BadRequest("model", string(classify.ReasonUnknown), fmt.Sprintf("this agent has no classifier %q", name))
		p.Status = http.StatusNotFound
		return m, p
	}
	return m, err
}

// find returns the model of a path, in the version of the path if it names one.
func (s *Service) find(r *http.Request) (classify.Model, error) {
	m, err := s.named(r.PathValue("model"))
	if err != nil {
		return m, err
	}
	if v := r.PathValue("version"); v != "" && v != strconv.FormatUint(m.Version, 10) {
		p := localapi.BadRequest("version", string(classify.ReasonUnknown), fmt.Sprintf("version %d is served, not version %q", m.Version, v))
		p.Status = http.StatusNotFound
		return m, p
	}
	return m, nil
}

// tensor is a tensor's metadata, and in messages its data.
type tensor struct {
	Name       string          `json:"name"`
	Datatype   string          `json:"datatype"`
	Shape      []int64         `json:"shape"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
	Data       any             `json:"data,omitempty"`
}

const (
	inputName  = "input"
	scoresName = "scores"
	className  = "class"
	labelName  = "label"
)

func (s *Service) model(w http.ResponseWriter, r *http.Request) error {
	m, err := s.find(r)
	if err != nil {
		return err
	}
	in := m.Description.Architecture.Input
	shape := []int64{-1, int64(in.Size())}
	if in.H > 1 || in.W > 1 {
		shape = []int64{-1, int64(in.C), int64(in.H), int64(in.W)}
	}
	localapi.WriteJSON(w, http.StatusOK, map[string]any{
		"name": m.Name, "versions": []string{strconv.FormatUint(m.Version, 10)}, "platform": "anchorhold_int8",
		"inputs": []tensor{{Name: inputName, Datatype: "FP32", Shape: shape}},
		"outputs": []tensor{{Name: scoresName, Datatype: "INT32", Shape: []int64{-1, int64(m.Description.Classes())}},
			{Name: className, Datatype: "INT64", Shape: []int64{-1}}, {Name: labelName, Datatype: "BYTES", Shape: []int64{-1}}},
		"parameters": map[string]any{"model_id": m.ID.String()},
	})
	return nil
}

func (s *Service) modelReady(w http.ResponseWriter, r *http.Request) error {
	m, err := s.find(r)
	if err != nil {
		return err
	}
	localapi.WriteJSON(w, http.StatusOK, map[string]any{"name": m.Name, "ready": true})
	return nil
}

// response is what it gets: scores, the best class and its label of each input.
type response struct {
	ModelName    string     `json:"model_name"`
	ModelVersion string     `json:"model_version"`
	ID           string     `json:"id,omitempty"`
	Parameters   parameters `json:"parameters"`
	Outputs      []tensor   `json:"outputs"`
}

// parameters are what the protocol has no field for. Issued are whole receipts, as
// /v1/receipts/{id} has them, in the order of the inputs.
type parameters struct {
	Issued   []receipt.Issued `json:"issued_receipts,omitempty"`
	ModelID  string           `json:"model_id"`
	Receipts []string         `json:"receipts"`
}

func badInput(format string, args ...any) error {
	return localapi.BadRequest("inputs", string(classify.ReasonInput), fmt.Sprintf(format, args...))
}

func (s *Service) infer(w http.ResponseWriter, r *http.Request) error {
	full, err := localapi.FullReceipt(r)
	if err != nil {
		return err
	}
	m, err := s.find(r)
	if err != nil {
		return err
	}
	each := int64(answerBytes)
	if full {
		each = fullBytes
	}
	a, err := s.ask(r.Context(), m, localapi.FromRequest(w, r, s.maxBody(), nil), each)
	if err != nil {
		return err
	}
	defer a.Release()
	if proofs, err := s.Proofs(); err == nil {
		for _, answer := range a.List {
			proofs.Take(s.UID(r.Context()), answer)
		}
	}
	if full {
		a.response.Parameters.Issued = a.issued()
	}
	w.Header().Set(localapi.RequestReceipt, a.Receipts()[0].String())
	body, err := json.Marshal(a.response)
	if err != nil {
		return err
	}
	a.Written(len(body))
	localapi.WriteBody(w, http.StatusOK, body)
	return nil
}

// Answers are what a request got. As JSON they are the protocol's response.
type Answers struct {
	List     []classify.Answer
	response response
	receipts []digest.ReceiptID
	held     *localapi.Held
}

// Release gives the memory of the answers back to other requests.
func (a *Answers) Release() { a.held.Release() }

// Written lets the answers go: n bytes of text, which a client may be slow to read, are all
// that is still held.
func (a *Answers) Written(n int) {
	a.List, a.response = nil, response{}
	a.held.Shrink(int64(n) + localapi.Overhead)
}

// MarshalJSON writes the response.
func (a *Answers) MarshalJSON() ([]byte, error) { return json.Marshal(a.response) }

// Receipts are those of the answers, in their order, and outlast them.
func (a *Answers) Receipts() []digest.ReceiptID { return a.receipts }

func (a *Answers) issued() []receipt.Issued {
	list := make([]receipt.Issued, len(a.List))
	for i := range a.List {
		list[i] = a.List[i].Receipt
	}
	return list
}

// Ask answers a request of the user of ctx, in the protocol's JSON, from the model of a
// name. The receipts are kept for the user; for proofs the caller hands the answers on, and
// releases them at last.
func (s *Service) Ask(ctx context.Context, name string, body localapi.Source) (*Answers, error) {
	m, err := s.named(name)
	if err != nil {
		return nil, err
	}
	return s.ask(ctx, m, localapi.Body{R: body, Length: -1, Max: s.maxBody()}, answerBytes)
}

// maxBody is the longest body that has room.
func (s *Service) maxBody() int64 {
	if s.MaxBody > 0 {
		return s.MaxBody
	}
	return MaxBodyBytes
}

// cost is how many bytes a request with a body of n holds: the body, the quantized rows,
// of which a value takes two characters at least, and the answers, of each bytes, in
// memory and as JSON.
func cost(d *classifier.Description, n, each int64) int64 {
	size := int64(d.Architecture.Input.Size())
	rows := min(MaxBatch, n/(2*size)+1)
	return n + localapi.Overhead + rows*(2*size+each+outputBytes*int64(d.Classes()))
}

// ask lets the request in: memory first, then its body, then its turn.
func (s *Service) ask(ctx context.Context, m classify.Model, b localapi.Body, each int64) (_ *Answers, err error) {
	uid := s.UID(ctx)
	b.Cost = func(n int64) int64 { return cost(m.Description, n, each) }
	body, held, err := s.Intake.Read(ctx, uid, b)
	if err != nil {
		return nil, err
	}
	a := &Answers{held: held}
	defer func() {
		if err != nil {
			held.Release()
		}
	}()
	leave, err := s.Intake.Line.Enter(ctx, uid, held)
	if err != nil {
		return nil, err
	}
	defer leave()
	q, err := parse(body)
	if err != nil {
		return nil, err
	}
	rows, clipped, err := q.rows(m.Description)
	if err != nil {
		return nil, err
	}
	if s.Clipped != nil {
		s.Clipped(m.Name, len(rows)*m.Description.Architecture.Input.Size(), clipped)
	}
	a.List = make([]classify.Answer, len(rows))
	for i, row := range rows {
		if a.List[i], err = s.Classifiers.Classify(ctx, m.Name, row); err != nil {
			return nil, err
		}
	}
	for _, answer := range a.List {
		s.Keep(uid, answer.Receipt)
		a.receipts = append(a.receipts, answer.Receipt.Receipt.Body.ID)
	}
	a.response = respond(m, q.id, a.List)
	held.Shrink(cost(m.Description, 0, each) * int64(len(rows)))
	return a, nil
}

// respond makes the response.
func respond(m classify.Model, id string, answers []classify.Answer) response {
	n := int64(len(answers))
	var receipts []string
	var scores []int32
	var classes []int64
	var labels []string
	for _, a := range answers {
		receipts = append(receipts, a.Receipt.Receipt.Body.ID.String())
		best := 0
		for k, y := range a.Outputs {
			if y > a.Outputs[best] {
				best = k
			}
		}
		scores, classes, labels = append(scores, a.Outputs...), append(classes, int64(best)), append(labels, m.Description.Label(best))
	}
	return response{ModelName: m.Name, ModelVersion: strconv.FormatUint(m.Version, 10), ID: id,
		Parameters: parameters{Receipts: receipts, ModelID: m.ID.String()},
		Outputs: []tensor{{Name: scoresName, Datatype: "INT32", Shape: []int64{n, int64(m.Description.Classes())}, Data: scores},
			{Name: className, Datatype: "INT64", Shape: []int64{n}, Data: classes}, {Name: labelName, Datatype: "BYTES", Shape: []int64{n}, Data: labels}}}
}

func (s *Service) proofOf(r *http.Request) (Proofs, digest.ReceiptID, error) {
	proofs, err := s.Proofs()
	if err != nil {
		return nil, digest.ReceiptID{}, err
	}
	id, err := digest.ParseID[digest.Receipt](r.PathValue("id"))
	if err != nil {
		return nil, id, localapi.BadRequest("id", "receipt-not-found", "a receipt id must have 32 hexadecimal digits")
	}
	return proofs, id, nil
}

func (s *Service) showProof(w http.ResponseWriter, r *http.Request) error {
	proofs, id, err := s.proofOf(r)
	if err != nil {
		return err
	}
	b, err := proofs.Bundle(s.UID(r.Context()), id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusOK, b)
	}
	return err
}

func (s *Service) makeProof(w http.ResponseWriter, r *http.Request) error {
	proofs, id, err := s.proofOf(r)
	if err != nil {
		return err
	}
	info, err := proofs.Prove(r.Context(), s.UID(r.Context()), id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusAccepted, map[string]any{"job": info.ID.String(), "state": info.State})
	}
	return err
}
