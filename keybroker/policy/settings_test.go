package policy

import (
	"reflect"
	"strings"
	"testing"
)

// TestEveryCheckNamesItsSetting: a refusal that names a check says what to write, in the words of the file.
func TestEveryCheckNamesItsSetting(t *testing.T) {
	for id, c := range checks() {
		setting := settings()[id]
		if (setting == "") != (c.configured == nil) {
			t.Errorf("%s: got the setting %q, and configured is %t", c.name, setting, c.configured != nil)
		}
		if setting != "" && !isSetting(reflect.TypeFor[Require](), setting) {
			t.Errorf("%s: Require has no %q", c.name, setting)
		}
	}
}

// isSetting follows a dotted path through the fields of the file's format.
func isSetting(of reflect.Type, path string) bool {
	name, rest, more := strings.Cut(path, ".")
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	for field := range of.Fields() {
		if field.Tag.Get("yaml") == name {
			return !more || isSetting(field.Type, rest)
		}
	}
	return false
}

// TestRefusalsOfMissingChecksNameTheSetting: "image" is configured by image_ids.
func TestRefusalsOfMissingChecksNameTheSetting(t *testing.T) {
	for name, c := range map[string]struct{ from, to, says string }{
		"missing": {"  image_ids:", "  # image_ids:", "image (image_ids); write the setting in brackets under require"},
		"both":    {"rules:\n", "waive: [{check: image, reason: a test}]\nrules:\n", "image (image_ids) is configured and waived"},
	} {
		text := strings.Replace(full(), c.from, c.to, 1)
		if _, err := Parse([]byte(text)); text == full() || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
