package chunkseal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"golang.org/x/crypto/cryptobyte"
)

// KeySize is the size of every key that seals a blob or a file, in bytes.
const KeySize = 32

// MaxBlobBytes bounds the plaintext of one blob.
const MaxBlobBytes = 16 << 20

// Errors of blobs.
var (
	// ErrBlob: not a blob of this version, a wrong key, label or associated data, or changed
	// bytes. The error does not say which.
	ErrBlob = errors.New("chunkseal: the blob does not open")
	// ErrKeySize: the key does not have KeySize bytes, or was wiped.
	ErrKeySize = fmt.Errorf("chunkseal: a key must have %d bytes", KeySize)
)

// A blob is: version 1 | salt 32 | commitment 32 | AES-256-GCM(plaintext), tag 16.
// Key and commitment come from HKDF-SHA256(key, salt, info), where info holds a
// fixed label and the caller's label, length-prefixed. Each blob has a key of
// its own, so the nonce is zero. The commitment makes a blob open under one key
// only, which GCM alone does not promise.
const (
	blobVersion    = 1
	blobSaltSize   = 32
	commitmentSize = 32
	blobHeader     = 1 + blobSaltSize + commitmentSize
	tagSize        = 16
	blobLabel      = "anchorhold/chunkseal/blob/1"
)

// SealBlob seals a small plaintext under a key for one purpose, named by label,
// bound to associated data that the opener must know. The result is
// len(plaintext)+81 bytes.
func SealBlob(key *keybuf.Buffer, label string, aad, plaintext []byte) ([]byte, error) {
	if len(plaintext) > MaxBlobBytes {
		return nil, fmt.Errorf("chunkseal: a blob may hold at most %d bytes, got %d", MaxBlobBytes, len(plaintext))
	}
	out := make([]byte, blobHeader, blobHeader+len(plaintext)+tagSize)
	out[0] = blobVersion
	rand.Read(out[1 : 1+blobSaltSize])
	aead, commitment, err := blobKey(key, label, out[1:1+blobSaltSize])
	if err != nil {
		return nil, err
	}
	copy(out[1+blobSaltSize:], commitment)
	return aead.Seal(out, make([]byte, aead.NonceSize()), plaintext, aad), nil
}

// OpenBlob opens what SealBlob made with the same key, label and associated data.
func OpenBlob(key *keybuf.Buffer, label string, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < blobHeader+tagSize || len(sealed) > blobHeader+MaxBlobBytes+tagSize || sealed[0] != blobVersion {
		return nil, ErrBlob
	}
	aead, commitment, err := blobKey(key, label, sealed[1:1+blobSaltSize])
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, sealed[1+blobSaltSize:blobHeader]) != 1 {
		return nil, ErrBlob
	}
	plaintext, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[blobHeader:], aad)
	if err != nil {
		return nil, ErrBlob
	}
	return plaintext, nil
}

func blobKey(key *keybuf.Buffer, label string, salt []byte) (cipher.AEAD, []byte, error) {
	if key.Len() != KeySize {
		return nil, nil, ErrKeySize
	}
	var info cryptobyte.Builder
	for _, s := range []string{blobLabel, label} {
		info.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	}
	encoded, err := info.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("chunkseal: label too long: %w", err)
	}
	var out []byte
	err = key.Use(func(secret []byte) error { // the end of a lease may wipe it at any time
		out = keybuf.Derive(secret, salt, string(encoded), KeySize+commitmentSize)
		return nil
	})
	if err != nil { // it was wiped
		return nil, nil, ErrKeySize
	}
	defer keybuf.Wipe(out[:KeySize])
	block, err := aes.NewCipher(out[:KeySize])
	if err != nil {
		return nil, nil, fmt.Errorf("chunkseal: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("chunkseal: %w", err)
	}
	return aead, out[KeySize:], nil
}
