// Package openai answers completions on the agent's local API, in the form that clients of
// OpenAI's API speak.
//
// A parameter that would change the answer and is not implemented is refused by name, never
// ignored, and every number must be within its limits. Nothing is answered outside a lease,
// and an answer in progress ends with its lease. Every answer has a receipt, which is issued
// before the stream ends. Request bodies are not trusted; the engine is.
//
// The agent mounts a [Service] on its API; its models reach it through [Models].
package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Limits on a request beyond its size.
const (
	maxMessages  = 1024
	maxStops     = 4
	maxStopBytes = 256
)

// Request is a decoded completion request.
type Request struct {
	Raw          []byte // as sent: what the receipt commits to
	Model        string
	Messages     []tokenize.Message // of a chat
	Prompt       string             // of a plain completion
	Stream       bool
	IncludeUsage bool
	MaxTokens    int // 0: as many as fit
	Gen          infer.Request
}

// fields are the members of the request's object that were not looked at yet. They are
// parts of the body: only what is taken is copied.
type fields map[string][]byte

// Parse decodes a body. All that is left in the object after the known parameters were
// taken is refused by name.
func Parse(raw []byte, chat bool) (*Request, error) {
	if !utf8.Valid(raw) {
		return nil, localapi.BadRequest("", "invalid-json", "the request is not UTF-8")
	}
	var f fields
	var err error
	if rawjson.Valid(raw) {
		f, err = rawjson.Members(raw)
	}
	if errors.Is(err, rawjson.ErrMany) {
		return nil, tooMany("", "the request")
	}
	if f == nil || err != nil {
		return nil, localapi.BadRequest("", "invalid-json", "the request is not a JSON object")
	}
	q := &Request{Raw: raw}
	return q, f.decode(q, chat)
}

func tooMany(name, what string) error {
	return localapi.BadRequest(name, "too-many-parameters", fmt.Sprintf("%s has more than %d members", what, rawjson.MaxMembers))
}

// Cost is how many bytes a request with a body of n holds: the body, to which the receipt
// commits, what was taken from it, and the prompt that it becomes.
func Cost(n int64) int64 { return 3*n + localapi.Overhead }

func (f fields) decode(q *Request, chat bool) error {
	for name, v := range f {
		if rawjson.Null(v) {
			delete(f, name) // as clients spell "not given"
		}
	}
	if err := f.take("model", &q.Model); err != nil {
		return err
	}
	if q.Model == "" {
		return localapi.BadRequest("model", "missing-parameter", "model is required")
	}
	var err error
	if chat {
		err = f.takeMessages(q)
	} else {
		err = f.takePrompt(q)
	}
	for _, step := range []func(*Request) error{f.takeStream, f.takeLimits, f.takeSampling, f.takeStop, f.takeNeutral} {
		if err == nil {
			err = step(q)
		}
	}
	if err != nil {
		return err
	}
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	if len(names) > 0 {
		slices.Sort(names)
		return localapi.BadRequest(clip(names[0]), "unsupported-parameter", fmt.Sprintf("parameter %.64q is not supported", names[0]))
	}
	return nil
}

// take moves a parameter into v if it is there.
func (f fields) take(name string, v any) error {
	raw, ok := f[name]
	if !ok {
		return nil
	}
	delete(f, name)
	if err := json.Unmarshal(raw, v); err != nil {
		return localapi.BadRequest(name, "invalid-type", name+" has the wrong type")
	}
	return nil
}

func (f fields) takeMessages(q *Request) error {
	list, ok := f["messages"]
	delete(f, "messages")
	if ok {
		err := rawjson.Elements(list, func(raw []byte) error {
			if len(q.Messages) == maxMessages {
				return localapi.BadRequest("messages", "too-many-messages", fmt.Sprintf("messages must have at most %d entries", maxMessages))
			}
			name := fmt.Sprintf("messages[%d]", len(q.Messages))
			members, err := rawjson.Members(raw)
			if errors.Is(err, rawjson.ErrMany) {
				return tooMany(name, "a message")
			}
			if err != nil {
				return localapi.BadRequest(name, "invalid-type", "a message must be an object")
			}
			msg, err := fields(members).message(name)
			q.Messages = append(q.Messages, msg)
			return err
		})
		if errors.Is(err, rawjson.ErrKind) {
			return localapi.BadRequest("messages", "invalid-type", "messages has the wrong type")
		}
		if err != nil {
			return err
		}
	}
	if len(q.Messages) == 0 {
		return localapi.BadRequest("messages", "missing-parameter", "messages is required and must not be empty")
	}
	return nil
}

// message decodes one turn.
func (f fields) message(name string) (tokenize.Message, error) {
	var m tokenize.Message
	if err := f.take("role", &m.Role); err != nil {
		return m, localapi.BadRequest(name+".role", "invalid-type", "role has the wrong type")
	}
	switch m.Role {
	case "system", "user", "assistant":
	case "developer": // the newer name of the same thing
		m.Role = "system"
	default:
		return m, localapi.BadRequest(name+".role", "unsupported-role", fmt.Sprintf("role %.32q is not supported", m.Role))
	}
	content := f["content"]
	delete(f, "content")
	var err error
	if m.Content, err = text(name+".content", content); err != nil {
		return m, err
	}
	for key, v := range f {
		if !rawjson.Null(v) {
			return m, localapi.BadRequest(name+"."+clip(key), "unsupported-parameter", fmt.Sprintf("%.64q in a message is not supported", key))
		}
	}
	return m, nil
}

// text reads a string, or a list of parts that are text. A part makes no garbage: a request
// may have tens of thousands, and collecting theirs took seconds where memory is short.
func text(name string, content []byte) (string, error) {
	wrong := localapi.BadRequest(name, "invalid-type", "content must be a string or a list of text parts")
	var all strings.Builder
	if len(content) > 0 && content[0] == '"' {
		all.Grow(len(content))
		if rawjson.Text(&all, content) != nil {
			return "", wrong
		}
		return all.String(), nil
	}
	p := part{name: name}
	parts := 0
	err := rawjson.Elements(content, func(raw []byte) error {
		parts++
		return p.appendTo(&all, raw)
	})
	if err == nil && parts == 0 || errors.Is(err, rawjson.ErrKind) {
		return "", wrong
	}
	return all.String(), err
}

// part reads one part after another.
type part struct {
	name       string
	kind, text []byte
}

// appendTo adds the text of a part.
func (p *part) appendTo(all *strings.Builder, raw []byte) error {
	p.kind, p.text = nil, nil
	if err := rawjson.Object(raw, p.member); err != nil {
		return err
	}
	if !rawjson.Is(p.kind, "text") || rawjson.Null(p.text) || p.text == nil {
		return localapi.BadRequest(p.name, "unsupported-content", fmt.Sprintf("content of type %.40s is not supported", p.kind))
	}
	return rawjson.Text(all, p.text)
}

func (p *part) member(name, value []byte) error {
	switch {
	case rawjson.Is(name, "type"):
		p.kind = value
	case rawjson.Is(name, "text"):
		p.text = value
	case !rawjson.Null(value):
		return localapi.BadRequest(p.name, "unsupported-parameter", fmt.Sprintf("%.64s in a part of a message is not supported", name))
	}
	return nil
}

func (f fields) takePrompt(q *Request) error {
	if _, ok := f["prompt"]; !ok {
		return localapi.BadRequest("prompt", "missing-parameter", "prompt is required")
	}
	if one, err := texts(f["prompt"], 1); err == nil && len(one) == 1 {
		delete(f, "prompt")
		q.Prompt = one[0]
		return nil
	}
	if err := f.take("prompt", &q.Prompt); err != nil {
		return localapi.BadRequest("prompt", "invalid-type", "prompt must be one string")
	}
	return nil
}

var errLong = errors.New("the list is too long")

// texts reads a list of strings up to a limit, and no further: a list of empty ones holds many
// times its own bytes.
func texts(raw []byte, most int) (list []string, err error) {
	err = rawjson.Elements(raw, func(element []byte) error {
		if len(list) == most {
			return errLong
		}
		var text string
		err := json.Unmarshal(element, &text)
		list = append(list, text)
		return err
	})
	return list, err
}

func (f fields) takeStream(q *Request) error {
	if err := f.take("stream", &q.Stream); err != nil {
		return err
	}
	raw, ok := f["stream_options"]
	if !ok {
		return nil
	}
	delete(f, "stream_options")
	members, err := rawjson.Members(raw)
	if err != nil {
		return localapi.BadRequest("stream_options", "invalid-type", "stream_options has the wrong type")
	}
	options := fields(members)
	if !q.Stream {
		return localapi.BadRequest("stream_options", "invalid-value", "stream_options requires stream")
	}
	if err := options.take("include_usage", &q.IncludeUsage); err != nil {
		return err
	}
	for key := range options {
		return localapi.BadRequest("stream_options."+clip(key), "unsupported-parameter", fmt.Sprintf("stream option %.64q is not supported", key))
	}
	return nil
}

func (f fields) takeLimits(q *Request) error {
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if _, ok := f[name]; !ok {
			continue
		}
		if q.MaxTokens != 0 {
			return localapi.BadRequest(name, "invalid-value", "max_tokens and max_completion_tokens are mutually exclusive")
		}
		if err := f.take(name, &q.MaxTokens); err != nil {
			return err
		}
		if q.MaxTokens < 1 {
			return localapi.BadRequest(name, "invalid-value", name+" must be at least 1")
		}
	}
	return nil
}

func (f fields) takeSampling(q *Request) error {
	g := &q.Gen
	g.Temperature, g.TopP = 1, 1
	var seed *int64
	for name, v := range map[string]any{"temperature": &g.Temperature, "top_p": &g.TopP, "top_k": &g.TopK, "seed": &seed} {
		if err := f.take(name, v); err != nil {
			return err
		}
	}
	if seed != nil {
		bits := uint64(*seed)
		g.Seed = &bits
	}
	switch {
	case !(g.Temperature >= 0 && g.Temperature <= 2):
		return localapi.BadRequest("temperature", "invalid-value", "temperature must be from 0 to 2")
	case !(g.TopP > 0 && g.TopP <= 1):
		return localapi.BadRequest("top_p", "invalid-value", "top_p must be above 0 and at most 1")
	case g.TopK < 0:
		return localapi.BadRequest("top_k", "invalid-value", "top_k must not be negative")
	}
	return nil
}

func (f fields) takeStop(q *Request) error {
	raw, ok := f["stop"]
	if !ok {
		return nil
	}
	delete(f, "stop")
	var one string
	var err error
	if json.Unmarshal(raw, &one) == nil {
		q.Gen.Stop = []string{one}
	} else if q.Gen.Stop, err = texts(raw, maxStops); errors.Is(err, errLong) {
		return localapi.BadRequest("stop", "invalid-value", fmt.Sprintf("stop must have at most %d strings", maxStops))
	} else if err != nil {
		return localapi.BadRequest("stop", "invalid-type", "stop must be a string or a list of strings")
	}
	for _, stop := range q.Gen.Stop {
		if stop == "" || len(stop) > maxStopBytes {
			return localapi.BadRequest("stop", "invalid-value", fmt.Sprintf("a stop string must have 1 to %d bytes", maxStopBytes))
		}
	}
	return nil
}

// takeNeutral takes parameters that are not implemented but were given the value
// that means not to use them, and labels that do not change the answer.
func (f fields) takeNeutral(*Request) error {
	for _, name := range []string{"user", "metadata", "safety_identifier", "prompt_cache_key"} {
		delete(f, name)
	}
	for name, neutral := range map[string]float64{"n": 1, "best_of": 1, "frequency_penalty": 0, "presence_penalty": 0, "top_logprobs": 0} {
		v := math.NaN()
		if raw, ok := f[name]; ok && json.Unmarshal(raw, &v) == nil && v == neutral {
			delete(f, name)
		} else if ok {
			return localapi.BadRequest(name, "unsupported-value", fmt.Sprintf("%s other than %g is not supported", name, neutral))
		}
	}
	for _, name := range []string{"logprobs", "echo", "store"} {
		if string(f[name]) == "false" {
			delete(f, name)
		}
	}
	for name, neutral := range map[string]string{"logit_bias": "{}", "tools": "[]", "suffix": `""`, "response_format": `{"type":"text"}`, "service_tier": `"auto"`} {
		var compact bytes.Buffer
		if json.Compact(&compact, f[name]) == nil && compact.String() == neutral {
			delete(f, name)
		}
	}
	return nil
}

// clip bounds what a message repeats of a client's names.
func clip(name string) string { return name[:min(len(name), 64)] }
