// Package idfile keeps identities in files: a private one encrypted, a public one as text.
//
// A private key is encrypted at rest under a passphrase or a credential, a file that others can
// read or change is refused, and a file under its name is either whole or absent. The package
// trusts the file system and Argon2id. The command line, the broker and the aggregator call it;
// the agent, whose keys live for one boot, does not link it.
package idfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"golang.org/x/crypto/argon2"
)

// Errors of key files.
var (
	ErrFormat = errors.New("not a key file of this version, or damaged")
	ErrUnlock = errors.New("the passphrase or credential does not open this key file")
	ErrMode   = errors.New("others may read or change the key file; use chmod 600")
	ErrNoKey  = errors.New("a key file needs exactly one of a passphrase and a credential")
	// ErrCredential refuses a credential that is too short to be random bytes.
	ErrCredential = errors.New("a credential must have at least 32 random bytes (anchorhold keygen credential makes one); this one is shorter")
)

// Unlock opens a key file: exactly one field is set. The buffers stay the caller's.
type Unlock struct {
	// Passphrase is stretched with Argon2id.
	Passphrase *keybuf.Buffer
	// Credential is a high-entropy secret of 32 bytes or more, as a systemd
	// credential, and goes through HKDF-SHA256.
	Credential *keybuf.Buffer
}

// A key file is one line of base64 between two lines of text. Its bytes:
//
//	magic 8 | kind 1 | level 1 | salt 32 | argon2 time 4 | argon2 KiB 4 |
//	argon2 lanes 1 | nonce 12 | AES-256-GCM(seed 64) | commitment 32
//
// Everything before the ciphertext is associated data. The commitment is a
// second output of the key derivation, so that a ciphertext opens under one
// passphrase only. Integers are big-endian.
const (
	keyMagic   = "AHKEY\x00\x00\x01"
	headerSize = len(keyMagic) + 1 + 1 + saltSize + 4 + 4 + 1 + nonceSize
	saltSize   = 32
	nonceSize  = 12
	tagSize    = 16
	fileSize   = headerSize + identity.SeedSize + tagSize + sha256.Size

	kindPassphrase = 1
	kindCredential = 2

	armorBegin = identity.PrivateFileBegin
	armorEnd   = "\n-----END ANCHORHOLD PRIVATE KEY-----\n"
)

// Argon2id costs (RFC 9106, second recommended option, one more pass) and the
// most that a file may ask for, so that a planted file cannot exhaust memory.
const (
	argonTime, maxArgonTime   = 4, 16
	argonKiB, maxArgonKiB     = 64 << 10, 1 << 20
	argonLanes, maxArgonLanes = 4, 16
)

// MinCredentialBytes is the fewest bytes of a credential, see [Unlock].
const MinCredentialBytes = 32

type keyHeader struct {
	kind      byte
	level     identity.Level
	salt      [saltSize]byte
	time, kib uint32
	lanes     byte
	nonce     [nonceSize]byte
}

func (h keyHeader) encode() []byte {
	b := append([]byte(keyMagic), h.kind, byte(h.level))
	b = append(b, h.salt[:]...)
	b = binary.BigEndian.AppendUint32(b, h.time)
	b = binary.BigEndian.AppendUint32(b, h.kib)
	b = append(b, h.lanes)
	return append(b, h.nonce[:]...)
}

// parse splits a file into header, ciphertext and commitment within limits.
func parse(data []byte) (h keyHeader, ciphertext, commitment []byte, err error) {
	body, ok := bytes.CutPrefix(data, []byte(armorBegin))
	if !ok {
		return h, nil, nil, ErrFormat
	}
	body, ok = bytes.CutSuffix(body, []byte(armorEnd))
	if !ok || len(body) != base64.StdEncoding.EncodedLen(fileSize) {
		return h, nil, nil, ErrFormat
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(body))
	if err != nil || len(raw) != fileSize || string(raw[:len(keyMagic)]) != keyMagic {
		return h, nil, nil, ErrFormat
	}
	rest := raw[len(keyMagic):]
	h.kind, h.level = rest[0], identity.Level(rest[1])
	rest = rest[2:]
	rest = rest[copy(h.salt[:], rest):]
	h.time, h.kib, h.lanes = binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:]), rest[8]
	rest = rest[9:]
	rest = rest[copy(h.nonce[:], rest):]
	if !h.level.Known() || !h.costsAllowed() {
		return h, nil, nil, ErrFormat
	}
	return h, rest[:identity.SeedSize+tagSize], rest[identity.SeedSize+tagSize:], nil
}

func (h keyHeader) costsAllowed() bool {
	switch h.kind {
	case kindPassphrase:
		return h.time >= 1 && h.time <= maxArgonTime && h.kib >= 8<<10 && h.kib <= maxArgonKiB && h.lanes >= 1 && h.lanes <= maxArgonLanes
	case kindCredential:
		return h.time == 0 && h.kib == 0 && h.lanes == 0
	}
	return false
}

// derive turns what the user gave into a key and a commitment to it.
func (h keyHeader) derive(u Unlock) (key, commitment []byte, err error) {
	var secret []byte
	switch {
	case u.Passphrase.Len() > 0 && u.Credential == nil && h.kind == kindPassphrase:
		secret = argon2.IDKey(u.Passphrase.Bytes(), h.salt[:], h.time, h.kib, h.lanes, 32)
		defer keybuf.Wipe(secret)
	case u.Credential.Len() >= MinCredentialBytes && u.Passphrase == nil && h.kind == kindCredential:
		secret = u.Credential.Bytes()
	case u.Passphrase == nil && u.Credential.Len() > 0 && u.Credential.Len() < MinCredentialBytes && h.kind == kindCredential:
		return nil, nil, ErrCredential
	default:
		return nil, nil, ErrUnlock
	}
	out := keybuf.Derive(secret, h.salt[:], "anchorhold/identity/keyfile/1", 64)
	runtime.KeepAlive(u)
	return out[:32], out[32:], nil
}

// Write writes k encrypted to a new file of mode 0600, durably. It never
// replaces a file.
func Write(path string, k *identity.Private, u Unlock) error {
	seed := k.Seed()
	if seed.Len() == 0 {
		return identity.ErrWiped
	}
	h := keyHeader{level: k.Public().Level()}
	switch {
	case u.Passphrase.Len() > 0 && u.Credential == nil:
		h.kind, h.time, h.kib, h.lanes = kindPassphrase, argonTime, argonKiB, argonLanes
	case u.Credential.Len() >= MinCredentialBytes && u.Passphrase == nil:
		h.kind = kindCredential
	case u.Credential.Len() > 0 && u.Passphrase == nil:
		return ErrCredential
	default:
		return ErrNoKey
	}
	rand.Read(h.salt[:])
	rand.Read(h.nonce[:])
	key, commitment, err := h.derive(u)
	if err != nil {
		return err
	}
	defer keybuf.Wipe(key)
	aead, err := newGCM(key)
	if err != nil {
		return err
	}
	header := h.encode()
	raw := aead.Seal(bytes.Clone(header), h.nonce[:], seed.Bytes(), header)
	runtime.KeepAlive(k)
	raw = append(raw, commitment...)
	return writeNew(path, []byte(armorBegin+base64.StdEncoding.EncodeToString(raw)+armorEnd), 0o600)
}

// Protect encrypts the key in the file at path under a new secret. The file is replaced as a
// whole, by a rename, once the new one is on disk and opens to the same key: after an error or a
// crash it is either the old one or the new one. Owner and group stay the same.
func Protect(path string, old, now Unlock) (identity.Public, error) {
	k, err := Read(path, old)
	if err != nil {
		return identity.Public{}, err
	}
	defer k.Wipe()
	info, err := os.Lstat(path)
	if err != nil {
		return identity.Public{}, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() { // a rename would replace the link, and leave the key where it points
		return identity.Public{}, fmt.Errorf("%s: %w: name the file itself, not a link to it", path, ErrMode)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".protect-*") // mode 0700
	if err != nil {
		return identity.Public{}, named(path, err)
	}
	defer os.RemoveAll(dir)
	next := filepath.Join(dir, filepath.Base(path))
	if err := Write(next, k, now); err != nil {
		return identity.Public{}, err
	}
	same, err := Read(next, now)
	if err != nil {
		return identity.Public{}, fmt.Errorf("read back the replacement of %s: %w", path, err)
	}
	defer same.Wipe()
	if same.Public().ID() != k.Public().ID() {
		return identity.Public{}, fmt.Errorf("read back the replacement of %s: %w", path, ErrFormat)
	}
	if err := os.Chown(next, int(owner.Uid), int(owner.Gid)); err != nil {
		return identity.Public{}, err
	}
	if err := os.Rename(next, path); err != nil {
		return identity.Public{}, err
	}
	return k.Public(), syncDir(filepath.Dir(path))
}

// Read opens a key file. A file that others can read or change, or that belongs to a user other
// than this one and root, is refused.
func Read(path string, u Unlock) (*identity.Private, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	h, ciphertext, commitment, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, want, err := h.derive(u)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer keybuf.Wipe(key)
	if subtle.ConstantTimeCompare(commitment, want) != 1 {
		return nil, fmt.Errorf("%s: %w", path, ErrUnlock)
	}
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	seed, err := aead.Open(nil, h.nonce[:], ciphertext, h.encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, ErrFormat)
	}
	held, err := keybuf.Take(seed)
	if err != nil {
		return nil, err
	}
	return identity.FromSeed(h.level, held)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// readPrivate reads a small file whose mode and owner keep it private. Mode and
// content come from the same open file.
func readPrivate(path string) ([]byte, error) {
	// A pipe in the file's place must be refused, not waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s: %w", path, ErrMode)
	}
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// writeNew creates a file under its final name only when it is whole and
// durable, and never replaces one: a link, unlike a rename, fails on a name
// that is taken.
func writeNew(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600, O_EXCL
	if err != nil {
		return named(path, err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return named(path, err)
	}
	return syncDir(dir)
}

// named is an error of making path, under the name that the caller knows.
func named(path string, err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return &fs.PathError{Op: "create", Path: path, Err: e}
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// WritePublic writes the printable form to a new file of mode 0644, which
// [identity.ReadPublicFile] reads.
func WritePublic(path string, p identity.Public) error {
	text, err := p.MarshalText()
	if err != nil {
		return err
	}
	return writeNew(path, append(text, '\n'), 0o644)
}
