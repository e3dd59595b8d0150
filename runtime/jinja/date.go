package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// date is strftime_now: the time in a format of strftime, of which it knows the numbers and the
// English names of days and months.
func date(format any, now time.Time) (string, error) {
	text, ok := format.(string)
	if !ok {
		return "", fmt.Errorf("strftime_now of %s", kindName(format))
	}
	return formatted(text, now)
}

// formatted is the time in a format, whose errors depend on the format alone.
func formatted(text string, now time.Time) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", fmt.Errorf("strftime_now: the format ends in %%")
		}
		layout, ok := dateLayouts[text[i]]
		switch {
		case text[i] == '%':
			b.WriteByte('%')
		case text[i] == 'j':
			fmt.Fprintf(&b, "%03d", now.YearDay())
		case text[i] == 'w':
			b.WriteString(strconv.Itoa(int(now.Weekday())))
		case !ok:
			return "", fmt.Errorf("strftime_now: %%%c is not supported", text[i])
		default:
			b.WriteString(now.Format(layout))
		}
	}
	return b.String(), nil
}

// dateLayouts are the layouts of package time for the letters of strftime.
var dateLayouts = map[byte]string{'d': "02", 'm': "01", 'b': "Jan", 'B': "January", 'y': "06", 'Y': "2006", 'H': "15", 'I': "03", 'M': "04", 'S': "05",
	'p': "PM", 'a': "Mon", 'A': "Monday"}
