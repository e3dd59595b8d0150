package cli

import (
	"io"
	"strings"
	"testing"
)

func TestTerminalsObeyNoName(t *testing.T) {
	for text, want := range map[string]string{
		"models/demo\tversion 1\n": "models/demo\tversion 1\n",
		"ünïcode 模型":               "ünïcode 模型",
		"\x1b[31mred\x07\r":        `\x1b[31mred\x07\x0d`,
		"a\u202eb\u009b":           `a\u202eb\u009b`,
		"\xff\U000e0041\ufffd":     `\xff\U000e0041` + "\ufffd",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	var out strings.Builder
	inv := &Invocation{Out: &out}
	if err := inv.Print(nil, func(w io.Writer) { io.WriteString(w, "\x1b]0;title\x07\n") }); err != nil || out.String() != `\x1b]0;title\x07`+"\n" {
		t.Errorf("a command prints %q, %v", out.String(), err)
	}
}
