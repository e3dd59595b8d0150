// Package oip serves classifiers by version 2 of the Open Inference Protocol (REST),
// and their proofs.
//
// It guarantees that every answer has a receipt, whose ID comes with it, and that what
// a user asked is told to no other. It trusts its caller to have checked the peer. It
// refuses tensors of another name, shape or type than the model's, each with a message
// that says what to send.
//
// The local API mounts its routes. The protocol's metadata fields that it does not name
// are ignored where the protocol allows it: parameters and outputs of a request.
package oip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi/problem"
	"github.com/anchorhold/anchorhold/agent/proofaudit"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// Classifiers answer; *classify.Service does.
type Classifiers interface {
	Models() []classify.Model
	Model(name string) (classify.Model, error)
	Classify(ctx context.Context, name string, input []int8) (classify.Answer, error)
}

// Proofs are made later; *proofs.Service does.
type Proofs interface {
	Take(owner uint32, a classify.Answer)
	Prove(ctx context.Context, uid uint32, id receipt.ID) (jobs.Info, error)
	Bundle(uid uint32, id receipt.ID) (proofaudit.Bundle, error)
}

// Service serves the protocol. All fields are required but Proofs, which returns why
// there are none now.
type Service struct {
	Classifiers Classifiers
	Proofs      func() (Proofs, error)
	// Serving returns nil, or why nothing is served.
	Serving func() error
	// Keep keeps a receipt for the user who asked.
	Keep func(uid uint32, issued receipt.Issued)
	// UID is the peer's user.
	UID func(ctx context.Context) uint32
	// Version of the agent.
	Version string
}

// Limits of a request.
const (
	MaxBatch     = 64
	MaxBodyBytes = 8 << 20
	maxNesting   = 8 // dimensions of a tensor
)

// Route is one path.
type Route struct {
	Method, Pattern, Name string
	Handle                func(http.ResponseWriter, *http.Request) error
}

// Routes are the protocol's paths, and those of proofs.
func (s *Service) Routes() []Route {
	live := func(w http.ResponseWriter, _ *http.Request) error {
		problem.WriteJSON(w, http.StatusOK, map[string]bool{"live": true})
		return nil
	}
	return []Route{
		{"GET", "/v2", "v2", s.server},
		{"GET", "/v2/health/live", "v2-health", live},
		{"GET", "/v2/health/ready", "v2-health", s.ready},
		{"GET", "/v2/models/{model}", "v2-model", s.model},
		{"GET", "/v2/models/{model}/ready", "v2-model", s.modelReady},
		{"POST", "/v2/models/{model}/infer", "v2-infer", s.infer},
		{"GET", "/v2/models/{model}/versions/{version}", "v2-model", s.model},
		{"GET", "/v2/models/{model}/versions/{version}/ready", "v2-model", s.modelReady},
		{"POST", "/v2/models/{model}/versions/{version}/infer", "v2-infer", s.infer},
		{"GET", "/v1/proofs/{id}", "proofs", s.showProof},
		{"POST", "/v1/proofs/{id}", "proofs", s.makeProof},
	}
}

func (s *Service) server(w http.ResponseWriter, _ *http.Request) error {
	problem.WriteJSON(w, http.StatusOK, map[string]any{"name": "anchorhold-agent", "version": s.Version, "extensions": []string{"anchorhold_receipts", "anchorhold_proofs"}})
	return nil
}

func (s *Service) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := s.Serving(); err != nil {
		return err
	}
	problem.WriteJSON(w, http.StatusOK, map[string]bool{"ready": true})
	return nil
}

// named returns the model of a name.
func (s *Service) named(name string) (classify.Model, error) {
	if err := s.Serving(); err != nil {
		return classify.Model{}, err
	}
	m, err := s.Classifiers.Model(name)
	if reason, _ := evidence.ReasonOf(err); reason == classify.ReasonUnknown {
		p := problem.BadRequest("model", string(classify.ReasonUnknown), fmt.Sprintf("this agent has no classifier %q", name))
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
		p := problem.BadRequest("version", string(classify.ReasonUnknown), fmt.Sprintf("version %d is served, not %q", m.Version, v))
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
	problem.WriteJSON(w, http.StatusOK, map[string]any{
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
	problem.WriteJSON(w, http.StatusOK, map[string]any{"name": m.Name, "ready": true})
	return nil
}

// request is what a client sends.
type request struct {
	ID         string          `json:"id"`
	Parameters json.RawMessage `json:"parameters"`
	Inputs     []struct {
		Name       string          `json:"name"`
		Datatype   string          `json:"datatype"`
		Shape      []int64         `json:"shape"`
		Parameters json.RawMessage `json:"parameters"`
		Data       json.RawMessage `json:"data"`
	} `json:"inputs"`
	Outputs json.RawMessage `json:"outputs"`
}

// response is what it gets: scores, the best class and its label of each input.
type response struct {
	ModelName    string   `json:"model_name"`
	ModelVersion string   `json:"model_version"`
	ID           string   `json:"id,omitempty"`
	Parameters   any      `json:"parameters"`
	Outputs      []tensor `json:"outputs"`
}

func badInput(format string, args ...any) error {
	return problem.BadRequest("inputs", string(classify.ReasonInput), fmt.Sprintf(format, args...))
}

func (s *Service) infer(w http.ResponseWriter, r *http.Request) error {
	m, err := s.find(r)
	if err != nil {
		return err
	}
	a, err := s.ask(r.Context(), m, http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		return err
	}
	if proofs, err := s.Proofs(); err == nil {
		for _, answer := range a.List {
			proofs.Take(s.UID(r.Context()), answer)
		}
	}
	w.Header().Set("Anchorhold-Receipt", a.Receipts()[0].String())
	problem.WriteJSON(w, http.StatusOK, a)
	return nil
}

// Answers are what a request got. As JSON they are the protocol's response.
type Answers struct {
	List     []classify.Answer
	response response
}

// MarshalJSON writes the response.
func (a *Answers) MarshalJSON() ([]byte, error) { return json.Marshal(a.response) }

// Receipts are those of the answers, in their order.
func (a *Answers) Receipts() []receipt.ID {
	ids := make([]receipt.ID, len(a.List))
	for i := range a.List {
		ids[i] = a.List[i].Receipt.Receipt.Body.ID
	}
	return ids
}

// Ask answers a request of the user of ctx, in the protocol's JSON, from the model of a
// name. The receipts are kept for the user; for proofs the caller hands the answers on. A
// body of more than MaxBodyBytes is refused.
func (s *Service) Ask(ctx context.Context, name string, body io.Reader) (*Answers, error) {
	m, err := s.named(name)
	if err != nil {
		return nil, err
	}
	return s.ask(ctx, m, http.MaxBytesReader(nil, io.NopCloser(body), MaxBodyBytes))
}

func (s *Service) ask(ctx context.Context, m classify.Model, body io.Reader) (*Answers, error) {
	var q request
	d := json.NewDecoder(body)
	if err := d.Decode(&q); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			p := problem.BadRequest("", "too-large", fmt.Sprintf("the body is longer than %d bytes", MaxBodyBytes))
			p.Status = http.StatusRequestEntityTooLarge
			return nil, p
		}
		return nil, badInput("the body is not an inference request in JSON: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badInput("something follows the request")
	}
	rows, err := q.rows(m.Description)
	if err != nil {
		return nil, err
	}
	a := &Answers{List: make([]classify.Answer, len(rows))}
	for i, row := range rows {
		if a.List[i], err = s.Classifiers.Classify(ctx, m.Name, row); err != nil {
			return nil, err
		}
	}
	uid := s.UID(ctx)
	for _, answer := range a.List {
		s.Keep(uid, answer.Receipt)
	}
	a.response = respond(m, q.ID, a.List)
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
		Parameters: map[string]any{"receipts": receipts, "model_id": m.ID.String()},
		Outputs: []tensor{{Name: scoresName, Datatype: "INT32", Shape: []int64{n, int64(m.Description.Classes())}, Data: scores},
			{Name: className, Datatype: "INT64", Shape: []int64{n}, Data: classes}, {Name: labelName, Datatype: "BYTES", Shape: []int64{n}, Data: labels}}}
}

// rows quantizes the request's one input.
func (q *request) rows(d *classifier.Description) ([][]int8, error) {
	size := d.Architecture.Input.Size()
	if len(q.Inputs) != 1 {
		return nil, badInput("one input, named %q, is wanted; there are %d", inputName, len(q.Inputs))
	}
	in := q.Inputs[0]
	if in.Name != inputName {
		return nil, badInput("the input is named %q here, not %q", inputName, in.Name)
	}
	values := int64(1)
	for _, n := range in.Shape {
		// Both factors are bounded, so that the product cannot overflow.
		if n < 1 || n > MaxBatch*int64(size) || values > MaxBatch*int64(size) || len(in.Shape) > maxNesting {
			return nil, badInput("shape %d is not one of up to %d inputs of %d values", in.Shape, MaxBatch, size)
		}
		values *= n
	}
	if values%int64(size) != 0 || values/int64(size) > MaxBatch || len(in.Shape) == 0 {
		return nil, badInput("shape %d is not one of up to %d inputs of %d values", in.Shape, MaxBatch, size)
	}
	// A null would pass for zero; some encoders write it for what is not a number.
	if bytes.Contains(in.Data, []byte("null")) {
		return nil, badInput("data: null is not a number")
	}
	flat := make([]int8, values)
	var err error
	switch in.Datatype {
	case "FP32":
		err = quantize[float32](d, in.Data, size, flat)
	case "FP64":
		err = quantize[float64](d, in.Data, size, flat)
	case "INT8":
		err = flatten(in.Data, flat, maxNesting)
	default:
		return nil, badInput("datatype %q; FP32 and FP64 are quantized here, INT8 is taken as it is", in.Datatype)
	}
	if err != nil {
		return nil, badInput("%v", err)
	}
	var rows [][]int8
	for at := 0; at < len(flat); at += size {
		rows = append(rows, flat[at:at+size:at+size])
	}
	return rows, nil
}

func quantize[F classifier.Float](d *classifier.Description, data json.RawMessage, size int, out []int8) error {
	values := make([]F, len(out))
	if err := flatten(data, values, maxNesting); err != nil {
		return err
	}
	for at := 0; at < len(out); at += size {
		if err := classifier.Quantize(&d.Quantizer, values[at:at+size], out[at:at+size]); err != nil {
			return err
		}
	}
	return nil
}

// flatten reads numbers, in one list or nested in row-major order, so many levels deep:
// each level is read again.
func flatten[T ~int8 | ~float32 | ~float64](data json.RawMessage, out []T, levels int) error {
	var flat []T
	if err := json.Unmarshal(data, &flat); err != nil {
		var nested []json.RawMessage
		if levels == 1 || json.Unmarshal(data, &nested) != nil || len(nested) == 0 || len(out)%len(nested) != 0 {
			return fmt.Errorf("data: %w", err)
		}
		part := len(out) / len(nested)
		for i, raw := range nested {
			if err := flatten(raw, out[i*part:(i+1)*part], levels-1); err != nil {
				return err
			}
		}
		return nil
	}
	if len(flat) != len(out) {
		return fmt.Errorf("data has %d values, the shape says %d", len(flat), len(out))
	}
	copy(out, flat)
	return nil
}

func (s *Service) proofOf(r *http.Request) (Proofs, receipt.ID, error) {
	proofs, err := s.Proofs()
	if err != nil {
		return nil, receipt.ID{}, err
	}
	id, err := receipt.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, id, problem.BadRequest("id", "receipt-not-found", "a receipt's id has 32 hexadecimal digits")
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
		problem.WriteJSON(w, http.StatusOK, b)
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
		problem.WriteJSON(w, http.StatusAccepted, map[string]any{"job": info.ID.String(), "state": info.State})
	}
	return err
}
