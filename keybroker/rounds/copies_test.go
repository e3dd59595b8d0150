//go:build !race

package rounds

import (
	"context"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

// listener is a store of secrets that keeps a copy of the last one in a buffer of its own.
type listener struct {
	Secrets
	heard *keybuf.Buffer
}

func (l *listener) Put(ctx context.Context, name string, subject digest.Digest, secret *keybuf.Buffer) (err error) {
	if l.heard, err = secret.Clone(); err != nil {
		return err
	}
	return l.Secrets.Put(ctx, name, subject, secret)
}

// TestARoundsKeyLeavesNoCopy in a process that has the unit's environment.
func TestARoundsKeyLeavesNoCopy(t *testing.T) {
	if !keybuftest.Alone(t, keybuftest.ClobberFree) {
		return
	}
	m := newMachine(t)
	var l *listener
	s := m.service(t, bolted(t), func(c *Config) {
		l = &listener{Secrets: c.Secrets}
		c.Secrets = l
	})
	opened(t, s, nil)
	defer l.heard.Wipe()
	if found := keybuftest.Copies(t, l.heard); len(found) > 0 {
		t.Errorf("the round's key is in memory %d times: %q", len(found), found)
	}
}
