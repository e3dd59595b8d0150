package tokenize

import (
	"errors"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// ErrTools means that tools or their calls cannot be handed to a template.
var ErrTools = errors.New("tools refused")

// Call is a call of a tool in an assistant's turn. Arguments are a JSON object.
type Call struct {
	Name      string
	Arguments []byte
}

// Conversation is what a template turns into a prompt.
type Conversation struct {
	Messages []Message
	// Tools is a JSON list of the functions that may be called, as OpenAI's API has it; nil
	// without any.
	Tools []byte
	// Thinking is what the template is told about thinking before the answer (enable_thinking);
	// nil: nothing, and it does what its model usually does.
	Thinking *bool
}

// Texts around a call of a tool, in the form that Qwen 2.5, Qwen 3 and the Hermes models write
// (NousResearch/Hermes-Function-Calling). Between them is an object of name and arguments.
const (
	CallBegin = "<tool_call>"
	CallEnd   = "</tool_call>"
)

// CallsTools says whether the template shows tools to the model, and calls in the form of
// [CallBegin].
func (t *Template) CallsTools() bool { return t.tools }

func knowsTools(source string) bool {
	return strings.Contains(source, "tools") && strings.Contains(source, "tool_calls") && strings.Contains(source, CallBegin)
}

// values turns a conversation into what the program takes. Every text of it goes through guard.
func (c Conversation) values(guard func(string) string) (messages []any, tools any, err error) {
	for _, m := range c.Messages {
		o := map[string]any{"role": guard(m.Role), "content": guard(m.Content)}
		if m.Name != "" {
			o["name"] = guard(m.Name)
		}
		var calls []any
		for _, call := range m.Calls {
			arguments, err := parsed(call.Arguments, guard)
			if err != nil {
				return nil, nil, err
			}
			calls = append(calls, map[string]any{"type": "function", "function": map[string]any{"name": guard(call.Name), "arguments": arguments}})
		}
		if calls != nil {
			o["tool_calls"] = calls
		}
		messages = append(messages, o)
	}
	if c.Tools != nil {
		tools, err = parsed(c.Tools, guard)
	}
	return messages, tools, err
}

func parsed(raw []byte, guard func(string) string) (any, error) {
	v, err := jinja.ParseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTools, err)
	}
	return guarded(v, guard), nil
}

// guarded is a value whose texts, and the names in it, went through guard.
func guarded(v any, guard func(string) string) any {
	switch v := v.(type) {
	case string:
		return guard(v)
	case []any:
		for i := range v {
			v[i] = guarded(v[i], guard)
		}
	case *jinja.Object:
		o := &jinja.Object{}
		for _, k := range v.Keys() {
			o.Set(guard(k), guarded(v.Get(k), guard))
		}
		return o
	}
	return v
}
