package openai

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi"
)

// inParts is a chat of one message whose content is in so many parts.
func inParts(n int, part string) []byte {
	return fmt.Appendf(nil, `{"model":"m","messages":[{"role":"user","content":[%s]}]}`, strings.TrimSuffix(strings.Repeat(part+",", n), ","))
}

const onePart = `{"type":"text","text":""}`

func BenchmarkParse(b *testing.B) {
	for name, body := range map[string][]byte{
		"one part":     inParts(1, `{"type":"text","text":"`+strings.Repeat("x", 900<<10)+`"}`),
		"35,000 parts": inParts(35000, onePart),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(body, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestPartsMakeNoGarbage: what a request in tens of thousands of parts allocates is what it
// holds, and does not grow with their number. Each part took seven allocations, and
// collecting them under the agent's memory limit took seconds of the processor.
func TestPartsMakeNoGarbage(t *testing.T) {
	allocations := func(n int, part string) float64 {
		body := inParts(n, part)
		return testing.AllocsPerRun(1, func() {
			if _, err := Parse(body, true); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, part := range []string{onePart, `{"text":"ab","type":"text"}`, `{"type":"text","text":"caf\u00e9 \ud83d\ude00","x":null}`} {
		few, many := allocations(10, part), allocations(20_000, part)
		if many > few+64 { // the text's own growth
			t.Errorf("%s: %.0f allocations for 10 parts, %.0f for 20,000", part, few, many)
		}
	}
}

// TestPartsAreReadAsJSON, each with its text, and refused by what they are.
func TestPartsAreReadAsJSON(t *testing.T) {
	for content, want := range map[string]string{
		`"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83dx\udc00"`:                        "a\"\\/\b\f\n\r\té😀�x�",
		`[{"type":"text","text":"a"},{"text":"b\n","type":"text"}]`:                 "ab\n",
		`[ { "type" : "text" , "text" : "a" , "text" : "b" } ]`:                     "b", // the last, as encoding/json has it
		`[{"t\u0079pe":"te\u0078t","text":""},{"type":"text","text":"x","y":null}]`: "x",
	} {
		q, err := Parse([]byte(`{"model":"m","messages":[{"role":"user","content":`+content+`}]}`), true)
		if err != nil || q.Messages[0].Content != want {
			t.Errorf("%s: %q, %v", content, q.Messages, err)
		}
	}
	for content, code := range map[string]string{
		`[]`:                            "invalid-type",
		`[1]`:                           "invalid-type",
		`["a"]`:                         "invalid-type",
		`[{"type":"text","text":1}]`:    "invalid-type",
		`{"type":"text","text":"a"}`:    "invalid-type",
		`[{"type":"text"}]`:             "unsupported-content",
		`[{"type":"text","text":null}]`: "unsupported-content",
		`[{"text":"a"}]`:                "unsupported-content",
		`[{"type":"image_url"}]`:        "unsupported-content",
		`[{"type":1,"text":"a"}]`:       "unsupported-content",
		`[{"type":"text","text":"a","cache_control":{}}]`: "unsupported-parameter",
		`[{"type":"text","Text":"a"}]`:                    "unsupported-parameter",
	} {
		_, err := Parse([]byte(`{"model":"m","messages":[{"role":"user","content":`+content+`}]}`), true)
		if p, ok := err.(*localapi.Error); !ok || p.Code != code {
			t.Errorf("%s: %v, want %s", content, err, code)
		}
	}
}
