package openai

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/infer"
)

// Embedder is an embedding model at work. Its errors never quote a text: they are logged.
type Embedder interface {
	// Tokens returns the tokens of a text between those that enclose it. Of one that is longer than
	// the context it need not return all, but more than fit.
	Tokens(ctx context.Context, text string) ([]int32, error)
	// Check refuses a text of no tokens, of more than the context has, or of unknown ones.
	Check(tokens []int32) error
	// Embed calls emit with the vector of each text, of length 1, in their order. A vector is valid
	// until emit returns.
	Embed(ctx context.Context, texts [][]int32, emit func(vector []float32) error) error
	// ContextSize is the limit on a text in tokens, Width the number of values of a vector.
	ContextSize() int
	Width() int
}

// Sizes of embeddings.
const (
	// maxInputs is the largest number of texts of one request.
	maxInputs = 2048
	// inputBytes is what a text costs beside its bytes; a text has at least two, and a comma.
	inputBytes = 24
	// valueBytes is the longest that a value of a vector is as JSON, with a comma, and 4 bytes more
	// for the receipt.
	valueBytes = 16 + 4
	// roomPerByte bounds the memory for vectors by the length of the request. Texts of eight letters
	// have room for vectors of 1000 values.
	roomPerByte = 2500
)

// mountEmbeddings serves vectors.
func (s *Service) mountEmbeddings(api *localapi.Server) {
	handle := func(ollama bool) func(http.ResponseWriter, *http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error { return s.embeddings(w, r, ollama) }
	}
	api.Mount(localapi.Mount{Routes: []localapi.Route{
		{Method: "POST", Pattern: "/v1/embeddings", Name: "embeddings", Handle: handle(false)},
		{Method: "POST", Pattern: "/api/embed", Name: "ollama-embed", Handle: handle(true)},
	}})
}

// inputCost is how many bytes a request with a body of n holds, without its vectors.
func inputCost(n int64) int64 { return Cost(n) + min(inputBytes/3*n, maxInputs*inputBytes) }

// embeddings answers a request for vectors, in OpenAI's form or in Ollama's. Its order is that of
// complete: what costs nothing is checked first, and no text is computed before all are known to fit.
func (s *Service) embeddings(w http.ResponseWriter, r *http.Request, ollama bool) error {
	if err := s.api.Serving(); err != nil {
		return err
	}
	full, err := localapi.FullReceipt(r)
	if err != nil {
		return err
	}
	body, held, err := s.read(w, r, func(n int64) int64 { return max(Cost(n), min(inputCost(n), s.api.Largest())) })
	if err != nil {
		return err
	}
	e := &embedding{service: s, ollama: ollama, full: full, held: memory{held: held}}
	defer e.held.release()
	n := int64(len(body))
	e.room = min(roomPerByte*n, s.api.Largest()-inputCost(n))
	if err := e.answer(r.Context(), w, body); err != nil {
		w.Header().Del(localapi.ReceiptHeader)
		return err
	}
	e.held.keep(cap(e.out))
	localapi.WriteBody(w, http.StatusOK, e.out)
	return nil
}

// embedding is one answer of vectors in the making.
type embedding struct {
	service *Service
	request *embeddingRequest
	session Session
	id      digest.ReceiptID
	ollama  bool
	full    bool
	held    memory
	room    int64  // that vectors may take of it
	tokens  int    // of all texts
	out     []byte // the answer
	values  []byte // what the receipt commits to
	count   int    // vectors so far
}

// answer computes an answer in its turn.
func (e *embedding) answer(ctx context.Context, w http.ResponseWriter, body []byte) error {
	decode := func() (model string, err error) {
		if e.request, err = parseEmbedding(body, e.ollama); err != nil {
			return "", err
		}
		return e.request.model, nil
	}
	return e.service.turn(ctx, e.service.embedding, body, e.held.held, decode, func(ctx context.Context, session Session) (err error) {
		e.session = session
		if e.id, err = receipt.NewID(); err != nil {
			return err
		}
		w.Header().Set(localapi.ReceiptHeader, e.id.String())
		err = e.run(ctx)
		if _, changed := errors.AsType[*chunkseal.Failure](err); changed {
			return errors.New(err.Error()) // a fault of this machine, as in completions
		}
		return err
	})
}

// run checks all texts, then computes them, and signs the receipt.
func (e *embedding) run(ctx context.Context) error {
	if err := e.check(ctx); err != nil {
		return err
	}
	if err := e.held.grow(e.need()); err != nil {
		return err
	}
	e.begin()
	var pass [][]int32
	size := 0
	flush := func() error {
		err := e.session.Embedder.Embed(ctx, pass, e.add)
		pass, size = pass[:0], 0
		return err
	}
	for i := range e.request.texts() {
		ids, err := e.text(ctx, i)
		if err != nil {
			return err
		}
		if size+len(ids) > e.session.Embedder.ContextSize() && len(pass) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
		pass, size = append(pass, ids), size+len(ids)
	}
	if err := flush(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	e.service.count(infer.Result{PromptTokens: e.tokens})
	return e.end(ctx)
}

// check refuses texts that are too long and vectors that have no room, before anything is computed.
func (e *embedding) check(ctx context.Context) error {
	q, m := e.request, e.session.Embedder
	if q.dimensions != 0 && q.dimensions != m.Width() {
		return localapi.BadRequest("dimensions", "unsupported-value", fmt.Sprintf("the model's vectors have %d values, and shorter ones would be others; leave dimensions out", m.Width()))
	}
	if need := e.need(); need > e.room {
		return localapi.BadRequest("input", "too-many-inputs", fmt.Sprintf("%d vectors of %d values take %d bytes, and a request of this length has room for %d; send fewer texts at once", q.texts(), m.Width(), need, max(e.room, 0)))
	}
	for i := range q.texts() {
		ids, err := e.text(ctx, i)
		if err != nil {
			return err
		}
		if len(ids) > m.ContextSize() {
			return localapi.BadRequest(fmt.Sprintf("input[%d]", i), "context_length_exceeded", fmt.Sprintf("the text has at least %d tokens, and the model takes %d", len(ids), m.ContextSize()))
		}
		if m.Check(ids) != nil {
			return localapi.BadRequest(fmt.Sprintf("input[%d]", i), "invalid-value", "the text has no tokens, or one that the model does not know")
		}
		e.tokens += len(ids)
	}
	return nil
}

// need is how many bytes the vectors take, as values and in the answer.
func (e *embedding) need() int64 {
	return int64(e.request.texts()) * (int64(e.session.Embedder.Width())*valueBytes + 128)
}

// text returns the tokens of a text. They are made twice rather than kept: they would hold many
// times the bytes of a text.
func (e *embedding) text(ctx context.Context, i int) ([]int32, error) {
	if e.request.numbers != nil {
		return e.request.numbers[i], nil
	}
	ids, err := e.session.Embedder.Tokens(ctx, e.request.words[i])
	if size := e.session.Embedder.ContextSize(); err == nil && e.request.truncate && len(ids) > size {
		ids[size-1] = ids[len(ids)-1]
		ids = ids[:size]
	}
	return ids, err
}

// begin starts the answer, with room for all of it.
func (e *embedding) begin() {
	n, width := e.request.texts(), e.session.Embedder.Width()
	e.values = make([]byte, 0, 4*n*width)
	each := width * (valueBytes - 4)
	if e.request.base64 {
		each = base64.StdEncoding.EncodedLen(4 * width)
	}
	e.out = make([]byte, 0, n*(each+64)+1024)
	if e.ollama {
		e.out = append(e.out, `{"embeddings":[`...)
	} else {
		e.out = append(e.out, `{"object":"list","data":[`...)
	}
}

// add appends a vector.
func (e *embedding) add(vector []float32) error {
	if e.count > 0 {
		e.out = append(e.out, ',')
	}
	begun := len(e.values)
	for _, v := range vector {
		e.values = binary.LittleEndian.AppendUint32(e.values, math.Float32bits(v))
	}
	if !e.ollama {
		e.out = append(e.out, `{"object":"embedding","index":`...)
		e.out = append(strconv.AppendInt(e.out, int64(e.count), 10), `,"embedding":`...)
	}
	if e.request.base64 {
		e.out = append(base64.StdEncoding.AppendEncode(append(e.out, '"'), e.values[begun:]), '"')
	} else {
		mark := byte('[')
		for _, v := range vector {
			e.out = strconv.AppendFloat(append(e.out, mark), float64(v), 'g', -1, 32)
			mark = ','
		}
		e.out = append(e.out, ']')
	}
	if !e.ollama {
		e.out = append(e.out, '}')
	}
	e.count++
	return nil
}

// end signs the receipt, which commits to the values as float32, little-endian, one vector after the
// other, and ends the answer.
func (e *embedding) end(ctx context.Context) error {
	issued, err := e.session.Issue(receipt.Answer{
		ID: e.id, ModelID: e.session.ModelID, ModelName: e.request.model, ModelVersion: e.session.Version,
		Input: e.request.raw, Output: e.values, PromptTokens: uint32(e.tokens),
	})
	if err != nil {
		return err
	}
	api := e.service.api
	api.Receipts().Put(api.UID(ctx), issued)
	rest := map[string]any{"model": e.request.model, "receipt": e.id.String()}
	if e.ollama {
		rest["prompt_eval_count"] = e.tokens
	} else {
		rest["usage"] = map[string]int{"prompt_tokens": e.tokens, "total_tokens": e.tokens}
	}
	if e.full {
		rest["issued_receipt"] = issued
	}
	tail, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	e.out = append(append(e.out, "],"...), tail[1:]...)
	return nil
}

// generative opens a session of a model that answers, embedding one of a model that embeds.
func (s *Service) generative(ctx context.Context, model string) (Session, error) {
	return s.open(ctx, model, func(session Session) bool { return session.Engine != nil }, "embeddings-only", "this is an embedding model; use /v1/embeddings")
}

func (s *Service) embedding(ctx context.Context, model string) (Session, error) {
	return s.open(ctx, model, func(session Session) bool { return session.Embedder != nil }, "no-embeddings", "this model answers in words and makes no embeddings; use /v1/chat/completions")
}

func (s *Service) open(ctx context.Context, model string, right func(Session) bool, code, message string) (Session, error) {
	session, err := s.Models.Session(ctx, model)
	if err == nil && !right(session) {
		session.Done()
		return Session{}, localapi.BadRequest("model", code, message)
	}
	return session, err
}
