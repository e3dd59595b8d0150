package openai

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// Limits on tools and what is said of them.
const (
	maxTools    = 128
	maxToolName = 64
	// maxValues bounds the values in tools, arguments and schemas, and valueCost is the memory
	// that each takes when it was read.
	maxValues, valueCost = 1 << 14, 128
)

// tool is a function that an answer may call.
type tool struct {
	name       string
	describes  string
	parameters []byte // a schema; nil: any object
	strict     bool   // a schema that cannot be enforced is refused
}

// Ways to choose tools, beside the name of one.
const (
	chooseNone     = "none"
	chooseAuto     = "auto"
	chooseRequired = "required"
)

// calling says whether the answer may call tools.
func (q *Request) calling() bool { return q.ToolList != nil }

// takeTools reads the functions that may be called, and whether they have to be.
func (f fields) takeTools(q *Request) error {
	raw, ok := f["tools"]
	delete(f, "tools")
	if ok {
		err := rawjson.Elements(raw, func(element []byte) error {
			if len(q.tools) == maxTools {
				return localapi.BadRequest("tools", "invalid-value", fmt.Sprintf("tools must have at most %d entries", maxTools))
			}
			t, err := readTool(fmt.Sprintf("tools[%d]", len(q.tools)), element)
			for _, other := range q.tools {
				if err == nil && other.name == t.name {
					err = localapi.BadRequest("tools", "invalid-value", fmt.Sprintf("tools has two functions named %q", t.name))
				}
			}
			q.tools = append(q.tools, t)
			return err
		})
		if errors.Is(err, rawjson.ErrKind) {
			err = localapi.BadRequest("tools", "invalid-type", "tools must be a list of objects")
		}
		if err != nil {
			return err
		}
		if err := q.count("tools", raw); err != nil {
			return err
		}
	}
	q.parallel = true
	if err := f.take("parallel_tool_calls", &q.parallel); err != nil {
		return err
	}
	if err := f.takeToolChoice(q); err != nil {
		return err
	}
	if len(q.tools) > 0 && q.choose != chooseNone {
		q.ToolList = raw
	}
	return nil
}

// takeToolChoice reads a word, or the name of the one function to call.
func (f fields) takeToolChoice(q *Request) error {
	q.choose = chooseAuto
	raw, ok := f["tool_choice"]
	delete(f, "tool_choice")
	if !ok {
		return nil
	}
	switch {
	case rawjson.Is(raw, chooseNone), rawjson.Is(raw, chooseAuto), rawjson.Is(raw, chooseRequired):
		q.choose = string(bytes.Trim(raw, `"`))
		if q.choose == chooseRequired && len(q.tools) == 0 {
			return localapi.BadRequest("tool_choice", "invalid-value", "tool_choice requires tools")
		}
		return nil
	}
	wrong := localapi.BadRequest("tool_choice", "invalid-value", `tool_choice must be "none", "auto", "required", or {"type":"function","function":{"name":...}} with the name of one of tools`)
	members, err := rawjson.Members(raw)
	if err != nil || !rawjson.Is(members["type"], "function") || len(members) != 2 {
		return wrong
	}
	if function, ok := members["function"]; ok {
		if members, err = rawjson.Members(function); err != nil || len(members) != 1 {
			return wrong
		}
	}
	var name string
	if err := fields(members).take("name", &name); err != nil {
		return wrong
	}
	for _, t := range q.tools {
		if t.name == name {
			q.tools, q.named, q.choose, q.parallel = []tool{t}, true, chooseRequired, false
			return nil
		}
	}
	return wrong
}

// readTool reads one function.
func readTool(param string, raw []byte) (t tool, err error) {
	members, err := rawjson.Members(raw)
	if err != nil {
		return t, localapi.BadRequest(param, "invalid-type", "a tool must be an object")
	}
	outer := fields(members)
	if !rawjson.Is(outer["type"], "function") {
		return t, localapi.BadRequest(param+".type", "unsupported-tool", fmt.Sprintf("a tool of type %.40s is not supported; functions are", outer["type"]))
	}
	delete(outer, "type")
	f := outer
	if function, ok := outer["function"]; ok {
		delete(outer, "function")
		if err := outer.noneOf(param); err != nil {
			return t, err
		}
		if members, err = rawjson.Members(function); err != nil {
			return t, localapi.BadRequest(param+".function", "invalid-type", "a function must be an object")
		}
		f = members
	}
	for name, v := range f {
		if rawjson.Null(v) {
			delete(f, name)
		}
	}
	for name, v := range map[string]any{"name": &t.name, "description": &t.describes, "strict": &t.strict} {
		if err := f.take(name, v); err != nil {
			return t, localapi.BadRequest(param+"."+name, "invalid-type", name+" of a function has the wrong type")
		}
	}
	if !toolName(t.name) {
		return t, localapi.BadRequest(param+".name", "invalid-value", fmt.Sprintf("a function must have a name of 1 to %d letters, digits, _, - and .", maxToolName))
	}
	t.parameters = f["parameters"]
	delete(f, "parameters")
	if t.parameters != nil && t.parameters[0] != '{' {
		return t, localapi.BadRequest(param+".parameters", "invalid-type", "parameters of a function must be a schema of an object")
	}
	return t, f.noneOf(param)
}

// loose are the functions of which no schema has to hold; nil if an answer has to call.
func (q *Request) loose() (names []string) {
	if q.choose != chooseAuto {
		return nil
	}
	for _, t := range q.tools {
		if !t.strict {
			names = append(names, t.name)
		}
	}
	return names
}

func toolName(name string) bool {
	return name != "" && len(name) <= maxToolName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == ""
}

// noneOf refuses members of a parameter that were not taken.
func (f fields) noneOf(param string) error {
	for name, v := range f {
		if !rawjson.Null(v) {
			return localapi.BadRequest(param+"."+clip(name), "unsupported-parameter", fmt.Sprintf("%.64q in %s is not supported", name, param))
		}
	}
	return nil
}

// count bounds the values of a request that are read into memory. What is in strings is none: an
// argument may be a file of source text.
func (q *Request) count(param string, raw []byte) error {
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++
			}
		case c == ',' || c == ':' || c == '[' || c == '{':
			q.values++
		}
	}
	if q.values > maxValues {
		return localapi.BadRequest(param, "invalid-value", fmt.Sprintf("tools, arguments and schemas of a request must have at most %d values", maxValues))
	}
	return nil
}

// takeCalls reads the calls of an assistant's turn.
func (f fields) takeCalls(q *Request, name string, m *tokenize.Message) error {
	raw, ok := f["tool_calls"]
	delete(f, "tool_calls")
	if !ok || rawjson.Null(raw) {
		return nil
	}
	if m.Role != "assistant" {
		return localapi.BadRequest(name+".tool_calls", "invalid-value", "an assistant alone calls tools")
	}
	wrong := localapi.BadRequest(name+".tool_calls", "invalid-type", "tool_calls must be a list of {id, type, function: {name, arguments}}")
	err := rawjson.Elements(raw, func(element []byte) error {
		if len(m.Calls) == maxTools {
			return localapi.BadRequest(name+".tool_calls", "invalid-value", fmt.Sprintf("a message must have at most %d calls", maxTools))
		}
		outer, err := rawjson.Members(element)
		if err != nil {
			return wrong
		}
		if kind, ok := outer["type"]; ok && !rawjson.Is(kind, "function") {
			return localapi.BadRequest(name+".tool_calls", "unsupported-tool", fmt.Sprintf("a call of type %.40s is not supported; those of functions are", kind))
		}
		inner, err := rawjson.Members(outer["function"])
		if err != nil {
			return wrong
		}
		var id string
		call := fields(inner)
		if err := fields(outer).take("id", &id); err != nil {
			return wrong
		}
		return q.addCall(name+".tool_calls", m, id, call["name"], call["arguments"])
	})
	if errors.Is(err, rawjson.ErrKind) {
		return wrong
	}
	return err
}

// addCall adds a call to an assistant's turn. Arguments are an object, or a string that is one.
func (q *Request) addCall(param string, m *tokenize.Message, id string, name, arguments []byte) error {
	var b, object strings.Builder
	if rawjson.Text(&b, name) != nil || !toolName(b.String()) {
		return localapi.BadRequest(param, "invalid-value", "a call must have the name of a function")
	}
	if len(arguments) > 0 && arguments[0] == '"' {
		if rawjson.Text(&object, arguments) != nil {
			return localapi.BadRequest(param, "invalid-type", "arguments must be a string")
		}
		arguments = []byte(object.String())
		if len(bytes.TrimSpace(arguments)) == 0 {
			arguments = []byte("{}") // as some clients have none
		}
	}
	arguments = bytes.TrimSpace(arguments)
	if len(arguments) == 0 || arguments[0] != '{' || !rawjson.Valid(arguments) {
		return localapi.BadRequest(param, "invalid-value", "arguments of a call must be a JSON object")
	}
	if err := q.count(param, arguments); err != nil {
		return err
	}
	if q.calls++; q.calls > maxMessages {
		return localapi.BadRequest(param, "invalid-value", fmt.Sprintf("a request must have at most %d calls", maxMessages))
	}
	if id != "" {
		if q.callNames == nil {
			q.callNames = map[string]string{}
		}
		q.callNames[id] = b.String()
	}
	m.Calls = append(m.Calls, tokenize.Call{Name: b.String(), Arguments: arguments})
	return nil
}

// answered is the name of the function whose call had an id.
func (q *Request) answered(param, id string) (name string, err error) {
	name, ok := q.callNames[id]
	if !ok {
		return "", localapi.BadRequest(param, "invalid-value", "a tool's answer must have the id of a call before it")
	}
	return name, nil
}
