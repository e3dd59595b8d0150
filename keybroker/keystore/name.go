package keystore

import (
	"errors"
	"fmt"
)

// MaxNameBytes bounds a secret's name.
const MaxNameBytes = 128

// ErrName means that a secret's name is not allowed.
var ErrName = errors.New("bad secret name")

// CheckName accepts names made of segments of a-z, 0-9, '.', '_' and '-',
// joined by '/'. No segment is empty or starts with a dot, so a name is never
// a path that leaves its place.
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("%w: it has %d bytes (1 to %d)", ErrName, len(name), MaxNameBytes)
	}
	start := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '/' && !start:
			start = true
			continue
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9', !start && (c == '.' || c == '_' || c == '-'):
			start = false
		default:
			return fmt.Errorf("%w: %q at byte %d (segments of a-z 0-9 . _ - joined by /, each starting with a letter or digit)", ErrName, c, i)
		}
	}
	if start {
		return fmt.Errorf("%w: it ends with /", ErrName)
	}
	return nil
}
