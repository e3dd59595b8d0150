package openai

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/runtime/grammar/schema"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// ollama is Ollama's API: /api/chat, or /api/generate. Its defaults of sampling are those of the
// other forms, not Ollama's.
type ollama struct{ generate bool }

func (o ollama) parse(raw []byte) (*Request, error) {
	f, err := object(raw)
	if err != nil {
		return nil, err
	}
	q := &Request{Raw: raw, Choices: 1, Stream: true, byName: true}
	if err := f.takeModel(q); err != nil {
		return nil, err
	}
	q.Model = strings.TrimSuffix(q.Model, ":latest") // which clients add
	if o.generate {                                  // without tools: its answers have no place for calls
		err = f.takeGenerate(q)
	} else if err = f.takeTools(q); err == nil {
		err = f.takeMessages(q)
	}
	if err != nil {
		return q, err
	}
	return q, f.rest(q, f.takeStream, f.takeOptions, f.takeOllamaFormat, f.takeChatLogprobs, f.takeThinking, f.takeNeutral(inOllama))
}

// takeOptions reads what the other forms have beside the messages.
func (f fields) takeOptions(q *Request) error {
	options := fields{}
	if raw, ok := f["options"]; ok {
		members, err := rawjson.Members(raw)
		if err != nil {
			return localapi.BadRequest("options", "invalid-type", "options must be an object")
		}
		options = members
		delete(f, "options")
	}
	for name, v := range options {
		if rawjson.Null(v) {
			delete(options, name)
		}
	}
	if err := options.takeWhole("num_predict", &q.MaxTokens, -2, maxCount); err != nil {
		return err
	}
	q.MaxTokens = max(q.MaxTokens, 0) // below is no limit
	return options.rest(q, options.takeSampling, options.takeStop, options.takeNeutral(inOptions))
}

// takeOllamaFormat reads "json", or a schema.
func (f fields) takeOllamaFormat(q *Request) error {
	q.from = "format"
	raw, ok := f["format"]
	delete(f, "format")
	switch {
	case !ok, rawjson.Is(raw, ""):
	case rawjson.Is(raw, "json"):
		q.schema = []byte(schema.Any)
	case raw[0] == '{':
		q.schema = raw
	default:
		return localapi.BadRequest("format", "unsupported-value", `format must be "json" or a schema`)
	}
	if err := q.count("format", q.schema); err != nil {
		return err
	}
	return q.oneFormat()
}

// takeGenerate makes a conversation of one turn, or a plain prompt.
func (f fields) takeGenerate(q *Request) error {
	var plain bool
	if err := f.take("raw", &plain); err != nil {
		return err
	}
	var system string
	if err := f.take("system", &system); err != nil {
		return err
	}
	if err := f.takePrompt(q); err != nil {
		return err
	}
	if plain && system != "" {
		return localapi.BadRequest("system", "invalid-value", "raw prompts have no system message")
	}
	if plain {
		return nil
	}
	if system != "" {
		q.Messages = append(q.Messages, tokenize.Message{Role: "system", Content: system})
	}
	q.Messages, q.Prompt = append(q.Messages, tokenize.Message{Role: "user", Content: q.Prompt}), ""
	return nil
}

// part is a piece of an answer, the last one or all of it. The tokens of it that were scored and not
// passed on yet are passed on with it.
func (o ollama) part(c *completion, text string, calls []receipt.Call, a *answer) members {
	said := c.answers[0]
	m := members{"model": c.request.Model, "created_at": time.Unix(c.created, 0).UTC().Format(time.RFC3339), "done": a != nil}
	if o.generate {
		m["response"] = text
	} else {
		message := members{"role": "assistant", "content": text}
		var list []members
		for _, call := range calls {
			list = append(list, members{"function": members{"name": call.Name, "arguments": json.RawMessage(call.Arguments)}})
		}
		if list != nil {
			message["tool_calls"] = list
		}
		m["message"] = message
	}
	if len(said.scored) > 0 {
		m["logprobs"], said.scored = c.scoredList(said.scored), nil
	}
	if a != nil {
		m["done_reason"] = a.result.FinishReason
		if a.calls != nil && a.result.FinishReason != "length" {
			m["done_reason"] = "stop"
		}
		m["total_duration"] = c.service.Now().Sub(time.Unix(c.created, 0)).Nanoseconds() // its parts are not measured
		m["prompt_eval_count"], m["eval_count"], m["receipt"] = a.result.PromptTokens, a.result.CompletionTokens, c.id.String()
		if c.issued != nil {
			m["issued_receipt"] = c.issued
		}
	}
	return m
}

func (o ollama) whole(c *completion) any {
	a := c.answers[0]
	return o.part(c, a.text.String(), a.calls, a)
}

// ollamaStream writes one line for each piece.
type ollamaStream struct {
	ollama
	c  *completion
	st *localapi.Stream
}

func (o ollama) stream(c *completion, w http.ResponseWriter) sink {
	return &ollamaStream{o, c, localapi.NewLines(w)}
}

func (s *ollamaStream) pass(_ int, p piece) error {
	return s.st.Send(s.part(s.c, p.text, p.calls, nil))
}

func (s *ollamaStream) end(int, bool) error { return s.st.Send(s.part(s.c, "", nil, s.c.answers[0])) }
