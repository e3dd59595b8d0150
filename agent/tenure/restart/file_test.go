//go:build !release

package restart

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// FuzzFile: what parses is written the same again.
func FuzzFile(f *testing.F) {
	raw, err := sealedFile{[]byte{1}, []byte{2, 3}, []byte{4}}.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	raw, err = report{[]byte{1}, [][]byte{{2}, {3, 4}}}.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if file, err := parseFile(raw); err == nil {
			if again, err := file.marshal(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%x is written as %x, %v", raw, again, err)
			}
		}
		if told, err := parseReport(raw); err == nil {
			if again, err := told.marshal(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%x is written as %x, %v", raw, again, err)
			}
		}
	})
}

// TestKeysAreBoundToPermitAndHandle: the right key opens nothing behind another of either.
func TestKeysAreBoundToPermitAndHandle(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	l, err := w.lease(b, b.broker)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	raw, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	secret, _, _, err := w.tpm.Open(t.Context(), f.handle)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sealedFile){
		"permit": func(f *sealedFile) { f.chain = append(slices.Clone(f.chain), 0) },
		"handle": func(f *sealedFile) { f.handle = append(slices.Clone(f.handle), 0) },
		"border": func(f *sealedFile) { f.handle, f.chain = append(slices.Clone(f.handle), f.chain[0]), f.chain[1:] },
	} {
		other := f
		change(&other)
		if c, err := other.open(bytes.Clone(secret), l.Permit.Permit); err == nil || c != nil {
			t.Errorf("another %s: opened", name)
		}
	}
	c, err := f.open(secret, l.Permit.Permit)
	if err != nil {
		t.Fatal(err)
	}
	c.wipe()
}

// TestContentIsExactlyThePermitsKeys: in each only one thing is another.
func TestContentIsExactlyThePermitsKeys(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	l, err := w.lease(b, b.broker)
	if err != nil {
		t.Fatal(err)
	}
	key := w.f.NewKey(identity.LevelEpoch)
	permit := protocol.Permit{RestartKey: key.Public(), Keys: []protocol.Permitted{{Resource: brokertest.Resource, Version: 1}}}
	c := &content{restart: key, keys: l.Keys}
	plain := func() []byte {
		t.Helper()
		buf, err := c.encode(permit)
		if err != nil {
			t.Fatal(err)
		}
		defer buf.Wipe()
		return bytes.Clone(buf.Bytes())
	}
	again, err := decode(plain(), permit)
	if err != nil || string(again.keys[brokertest.Resource].Key.Bytes()) != brokertest.Secret {
		t.Fatal(err)
	}
	again.wipe()
	for name, change := range map[string]func(*protocol.Permit, *[]byte){
		"another version": func(p *protocol.Permit, _ *[]byte) {
			p.Keys = []protocol.Permitted{{Resource: brokertest.Resource, Version: 2}}
		},
		"another key's name": func(p *protocol.Permit, _ *[]byte) {
			p.Keys = []protocol.Permitted{{Resource: "models/other", Version: 1}}
		},
		"a key less": func(p *protocol.Permit, _ *[]byte) { p.Keys = nil },
		"a key more": func(p *protocol.Permit, _ *[]byte) {
			p.Keys = append(slices.Clone(p.Keys), protocol.Permitted{Resource: "models/z", Version: 1})
		},
		"another restart key": func(p *protocol.Permit, _ *[]byte) { p.RestartKey = b.key.Public() },
		"a byte less":         func(_ *protocol.Permit, raw *[]byte) { *raw = (*raw)[:len(*raw)-1] },
		"a byte more":         func(_ *protocol.Permit, raw *[]byte) { *raw = append(*raw, 0) },
		"nothing":             func(_ *protocol.Permit, raw *[]byte) { *raw = nil },
	} {
		p, raw := permit, plain()
		change(&p, &raw)
		if got, err := decode(raw, p); err == nil || got != nil {
			t.Errorf("%s: opened", name)
		}
	}
	permit.Keys[0].Version = 2
	if _, err := c.encode(permit); err == nil {
		t.Error("a version that the lease has not was sealed")
	}
	permit.Keys[0].Version = 1
	l.Wipe()
	if _, err := c.encode(permit); err == nil {
		t.Error("a key that was wiped was sealed")
	}
}
