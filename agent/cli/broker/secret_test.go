package broker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
)

func TestKeyOfNoStatedModel(t *testing.T) {
	id := strings.Repeat("ab", 32)
	if s, err := keySubject(nil, "", id); err != nil || s.String() != id {
		t.Errorf("%s, %v", s, err)
	}
	if s, err := keySubject(nil, "", ""); err != nil || s != (keystore.Subject{}) {
		t.Errorf("%s, %v", s, err)
	}
	for _, bad := range [][2]string{{"file", id}, {"", "ab"}, {"", strings.Repeat("0", 64)}} {
		if _, err := keySubject(nil, bad[0], bad[1]); cli.StatusOf(err) != cli.StatusUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for text, m := range map[string]keystore.Meta{"": {Kind: "queue"}, ", for no stated model": {Kind: keyfile.KindModelKey}, ", for model " + id: {Kind: keyfile.KindModelKey, Subject: keystore.Subject(bytes.Repeat([]byte{0xab}, 32))}} {
		if got := subjectText(m); got != text {
			t.Errorf("%+v: %q", m, got)
		}
	}
}
