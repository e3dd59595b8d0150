package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// responses is OpenAI's Responses API. Nothing is stored: a conversation is sent whole.
type responses struct{}

func (responses) parse(raw []byte) (*Request, error) {
	f, err := object(raw)
	if err != nil {
		return nil, err
	}
	q := &Request{Raw: raw, Choices: 1, repeats: true}
	return q, f.rest(q, f.takeModel, f.takeFlatTools, f.takeInput, f.takeStream, f.takeOutputLimit, f.takeSampling, f.takeTextFormat, f.takeIncluded, f.takeThinking, f.takeNeutral(inResponses))
}

// Parts of a response that a client asks to be included. Nothing that is encrypted is kept, so that
// there is none of it to include.
const includeLogprobs, includeEncrypted = "message.output_text.logprobs", "reasoning.encrypted_content"

// takeIncluded reads whether the likelihoods of the answer's tokens are wanted.
func (f fields) takeIncluded(q *Request) error {
	list, err := texts(f["include"], maxIncluded)
	if _, ok := f["include"]; ok && err != nil {
		return localapi.BadRequest("include", "invalid-type", fmt.Sprintf("include must be a list of at most %d strings", maxIncluded))
	}
	delete(f, "include")
	for _, part := range list {
		switch part {
		case includeLogprobs:
			q.Logprobs = true
		case includeEncrypted:
		default:
			return localapi.BadRequest("include", "unsupported-value", fmt.Sprintf("%.64q in include is not supported", part))
		}
	}
	if err := f.takeWhole("top_logprobs", &q.Gen.Top, 0, infer.MaxTop); err != nil {
		return err
	}
	if q.Gen.Top > 0 && !q.Logprobs {
		return localapi.BadRequest("top_logprobs", "invalid-value", "top_logprobs requires "+includeLogprobs+" in include")
	}
	return nil
}

// maxIncluded is more than there are parts.
const maxIncluded = 16

func (f fields) takeOutputLimit(q *Request) error {
	if _, ok := f["max_output_tokens"]; !ok {
		return nil
	}
	q.MaxTokens = 1
	return f.takeWhole("max_output_tokens", &q.MaxTokens, 1, maxCount)
}

// takeTextFormat reads text.format, which is response_format in another place.
func (f fields) takeTextFormat(q *Request) error {
	raw, ok := f["text"]
	delete(f, "text")
	if !ok {
		return nil
	}
	members, err := rawjson.Members(raw)
	if err != nil {
		return localapi.BadRequest("text", "invalid-type", "text must be an object")
	}
	text := fields(members)
	inner := fields{}
	if format, ok := text["format"]; ok && !rawjson.Null(format) {
		inner["response_format"] = format
	}
	delete(text, "format")
	if v := text["verbosity"]; rawjson.Is(v, "medium") {
		delete(text, "verbosity")
	}
	if err := text.noneOf("text"); err != nil {
		return err
	}
	err = inner.takeFormat(q)
	q.from = "text.format"
	return err
}

// takeFlatTools reads tools, and writes them as a chat has them: so templates know them.
func (f fields) takeFlatTools(q *Request) error {
	if err := f.takeTools(q); err != nil || !q.calling() {
		return err
	}
	type function struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters,omitempty"`
	}
	type entry struct {
		Type     string   `json:"type"`
		Function function `json:"function"`
	}
	list := make([]entry, len(q.tools))
	for i, t := range q.tools {
		list[i] = entry{"function", function{t.name, t.describes, t.parameters}}
	}
	var err error
	q.ToolList, err = json.Marshal(list)
	q.values += len(q.ToolList) / valueCost
	return err
}

// takeInput reads instructions and the conversation: a text, or a list of items.
func (f fields) takeInput(q *Request) error {
	var instructions string
	if err := f.take("instructions", &instructions); err != nil {
		return err
	}
	if instructions != "" {
		q.Messages = append(q.Messages, tokenize.Message{Role: "system", Content: instructions})
	}
	raw, ok := f["input"]
	delete(f, "input")
	if !ok {
		return localapi.BadRequest("input", "missing-parameter", "input is required")
	}
	if raw[0] == '"' {
		content, err := text("input", raw)
		q.Messages = append(q.Messages, tokenize.Message{Role: "user", Content: content})
		return err
	}
	n := 0
	err := rawjson.Elements(raw, func(element []byte) error {
		if n == maxMessages {
			return localapi.BadRequest("input", "too-many-messages", fmt.Sprintf("input must have at most %d items", maxMessages))
		}
		members, err := rawjson.Members(element)
		if err != nil {
			return localapi.BadRequest("input", "invalid-type", "an item must be an object")
		}
		n++
		return fields(members).item(q, fmt.Sprintf("input[%d]", n-1))
	})
	if errors.Is(err, rawjson.ErrKind) || err == nil && n == 0 {
		return localapi.BadRequest("input", "invalid-type", "input must be a text or a list of items")
	}
	return err
}

// item adds one item to the conversation.
func (f fields) item(q *Request, name string) error {
	kind := f["type"]
	for _, label := range []string{"type", "id", "status", "phase"} {
		delete(f, label)
	}
	if kind == nil || rawjson.Is(kind, "message") {
		m, err := f.message(q, name)
		q.Messages = append(q.Messages, m)
		return err
	}
	var id string
	if err := f.take("call_id", &id); err != nil {
		return localapi.BadRequest(name+".call_id", "invalid-type", "call_id must be a string")
	}
	switch {
	case rawjson.Is(kind, "function_call"):
		last := len(q.Messages) - 1
		if last < 0 || q.Messages[last].Role != "assistant" {
			q.Messages = append(q.Messages, tokenize.Message{Role: "assistant"})
			last++
		}
		function, arguments := f["name"], f["arguments"]
		delete(f, "name")
		delete(f, "arguments")
		if err := q.addCall(name, &q.Messages[last], id, function, arguments); err != nil {
			return err
		}
	case rawjson.Is(kind, "function_call_output"):
		tool, err := q.answered(name+".call_id", id)
		if err != nil {
			return err
		}
		content, err := text(name+".output", f["output"])
		delete(f, "output")
		if err != nil {
			return err
		}
		q.Messages = append(q.Messages, tokenize.Message{Role: "tool", Name: tool, Content: content})
	default:
		return localapi.BadRequest(name+".type", "unsupported-content", fmt.Sprintf("an item of type %.40s is not supported", kind))
	}
	return f.noneOf(name)
}

// object is JSON of many members, of which few have the same ones.
type members map[string]any

func outputText(text string, logprobs any) members {
	if logprobs == nil {
		logprobs = []scoredToken{}
	}
	return members{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": logprobs}
}

// message is the item of an answer's text.
func (responses) message(c *completion, status string, content ...members) members {
	if content == nil {
		content = []members{}
	}
	return members{"type": "message", "id": "msg_" + c.id.String(), "status": status, "role": "assistant", "content": content}
}

func (responses) call(c *completion, n int, call receipt.Call, status string) members {
	return members{"type": "function_call", "id": fmt.Sprintf("fc_%s%02d", c.id, n), "call_id": c.callID(0, n), "name": call.Name, "arguments": call.Arguments, "status": status}
}

// object is the response at a time: under way, or with its output.
func (r responses) object(c *completion, status string, output []members, u *usage) members {
	q := c.request
	o := members{"id": "resp_" + c.id.String(), "object": "response", "created_at": c.created, "model": q.Model, "status": status, "output": output, "error": nil, "incomplete_details": nil,
		"instructions": nil, "metadata": members{}, "parallel_tool_calls": q.parallel, "tool_choice": q.choose, "tools": []any{}, "temperature": q.Gen.Temperature, "top_p": q.Gen.TopP,
		"store": false, "previous_response_id": nil, "text": members{"format": members{"type": "text"}}, "usage": nil}
	if status == "incomplete" {
		o["incomplete_details"] = members{"reason": "max_output_tokens"}
	}
	if u != nil {
		o["usage"] = members{"input_tokens": u.PromptTokens, "input_tokens_details": u.Details, "output_tokens": u.CompletionTokens,
			"output_tokens_details": members{"reasoning_tokens": 0}, "total_tokens": u.TotalTokens}
		o["receipt"] = c.id.String()
		if c.issued != nil {
			o["issued_receipt"] = c.issued
		}
	}
	return o
}

func (r responses) whole(c *completion) any {
	return r.finished(c, c.scoredList(c.answers[0].scored))
}

// finished is the whole response, with the tokens of its text.
func (r responses) finished(c *completion, scored any) members {
	a, status := c.answers[0], "completed"
	if a.result.FinishReason == "length" {
		status = "incomplete"
	}
	output := []members{}
	if a.text.Len() > 0 || a.calls == nil {
		output = append(output, r.message(c, status, outputText(a.text.String(), scored)))
	}
	for i, call := range a.calls {
		output = append(output, r.call(c, i, call, "completed"))
	}
	return r.object(c, status, output, c.usage())
}

// responseStream writes the events of the Responses API.
type responseStream struct {
	responses
	c      *completion
	st     *localapi.Stream
	events int
	begun  bool
	said   string // the text so far
	textAt int    // which item that is
	told   int    // tokens whose likelihood was passed on
	items  int    // that were begun
	calls  int
}

func (r responses) stream(c *completion, w http.ResponseWriter) sink {
	return &responseStream{responses: r, c: c, st: localapi.NewStream(w)}
}

// event writes one event unless one before it failed.
func (s *responseStream) event(err error, kind string, m members) error {
	if err != nil {
		return err
	}
	m["type"], m["sequence_number"] = kind, s.events
	s.events++
	return s.st.SendNamed(kind, m)
}

func (s *responseStream) begin() (err error) {
	if s.begun {
		return nil
	}
	s.begun = true
	for _, kind := range []string{"response.created", "response.in_progress"} {
		err = s.event(err, kind, members{"response": s.object(s.c, "in_progress", []members{}, nil)})
	}
	return err
}

func (s *responseStream) at(m members) members {
	m["output_index"], m["item_id"] = s.textAt, "msg_"+s.c.id.String()
	return m
}

// scored are the tokens since the last piece of text.
func (s *responseStream) scored() []scoredToken {
	list := s.c.answers[0].scored
	from := s.told
	s.told = len(list)
	return s.c.scoredTokens(list[from:])
}

func (s *responseStream) pass(_ int, p piece) error {
	err := s.begin()
	if p.text != "" {
		if s.said == "" {
			s.textAt = s.items
			s.items++
			err = s.event(err, "response.output_item.added", members{"output_index": s.textAt, "item": s.message(s.c, "in_progress")})
			err = s.event(err, "response.content_part.added", s.at(members{"content_index": 0, "part": outputText("", nil)}))
		}
		s.said += p.text
		err = s.event(err, "response.output_text.delta", s.at(members{"content_index": 0, "delta": p.text, "logprobs": s.scored()}))
	}
	for _, call := range p.calls {
		at := members{"output_index": s.items, "item": s.call(s.c, s.calls, receipt.Call{Name: call.Name}, "in_progress")}
		id := fmt.Sprintf("fc_%s%02d", s.c.id, s.calls)
		err = s.event(err, "response.output_item.added", at)
		err = s.event(err, "response.function_call_arguments.delta", members{"output_index": s.items, "item_id": id, "delta": call.Arguments})
		err = s.event(err, "response.function_call_arguments.done", members{"output_index": s.items, "item_id": id, "name": call.Name, "arguments": call.Arguments})
		err = s.event(err, "response.output_item.done", members{"output_index": s.items, "item": s.call(s.c, s.calls, call, "completed")})
		s.items++
		s.calls++
	}
	return err
}

// end repeats the text with its tokens, which are many times that: all events share one list.
func (s *responseStream) end(int, bool) error {
	err := s.begin()
	scored := s.c.scoredTokens(s.c.answers[0].scored)
	whole := s.finished(s.c, scored)
	status, _ := whole["status"].(string)
	if s.said != "" {
		err = s.event(err, "response.output_text.done", s.at(members{"content_index": 0, "text": s.said, "logprobs": scored}))
		err = s.event(err, "response.content_part.done", s.at(members{"content_index": 0, "part": outputText(s.said, scored)}))
		err = s.event(err, "response.output_item.done", members{"output_index": s.textAt, "item": s.message(s.c, status, outputText(s.said, scored))})
	}
	return s.event(err, "response."+status, members{"response": whole})
}
