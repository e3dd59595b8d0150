package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/slogtest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func TestLevelsArePrioritiesAndNothingIsSaidTwice(t *testing.T) {
	j := newJournald(t)
	log, stderr := j.logger(t, "debug")
	log = log.With("node", 7)
	for level, want := range map[slog.Level]string{slog.LevelError: "3", slog.LevelWarn: "4", slog.LevelInfo: "6", slog.LevelDebug: "7", slog.LevelError + 4: "3", slog.LevelWarn + 1: "4", slog.LevelDebug - 4: ""} {
		log.Log(t.Context(), level, "lease granted", "until", time.Unix(0, 0).UTC(), "err", errors.New("not yet"), "for", 90*time.Second)
		if want == "" {
			continue // below the level
		}
		got := j.receive(t)
		one(t, got, "PRIORITY", want)
		one(t, got, "SYSLOG_IDENTIFIER", "anchorhold-test")
		one(t, got, "MESSAGE", `lease granted node=7 until=1970-01-01T00:00:00.000Z err="not yet" for=1m30s`)
		one(t, got, "ANCHORHOLD_NODE", "7")
		one(t, got, "ANCHORHOLD_ERR", "not yet")
		one(t, got, "ANCHORHOLD_FOR", "1m30s")
		if len(got) != 7 {
			t.Errorf("fields %q", slices.Sorted(maps.Keys(got)))
		}
	}
	if said := content(t, stderr); said != "" {
		t.Errorf("standard error has %q besides", said)
	}
}

type redacted struct{ secret string }

func (redacted) LogValue() slog.Value { return slog.StringValue("[redacted]") }

type nested struct{ depth int }

func (n nested) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("in", nested{n.depth + 1}), slog.Int("depth", n.depth))
}

type panics struct{ p *int }

func (p panics) MarshalText() ([]byte, error) { return nil, fmt.Errorf("at %d", *p.p) }

func TestWhateverAnAttributeHoldsStaysInItsField(t *testing.T) {
	for name, c := range map[string]struct {
		attr        slog.Attr
		field, want string
		line        string
	}{
		"line break":      {slog.String("err", "a\nPRIORITY=0\nMESSAGE=b"), "ANCHORHOLD_ERR", "a\nPRIORITY=0\nMESSAGE=b", `m err="a\nPRIORITY=0\nMESSAGE=b"`},
		"terminal":        {slog.String("err", "\x1b[2J"), "ANCHORHOLD_ERR", "\x1b[2J", `m err="\x1b[2J"`},
		"no UTF-8":        {slog.String("err", "\xff\xfe"), "ANCHORHOLD_ERR", "\xff\xfe", `m err="\xff\xfe"`},
		"a field's name":  {slog.Int("priority", 0), "ANCHORHOLD_PRIORITY", "0", "m priority=0"},
		"a trusted name":  {slog.Int("_UID", 0), "ANCHORHOLD__UID", "0", "m _UID=0"},
		"name with break": {slog.Int("a\nPRIORITY", 0), "ANCHORHOLD_A_PRIORITY", "0", `m "a\nPRIORITY"=0`},
		"foreign name":    {slog.Int("größe", 1), "ANCHORHOLD_GR__E", "1", "m größe=1"},
		"group":           {slog.Group("tls", slog.Group("peer", slog.String("name", "x y"))), "ANCHORHOLD_TLS_PEER_NAME", "x y", `m tls.peer.name="x y"`},
		"redacted":        {slog.Any("key", redacted{"hunter2"}), "ANCHORHOLD_KEY", "[redacted]", "m key=[redacted]"},
		"in a group":      {slog.Group("g", slog.Any("key", redacted{"hunter2"})), "ANCHORHOLD_G_KEY", "[redacted]", "m g.key=[redacted]"},
		"empty":           {slog.String("tenant", ""), "ANCHORHOLD_TENANT", "", `m tenant=""`},
		"bytes":           {slog.Any("raw", []byte("abc")), "ANCHORHOLD_RAW", "abc", "m raw=abc"},
		"panic":           {slog.Any("v", panics{}), "ANCHORHOLD_V", "!PANIC: runtime error: invalid memory address or nil pointer dereference", `m v="!PANIC: runtime error: invalid memory address or nil pointer dereference"`},
		"long name":       {slog.Int(strings.Repeat("n", 100), 1), "ANCHORHOLD_" + strings.Repeat("N", 53), "1", "m " + strings.Repeat("n", 100) + "=1"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournald(t)
			log, _ := j.logger(t, "")
			log.LogAttrs(t.Context(), slog.LevelInfo, "m", c.attr)
			got := j.receive(t)
			one(t, got, c.field, c.want)
			one(t, got, "MESSAGE", c.line)
			one(t, got, "PRIORITY", "6")
			if len(got) != 4 {
				t.Errorf("fields %q", got)
			}
		})
	}
}

func TestASecretsBufferIsNotLogged(t *testing.T) {
	key, err := keybuf.New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	copy(key.Bytes(), strings.Repeat("hunter2!", 4))
	j := newJournald(t)
	log, _ := j.logger(t, "")
	log.With("of", key).WithGroup("g").Info("m", "key", key, slog.Group("h", "key", key))
	if all := fmt.Sprint(j.receive(t)); strings.Contains(all, "hunter2") || strings.Contains(all, "104 117 110") || !strings.Contains(all, "ANCHORHOLD_G_H_KEY") {
		t.Error(all)
	}
}

func TestARecordIsBounded(t *testing.T) {
	j := newJournald(t)
	log, stderr := j.logger(t, "")
	attrs := []any{"deep", nested{}}
	for i := range 2 * maxFields {
		attrs = append(attrs, fmt.Sprint("n", i), strings.Repeat("é\xff", 1<<19))
	}
	log.Info(strings.Repeat("m\n", 1<<20), attrs...)
	got := j.receive(t)
	if most := maxFields + 3; len(got) > most || len(got) < maxFields {
		t.Errorf("%d fields, want some %d", len(got), most)
	}
	for name, values := range got {
		limit := maxValue
		if name == "MESSAGE" {
			limit = maxLine
		}
		if len(values) != 1 || len(values[0]) > limit {
			t.Errorf("%s: %d values, the first of %d bytes", name, len(values), len(values[0]))
		}
	}
	one(t, got, "ANCHORHOLD_DEEP_IN_DEPTH", "1")
	if said := content(t, stderr); said != "" {
		t.Errorf("standard error has %d bytes", len(said))
	}
}

// What slog asks of every handler. Ours leaves the time to the journal.
func TestHandlerKeepsSlogsRules(t *testing.T) {
	var j journald
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		j = newJournald(t)
		log, _ := j.logger(t, "")
		return log.Handler()
	}, func(t *testing.T) map[string]any {
		got := j.receive(t)
		words := strings.Fields(got["MESSAGE"][0])
		all := map[string]any{slog.MessageKey: words[0], slog.LevelKey: got["PRIORITY"][0]}
		if !strings.HasSuffix(t.Name(), "zero-time") {
			all[slog.TimeKey] = "the journal's"
		}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			group, keys := all, strings.Split(name, ".")
			for _, k := range keys[:len(keys)-1] {
				if group[k] == nil {
					group[k] = map[string]any{}
				}
				group = group[k].(map[string]any)
			}
			group[keys[len(keys)-1]] = value
		}
		return all
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("lease granted", "err", "no route", "g")
	f.Add("a\nPRIORITY=0", "a\nMESSAGE=x", "\x00\xff\n\n=", "")
	f.Add("", "", "", "=\n")
	f.Add(strings.Repeat("é", maxLine), strings.Repeat("=", 70), strings.Repeat("\n", maxValue+1), ".")
	f.Fuzz(func(t *testing.T, message, key, value, group string) {
		fields := appendAttr(nil, group, slog.Group(group, slog.String(key, value)), 0)
		text := line(message, fields)
		got, err := parse(encode(priorityInfo, "test", text, fields))
		if err != nil {
			t.Fatal(err)
		}
		one(t, got, "PRIORITY", "6")
		one(t, got, "MESSAGE", text)
		if len(text) > maxLine || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("line %q", text)
		}
		for name, values := range got {
			if name == "PRIORITY" || name == "MESSAGE" || name == "SYSLOG_IDENTIFIER" {
				continue
			}
			if !strings.HasPrefix(name, fieldPrefix) || len(values) != 1 || len(values[0]) > maxValue || len(value) <= maxValue && values[0] != value {
				t.Errorf("%s = %q, of %q", name, values, value)
			}
		}
	})
}
