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
	"encoding/json"
	"errors"
	"fmt"
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
	maxMessages = 1024
	maxChoices  = 8
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
	Choices      int
	Logprobs     bool // with those of the Gen.Top likeliest
	Scores       bool // the prompt's own tokens, and answers nothing
	Gen          infer.Request
	ToolList     []byte // the tools that may be called, as sent; nil without any

	tools     []tool
	choose    string   // chooseNone, chooseAuto or chooseRequired
	named     bool     // tools is the one that was named
	parallel  bool     // several calls
	loosened  []string // tools whose schema is not enforced
	callNames map[string]string
	calls     int    // in the conversation
	repeats   bool   // a stream ends with all of its answer
	thinking  *bool  // what the template is told; nil: nothing
	thinkBy   string // the parameter that said it
	byName    bool   // answers of tools have the tool's name instead of an id
	values    int    // in tools, arguments and schemas
	grammar   string // in GBNF
	schema    []byte
	from      string         // the parameter that has it
	first     []infer.Scored // of Scores: the token that has no likelihood, if there is one
}

// fields are the members of the request's object that were not looked at yet. They are
// parts of the body: only what is taken is copied.
type fields map[string][]byte

// Parse decodes a body. All that is left in the object after the known parameters were
// taken is refused by name.
func Parse(raw []byte, chat bool) (*Request, error) {
	f, err := object(raw)
	if err != nil {
		return nil, err
	}
	q := &Request{Raw: raw, Choices: 1}
	return q, f.decode(q, chat)
}

// object takes a body apart.
func object(raw []byte) (fields, error) {
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
	for name, v := range f {
		if rawjson.Null(v) {
			delete(f, name) // as clients spell "not given"
		}
	}
	return f, nil
}

func tooMany(name, what string) error {
	return localapi.BadRequest(name, "too-many-parameters", fmt.Sprintf("%s has more than %d members", what, rawjson.MaxMembers))
}

// Cost is how many bytes a request with a body of n holds: the body, to which the receipt
// commits, what was taken from it, and the prompt that it becomes.
func Cost(n int64) int64 { return 3*n + localapi.Overhead }

func (f fields) decode(q *Request, chat bool) error {
	err := f.takeModel(q)
	if err != nil {
		return err
	}
	in := inPlain
	if chat {
		in = inChat
		if err = f.takeTools(q); err == nil {
			err = f.takeMessages(q)
		}
	} else {
		err = f.takePrompt(q)
	}
	if err != nil {
		return err
	}
	return f.rest(q, f.takeStream, f.takeLimits, f.takeSampling, f.takeBias, f.takeStop, f.takeFormat,
		func(q *Request) error { return f.takeLogprobs(q, chat) }, f.takeThinking, f.takeNeutral(in))
}

// rest takes the parameters that are left, and refuses those that nothing takes.
func (f fields) rest(q *Request, steps ...func(*Request) error) error {
	for _, step := range steps {
		if err := step(q); err != nil {
			return err
		}
	}
	return f.none()
}

func (f fields) takeModel(q *Request) error {
	if err := f.take("model", &q.Model); err != nil {
		return err
	}
	if q.Model == "" {
		return localapi.BadRequest("model", "missing-parameter", "model is required")
	}
	return nil
}

// none refuses what was not taken.
func (f fields) none() error {
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
			msg, err := fields(members).message(q, name)
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
func (f fields) message(q *Request, name string) (tokenize.Message, error) {
	var m tokenize.Message
	if err := f.take("role", &m.Role); err != nil {
		return m, localapi.BadRequest(name+".role", "invalid-type", "role has the wrong type")
	}
	switch m.Role {
	case "system", "user", "assistant":
	case "tool":
		if tool, ok := f["tool_name"]; ok && q.byName {
			delete(f, "tool_name")
			var b strings.Builder
			if rawjson.Text(&b, tool) != nil {
				return m, localapi.BadRequest(name+".tool_name", "invalid-type", "tool_name must be a string")
			}
			m.Name = b.String()
			break
		}
		var id string
		if err := f.take("tool_call_id", &id); err != nil {
			return m, localapi.BadRequest(name+".tool_call_id", "invalid-type", "tool_call_id must be a string")
		}
		delete(f, "name") // it is that of the call
		var err error
		if m.Name, err = q.answered(name+".tool_call_id", id); err != nil {
			return m, err
		}
	case "developer": // the newer name of the same thing
		m.Role = "system"
	default:
		return m, localapi.BadRequest(name+".role", "unsupported-role", fmt.Sprintf("role %.32q is not supported", m.Role))
	}
	if err := f.takeCalls(q, name, &m); err != nil {
		return m, err
	}
	content, ok := f["content"]
	delete(f, "content")
	var err error
	if silent := !ok || rawjson.Null(content); silent && m.Calls != nil {
		return m, f.noneOf(name)
	}
	if m.Content, err = text(name+".content", content); err != nil {
		return m, err
	}
	if q.byName && same(f["images"], "[]") { // as litellm has none
		delete(f, "images")
	}
	return m, f.noneOf(name)
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
	// input_text and output_text are what the Responses API calls the same thing.
	if !rawjson.Is(p.kind, "text") && !rawjson.Is(p.kind, "input_text") && !rawjson.Is(p.kind, "output_text") || rawjson.Null(p.text) || p.text == nil {
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
	case rawjson.Is(name, "annotations"), rawjson.Is(name, "logprobs"): // of an answer that is sent back
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
	if err := options.take("include_usage", &q.IncludeUsage); err != nil {
		return err
	}
	if q.IncludeUsage && !q.Stream {
		return localapi.BadRequest("stream_options", "invalid-value", "stream_options requires stream")
	}
	if string(options["include_obfuscation"]) == "false" {
		delete(options, "include_obfuscation")
	}
	for key, v := range options {
		if rawjson.Null(v) {
			continue
		}
		return localapi.BadRequest("stream_options."+clip(key), "unsupported-parameter", fmt.Sprintf("stream option %.64q is not supported", key))
	}
	return nil
}

// clip bounds what a message repeats of a client's names.
func clip(name string) string { return name[:min(len(name), 64)] }
