package openai

import (
	"fmt"
	"maps"
	"testing"
)

// TestNeutralValuesAreTaken: every parameter that is not implemented, with each value that changes
// nothing, in every form that has it; and no other value.
func TestNeutralValuesAreTaken(t *testing.T) {
	forms := map[string]func(extra string) error{
		"chat": func(x string) error {
			_, err := Parse([]byte(`{"model":"m","messages":[{"role":"user","content":"a"}]`+x+`}`), true)
			return err
		},
		"plain": func(x string) error { _, err := Parse([]byte(`{"model":"m","prompt":"a"`+x+`}`), false); return err },
		"ollama": func(x string) error {
			_, err := ollama{}.parse([]byte(`{"model":"m","messages":[{"role":"user","content":"a"}]` + x + `}`))
			return err
		},
		"generate": func(x string) error {
			_, err := ollama{generate: true}.parse([]byte(`{"model":"m","prompt":"a"` + x + `}`))
			return err
		},
	}
	tables := map[string]map[string][]string{"chat": neutral, "plain": neutral, "ollama": labels, "generate": labels}
	for form, parse := range forms {
		all := maps.Clone(tables[form])
		for _, numbers := range []string{`"temperature":1`, `"top_p":1`, `"top_p":1.0`, `"top_k":-1`, `"top_k":0`, `"min_p":0`, `"frequency_penalty":0`, `"presence_penalty":0.0`, `"repeat_penalty":1`, `"logit_bias":{}`, `"stop":[]`, `"seed":null`, `"new_parameter":null`} {
			extra := "," + numbers
			if form == "ollama" || form == "generate" {
				if numbers == `"logit_bias":{}` { // which Ollama has not
					continue
				}
				extra = `,"options":{` + numbers + `}`
			}
			if err := parse(extra); err != nil {
				t.Errorf("%s with %s: %v", form, numbers, err)
			}
		}
		for name, values := range all {
			if values == nil {
				values = []string{`"anything"`, "7", `{"a":[1]}`}
			} else if err := parse(fmt.Sprintf(`,%q:"something else"`, name)); err == nil {
				t.Errorf("%s: %s is taken with a value that is not known", form, name)
			}
			for _, v := range append(values, "null") {
				if err := parse(fmt.Sprintf(`,%q:%s`, name, v)); err != nil {
					t.Errorf("%s: %s of %s: %v", form, name, v, err)
				}
			}
		}
	}
}
