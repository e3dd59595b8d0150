package localapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Limits on a request beyond its size.
const (
	maxMessages  = 1024
	maxStops     = 4
	maxStopBytes = 256
	bodyTime     = 30 * time.Second // to send the body
)

// request is a decoded completion request.
type request struct {
	raw          []byte // as sent: what the receipt commits to
	model        string
	messages     []tokenize.Message // of a chat
	prompt       string             // of a plain completion
	stream       bool
	includeUsage bool
	maxTokens    int // 0: as many as fit
	gen          infer.Request
}

// fields are the members of the request's object that were not looked at yet.
type fields map[string]json.RawMessage

// readRequest reads and decodes a body. All that is left in the object after the
// known parameters were taken is refused by name.
func (s *Server) readRequest(w http.ResponseWriter, r *http.Request, chat bool) (*request, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBodyBytes))
	_ = control.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &problem{status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: "request-too-large",
			Message: fmt.Sprintf("the request is larger than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, badRequest("", "incomplete-request", "the request's body could not be read")
	}
	if !utf8.Valid(raw) {
		return nil, badRequest("", "invalid-json", "the request is not UTF-8")
	}
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil || f == nil {
		return nil, badRequest("", "invalid-json", "the request is not a JSON object")
	}
	q := &request{raw: raw}
	return q, f.decode(q, chat)
}

func (f fields) decode(q *request, chat bool) error {
	for name, v := range f {
		if string(v) == "null" {
			delete(f, name) // as clients spell "not given"
		}
	}
	if err := f.take("model", &q.model); err != nil {
		return err
	}
	if q.model == "" {
		return badRequest("model", "missing-parameter", "model is required")
	}
	var err error
	if chat {
		err = f.takeMessages(q)
	} else {
		err = f.takePrompt(q)
	}
	for _, step := range []func(*request) error{f.takeStream, f.takeLimits, f.takeSampling, f.takeStop, f.takeNeutral} {
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
		return badRequest(clip(names[0]), "unsupported-parameter", fmt.Sprintf("parameter %.64q is not supported", names[0]))
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
		return badRequest(name, "invalid-type", name+" has the wrong type")
	}
	return nil
}

func (f fields) takeMessages(q *request) error {
	var list []fields
	if err := f.take("messages", &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return badRequest("messages", "missing-parameter", "messages is required and must not be empty")
	}
	if len(list) > maxMessages {
		return badRequest("messages", "too-many-messages", fmt.Sprintf("more than %d messages", maxMessages))
	}
	for i, m := range list {
		name := fmt.Sprintf("messages[%d]", i)
		msg, err := m.message(name)
		if err != nil {
			return err
		}
		q.messages = append(q.messages, msg)
	}
	return nil
}

// message decodes one turn.
func (f fields) message(name string) (tokenize.Message, error) {
	var m tokenize.Message
	if err := f.take("role", &m.Role); err != nil {
		return m, badRequest(name+".role", "invalid-type", "role has the wrong type")
	}
	switch m.Role {
	case "system", "user", "assistant":
	case "developer": // the newer name of the same thing
		m.Role = "system"
	default:
		return m, badRequest(name+".role", "unsupported-role", fmt.Sprintf("role %.32q is not supported", m.Role))
	}
	content, ok := f["content"]
	delete(f, "content")
	if !ok || json.Unmarshal(content, &m.Content) != nil {
		var parts []struct {
			Type string  `json:"type"`
			Text *string `json:"text"`
		}
		if json.Unmarshal(content, &parts) != nil || len(parts) == 0 {
			return m, badRequest(name+".content", "invalid-type", "content must be a string or a list of text parts")
		}
		m.Content = ""
		for _, p := range parts {
			if p.Type != "text" || p.Text == nil {
				return m, badRequest(name+".content", "unsupported-content", fmt.Sprintf("content of type %.32q is not supported", p.Type))
			}
			m.Content += *p.Text
		}
	}
	for key, v := range f {
		if string(v) != "null" {
			return m, badRequest(name+"."+clip(key), "unsupported-parameter", fmt.Sprintf("%.64q in a message is not supported", key))
		}
	}
	return m, nil
}

func (f fields) takePrompt(q *request) error {
	if _, ok := f["prompt"]; !ok {
		return badRequest("prompt", "missing-parameter", "prompt is required")
	}
	var one []string
	if json.Unmarshal(f["prompt"], &one) == nil && len(one) == 1 {
		delete(f, "prompt")
		q.prompt = one[0]
		return nil
	}
	if err := f.take("prompt", &q.prompt); err != nil {
		return badRequest("prompt", "invalid-type", "prompt must be one string")
	}
	return nil
}

func (f fields) takeStream(q *request) error {
	if err := f.take("stream", &q.stream); err != nil {
		return err
	}
	var options fields
	if err := f.take("stream_options", &options); err != nil || options == nil {
		return err
	}
	if !q.stream {
		return badRequest("stream_options", "invalid-value", "stream_options needs stream")
	}
	if err := options.take("include_usage", &q.includeUsage); err != nil {
		return err
	}
	for key := range options {
		return badRequest("stream_options."+clip(key), "unsupported-parameter", fmt.Sprintf("stream option %.64q is not supported", key))
	}
	return nil
}

func (f fields) takeLimits(q *request) error {
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if _, ok := f[name]; !ok {
			continue
		}
		if q.maxTokens != 0 {
			return badRequest(name, "invalid-value", "max_tokens and max_completion_tokens exclude each other")
		}
		if err := f.take(name, &q.maxTokens); err != nil {
			return err
		}
		if q.maxTokens < 1 {
			return badRequest(name, "invalid-value", name+" must be at least 1")
		}
	}
	return nil
}

func (f fields) takeSampling(q *request) error {
	g := &q.gen
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
		return badRequest("temperature", "invalid-value", "temperature must be from 0 to 2")
	case !(g.TopP > 0 && g.TopP <= 1):
		return badRequest("top_p", "invalid-value", "top_p must be above 0 and at most 1")
	case g.TopK < 0:
		return badRequest("top_k", "invalid-value", "top_k must not be negative")
	}
	return nil
}

func (f fields) takeStop(q *request) error {
	raw, ok := f["stop"]
	if !ok {
		return nil
	}
	delete(f, "stop")
	var one string
	if json.Unmarshal(raw, &one) == nil {
		q.gen.Stop = []string{one}
	} else if json.Unmarshal(raw, &q.gen.Stop) != nil {
		return badRequest("stop", "invalid-type", "stop must be a string or a list of strings")
	}
	if len(q.gen.Stop) > maxStops {
		return badRequest("stop", "invalid-value", fmt.Sprintf("more than %d stop strings", maxStops))
	}
	for _, stop := range q.gen.Stop {
		if stop == "" || len(stop) > maxStopBytes {
			return badRequest("stop", "invalid-value", fmt.Sprintf("a stop string has 1 to %d bytes", maxStopBytes))
		}
	}
	return nil
}

// takeNeutral takes parameters that are not implemented but were given the value
// that means not to use them, and labels that do not change the answer.
func (f fields) takeNeutral(*request) error {
	for _, name := range []string{"user", "metadata", "safety_identifier", "prompt_cache_key"} {
		delete(f, name)
	}
	for name, neutral := range map[string]float64{"n": 1, "best_of": 1, "frequency_penalty": 0, "presence_penalty": 0, "top_logprobs": 0} {
		v := math.NaN()
		if raw, ok := f[name]; ok && json.Unmarshal(raw, &v) == nil && v == neutral {
			delete(f, name)
		} else if ok {
			return badRequest(name, "unsupported-value", fmt.Sprintf("%s other than %g is not supported", name, neutral))
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
