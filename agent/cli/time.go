package cli

import (
	"fmt"
	"time"
)

const wrongTime = "%s: got %q, want a time such as 2026-01-15T12:00:00Z"

// ParseTime reads the time (RFC 3339) that a flag or a field of a file gives; absent is the time where none
// is given. Another form is a mistake of usage that names the flag.
func ParseTime(name, text string, absent time.Time) (time.Time, error) {
	if text == "" {
		return absent, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return absent, Usage(fmt.Errorf(wrongTime, name, text))
	}
	return t, nil
}
