package keystore

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/argon2"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

const (
	kekBytes        = 32
	minCredential   = 32
	kekIDLabel      = "anchorhold/keystore/kek-id/1"
	sealLabel       = "anchorhold/keystore/secret/1"
	commitKeyLabel  = "anchorhold/keystore/commitment-key/1"
	commitmentLabel = "anchorhold/keystore/commitment/1"
	credentialLabel = "anchorhold/keystore/credential/1"
)

// sealer seals and opens values under one KEK. The commitment key is the
// store's own and survives a change of the KEK.
type sealer struct {
	kek       *keybuf.Buffer
	commitKey *keybuf.Buffer
	id        [16]byte
}

func copyKEK(kek *keybuf.Buffer) (*keybuf.Buffer, [16]byte, error) {
	var id [16]byte
	if kek.Len() != kekBytes {
		return nil, id, fmt.Errorf("a key-encryption key must have %d bytes, got %d", kekBytes, kek.Len())
	}
	id = [16]byte(keybuf.Derive(kek.Bytes(), nil, kekIDLabel, len(id)))
	own, err := keybuf.New(kekBytes)
	if err != nil {
		return nil, id, err
	}
	copy(own.Bytes(), kek.Bytes())
	return own, id, nil
}

func newSealer(kek *keybuf.Buffer) (*sealer, error) {
	own, id, err := copyKEK(kek)
	if err != nil {
		return nil, err
	}
	commitKey, err := keybuf.Random(32)
	if err != nil {
		own.Wipe()
		return nil, err
	}
	return &sealer{own, commitKey, id}, nil
}

// openSealer checks the KEK twice: its id, and that it opens the store's own
// commitment key.
func openSealer(kek *keybuf.Buffer, wantID, wrapped []byte) (*sealer, error) {
	own, id, err := copyKEK(kek)
	if err != nil {
		return nil, err
	}
	s := &sealer{kek: own, id: id}
	if !hmac.Equal(id[:], wantID) {
		s.wipe()
		return nil, ErrWrongKEK
	}
	plain, err := chunkseal.OpenBlob(s.kek, commitKeyLabel, s.id[:], wrapped)
	if err != nil || len(plain) != 32 {
		s.wipe()
		return nil, errors.Join(ErrDamaged, err)
	}
	if s.commitKey, err = keybuf.Take(plain); err != nil {
		s.wipe()
		return nil, err
	}
	return s, nil
}

func (s *sealer) wipe() {
	s.kek.Wipe()
	s.commitKey.Wipe()
}

func (s *sealer) wrapCommitKey() ([]byte, error) {
	return chunkseal.SealBlob(s.kek, commitKeyLabel, s.id[:], s.commitKey.Bytes())
}

// aad binds a sealed value to its place and to what it is for, so that values cannot be
// exchanged and a key is not passed off as another model's.
func (s *sealer) aad(name string, version uint64, subject Subject) []byte {
	aad := append(secretKey(name, version), s.id[:]...)
	if subject != (Subject{}) {
		aad = append(aad, subject[:]...)
	}
	return aad
}

func (s *sealer) seal(name string, version uint64, subject Subject, secret *keybuf.Buffer) ([]byte, error) {
	return chunkseal.SealBlob(s.kek, sealLabel, s.aad(name, version, subject), secret.Bytes())
}

// open opens a value and checks it against its commitment.
func (s *sealer) open(name string, version uint64, r record) (*keybuf.Buffer, error) {
	plain, err := chunkseal.OpenBlob(s.kek, sealLabel, s.aad(name, version, r.meta.Subject), r.sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	out, err := keybuf.TakeBriefly(plain)
	if err != nil {
		return nil, err
	}
	if want := s.commit(out); !hmac.Equal(want[:], r.commitment[:]) || out.Len() != r.size {
		out.Wipe()
		return nil, fmt.Errorf("%w: commitment", ErrDamaged)
	}
	return out, nil
}

func (s *sealer) commit(secret *keybuf.Buffer) [32]byte {
	return keybuf.MAC(s.commitKey.Bytes(), []byte(commitmentLabel), secret.Bytes())
}

// CredentialKEK derives a KEK from a systemd credential of at least 32 bytes
// of high entropy. It does not wipe credential.
func CredentialKEK(credential *keybuf.Buffer) (*keybuf.Buffer, error) {
	if credential.Len() < minCredential {
		return nil, fmt.Errorf("the key-encryption credential has %d bytes, want at least %d random bytes", credential.Len(), minCredential)
	}
	return keybuf.Take(keybuf.Derive(credential.Bytes(), nil, credentialLabel, kekBytes))
}

// The cost of a passphrase guess: RFC 9106's second recommended choice.
const (
	argonPasses  = 3
	argonKiB     = 64 << 10
	argonLanes   = 4
	argonSalt    = 16
	kdfLine      = "anchorhold-kdf/1 argon2id t=3 m=65536 p=4 salt=%s\n"
	maxKDFLength = 256
)

// PassphraseKEK derives a KEK from a passphrase with Argon2id. The salt and
// the cost stand in the file saltPath, which is created if it is missing. It
// does not wipe passphrase.
func PassphraseKEK(saltPath string, passphrase *keybuf.Buffer) (*keybuf.Buffer, error) {
	if passphrase.Len() == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	salt, err := readSalt(saltPath)
	if errors.Is(err, os.ErrNotExist) {
		salt, err = writeSalt(saltPath)
	}
	if err != nil {
		return nil, fmt.Errorf("read passphrase salt: %w", err)
	}
	return keybuf.Take(argon2.IDKey(passphrase.Bytes(), salt, argonPasses, argonKiB, argonLanes, kekBytes))
}

func readSalt(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseSalt(b)
}

// parseSalt accepts exactly the line that writeSalt writes: another cost or
// another function is unknown, and refused.
func parseSalt(b []byte) ([]byte, error) {
	var digits string
	if len(b) > maxKDFLength {
		return nil, errors.New("unknown key derivation")
	}
	if n, err := fmt.Sscanf(string(b), kdfLine, &digits); n != 1 || err != nil || fmt.Sprintf(kdfLine, digits) != string(b) {
		return nil, errors.New("unknown key derivation")
	}
	salt, err := hex.DecodeString(digits)
	if err != nil || len(salt) != argonSalt || hex.EncodeToString(salt) != digits {
		return nil, errors.New("unknown key derivation")
	}
	return salt, nil
}

func writeSalt(path string) ([]byte, error) {
	salt := make([]byte, argonSalt)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, kdfLine, hex.EncodeToString(salt))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return salt, d.Sync()
}
