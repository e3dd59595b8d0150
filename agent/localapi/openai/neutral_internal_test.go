package openai

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// formsOf are requests of every surface, with a place for more members.
func formsOf() map[surface]func(extra string) error {
	request := func(parse func(raw []byte) (*Request, error), head, tail string) func(string) error {
		return func(x string) error { _, err := parse([]byte(head + x + tail)); return err }
	}
	embed := func(ollama bool, head, tail string) func(string) error {
		return func(x string) error { _, err := parseEmbedding([]byte(head+x+tail), ollama); return err }
	}
	const chat, plain = `{"model":"m","messages":[{"role":"user","content":"a"}]`, `{"model":"m","prompt":"a"`
	return map[surface]func(string) error{
		inChat:         request(chats{}.parse, chat, "}"),
		inPlain:        request(chats{plain: true}.parse, plain, "}"),
		inResponses:    request(responses{}.parse, `{"model":"m","input":"a"`, "}"),
		inEmbeddings:   embed(false, `{"model":"m","input":"a"`, "}"),
		inOllama:       request(ollama{}.parse, chat, "}"),
		inOptions:      request(ollama{}.parse, chat+`,"options":{"seed":1`, "}}"),
		inEmbed:        embed(true, `{"model":"m","input":"a"`, "}"),
		inEmbedOptions: embed(true, `{"model":"m","input":"a","options":{"num_gpu":1`, "}}"),
	}
}

// TestNeutralValuesAreTaken: every parameter that is not implemented, with each value that changes
// nothing, wherever clients put it; and no other value.
func TestNeutralValuesAreTaken(t *testing.T) {
	forms := formsOf()
	generate := func(x string) error {
		_, err := ollama{generate: true}.parse([]byte(`{"model":"m","prompt":"a"` + x + `}`))
		return err
	}
	for _, p := range neutral {
		for in, parse := range forms {
			if p.in&in == 0 {
				continue
			}
			if in == inOllama {
				parse = func(x string) error {
					if err := forms[inOllama](x); err != nil {
						return err
					}
					return generate(x)
				}
			}
			values := p.values
			if values == nil {
				values = []string{`"anything"`, "7", `{"a":[1]}`}
			} else if err := forms[in](fmt.Sprintf(`,%q:"something else"`, p.name)); err == nil {
				t.Errorf("%s: %s is taken with a value that is not known", in, p.name)
			}
			for _, v := range append(values[:len(values):len(values)], "null") {
				if in == inEmbedOptions && p.name == "num_gpu" { // it is there already
					continue
				}
				if err := parse(fmt.Sprintf(`,%q:%s`, p.name, v)); err != nil {
					t.Errorf("%s: %s of %s: %v", in, p.name, v, err)
				}
			}
		}
	}
	for in, parse := range forms {
		if parse(`,"new_parameter":1`) == nil {
			t.Errorf("%s: a parameter that nobody knows is taken", in)
		}
		if err := parse(`,"new_parameter":null`); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// TestDefaultsOfClientsAreTaken: values that say what is done anyway, of parameters that there are.
func TestDefaultsOfClientsAreTaken(t *testing.T) {
	forms := formsOf()
	for in, list := range map[surface][]string{
		inOpenAI | inOptions: {`"temperature":1`, `"top_p":1`, `"top_p":1.0`, `"top_k":-1`, `"top_k":0`, `"min_p":0`, `"frequency_penalty":0`, `"presence_penalty":0.0`, `"repeat_penalty":1`, `"repeat_last_n":64`},
		inChat | inPlain:     {`"logit_bias":{}`, `"stop":[]`, `"n":1`, `"logprobs":false`, `"max_tokens":-1`, `"max_completion_tokens":-1`, `"stream_options":{}`, `"stream_options":{"include_usage":false}`, `"grammar":""`},
		inChat:               {`"tools":[]`, `"tool_choice":"auto"`, `"tool_choice":"none"`, `"parallel_tool_calls":true`, `"parallel_tool_calls":false`, `"response_format":{"type":"text"}`, `"top_logprobs":0`, `"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}`},
		inResponses:          {`"tools":[]`, `"include":[]`, `"include":["reasoning.encrypted_content"]`, `"top_logprobs":0`, `"text":{}`, `"text":{"format":{"type":"text"},"verbosity":"medium"}`, `"parallel_tool_calls":true`, `"instructions":""`},
		inEmbeddings:         {`"encoding_format":"float"`, `"encoding_format":"base64"`, `"dimensions":0`},
		inEmbed:              {`"truncate":true`, `"truncate":false`, `"options":{}`, `"dimensions":0`},
		inOllama:             {`"stream":false`, `"format":""`, `"options":{}`, `"logprobs":false`, `"top_logprobs":0`, `"options":{"num_predict":-1}`, `"options":{"num_predict":-2}`, `"tools":[]`},
	} {
		for one, parse := range forms {
			for _, extra := range list {
				if in&one == 0 {
					continue
				}
				if err := parse("," + extra); err != nil {
					t.Errorf("%s: %s: %v", one, extra, err)
				}
			}
		}
	}
}

// TestThinkingIsReadFromEveryForm in which clients say it.
func TestThinkingIsReadFromEveryForm(t *testing.T) {
	says := func(extra string) (*bool, error) {
		q, err := chats{}.parse([]byte(`{"model":"m","messages":[{"role":"user","content":"a"}],` + extra + `}`))
		if err != nil {
			return nil, err
		}
		return q.thinking, nil
	}
	for _, way := range thoughts {
		for _, v := range way.off {
			if got, err := says(fmt.Sprintf("%q:%s", way.name, v)); err != nil || got == nil || *got {
				t.Errorf("%s of %s: %v, %v", way.name, v, got, err)
			}
		}
		for _, v := range append(way.none[:len(way.none):len(way.none)], "null") {
			if got, err := says(fmt.Sprintf("%q:%s", way.name, v)); err != nil || got != nil {
				t.Errorf("%s of %s: %v, %v", way.name, v, got, err)
			}
		}
		for _, v := range []string{"true", `"high"`, `{"effort":"high"}`, "7"} {
			if _, err := says(fmt.Sprintf("%q:%s", way.name, v)); err == nil {
				t.Errorf("%s of %s is taken", way.name, v)
			}
		}
	}
	if got, err := says(`"chat_template_kwargs":{"enable_thinking":true}`); err != nil || got == nil || !*got {
		t.Errorf("%v, %v", got, err)
	}
}

// TestMembersOfNeutralValuesHaveNoOrder, and null is "not given" among them, too.
func TestMembersOfNeutralValuesHaveNoOrder(t *testing.T) {
	for extra, want := range map[string]string{
		`"reasoning":{"summary":null,"effort":"none"}`:                             "off",
		`"reasoning":{ "effort" : "none" , "summary" : null , "max_tokens":null }`: "off",
		`"reasoning":{"enabled":false,"effort":null}`:                              "off",
		`"reasoning":{"summary":null,"effort":null}`:                               "nothing",
		`"chat_template_kwargs":{"thinking_budget":null,"enable_thinking":false}`:  "off",
		`"chat_template_kwargs":{"enable_thinking":true,"x":null}`:                 "on",
		`"chat_template_kwargs":{"enable_thinking":null}`:                          "nothing",
		`"thinking":{"budget_tokens":null,"type":"disabled"}`:                      "off",
		`"reasoning":{"effort":"none","summary":"auto"}`:                           "refused",
		`"reasoning":{"summary":"auto"}`:                                           "refused",
		`"reasoning":{"effort":"none","effort":"high"}`:                            "refused",
		`"reasoning":{"effort":{"effort":"none"}}`:                                 "refused",
		`"chat_template_kwargs":{"enable_thinking":false,"other":1}`:               "refused",
		`"chat_template_kwargs":[{"enable_thinking":false}]`:                       "refused",
		`"reasoning":{` + strings.Repeat(`"a":null,`, 64) + `"effort":"none"}`:     "refused",
		`"prompt_cache_key":{"x":1},"reasoning_effort":"none","reasoning":{}`:      "off",
	} {
		q, err := chats{}.parse([]byte(`{"model":"m","messages":[{"role":"user","content":"a"}],` + extra + `}`))
		got := "nothing"
		switch {
		case err != nil:
			got = "refused"
		case q.thinking != nil:
			got = map[bool]string{true: "on", false: "off"}[*q.thinking]
		}
		if got != want {
			t.Errorf("%s: %s, want %s (%v)", extra, got, want, err)
		}
	}
}

// TestTheManualListsNeutralValues, every one and no other.
func TestTheManualListsNeutralValues(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "<!-- neutral -->\n")
	table, _, ok := strings.Cut(table, "<!-- end of neutral -->")
	if !ok {
		t.Fatal("the manual has no table of neutral values")
	}
	want := "| parameter | where | values |\n|---|---|---|\n"
	for _, p := range neutral {
		values := "any"
		if p.values != nil {
			values = "`" + strings.Join(p.values, "`, `") + "`"
		}
		want += fmt.Sprintf("| `%s` | %s | %s |\n", p.name, p.in, values)
	}
	if table != want {
		t.Errorf("the manual has\n%s\nand not\n%s", table, want)
	}
}
