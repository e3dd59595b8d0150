package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable shows what a terminal would obey or hide, and invalid UTF-8, as an escape: names
// and reasons come from guests, files and other operators, and must not move the cursor, hide
// text or retitle a window. Line breaks and tabs stay.
func Printable(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\n' || r == '\t' || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			b.WriteString(text[i : i+size])
		case size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}

// PrintableWriter writes text for people through [Printable], and keeps the first error.
type PrintableWriter struct {
	To  io.Writer
	err error
}

// Write implements io.Writer. Each call has whole characters.
func (p *PrintableWriter) Write(b []byte) (int, error) {
	if p.err == nil {
		_, p.err = io.WriteString(p.To, Printable(string(b)))
	}
	if p.err != nil {
		return 0, p.err
	}
	return len(b), nil
}
