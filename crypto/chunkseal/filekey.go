package chunkseal

import (
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// SignContext is the signing context of a manifest root.
const SignContext = "anchorhold/sealed-model/1/root"

// Labels of the derivation: each output has one purpose and one algorithm.
const (
	chunkKeyLabel    = "anchorhold/sealed-model/1/chunks/AES-256-GCM"
	manifestKeyLabel = "anchorhold/sealed-model/1/manifest/AES-256-GCM"
	commitmentLabel  = "anchorhold/sealed-model/1/commitment"
	sectionLabel     = "anchorhold/sealed-model/1/section"
	rootLabel        = "anchorhold/sealed-model/1/root/SHA-256"
	manifestLabel    = "anchorhold/sealed-model/1/manifest"
)

// fileKeys are derived from the model key and the random file id, so that two
// files never share a key even when they share a model key.
type fileKeys struct {
	chunks, manifest cipher.AEAD
	commitment       [32]byte
}

func deriveKeys(key *keybuf.Buffer, fileID [32]byte) (fileKeys, error) {
	var k fileKeys
	if key.Len() != KeySize {
		return k, ErrKeySize
	}
	var prk [sha256.Size]byte
	defer keybuf.Wipe(prk[:])
	err := key.Use(func(secret []byte) error { // the end of a lease may wipe it at any time
		prk = keybuf.Extract(secret, fileID[:])
		return nil
	})
	if err != nil { // it was wiped
		return k, ErrKeySize
	}
	if k.chunks, err = expandAEAD(prk[:], chunkKeyLabel); err != nil {
		return k, err
	}
	if k.manifest, err = expandAEAD(prk[:], manifestKeyLabel); err != nil {
		return k, err
	}
	k.commitment = [32]byte(keybuf.Expand(prk[:], commitmentLabel, len(k.commitment)))
	return k, nil
}

// Lock identifies the key of one sealed file without revealing it. Both halves are in the file's
// first block.
type Lock struct {
	FileID     [32]byte
	Commitment [32]byte
}

// Opens says whether the file was sealed under key. It returns an error if key does not have
// [KeySize] bytes.
func (l Lock) Opens(key *keybuf.Buffer) (bool, error) {
	keys, err := deriveKeys(key, l.FileID)
	defer keys.wipe()
	return err == nil && subtle.ConstantTimeCompare(keys.commitment[:], l.Commitment[:]) == 1, err
}

func expandAEAD(prk []byte, label string) (cipher.AEAD, error) {
	key := keybuf.Expand(prk, label, KeySize)
	defer keybuf.Wipe(key)
	aead, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("chunkseal: %w", err)
	}
	return aead, nil
}

// wipe clears what the assembly has of the keys.
func (k *fileKeys) wipe() {
	for _, aead := range [...]cipher.AEAD{k.chunks, k.manifest} {
		if w, ok := aead.(*wide); ok {
			w.wipe()
		}
	}
}

// sealingContext is the nonce and the associated data of one chunk, in memory
// that is used again: opening a chunk allocates nothing.
type sealingContext struct {
	nonce [12]byte
	aad   [32 + 4 + 4 + 4]byte
}

// set fills in chunk i of the file, which is chunk inner of its section. The
// section's digest carries file id, name, kind, type and shape.
func (c *sealingContext) set(section *[32]byte, i, inner, size int) {
	binary.LittleEndian.PutUint64(c.nonce[4:], uint64(i))
	copy(c.aad[:], section[:])
	binary.LittleEndian.PutUint32(c.aad[32:], uint32(i))
	binary.LittleEndian.PutUint32(c.aad[36:], uint32(inner))
	binary.LittleEndian.PutUint32(c.aad[40:], uint32(size))
}

// sectionDigest is what the chunks of a section are bound to.
func sectionDigest(fileID [32]byte, ordinal int, s Section) [32]byte {
	b := append([]byte(sectionLabel), fileID[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(ordinal))
	return sha256.Sum256(s.appendTo(b))
}

// manifestAAD binds the sealed manifest to its file and to the public part.
func manifestAAD(fileID [32]byte, public []byte) []byte {
	b := append([]byte(manifestLabel), fileID[:]...)
	return append(b, public...)
}

// rootOf hashes everything but the chunks, which it covers through their
// digests. The first block holds all lengths, so the parts cannot be moved
// against each other.
func rootOf(block, public, index, sealed []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(rootLabel))
	for _, part := range [...][]byte{block, public, index, sealed} {
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}
