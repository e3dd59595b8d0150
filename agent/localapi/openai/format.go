package openai

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/grammar/schema"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// takeFormat reads what an answer has to be: any JSON object, JSON of a schema, or a text of a
// grammar in GBNF.
func (f fields) takeFormat(q *Request) error {
	if err := f.take("grammar", &q.grammar); err != nil {
		return err
	}
	q.from = "response_format"
	raw, ok := f["response_format"]
	if !ok {
		return q.oneFormat()
	}
	delete(f, "response_format")
	members, err := rawjson.Members(raw)
	if err != nil {
		return localapi.BadRequest("response_format", "invalid-type", "response_format must be an object")
	}
	format := fields(members)
	kind := format["type"]
	delete(format, "type")
	switch {
	case rawjson.Is(kind, "text"):
	case rawjson.Is(kind, "json_object"):
		q.schema = []byte(schema.Any)
	case rawjson.Is(kind, "json_schema"):
		if nested, ok := format["json_schema"]; ok {
			delete(format, "json_schema")
			if err := format.noneOf("response_format"); err != nil {
				return err
			}
			if format, err = rawjson.Members(nested); err != nil {
				return localapi.BadRequest("response_format.json_schema", "invalid-type", "json_schema must be an object")
			}
		}
		// A schema is always enforced, whatever strict says.
		for _, label := range []string{"name", "description", "strict"} {
			delete(format, label)
		}
		if q.schema = format["schema"]; q.schema == nil {
			return localapi.BadRequest("response_format", "missing-parameter", "json_schema must have a schema")
		}
		delete(format, "schema")
	default:
		return localapi.BadRequest("response_format", "unsupported-value", fmt.Sprintf("response_format of type %.40s is not supported", kind))
	}
	if err := format.noneOf("response_format"); err != nil {
		return err
	}
	if err := q.count("response_format", q.schema); err != nil {
		return err
	}
	return q.oneFormat()
}

// oneFormat refuses two of the things that say what an answer has to be.
func (q *Request) oneFormat() error {
	switch {
	case q.schema != nil && q.grammar != "":
		return localapi.BadRequest("grammar", "invalid-value", "response_format and grammar are mutually exclusive")
	case (q.schema != nil || q.grammar != "") && q.calling():
		return localapi.BadRequest("tools", "unsupported-value", "tools beside response_format or grammar are not supported, unless tool_choice is none")
	}
	return nil
}

// constrained says whether an answer has a grammar.
func (q *Request) constrained() bool { return q.schema != nil || q.grammar != "" || q.calling() }

// formatCost is the memory of tools and schemas as they are read, and of a grammar while it is
// followed.
func formatCost(q *Request) int64 {
	cost := valueCost * int64(q.values)
	if q.constrained() {
		cost += grammar.Cost
	}
	return cost
}

// compile makes the grammar of the answer, if it has one.
func (q *Request) compile() (err error) {
	switch {
	case q.grammar != "":
		q.Gen.Grammar, err = grammar.Parse(q.grammar)
	case q.schema != nil:
		q.Gen.Grammar, err = schema.Compile([]schema.Part{{Schema: q.schema}})
	case q.calling():
		q.Gen.Grammar, err = q.callGrammar()
	}
	if err != nil {
		return localapi.BadRequest(q.formatName(), "grammar-refused", err.Error())
	}
	return nil
}

// formatName is the parameter that a grammar comes from.
func (q *Request) formatName() string {
	switch {
	case q.grammar != "":
		return "grammar"
	case q.calling():
		return "tools"
	}
	return q.from
}

// callGrammar is the grammar of an answer with tools: text that begins no call, unless a call is
// required, and calls in the form of the template. A schema that is not strict and cannot be
// enforced, alone or beside the others, or that admits more than objects, admits any object: what is
// none would be no call.
func (q *Request) callGrammar() (*grammar.Grammar, error) {
	free := tokenize.CallBegin
	if q.choose == chooseRequired {
		free = ""
	}
	enforced := func(t tool) bool { return t.strict || schema.CheckObject(t.parameters) == nil }
	g, err := schema.CompileCalls(free, q.parallel, q.alternatives(enforced)...)
	if err != nil && slices.ContainsFunc(q.tools, func(t tool) bool { return !t.strict }) {
		enforced = func(t tool) bool { return t.strict }
		g, err = schema.CompileCalls(free, q.parallel, q.alternatives(enforced)...)
	}
	for _, t := range q.tools {
		if t.parameters != nil && !enforced(t) {
			q.loosened = append(q.loosened, t.name)
		}
	}
	return g, err
}

// WarningHeader of an answer says what of a request is not enforced.
const WarningHeader = "Anchorhold-Warning"

// mostWarned is how many tools a warning names.
const mostWarned = 8

// warn tells the client which functions may be called with any object.
func (c *completion) warn(w http.ResponseWriter) {
	names, more := c.request.loosened, ""
	if len(names) == 0 {
		return
	}
	if n := len(names) - mostWarned; n > 0 {
		names, more = names[:mostWarned], fmt.Sprintf(" and %d more", n)
	}
	w.Header().Set(WarningHeader, "tool-schema-not-enforced: "+strings.Join(names, ", ")+more)
}

// alternatives are the calls that there may be, with the schemas that are enforced.
func (q *Request) alternatives(enforced func(tool) bool) (list [][]schema.Part) {
	for _, t := range q.tools {
		parameters := t.parameters
		if parameters == nil || !enforced(t) {
			parameters = []byte(schema.Any)
		}
		list = append(list, []schema.Part{{Text: callHead + strconv.Quote(t.name) + callMiddle, Schema: parameters, Object: true}, {Text: callTail}})
	}
	return list
}

// A call as the template and the model write it.
const (
	callHead   = tokenize.CallBegin + "\n{\"name\": "
	callMiddle = `, "arguments": `
	callTail   = "}\n" + tokenize.CallEnd
)
