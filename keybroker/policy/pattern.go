package policy

import (
	"fmt"
	"strings"
)

const maxIDBytes = 128

// checkID accepts names made of segments of a-z, 0-9, '.', '_' and '-', each
// starting with a letter or digit, joined by '/'.
func checkID(s string) error {
	if s == "" || len(s) > maxIDBytes {
		return fmt.Errorf("got a name of %d bytes, want 1 to %d", len(s), maxIDBytes)
	}
	for segment := range strings.SplitSeq(s, "/") {
		for i, c := range []byte(segment) {
			letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
			if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
				return fmt.Errorf("%q is not allowed in the name %q; want parts of a-z 0-9 . _ - joined by /, each starting with a letter or digit", c, s)
			}
		}
		if segment == "" {
			return fmt.Errorf("the name %q has an empty part", s)
		}
	}
	return nil
}

// checkPattern accepts an exact name or a subtree, "name/*".
func checkPattern(s string) error { return checkID(strings.TrimSuffix(s, "/*")) }

// matchesAny reports whether a pattern names id. A subtree does not contain
// its own root.
func matchesAny(patterns []string, id string) bool {
	for _, p := range patterns {
		if prefix, subtree := strings.CutSuffix(p, "/*"); subtree {
			if strings.HasPrefix(id, prefix+"/") {
				return true
			}
		} else if p == id {
			return true
		}
	}
	return false
}
