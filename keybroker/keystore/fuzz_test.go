package keystore

import (
	"bytes"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPitfall25NamesNeverLeaveTheirPlace and the fuzz target below hold the
// same property: a name that is accepted is a clean relative path.
func TestPitfall25NamesNeverLeaveTheirPlace(t *testing.T) {
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", ".a", "-a", "a/.b", "A", "a b", "a\x00b", "a\\b", "é", "a\n", strings.Repeat("a", 129), "a%2fb"} {
		if CheckName(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for _, good := range []string{"a", "models/smollm2", "t-1/k_2/v.3", "0", strings.Repeat("a", 128)} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"models/a", "../../etc", "a/./b", "a..b", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckName(s) != nil {
			return
		}
		if path.Clean(s) != s || path.IsAbs(s) || !filepath.IsLocal(s) || strings.ContainsAny(s, "\x00\\ %") || len(s) > MaxNameBytes {
			t.Fatalf("%q was accepted", s)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	b, _ := record{state: Active, created: time.Unix(1, 0), changed: time.Unix(2, 0), size: 3, sealed: []byte("x"), meta: Meta{Kind: "k"}}.marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if again, err := r.marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x (%v)", b, again, err)
		}
	})
}

func FuzzParseSalt(f *testing.F) {
	f.Add([]byte("anchorhold-kdf/1 argon2id t=3 m=65536 p=4 salt=000102030405060708090a0b0c0d0e0f\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if salt, err := parseSalt(b); err == nil && len(salt) != argonSalt {
			t.Fatal("wrong salt")
		}
	})
}
