package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// completion is one answer in the making.
type completion struct {
	service *Service
	request *Request
	session Session
	id      digest.ReceiptID // of the answer and of its receipt
	created int64
	form    form
	full    bool // the whole receipt is asked for
	held    *memory
	issued  *receipt.Issued // once it is
	answers []*answer       // so far
	late    *late           // while the whole answer is written
}

// answer is one of the choices.
type answer struct {
	text   strings.Builder // beside calls
	calls  []receipt.Call
	scored []infer.Scored
	said   int // of scored, those up to the last piece of text, where a stream repeats all
	runes  int // of the text before what is passed on next
	result infer.Result
}

// textual drops the tokens of calls, which are not of the text: those between it and a call's end.
func (a *answer) textual(p piece) {
	switch {
	case p.text != "":
		a.said = len(a.scored)
	case p.calls != nil:
		a.scored = a.scored[:a.said]
	}
}

// form is an API that clients speak: how it asks, and how it is answered.
type form interface {
	// parse decodes a body.
	parse(raw []byte) (*Request, error)
	// whole is an answer as one value of JSON.
	whole(c *completion) any
	// stream begins an answer in pieces.
	stream(c *completion, w http.ResponseWriter) sink
}

// sink writes a stream. Its choices come one after another.
type sink interface {
	// pass writes a piece of a choice.
	pass(choice int, p piece) error
	// end writes that a choice has ended, and behind the last one, for which there is a
	// receipt, that the stream has.
	end(choice int, last bool) error
}

// complete answers in a form. The order matters: what costs
// nothing is checked first, a request is decoded only once it has a place in the line, and
// tokenized and answered once it has a slot; the session is opened then, since the lease
// may have ended while the request waited.
func (s *Service) complete(w http.ResponseWriter, r *http.Request, as form) error {
	if err := s.api.Serving(); err != nil {
		return err
	}
	full, err := localapi.FullReceipt(r)
	if err != nil {
		return err
	}
	body, held, err := s.read(w, r, Cost)
	if err != nil {
		return err
	}
	m := &memory{held: held}
	defer m.release()
	whole, err := s.answer(w, r, body, m, as, full)
	if err != nil || whole == nil {
		return err
	}
	m.keep(len(whole))
	localapi.WriteBody(w, http.StatusOK, whole)
	return nil
}

// read takes a body in, once there is memory for what it costs.
func (s *Service) read(w http.ResponseWriter, r *http.Request, cost func(n int64) int64) ([]byte, *localapi.Held, error) {
	return s.api.Intake().Read(r.Context(), s.api.UID(r.Context()), localapi.FromRequest(w, r, s.MaxBodyBytes, cost))
}

// memory is what a request holds: at first what its body costs, then also what its tools and its
// answers do.
type memory struct {
	held *localapi.Held
	more []*localapi.Held
}

func (m *memory) grow(n int64) error {
	more, err := m.held.More(n)
	if more != nil {
		m.more = append(m.more, more)
	}
	return err
}

// keep gives back all but what an answer takes that is to be written.
func (m *memory) keep(n int) {
	if len(m.more) == 0 {
		m.held.Shrink(int64(n) + localapi.Overhead)
		return
	}
	m.held.Shrink(localapi.Overhead)
	m.more[len(m.more)-1].Shrink(int64(n))
	for _, h := range m.more[:len(m.more)-1] {
		h.Release()
	}
}

func (m *memory) release() {
	for _, h := range m.more {
		h.Release()
	}
	m.held.Release()
}

// answer makes an answer in its turn: whole, for its caller to write, or as a stream, of
// which nothing is left to write. Who is slow to read a whole answer has no place in the
// line meanwhile.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, body []byte, held *memory, as form, full bool) (whole []byte, err error) {
	var q *Request
	decode := func() (model string, err error) {
		if q, err = as.parse(body); err != nil {
			return "", err
		}
		return q.Model, nil
	}
	err = s.inTurn(r.Context(), body, held.held, decode, func(ctx context.Context, session Session) error {
		c := &completion{service: s, request: q, session: session, form: as, full: full, held: held, created: s.Now().Unix()}
		if c.id, err = receipt.NewID(); err != nil {
			return err
		}
		w.Header().Set(localapi.ReceiptHeader, c.id.String())
		if whole, err = c.run(ctx, w); err != nil {
			w.Header().Del(localapi.ReceiptHeader)
		}
		return err
	})
	return whole, err
}

// inTurn decodes a request once it has its place in the line, and calls work with the model
// that it names once it has its slot, under the lease of that moment. The context of work ends
// with the lease. Held is what the request holds meanwhile.
func (s *Service) inTurn(ctx context.Context, body []byte, held *localapi.Held, decode func() (model string, err error), work func(context.Context, Session) error) error {
	return s.turn(ctx, s.generative, body, held, decode, work)
}

// turn is inTurn with the sessions that open gives.
func (s *Service) turn(ctx context.Context, open func(ctx context.Context, model string) (Session, error), body []byte, held *localapi.Held, decode func() (model string, err error), work func(context.Context, Session) error) error {
	ctx, cancel := s.api.Bound(ctx)
	defer cancel(nil)
	line, uid, asked := s.api.Intake().Line, s.api.UID(ctx), s.asked(body)
	place, err := line.Join(uid, asked, held)
	if err != nil {
		return err
	}
	defer func() { place.Leave() }()
	model, err := s.decode(ctx, decode)
	if err != nil {
		return err
	}
	if err := s.checkModel(model); err != nil {
		return err
	}
	if model != asked { // or one could wait in another's place
		place.Leave()
		other, err := line.Join(uid, model, held)
		if err != nil {
			return err
		}
		place = other
	}
	if err := place.Wait(ctx); err != nil {
		return err
	}
	if err := s.api.Serving(); err != nil {
		return err
	}
	session, err := open(ctx, model)
	if err != nil {
		return err
	}
	defer session.Done()
	defer context.AfterFunc(session.Lease, func() { cancel(context.Cause(session.Lease)) })()
	if err := work(ctx, session); err != nil {
		// An engine that was stopped reports so; the cause says why. The lease
		// comes first: the engine is closed with it.
		for _, why := range []context.Context{session.Lease, ctx} {
			if why.Err() != nil {
				return context.Cause(why)
			}
		}
		return err
	}
	return nil
}

// asked is the model that a body names, for its place in the line: seen without decoding the body,
// which is done in that place and says what counts.
func (s *Service) asked(body []byte) (model string) {
	if all := s.Models.Models(); len(all) == 1 {
		return all[0]
	}
	members, _ := rawjson.Members(body)
	_ = json.Unmarshal(members["model"], &model) // decoding tells what is wrong with it
	return strings.TrimSuffix(model, ":latest")
}

// decode decodes a request that has its place, one at a time: those that wait take no more
// of the processor than one, and a mistake is told before its turn.
func (s *Service) decode(ctx context.Context, decode func() (string, error)) (model string, err error) {
	select {
	case s.Decoding <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-s.Decoding }()
	return decode()
}

// run tokenizes, generates, and makes the whole answer or writes a stream.
func (c *completion) run(ctx context.Context, w http.ResponseWriter) (whole []byte, err error) {
	if err := c.held.grow(formatCost(c.request)); err != nil {
		return nil, err
	}
	if err := c.request.compile(); err != nil {
		return nil, err
	}
	c.warn(w)
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.held.grow(answerCost(c.request)); err != nil {
		return nil, err
	}
	if c.request.Stream {
		return nil, c.runStream(ctx, w)
	}
	for range c.request.Choices {
		if err := c.generate(ctx, func(piece) error { return nil }); err != nil {
			return nil, err
		}
	}
	if err := c.sign(ctx); err != nil {
		return nil, err
	}
	return c.encode()
}

// prepare turns the request into tokens, unless its client leaves, and fits them into the
// context.
func (c *completion) prepare(ctx context.Context) error {
	q := c.request
	q.Gen.Owner = fmt.Sprintf("uid %d", c.service.api.UID(ctx)) // another user's prompts must not show in the time
	var err error
	if q.Messages != nil {
		q.Gen.Prompt, err = c.session.Engine.Chat(ctx, tokenize.Conversation{Messages: q.Messages, Tools: q.ToolList, Thinking: q.thinking})
	} else {
		q.Gen.Prompt, err = c.session.Engine.Text(ctx, q.Prompt)
	}
	if told, ok := errors.AsType[*localapi.Error](err); ok && told.Code == thinkingUnsupported {
		told.Param = q.thinkBy
	}
	if err != nil {
		return err
	}
	size := c.session.Engine.ContextSize()
	room := size - len(q.Gen.Prompt)
	if len(q.Gen.Prompt) == 0 {
		return localapi.BadRequest("prompt", "invalid-value", "the prompt is empty")
	}
	if q.Scores {
		return c.prepareScores(ctx)
	}
	if room < 1 {
		param := "messages"
		if q.Messages == nil {
			param = "prompt"
		}
		return localapi.BadRequest(param, "context_length_exceeded", fmt.Sprintf("the prompt has at least %d tokens, which leaves no room for an answer in the context of %d", len(q.Gen.Prompt), size))
	}
	if last := &q.Gen.Penalties.Last; *last < 0 || *last > size {
		*last = size // as llama.cpp has -1
	}
	q.Gen.MaxTokens = room
	if q.MaxTokens > 0 {
		q.Gen.MaxTokens = min(q.MaxTokens, room)
	}
	return nil
}

// generate runs the engine for the next choice, gathers the text and passes it on. Nothing is
// passed on once the request's time, its lease or the server ended. Choices come one after
// another in the one slot that the request has, so that many of them take no turn of others;
// each has a seed of its own.
func (c *completion) generate(ctx context.Context, pass func(piece) error) error {
	gen, a := c.request.Gen, &answer{}
	if gen.Seed != nil {
		seed := *gen.Seed + uint64(len(c.answers))
		gen.Seed = &seed
	}
	c.answers = append(c.answers, a)
	if c.request.Scores {
		return c.score(ctx, gen, a)
	}
	if c.request.Logprobs {
		gen.Observe = func(list []infer.Scored) error { a.scored = append(a.scored, list...); return nil }
	}
	take := func(p piece) error {
		a.text.WriteString(p.text)
		a.calls = append(a.calls, p.calls...)
		if c.request.repeats {
			a.textual(p)
		}
		if p.text == "" && p.calls == nil {
			return nil
		}
		return pass(p)
	}
	calls := reader{fenced: c.request.loose()}
	var err error
	a.result, err = c.session.Engine.Generate(ctx, gen, func(text string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.request.calling() {
			return take(calls.push(text))
		}
		return take(piece{text: text})
	})
	if err == nil {
		err = take(calls.end())
	}
	if c.request.repeats && a.calls != nil {
		a.scored = a.scored[:a.said]
	}
	if a.calls != nil && a.result.FinishReason == "stop" {
		a.result.FinishReason = "tool_calls"
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c.ended(a, err)
}

// ended counts an answer, asks for the memory that its likelihoods turned out to take, and says of an error what its client may know.
func (c *completion) ended(a *answer, err error) error {
	c.service.count(a.result)
	if err == nil {
		err = c.held.grow(c.beyond(a.scored))
	}
	if _, changed := errors.AsType[*chunkseal.Failure](err); changed {
		// The model's file was changed under the engine: a fault of this machine, to be logged,
		// and no refusal of the request, which the client would be told.
		err = errors.New(err.Error())
	}
	if errors.Is(err, infer.ErrGrammar) {
		err = localapi.BadRequest(c.request.formatName(), "grammar-refused", err.Error())
	}
	if errors.Is(err, infer.ErrBias) {
		err = localapi.BadRequest("logit_bias", "invalid-value", "logit_bias names a token that the model does not have")
	}
	return err
}

// sign issues the receipt and keeps it for the user who asked.
func (c *completion) sign(ctx context.Context) error {
	choices := make([]receipt.Choice, len(c.answers))
	for i, a := range c.answers {
		choices[i] = receipt.Choice{Text: a.text.String(), Calls: a.calls}
	}
	if c.request.Scores { // what was asked is the text, and what was answered its likelihood
		text, err := c.scores(c.answers[0].scored)
		if err != nil {
			return err
		}
		choices[0].Text = text
	}
	total := c.usage()
	issued, err := c.session.Issue(receipt.Answer{
		ID: c.id, ModelID: c.session.ModelID, ModelName: c.request.Model, ModelVersion: c.session.Version,
		Input: c.request.Raw, Output: receipt.EncodeChoices(choices),
		PromptTokens: uint32(total.PromptTokens), CompletionTokens: uint32(total.CompletionTokens),
	})
	if err != nil {
		return err
	}
	c.service.api.Receipts().Put(c.service.api.UID(ctx), issued)
	if c.full {
		c.issued = &issued
	}
	return nil
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
	// Details says how many of the prompt's tokens were not computed again, because the same user's
	// last requests began with them.
	Details struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// usage counts the prompt once, and the tokens of all choices.
func (c *completion) usage() *usage {
	var u usage
	for i, a := range c.answers {
		if u.PromptTokens = a.result.PromptTokens; i == 0 { // later choices find all of it
			u.Details.CachedTokens = a.result.ReusedTokens
		}
		u.CompletionTokens += a.result.CompletionTokens
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return &u
}
