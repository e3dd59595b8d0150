package rawjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/localapi/rawjson"
)

func ExampleMembers() {
	members, _ := rawjson.Members([]byte(`{"model": "tiny", "stop": ["a", "b"]}`))
	fmt.Printf("%s %s\n", members["model"], members["stop"])
	// Output: "tiny" ["a", "b"]
}

func TestOtherKindsAreRefused(t *testing.T) {
	for _, text := range []string{`1`, `"{"`, `null`, `[]`, ``, ` `} {
		if m, err := rawjson.Members([]byte(text)); !errors.Is(err, rawjson.ErrKind) {
			t.Errorf("members of %q: %v %v", text, m, err)
		}
	}
	for _, text := range []string{`1`, `"["`, `null`, `{}`, ``} {
		if err := rawjson.Elements([]byte(text), func([]byte) error { return nil }); !errors.Is(err, rawjson.ErrKind) {
			t.Errorf("elements of %q: %v", text, err)
		}
	}
	stop := errors.New("enough")
	if err := rawjson.Elements([]byte(`[1,2]`), func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if rawjson.Valid([]byte("\"\xff\"")) || rawjson.Valid([]byte(`{}x`)) || !rawjson.Valid([]byte(` {} `)) {
		t.Error("Valid")
	}
}

func numbers(text string, depth int) (list []string, err error) {
	err = rawjson.Numbers([]byte(text), depth, func(n []byte) error { list = append(list, string(n)); return nil })
	return list, err
}

func TestNumbersComeInRowMajorOrder(t *testing.T) {
	for _, text := range []string{`[1,-2.5e3, 3 ,4]`, `[[1,-2.5e3],[3,4]]`, ` [ [ [1] , [-2.5e3] ] , [ [3] , [4] ] ] `} {
		if list, err := numbers(text, 3); err != nil || !slices.Equal(list, []string{"1", "-2.5e3", "3", "4"}) {
			t.Errorf("%s: %q %v", text, list, err)
		}
	}
}

func TestWhatIsNoArrayOfNumbersIsRefused(t *testing.T) {
	for _, text := range []string{`1`, `{}`, `[null]`, `["1"]`, `[true]`, `[1,null]`, `[[1],2]`, `[1,[2]]`, `[[1],[2,3]]`, `[[1],[[2]]]`, `[[]]`, `[]`, `[[1],[]]`,
		`[[[[1]]]]`, `[{"a":1}]`, `[` + strings.Repeat("1", 500) + `]`, `[1`, ``} {
		if list, err := numbers(text, 3); err == nil {
			t.Errorf("%s: %q", text, list)
		}
	}
	stop := errors.New("enough")
	if err := rawjson.Numbers([]byte(`[1,2]`), 1, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestMembersAreBounded(t *testing.T) {
	object := func(n int) []byte {
		return []byte("{" + strings.TrimSuffix(strings.Repeat(`"a":1,`, n), ",") + "}")
	}
	if m, err := rawjson.Members(object(rawjson.MaxMembers)); err != nil || len(m) != 1 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := rawjson.Members(object(rawjson.MaxMembers + 1)); !errors.Is(err, rawjson.ErrMany) {
		t.Error(err)
	}
}

// Nothing is copied: what is returned lies in the text.
func TestALongValueIsNotCopied(t *testing.T) {
	text := []byte(`{"a":[{"b":"` + strings.Repeat("x", 1<<20) + `"}]}`)
	if n := testing.AllocsPerRun(10, func() {
		m, _ := rawjson.Members(text)
		_ = rawjson.Elements(m["a"], func(e []byte) error {
			if &e[0] != &text[6] {
				t.Error("a copy")
			}
			return nil
		})
	}); n > 8 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAgainstEncodingJSON: of a valid text, members and elements are those that
// encoding/json finds.
func FuzzAgainstEncodingJSON(f *testing.F) {
	for _, text := range []string{`{"a":1,"b":[1,2,{"c":"]}\""}],"a":null}`, `[ [1 ,2], {"x":{}} , "\\" , -1e5,true ]`, `{}`, `[]`, `{"é":"\u00e9"}`, `[[1,2],[3,4]]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !rawjson.Valid(text) {
			_, _ = rawjson.Members(text)
			_ = rawjson.Elements(text, func([]byte) error { return nil })
			_ = rawjson.Numbers(text, 4, func([]byte) error { return nil })
			return
		}
		var object map[string]json.RawMessage
		if members, err := rawjson.Members(text); errors.Is(err, rawjson.ErrMany) {
			if bytes.Count(text, []byte{':'}) <= rawjson.MaxMembers {
				t.Errorf("%q: %v", text, err)
			}
		} else if json.Unmarshal(text, &object) == nil && object != nil {
			got := map[string]json.RawMessage{}
			for k, v := range members {
				got[k] = v
			}
			if err != nil || !reflect.DeepEqual(got, object) {
				t.Errorf("members %q, want %q: %v", slices.Collect(maps.Keys(got)), object, err)
			}
		} else if err == nil {
			t.Errorf("%q has members", text)
		}
		var array []json.RawMessage
		var got []json.RawMessage
		err := rawjson.Elements(text, func(e []byte) error { got = append(got, e); return nil })
		if json.Unmarshal(text, &array) == nil && array != nil {
			if err != nil || len(got) != len(array) || len(got) > 0 && !reflect.DeepEqual(got, array) {
				t.Errorf("elements %q, want %q: %v", got, array, err)
			}
		} else if err == nil {
			t.Errorf("%q has elements", text)
		}
		var flat []float64
		var count int
		if rawjson.Numbers(text, 1, func([]byte) error { count++; return nil }) == nil && (json.Unmarshal(text, &flat) == nil && len(flat) != count) {
			t.Errorf("%d numbers, want %d", count, len(flat))
		}
	})
}

// FuzzText compares what a string says, and the members of an object, with encoding/json.
func FuzzText(f *testing.F) {
	for _, s := range []string{`""`, `"a"`, `"\u0061\n\"\\\/"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83d\u0061"`, `"\udc00x"`, `"\uD83D\uDE00\ud83d\ud83d\ude00"`, `"é日"`,
		`{"a":"\u0062","a":"c"}`, `{"":""}`, `{ "\u0061" : "x" , "b" : [1,{"c":"}"}] }`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.TrimSpace(text)
		if !rawjson.Valid([]byte(text)) {
			return
		}
		var want string
		if json.Unmarshal([]byte(text), &want) == nil && text != "null" {
			var b strings.Builder
			if err := rawjson.Text(&b, []byte(text)); err != nil || b.String() != want || !rawjson.Is([]byte(text), want) || rawjson.Is([]byte(text), want+"x") {
				t.Errorf("%s: %q, %v, want %q", text, b.String(), err, want)
			}
		} else if rawjson.Text(&strings.Builder{}, []byte(text)) == nil {
			t.Errorf("%s is read as a string", text)
		}
		var members map[string]json.RawMessage
		got := map[string]string{}
		err := rawjson.Object([]byte(text), func(name, value []byte) error {
			var b strings.Builder
			err := rawjson.Text(&b, name)
			got[b.String()] = string(value)
			return err
		})
		if json.Unmarshal([]byte(text), &members) != nil || members == nil {
			if err == nil {
				t.Errorf("%s is read as an object", text)
			}
			return
		}
		if err != nil || len(got) != len(members) {
			t.Fatalf("%s: %q, %v", text, got, err)
		}
		for name, value := range members {
			if got[name] != string(value) {
				t.Errorf("%s: %q is %s, want %s", text, name, got[name], value)
			}
		}
	})
}
