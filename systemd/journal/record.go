package journal

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of one record: together below what a socket's send buffer takes, and a
// line below the journal's LineMax= (48 KiB), which holds on standard error.
const (
	maxFields    = 32
	maxDepth     = 8        // of groups
	maxName      = 64       // the journal's own limit
	maxValue     = 4 << 10  // bytes of one value
	maxLine      = 16 << 10 // bytes of a line
	fieldPrefix  = "ANCHORHOLD_"
	cutShort     = "..."
	millisFormat = "2006-01-02T15:04:05.000Z07:00" // as slog writes times
)

// field is an attribute: its groups and key, joined by dots, and its text.
type field struct{ name, value string }

// appendAttr appends an attribute, a group's one by one. What is over the
// limits is left out.
func appendAttr(fields []field, group string, a slog.Attr, depth int) []field {
	value := a.Value.Resolve() // what redacts itself does so here
	if a.Key == "" && value.Equal(slog.Value{}) {
		return fields
	}
	if value.Kind() != slog.KindGroup {
		if len(fields) >= maxFields {
			return fields
		}
		return append(fields, field{group + a.Key, cut(text(value), maxValue)})
	}
	if depth >= maxDepth {
		return fields
	}
	if a.Key != "" {
		group += a.Key + "."
	}
	for _, inner := range value.Group() {
		fields = appendAttr(fields, group, inner, depth+1)
	}
	return fields
}

// text is a value as slog's own text handler words it, without quotes.
func text(v slog.Value) (s string) {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Round(0).Format(millisFormat)
	case slog.KindDuration:
		return v.Duration().Round(time.Nanosecond).String()
	case slog.KindAny:
		switch x := v.Any().(type) {
		case encoding.TextMarshaler:
			return marshaled(x)
		case []byte:
			return string(x)
		default:
			return fmt.Sprintf("%+v", x)
		}
	}
	return v.String()
}

// marshaled outlives a marshaler that does not, such as a nil pointer's.
func marshaled(m encoding.TextMarshaler) (s string) {
	defer func() {
		if p := recover(); p != nil {
			s = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	b, err := m.MarshalText()
	if err != nil {
		return "!ERROR: " + err.Error()
	}
	return string(b)
}

// line is a record for people: the message and what belongs to it. Nothing in
// it can begin another line or move a cursor.
func line(message string, fields []field) string {
	var b strings.Builder
	if strings.ContainsFunc(message, unprintable) || !utf8.ValidString(message) {
		message = strconv.Quote(cut(message, maxValue))
	}
	b.WriteString(message)
	for _, f := range fields {
		b.WriteByte(' ')
		b.WriteString(quoted(f.name))
		b.WriteByte('=')
		b.WriteString(quoted(f.value))
	}
	return cut(b.String(), maxLine)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func quoted(s string) string {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unprintable(r) || r == ' ' || r == '"' || r == '=' }) {
		return strconv.Quote(s)
	}
	return s
}

// cut bounds a text, between two characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most - len(cutShort)
	for i := 0; i < utf8.UTFMax && end > 0 && !utf8.RuneStart(s[end]); i++ {
		end--
	}
	return s[:end] + cutShort
}

// encode writes a record in the journal's native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
func encode(priority int, name, message string, fields []field) []byte {
	b := make([]byte, 0, 512)
	b = appendField(b, "PRIORITY", strconv.Itoa(priority))
	b = appendField(b, "SYSLOG_IDENTIFIER", name)
	b = appendField(b, "MESSAGE", message)
	for _, f := range fields {
		if f.name != "" {
			b = appendField(b, fieldName(f.name), f.value)
		}
	}
	return b
}

// appendField gives a value with a line break its length: without it the rest
// of the value would be the next field.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	b = append(b, value...)
	return append(b, '\n')
}

// fieldName is the journal's name of an attribute. Its prefix keeps it apart
// from every field that means something to the journal.
func fieldName(name string) string {
	upper := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	full := fieldPrefix + upper
	return full[:min(len(full), maxName)]
}
