package idfile

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func generate(t testing.TB, level identity.Level) *identity.Private {
	t.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func secret(t testing.TB, text string) *keybuf.Buffer {
	t.Helper()
	b, err := keybuf.Take([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

func TestKeyFilesOpenOnlyForTheirOwnerAndSecret(t *testing.T) {
	k := generate(t, identity.LevelEpoch)
	credential := Unlock{Credential: secret(t, strings.Repeat("c", 32))}
	for name, u := range map[string]Unlock{"passphrase": {Passphrase: secret(t, "correct horse")}, "credential": credential} {
		path := filepath.Join(t.TempDir(), "key")
		if err := Write(path, k, u); err != nil {
			t.Fatal(err)
		}
		back, err := Read(path, u)
		if err != nil || !back.Public().Equal(k.Public()) {
			t.Fatalf("%s: %v", name, err)
		}
		back.Wipe()
		if err := Write(path, k, u); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: a file was replaced: %v", name, err)
		}
		for wrong, v := range map[string]Unlock{"other passphrase": {Passphrase: secret(t, "other")}, "other credential": {Credential: secret(t, strings.Repeat("d", 32))}, "nothing": {}} {
			if _, err := Read(path, v); !errors.Is(err, ErrUnlock) {
				t.Errorf("%s opened with %s: %v", name, wrong, err)
			}
		}
		for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(path, u); !errors.Is(err, ErrMode) {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "key")
	for name, u := range map[string]Unlock{"nothing": {}, "both": {Passphrase: secret(t, "a"), Credential: credential.Credential}} {
		if err := Write(path, k, u); !errors.Is(err, ErrNoKey) {
			t.Errorf("written with %s: %v", name, err)
		}
	}
	short := Unlock{Credential: secret(t, strings.Repeat("c", MinCredentialBytes-1))}
	if err := Write(path, k, short); !errors.Is(err, ErrCredential) {
		t.Errorf("written with a short credential: %v", err)
	}
	if err := Write(path, k, credential); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, short); !errors.Is(err, ErrCredential) {
		t.Errorf("read with a short credential: %v", err)
	}
	for _, taken := range []string{path, filepath.Join(path+".none", "key")} {
		if e, ok := errors.AsType[*fs.PathError](Write(taken, k, credential)); !ok || e.Path != taken {
			t.Errorf("%s cannot be made, and the error is about %v", taken, e)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(armorBegin); i < len(data)-len(armorEnd); i += 7 {
		bad := bytes.Clone(data)
		bad[i] = 'A' + (bad[i]-'A'+1)%26
		if bytes.Equal(bad, data) {
			continue
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if back, err := Read(path, credential); err == nil {
			t.Errorf("byte %d changed: opened %s", i, back.Public())
		}
	}
}

// TestChosenCostsAreRefused lets a planted file ask for more memory, passes or
// lanes than this package ever gives, each alone.
func TestChosenCostsAreRefused(t *testing.T) {
	good := keyHeader{kind: kindPassphrase, level: identity.LevelEpoch, time: argonTime, kib: argonKiB, lanes: argonLanes}
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
		if _, _, _, err := parse(armored(h)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := parse(armored(good)); err != nil {
		t.Errorf("the same file unchanged: %v", err)
	}
}

func armored(h keyHeader) []byte {
	raw := append(h.encode(), make([]byte, fileSize-headerSize)...)
	return armor(raw)
}

// TestHeaderIsBound changes every header byte of a file that opens.
func TestHeaderIsBound(t *testing.T) {
	k := generate(t, identity.LevelEpoch)
	u := Unlock{Credential: secret(t, strings.Repeat("c", 32))}
	path := filepath.Join(t.TempDir(), "key")
	if err := Write(path, k, u); err != nil {
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
		if _, err := Read(path, u); err == nil {
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
	k := generate(t, identity.LevelRoot)
	if err := Write(path, k, u); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, generate(t, identity.LevelRoot), u); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	if err := Write(filepath.Join(dir, "absent", "key"), k, u); !errors.Is(err, os.ErrNotExist) {
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
	if back, err := Read(path, u); err != nil || !back.Public().Equal(k.Public()) {
		t.Errorf("the first key changed: %v", err)
	}
	gone := generate(t, identity.LevelEpoch)
	gone.Wipe()
	for name, k := range map[string]*identity.Private{"wiped": gone, "absent": nil} {
		if err := Write(filepath.Join(dir, "none"), k, u); err == nil {
			t.Errorf("a key that is %s was written", name)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]string{"pipe": pipe, "directory": dir} {
		if _, err := Read(at, u); !errors.Is(err, ErrMode) {
			t.Errorf("a %s in the file's place: %v", name, err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, u); !errors.Is(err, ErrMode) {
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
	k := generate(t, identity.LevelRoot)
	if err := Write(path, k, first); err != nil {
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
		if _, err := Protect(c.path, c.old, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("a refusal changed the file: %v", err)
	}

	public, err := Protect(path, first, second)
	if err != nil || !public.Equal(k.Public()) {
		t.Fatalf("%v", err)
	}
	if _, err := Read(path, first); !errors.Is(err, ErrUnlock) {
		t.Errorf("the old secret: %v", err)
	}
	if back, err := Read(path, second); err != nil || !back.Public().Equal(public) {
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
	p := generate(t, identity.LevelRoot).Public()
	if err := WritePublic(path, p); err != nil {
		t.Fatal(err)
	}
	back, err := identity.ReadPublicFile(path)
	if err != nil || !back.Equal(p) || back.String() != p.String() {
		t.Errorf("%s, %v", back, err)
	}
	if err := WritePublic(path, p); !errors.Is(err, os.ErrExist) {
		t.Errorf("replaced: %v", err)
	}
	if err := WritePublic(filepath.Join(dir, "zero"), identity.Public{}); err == nil {
		t.Error("no identity was written")
	}
	if err := os.WriteFile(path, []byte("ahpub1AAAA\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(dir, "key")
	if err := os.WriteFile(private, []byte(armorBegin), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.ReadPublicFile(private); err == nil || !strings.Contains(err.Error(), private+".pub") {
		t.Errorf("a private key: %v", err)
	}
	if _, err := identity.ReadPublicFile(path); !errors.Is(err, identity.ErrEncoding) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := identity.ReadPublicFile(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
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

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(armorBegin + armorEnd))
	f.Add(armored(keyHeader{kind: kindPassphrase, level: identity.LevelEpoch, time: argonTime, kib: argonKiB, lanes: argonLanes}))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ciphertext, commitment, err := parse(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := armor(slices.Concat(h.encode(), ciphertext, commitment)); !bytes.Equal(again, data) {
			t.Error("an encoding that is not canonical parses")
		}
	})
}
