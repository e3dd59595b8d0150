package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\ncount: 3\ninner:\n  scale: 2^40\n  list: [x, y]\n"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Add([]byte("  0:\n  1:"))
	f.Add([]byte("? [complex]\n: {k: v}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sample
		wantSentences(t, Decode(data, &s))
	})
}

// wantSentences fails if an error is not one sentence for each fault, with its place.
func wantSentences(t *testing.T, err error) {
	if err == nil {
		return
	}
	lines := strings.Split(err.Error(), "\n")
	if own, ok := errors.AsType[*Error](err); !ok || len(lines) > maxProblems || own.Line < 0 {
		t.Errorf("not errors with places: %q", err)
	}
	for _, line := range lines {
		if len(lines) > 1 && !strings.HasPrefix(line, "line ") {
			t.Errorf("%q is not one sentence of %q", line, err)
		}
	}
}

func FuzzDecodeEvery(f *testing.F) {
	for _, seed := range []string{"a: 1\nb: x\nl: [x]\nm: {k: 1}\no:\n  - n: 2\ns: 2^40\n", "? a\n: !!x &y *z\n", "y: [[[[{a: b}]]]]\n", "b: |2-\n  x\n", "a: 1\n---\n...\n", "%YAML 1.2\n---\na: 1\n"} {
		f.Add([]byte(seed))
	}
	if data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "design", "template.yaml")); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e every
		wantSentences(t, Decode(data, &e))
	})
}

// FuzzDecodeAsTheLibraryDoes: what is decoded here is what the library's own decoder gives.
func FuzzDecodeAsTheLibraryDoes(f *testing.F) {
	for _, seed := range []string{"a: 1\nb: x\nl: [x]\nm: {k: 1}\no:\n  - n: 2\ns: 2^40\n", "b: |2-\n  x\n", "b: >\n  x\n  y\n", `b: "\u00e9\n"`, "b: 'it''s'\n", "l: []\nm: {}\n", "a: 0x10\n", "a: -1\n", "b: x # y\n", "y: {a: [1, -2, 1.5, true, x]}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours, theirs every
		if Decode(data, &ours) != nil {
			return
		}
		err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&theirs)
		if err != nil && strings.Contains(err.Error(), "invalid number of indent") {
			return // it refuses |2 before an empty line
		}
		if err != nil || !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%q: got %+v, the library %+v (%v)", data, ours, theirs, err)
		}
	})
}
