package keystore

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

func buffer(t testing.TB, b []byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func testKEK(t testing.TB, n byte) *keybuf.Buffer { return buffer(t, bytes.Repeat([]byte{n}, 32)) }

func openStore(t testing.TB, path string, kek *keybuf.Buffer) *Store {
	t.Helper()
	s, err := Open(path, kek)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "k.db")
	return openStore(t, path, testKEK(t, 1)), path
}

func wantSecret(t *testing.T, s *Store, name string, version uint64, want string) Info {
	t.Helper()
	got, info, err := s.Get(t.Context(), name, version)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Wipe()
	if string(got.Bytes()) != want {
		t.Fatalf("%s/%d is %q, want %q", name, version, got.Bytes(), want)
	}
	return info
}

func put(t testing.TB, s *Store, name, value string) uint64 {
	t.Helper()
	v, err := s.Put(t.Context(), name, buffer(t, []byte(value)), Meta{Kind: "model-key"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVersionsAndStates(t *testing.T) {
	s, path := newStore(t)
	if v := put(t, s, "models/a", "one"); v != 1 {
		t.Fatal(v)
	}
	put(t, s, "models/a", "two")
	info := wantSecret(t, s, "models/a", 0, "two")
	if info.Version != 2 || info.State != Active || info.Kind != "model-key" || info.Size != 3 || info.Created.IsZero() {
		t.Fatalf("%+v", info)
	}
	wantSecret(t, s, "models/a", 1, "one")
	if v, retired, err := s.Rotate(t.Context(), "models/a", buffer(t, []byte("three")), Meta{}); err != nil || v != 3 || len(retired) == 0 {
		t.Fatal(v, err)
	}
	if wantSecret(t, s, "models/a", 1, "one").State != Retired || wantSecret(t, s, "models/a", 2, "two").State != Retired {
		t.Fatal("rotation did not retire")
	}
	wantSecret(t, s, "models/a", 0, "three")
	if err := s.Retire(t.Context(), "models/a", 3); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "models/a", 0); !errors.Is(err, ErrNotActive) {
		t.Fatalf("no active version: %v", err)
	}
	if err := s.Retire(t.Context(), "models/a", 3); err == nil {
		t.Fatal("retired twice")
	}
	if err := s.Destroy(t.Context(), "models/a", 1); err != nil {
		t.Fatal(err)
	}
	if _, info, err := s.Get(t.Context(), "models/a", 1); !errors.Is(err, ErrDestroyed) || info.State != Destroyed {
		t.Fatalf("%v %+v", err, info)
	}
	for _, change := range []error{s.Destroy(t.Context(), "models/a", 1), s.Retire(t.Context(), "models/a", 1)} {
		if !errors.Is(change, ErrDestroyed) {
			t.Fatalf("%v", change)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", st.Mode(), err)
	}
	list, more, err := s.List(t.Context(), "models/")
	if err != nil || more || len(list) != 3 || list[2].Version != 3 {
		t.Fatalf("%+v %t %v", list, more, err)
	}
	if n, err := s.Count(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if i, err := s.Stat(t.Context(), "models/a", 2); err != nil || i.State != Retired {
		t.Fatal(i, err)
	}
	if s.Path() != path {
		t.Fatal(s.Path())
	}
}

func TestRefusals(t *testing.T) {
	s, _ := newStore(t)
	put(t, s, "a", "x")
	for name, err := range map[string]error{
		"create": second(s.Create(t.Context(), "a", buffer(t, []byte("y")), Meta{})),
		"rotate": third(s.Rotate(t.Context(), "absent", buffer(t, []byte("y")), Meta{})),
		"empty":  second(s.Put(t.Context(), "b", nil, Meta{})),
		"large":  second(s.Put(t.Context(), "b", buffer(t, make([]byte, MaxSecretBytes+1)), Meta{})),
		"name":   second(s.Put(t.Context(), "../b", buffer(t, []byte("y")), Meta{})),
		"meta":   second(s.Put(t.Context(), "b", buffer(t, []byte("y")), Meta{Kind: strings.Repeat("k", 1000)})),
		"retire": s.Retire(t.Context(), "a", 2),
		"absent": s.Destroy(t.Context(), "b", 1),
		"bad":    s.Destroy(t.Context(), "/", 1),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := s.Get(t.Context(), "absent", 0); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := s.Get(t.Context(), "a", 9); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := s.Get(t.Context(), "A", 0); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "absent", 0); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "", 0); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	if v, err := s.Create(t.Context(), "new", buffer(t, []byte("y")), Meta{}); v != 1 || err != nil {
		t.Error(v, err)
	}
}

func second(_ uint64, err error) error { return err }

func TestWrongKEKIsNamed(t *testing.T) {
	s, path := newStore(t)
	put(t, s, "a", "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testKEK(t, 2)); !errors.Is(err, ErrWrongKEK) {
		t.Fatalf("%v", err)
	}
	if _, err := Open(path, buffer(t, []byte("short"))); err == nil {
		t.Fatal("opened with a short key")
	}
	wantSecret(t, openStore(t, path, testKEK(t, 1)), "a", 0, "x")
}

func TestReadableStoreIsRefused(t *testing.T) {
	s, path := newStore(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testKEK(t, 1)); err == nil {
		t.Fatal("a store that the group may read was opened")
	}
}

func TestKEKRotation(t *testing.T) {
	s, path := newStore(t)
	put(t, s, "a", "one")
	put(t, s, "a", "two")
	put(t, s, "b", "three")
	if err := s.Destroy(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	before := wantSecret(t, s, "a", 2, "two")
	if err := s.RotateKEK(t.Context(), testKEK(t, 2)); err != nil {
		t.Fatal(err)
	}
	after := wantSecret(t, s, "a", 2, "two")
	if !bytes.Equal(before.Commitment, after.Commitment) {
		t.Error("the commitment changed with the KEK")
	}
	put(t, s, "c", "four")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, testKEK(t, 1)); !errors.Is(err, ErrWrongKEK) {
		t.Fatalf("the old KEK still opens: %v", err)
	}
	s = openStore(t, path, testKEK(t, 2))
	wantSecret(t, s, "a", 0, "two")
	wantSecret(t, s, "b", 0, "three")
	wantSecret(t, s, "c", 0, "four")
	if err := s.RotateKEK(t.Context(), buffer(t, []byte("short"))); err == nil {
		t.Error("rotated to a short key")
	}
}

// TestSealedValuesAreBoundToTheirPlace exchanges bytes in the file.
func TestSealedValuesAreBoundToTheirPlace(t *testing.T) {
	raw := func(s *Store, f func(b *bolt.Bucket) error) {
		t.Helper()
		if err := s.db.Update(func(tx *bolt.Tx) error { return f(tx.Bucket([]byte(bucketSecrets))) }); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(b *bolt.Bucket) error{
		"other name":    func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), bytes.Clone(b.Get(secretKey("b", 1)))) },
		"other version": func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), bytes.Clone(b.Get(secretKey("a", 2)))) },
		"flipped":       func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), flip(b.Get(secretKey("a", 1)), -1)) },
		"commitment":    func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), flip(b.Get(secretKey("a", 1)), 30)) },
		"size":          func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), flip(b.Get(secretKey("a", 1)), 21)) },
		"version":       func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), flip(b.Get(secretKey("a", 1)), 0)) },
		"state":         func(b *bolt.Bucket) error { return b.Put(secretKey("a", 1), flip(b.Get(secretKey("a", 1)), 1)) },
		"cut": func(b *bolt.Bucket) error {
			v := b.Get(secretKey("a", 1))
			return b.Put(secretKey("a", 1), bytes.Clone(v[:len(v)-1]))
		},
	} {
		s, _ := newStore(t)
		put(t, s, "a", "one")
		put(t, s, "a", "two")
		put(t, s, "b", "six")
		raw(s, change)
		if got, _, err := s.Get(t.Context(), "a", 1); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %q, %v", name, got.Bytes(), err)
		}
	}
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	if i < 0 {
		i += len(c)
	}
	c[i] ^= 1
	return c
}

func TestDamagedFrameIsRefused(t *testing.T) {
	for name, change := range map[string]func(tx *bolt.Tx) error{
		"format":     func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaFormat), []byte{9}) },
		"commit key": func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaCommitKey), []byte("x")) },
		"no names":   func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketNames)) },
	} {
		s, path := newStore(t)
		if err := s.db.Update(change); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, testKEK(t, 1)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoSecretInTheFile(t *testing.T) {
	s, path := newStore(t)
	canary := "canary-0123456789-canary"
	put(t, s, "a", canary)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte(canary)) || bytes.Contains(b, bytes.Repeat([]byte{1}, 32)) {
		t.Fatalf("the secret or the KEK stands in the file (%v)", err)
	}
}

func TestKEKSources(t *testing.T) {
	a, err := CredentialKEK(buffer(t, bytes.Repeat([]byte{5}, 40)))
	if err != nil || a.Len() != 32 {
		t.Fatal(err)
	}
	if _, err := CredentialKEK(buffer(t, make([]byte, 31))); err == nil {
		t.Error("a short credential was accepted")
	}
	salt := filepath.Join(t.TempDir(), "kdf")
	one, err := PassphraseKEK(salt, buffer(t, []byte("correct horse")))
	if err != nil {
		t.Fatal(err)
	}
	again, err := PassphraseKEK(salt, buffer(t, []byte("correct horse")))
	if err != nil || !one.Equal(again) {
		t.Fatal("not the same key again", err)
	}
	other, err := PassphraseKEK(salt, buffer(t, []byte("other")))
	if err != nil || one.Equal(other) {
		t.Fatal("another passphrase gave the same key", err)
	}
	if _, err := PassphraseKEK(salt, buffer(t, []byte("x"))); err != nil {
		t.Error(err)
	}
	if _, err := PassphraseKEK(salt, nil); err == nil {
		t.Error("an empty passphrase was accepted")
	}
	if err := os.WriteFile(salt, []byte("anchorhold-kdf/1 argon2id t=1 m=8 p=1 salt=00\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PassphraseKEK(salt, buffer(t, []byte("x"))); err == nil {
		t.Error("a weaker cost was accepted")
	}
}

func TestTextForms(t *testing.T) {
	for s := Active; s <= Destroyed; s++ {
		b, _ := s.MarshalText()
		var back State
		if back.UnmarshalText(b) != nil || back != s {
			t.Error(s)
		}
	}
	var s State
	if s.UnmarshalText([]byte("x")) == nil || State(9).String() != "state(9)" {
		t.Error("an unknown state parsed")
	}
}

// threadTime is the processor's time that this thread took: others beside it do not count.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Nano())
}

// TestHundredThousandKeys bounds a lookup among many: it touches a few pages,
// never all keys.
func TestHundredThousandKeys(t *testing.T) {
	longtest.Arithmetic(t, "it stores 100,000 keys")
	s, _ := newStore(t)
	const n = 100_000
	secret := buffer(t, bytes.Repeat([]byte{3}, 32))
	if err := s.db.Update(func(tx *bolt.Tx) error {
		for i := range n {
			if _, err := s.put(tx, fmt.Sprintf("tenants/t%d/key", i), secret, Meta{}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := threadTime(t)
	if err := s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error { return nil })
		})
	}); err != nil {
		t.Fatal(err)
	}
	walk := threadTime(t) - begin
	const lookups = 200
	begin = threadTime(t)
	for i := 0; i < n; i += n / lookups {
		got, _, err := s.Get(t.Context(), fmt.Sprintf("tenants/t%d/key", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		got.Wipe()
	}
	took := threadTime(t) - begin
	t.Logf("%d lookups took %s, a walk over all keys %s", lookups, took, walk)
	if took > lookups/8*walk { // a lookup that walks takes half a walk on average
		t.Errorf("%d lookups took %s, a walk over all keys %s", lookups, took, walk)
	}
	if list, more, err := s.List(t.Context(), "tenants/"); err != nil || !more || len(list) != MaxListed {
		t.Errorf("list: %d, %t, %v", len(list), more, err)
	}
}

// TestForFileFindsTheKeyOfTheFile: of several active versions, the one that opens the file,
// and of those the one that is for its model.
func TestForFileFindsTheKeyOfTheFile(t *testing.T) {
	s, _ := newStore(t)
	key := func(n byte) []byte { return bytes.Repeat([]byte{n}, chunkseal.KeySize) }
	for _, p := range []struct {
		key     byte
		subject byte
	}{{1, 0}, {1, 0xa}, {1, 0xb}, {2, 0xb}, {3, 0}} {
		if _, err := s.Put(t.Context(), "models/a", buffer(t, key(p.key)), Meta{Subject: Subject{p.subject}}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "models/a", "newest, and no model key")
	if err := s.Retire(t.Context(), "models/a", 5); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key, model byte
		version    uint64
	}{
		"its model": {1, 0xa, 2}, "another model of that key": {1, 0xb, 3}, "model unknown": {1, 0, 3},
		"a model that no key is for": {1, 0xc, 1}, "for another model alone": {2, 0xa, 0}, "retired": {3, 0, 0}, "no such key": {4, 0xa, 0},
	} {
		file := fileUnder(t, key(tc.key))
		file.Model = [32]byte{tc.model}
		info, err := s.ForFile(t.Context(), "models/a", file)
		if info.Version != tc.version || (err == nil) != (tc.version > 0) || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: version %d, want %d: %v", name, info.Version, tc.version, err)
		}
	}
	if _, err := s.ForFile(t.Context(), "models/b", File{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a name that is not there: %v", err)
	}
}

// TestForFileOpensABoundedNumberOfVersions: what lies below the newest 64 is not looked at.
func TestForFileOpensABoundedNumberOfVersions(t *testing.T) {
	s, _ := newStore(t)
	old := bytes.Repeat([]byte{1}, chunkseal.KeySize)
	put(t, s, "models/a", string(old))
	for range maxTried - 1 {
		put(t, s, "models/a", string(bytes.Repeat([]byte{2}, chunkseal.KeySize)))
	}
	file := fileUnder(t, old)
	if info, err := s.ForFile(t.Context(), "models/a", file); err != nil || info.Version != 1 {
		t.Errorf("the 64th: %d %v", info.Version, err)
	}
	put(t, s, "models/a", string(bytes.Repeat([]byte{2}, chunkseal.KeySize)))
	if _, err := s.ForFile(t.Context(), "models/a", file); !errors.Is(err, ErrNotFound) {
		t.Errorf("the 65th: %v", err)
	}
}

// fileUnder is what the first block of a file says that is sealed under key.
func fileUnder(t *testing.T, key []byte) File {
	t.Helper()
	f := File{ID: [32]byte{7}}
	prk, err := hkdf.Extract(sha256.New, key, f.ID[:])
	if err != nil {
		t.Fatal(err)
	}
	commitment, err := hkdf.Expand(sha256.New, prk, "anchorhold/sealed-model/1/commitment", 32) // docs/sealed-format.md, "Keys"
	if err != nil {
		t.Fatal(err)
	}
	f.Commitment = [32]byte(commitment)
	return f
}

func third[A, B, C any](_ A, _ B, c C) C { return c }
