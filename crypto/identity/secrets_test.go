package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestWipeClearsTheExpandedKey looks at the library's own copy after Wipe.
func TestWipeClearsTheExpandedKey(t *testing.T) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		k := generate(t, level)
		packed := func() []byte { return nil }
		switch m := k.mldsa().(type) {
		case private65:
			packed = m.key.Bytes
		case private87:
			packed = m.key.Bytes
		}
		seed := k.seed
		before := packed()
		k.Wipe()
		if after := packed(); bytes.Equal(before, after) || !bytes.Equal(after[:128], make([]byte, 128)) {
			t.Errorf("%s: the expanded key outlives Wipe", level)
		}
		if seed.Len() != 0 {
			t.Errorf("%s: the seed outlives Wipe", level)
		}
	}
}

func TestNoFormShowsThePrivateHalf(t *testing.T) {
	k := generate(t, LevelEpoch)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", k, *k)
		// Reflection passes by the methods of a field that is not exported.
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", struct{ k *Private }{k}, struct{ k Private }{*k})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", k)
	slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", k)
	if data, err := json.Marshal([]any{k}); err == nil {
		out.Write(data)
	}
	seed := k.seed.Bytes()
	expanded := k.mldsa().(private65).key.Bytes() // begins with the public rho: skip it
	for name, part := range map[string][]byte{"ML-DSA seed": seed[:32], "Ed25519 seed": seed[32:], "expanded key": expanded[32:64]} {
		for _, form := range []string{string(part), hex.EncodeToString(part), fmt.Sprint(part), fmt.Sprintf("%#v", part)} {
			// Eight bytes in whatever form are enough to give it away.
			if strings.Contains(out.String(), form[:len(form)/4]) {
				t.Errorf("the %s shows", name)
			}
		}
	}
}

// TestKeysWithoutAnOwnerStillSign has the collector run while nothing but the
// call itself refers to the key.
func TestKeysWithoutAnOwnerStillSign(t *testing.T) {
	for range 8 {
		k, err := Generate(LevelEpoch)
		if err != nil {
			t.Fatal(err)
		}
		p := k.Public()
		done := make(chan struct{})
		go func() { defer close(done); runtime.GC() }()
		sig, err := k.Sign("context", []byte("m"))
		<-done
		if err != nil || p.Verify("context", []byte("m"), sig) != nil {
			t.Fatalf("%v", err)
		}
	}
}

// TestTheSignedMessageNamesEverything changes one thing at a time that both
// halves must sign over. The classical half has no context of its own.
func TestTheSignedMessageNamesEverything(t *testing.T) {
	p, other := generate(t, LevelEpoch).Public(), generate(t, LevelEpoch).Public()
	base := p.bind("context", []byte("m"))
	elsewhere := p
	elsewhere.level = LevelRoot
	for name, changed := range map[string][]byte{
		"context":             p.bind("contexu", []byte("m")),
		"border of context":   p.bind("contextm", nil),
		"message":             p.bind("context", []byte("n")),
		"level":               elsewhere.bind("context", []byte("m")),
		"composite key":       other.bind("context", []byte("m")),
		"nothing but message": []byte("m"),
	} {
		if bytes.Equal(base, changed) {
			t.Errorf("%s is not signed over", name)
		}
	}
	if !bytes.HasPrefix(base, []byte("anchorhold/identity/composite/1\x00")) {
		t.Error("no label of this format")
	}
}

// TestChosenCostsAreRefused lets a planted file ask for more memory, passes or
// lanes than this package ever gives, each alone.
func TestChosenCostsAreRefused(t *testing.T) {
	good := keyHeader{kind: kindPassphrase, level: LevelEpoch, time: argonTime, kib: argonKiB, lanes: argonLanes}
	if !good.costsAllowed() {
		t.Fatal("our own costs are refused")
	}
	for name, change := range map[string]func(*keyHeader){
		"no pass":                 func(h *keyHeader) { h.time = 0 },
		"passes":                  func(h *keyHeader) { h.time = maxArgonTime + 1 },
		"memory":                  func(h *keyHeader) { h.kib = maxArgonKiB + 1 },
		"too little memory":       func(h *keyHeader) { h.kib = 1 },
		"no lane":                 func(h *keyHeader) { h.lanes = 0 },
		"lanes":                   func(h *keyHeader) { h.lanes = maxArgonLanes + 1 },
		"unknown kind":            func(h *keyHeader) { h.kind = 3 },
		"kind zero":               func(h *keyHeader) { h.kind = 0 },
		"costs with a credential": func(h *keyHeader) { h.kind = kindCredential },
		"unknown level":           func(h *keyHeader) { h.level = 3 },
	} {
		h := good
		change(&h)
		if _, _, _, err := parseKeyFile(armored(h)); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := parseKeyFile(armored(good)); err != nil {
		t.Errorf("the same file unchanged: %v", err)
	}
}

func armored(h keyHeader) []byte {
	raw := append(h.encode(), make([]byte, fileSize-headerSize)...)
	return armor(raw)
}

// TestHeaderIsBound changes every header byte of a file that opens.
func TestHeaderIsBound(t *testing.T) {
	k := generate(t, LevelEpoch)
	u := Unlock{Credential: secret(t, strings.Repeat("c", 32))}
	path := filepath.Join(t.TempDir(), "key")
	if err := WriteKeyFile(path, k, u); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw := unarmor(t, data)
	for i := range headerSize {
		bad := bytes.Clone(raw)
		bad[i] ^= 3 // turns one level into the other
		if err := os.WriteFile(path, armor(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(path, u); err == nil {
			t.Errorf("header byte %d changed: opened", i)
		}
	}
	if binary.BigEndian.Uint32(raw[headerSize-nonceSize-9:]) != 0 {
		t.Error("a file for a credential has a cost")
	}
}

func TestKeyFilesAreWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	u := Unlock{Credential: secret(t, strings.Repeat("c", 32))}
	k := generate(t, LevelRoot)
	if err := WriteKeyFile(path, k, u); err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFile(path, generate(t, LevelRoot), u); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	if err := WriteKeyFile(filepath.Join(dir, "absent", "key"), k, u); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into a directory that is absent: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files left behind: %v %v", entries, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if back, err := ReadKeyFile(path, u); err != nil || !back.Public().Equal(k.Public()) {
		t.Errorf("the first key changed: %v", err)
	}
	gone := generate(t, LevelEpoch)
	gone.Wipe()
	for name, k := range map[string]*Private{"wiped": gone, "absent": nil} {
		if err := WriteKeyFile(filepath.Join(dir, "none"), k, u); err == nil {
			t.Errorf("a key that is %s was written", name)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]string{"pipe": pipe, "directory": dir} {
		if _, err := ReadKeyFile(at, u); !errors.Is(err, ErrMode) {
			t.Errorf("a %s in the file's place: %v", name, err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(path, u); !errors.Is(err, ErrMode) {
			t.Errorf("a file of another user: %v", err)
		}
	}
}

// TestProtectingAFileReplacesItWhole: the key comes under another secret, or everything stays
// as it was.
func TestProtectingAFileReplacesItWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	first, second := Unlock{Passphrase: secret(t, "first")}, Unlock{Credential: secret(t, strings.Repeat("c", 32))}
	k := generate(t, LevelRoot)
	if err := WriteKeyFile(path, k, first); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path     string
		old, now Unlock
		want     error
	}{
		"the wrong secret":          {path, second, second, ErrUnlock},
		"no new secret":             {path, first, Unlock{}, ErrNoKey},
		"a credential that is weak": {path, first, Unlock{Credential: secret(t, "weak")}, ErrCredential},
		"a link":                    {link, first, second, ErrMode},
		"no file":                   {filepath.Join(dir, "absent"), first, second, os.ErrNotExist},
	} {
		if _, err := ProtectKeyFile(c.path, c.old, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("a refusal changed the file: %v", err)
	}

	public, err := ProtectKeyFile(path, first, second)
	if err != nil || !public.Equal(k.Public()) {
		t.Fatalf("%v", err)
	}
	if _, err := ReadKeyFile(path, first); !errors.Is(err, ErrUnlock) {
		t.Errorf("the old secret: %v", err)
	}
	if back, err := ReadKeyFile(path, second); err != nil || !back.Public().Equal(public) {
		t.Errorf("the new secret: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestPublicFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pub")
	p := generate(t, LevelRoot).Public()
	if err := WritePublicFile(path, p); err != nil {
		t.Fatal(err)
	}
	back, err := ReadPublicFile(path)
	if err != nil || !back.Equal(p) || back.String() != p.String() {
		t.Errorf("%s, %v", back, err)
	}
	if err := WritePublicFile(path, p); !errors.Is(err, os.ErrExist) {
		t.Errorf("replaced: %v", err)
	}
	if err := WritePublicFile(filepath.Join(dir, "zero"), Public{}); err == nil {
		t.Error("no identity was written")
	}
	if err := os.WriteFile(path, []byte("ahpub1AAAA\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(dir, "key")
	if err := os.WriteFile(private, []byte(armorBegin), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPublicFile(private); err == nil || !strings.Contains(err.Error(), private+".pub") {
		t.Errorf("a private key: %v", err)
	}
	if _, err := ReadPublicFile(path); !errors.Is(err, ErrEncoding) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := ReadPublicFile(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if (Public{}).String() == "" || Level(9).String() != "unknown" {
		t.Error("zero values have no name")
	}
	if _, err := Generate(Level(9)); err == nil {
		t.Error("a key of an unknown level")
	}
}

func BenchmarkSign(b *testing.B) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		b.Run(level.String(), func(b *testing.B) {
			k := generate(b, level)
			for b.Loop() {
				if _, err := k.Sign("bench", []byte("message")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		b.Run(level.String(), func(b *testing.B) {
			k := generate(b, level)
			sig, err := k.Sign("bench", []byte("message"))
			if err != nil {
				b.Fatal(err)
			}
			p := k.Public()
			for b.Loop() {
				if err := p.Verify("bench", []byte("message"), sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func armor(raw []byte) []byte {
	return []byte(armorBegin + base64.StdEncoding.EncodeToString(raw) + armorEnd)
}

func unarmor(t *testing.T, data []byte) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(string(data[len(armorBegin) : len(data)-len(armorEnd)]))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
