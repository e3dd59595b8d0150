package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/systemd/config/yaml"
)

type sample struct {
	Name  string `yaml:"name"`
	Count int    `yaml:"count"`
	Inner struct {
		Scale Scale    `yaml:"scale"`
		List  []string `yaml:"list"`
	} `yaml:"inner"`
}

func TestDecodeReadsEveryField(t *testing.T) {
	var s sample
	err := Decode([]byte("name: a\ncount: 3\ninner:\n  scale: 2^40\n  list: [x, y]\n"), &s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "a" || s.Count != 3 || s.Inner.Scale.Log2() != 40 || len(s.Inner.List) != 2 {
		t.Errorf("decoded %+v", s)
	}
}

func TestDecodeRefusesAndNamesThePlace(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		line int
		word string
	}{
		"unknown key":    {"name: a\nnmae: b\n", 2, "nmae"},
		"unknown nested": {"inner:\n  skale: 2^3\n", 2, "skale"},
		"duplicate key":  {"name: a\nname: b\n", 2, "name"},
		"wrong type":     {"count: many\n", 1, ""},
		"anchor":         {"name: &a x\n", 1, "anchors"},
		"alias":          {"name: &a x\ninner: *a\n", 1, "anchors"},
		"tag":            {"name: !!binary aGk=\n", 1, "tags"},
		"bad scale":      {"inner:\n  scale: 3^4\n", 0, "power of two"},
		"two documents":  {"name: a\n---\nname: b\n", 0, "documents"},
		"empty":          {"# nothing\n", 0, "empty"},
		"not yaml":       {"name: [a\n", 0, ""},
		"deep":           {"name: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", 0, "nested"},
		"large":          {"name: " + strings.Repeat("x", MaxBytes) + "\n", 0, "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			var s sample
			err := Decode([]byte(tc.text), &s)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("Decode: %v, want an *Error", err)
			}
			if tc.line != 0 && e.Line != tc.line || !strings.Contains(e.Error(), tc.word) || strings.Contains(e.Error(), "\n") {
				t.Errorf("line %d: %q, want line %d and %q in one line", e.Line, e, tc.line, tc.word)
			}
		})
	}
}

// TestDocumentsOfManyTokensAreRefusedBeforeTheyAreParsed: half a megabyte of commas took 400
// MiB to parse.
func TestDocumentsOfManyTokensAreRefusedBeforeTheyAreParsed(t *testing.T) {
	var into struct {
		List []string `yaml:"list"`
	}
	for name, doc := range map[string]string{
		"commas": "list: [" + strings.Repeat("a,", yaml.MaxNodes) + "a]",
		"lines":  "list:\n" + strings.Repeat("  - a\n", yaml.MaxNodes),
	} {
		var bad *Error
		if err := Decode([]byte(doc), &into); !errors.As(err, &bad) || !strings.Contains(bad.Message, "more than") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Decode([]byte("list: ["+strings.Repeat("a,", 4096)+"a]"), &into); err != nil || len(into.List) != 4097 {
		t.Errorf("%d: %v", len(into.List), err)
	}
}
