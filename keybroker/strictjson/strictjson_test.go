package strictjson_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

func ExampleDecode() {
	var message struct {
		Receipts []string `json:"receipts"`
	}
	most := strictjson.Limits{Values: 8, List: 2}
	fmt.Println(strictjson.Decode([]byte(`{"receipts": ["a", "b"]}`), most, &message), message.Receipts)
	fmt.Println(strictjson.Decode([]byte(`{"receipts": ["a", "b", "c"]}`), most, &message), message.Receipts)
	// Output:
	// <nil> [a b]
	// a list has more than 2 entries [a b]
}

// Each limit at what it allows and one beyond it, and nothing is decoded beyond it.
func TestLimits(t *testing.T) {
	list := func(n int, entry string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + "]"
	}
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"m%d":1`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	most := strictjson.Limits{Values: 40, List: 4, Named: map[string]int{"long": 6}}
	for name, tc := range map[string]struct {
		text string
		fits bool
	}{
		"list":                     {list(4, `""`), true},
		"long list":                {list(5, `""`), false},
		"members":                  {members(4), true},
		"many members":             {members(5), false},
		"named":                    {`{"long":` + list(6, "1") + `}`, true},
		"longer":                   {`{"long":` + list(7, "1") + `}`, false},
		"in another spelling":      {`{"LONG":` + list(5, "1") + `}`, false},
		"with an escape":           {`{"lon\u0067":` + list(5, "1") + `}`, false},
		"under another name":       {`{"short":` + list(5, "1") + `}`, false},
		"inside the named":         {`{"long":[` + list(5, "1") + `]}`, false},
		"behind the named":         {`{"long":[],"a":[` + list(5, "1") + `]}`, false},
		"behind its own name":      {`["long",` + list(5, "1") + `]`, false},
		"an object of that name":   {`{"long":` + members(5) + `}`, false},
		"a name that is a value":   {`{"a":"long","b":` + list(5, "1") + `}`, false},
		"values":                   {list(4, list(4, `[1]`)), true},   // 1 + 4 + 16 + 16 of them
		"many values":              {list(4, list(4, `[[]]`)), false}, // as many, of which 16 are empty
		"what a string holds":      {list(4, `"[[[,,,,,{{\"[,,,\\"`), true},
		"behind what it holds":     {list(5, `"\\"`), false},
		"depth":                    {strings.Repeat("[", 32) + strings.Repeat("]", 32), true},
		"one deeper":               {strings.Repeat("[", 33) + strings.Repeat("]", 33), false},
		"a list behind another":    {`[` + list(4, "1") + `,` + list(5, "1") + `]`, false},
		"a list twice in one name": {`{"a":` + list(4, "1") + `,"a":` + list(5, "1") + `}`, false},
	} {
		var into any
		err := strictjson.Decode([]byte(tc.text), most, &into)
		if tc.fits != (err == nil) || !tc.fits && into != nil {
			t.Errorf("%s: %v of %s", name, err, tc.text)
		}
	}
	var into any
	if err := strictjson.Decode([]byte(`{}`), strictjson.Limits{}, &into); err == nil {
		t.Error("the zero value takes an object")
	}
}

func TestOneValueWithKnownFields(t *testing.T) {
	most := strictjson.Limits{Values: 9, List: 9}
	for _, bad := range []string{"", "{", `{"more":1}`, `{"a":1}{}`, `{"a":1}x`, `}`, `]]]`, `,,,`, `{"a":"`, `"\`} {
		var into struct {
			A int `json:"a"`
		}
		if err := strictjson.Decode([]byte(bad), most, &into); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// What is taken is inside the limits, by a count of what was decoded.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{`{"a":[1,2,3,4],"b":{"c":"\\\"[,"}}`, `[[],[],[]]`, `"[[["`, `{"long":[1,2,3,4,5]}`, `{"a" :[ "x" , null]}`, `{"a":1,,}`, "[1,\u2028]"} {
		f.Add(text)
	}
	most := strictjson.Limits{Values: 12, List: 3, Named: map[string]int{"long": 5}}
	f.Fuzz(func(t *testing.T, text string) {
		var into any
		if err := strictjson.Decode([]byte(text), most, &into); err != nil {
			return
		}
		if n := count(t, into, most.List, most); n > most.Values {
			t.Errorf("%d values in %q", n, text)
		}
		var again any
		if err := json.Unmarshal([]byte(text), &again); err != nil || !reflect.DeepEqual(again, into) {
			t.Errorf("%v for %q", err, text)
		}
	})
}

// count counts the values in what was decoded, and holds its lists against the limits.
func count(t *testing.T, v any, list int, most strictjson.Limits) int {
	n := 1
	switch v := v.(type) {
	case []any:
		if len(v) > list {
			t.Errorf("a list of %d", len(v))
		}
		for _, e := range v {
			n += count(t, e, most.List, most)
		}
	case map[string]any:
		if len(v) > most.List {
			t.Errorf("an object of %d", len(v))
		}
		for name, e := range v {
			n += count(t, e, max(most.Named[name], most.List), most)
		}
	}
	return n
}
