package chunkseal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// newAEAD returns AES-256-GCM under a key of [KeySize] bytes: the standard library's, whose Open is
// replaced by assembly where the processor has VAES and VPCLMULQDQ for vectors of 512 bits.
// In the standard library's FIPS 140-3 mode nothing is replaced.
func newAEAD(key []byte) (cipher.AEAD, error) {
	aead, err := standardAEAD(key)
	if err != nil || fips140.Enabled() || !wideAgrees() {
		return aead, err
	}
	return newWide(aead, (*[KeySize]byte)(key)), nil
}

func standardAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// wide seals with the standard library and opens with the assembly.
type wide struct {
	cipher.AEAD
	key *wideKey
}

// wideKey is what the assembly reads: round keys, the powers 16 to 1 of the hash key, each
// multiplied by x, and zeros.
type wideKey struct {
	rounds [16][16]byte // fifteen, and one that is not used
	powers [16][16]byte
	zeros  [3][16]byte
}

// groupBytes is what the assembly's loop takes at a time.
const groupBytes = 256

func newWide(standard cipher.AEAD, key *[KeySize]byte) *wide {
	w := &wide{AEAD: standard, key: new(wideKey)}
	expandWide(w.key, key)
	var h [16]byte
	streamWide(w.key, &h, &h[0], &h[0], len(h))
	// H x: the bits are in reverse order, so a shift to the left multiplies.
	high, low := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	clear(h[:])
	over := -(high >> 63) // all ones if x^127 became x^128
	last := &w.key.powers[15]
	binary.LittleEndian.PutUint64(last[:], low<<1^over&1)
	binary.LittleEndian.PutUint64(last[8:], high<<1|low>>63)
	binary.LittleEndian.PutUint64(last[8:], binary.LittleEndian.Uint64(last[8:])^over&(0xc2<<56))
	powersWide(w.key)
	return w
}

// wipe clears the assembly's keys. Nothing opens any more; the standard library's copies stay
// until their memory is collected.
func (w *wide) wipe() {
	keybuf.Wipe(unsafe.Slice((*byte)(unsafe.Pointer(w.key)), unsafe.Sizeof(*w.key)))
}

var errWide = errors.New("chunkseal: message authentication failed")

// Open is that of [cipher.AEAD]. If the tag is wrong, what was written is zero again.
func (w *wide) Open(dst, nonce, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < tagSize || len(sealed) > MaxChunkBytes+tagSize || len(nonce) != 12 {
		return w.AEAD.Open(dst, nonce, sealed, aad) // it knows what to say
	}
	n := len(sealed) - tagSize
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(make([]byte, 0, at+n), dst...)
	}
	dst = dst[:at+n]
	if out := dst[at:]; n > 0 && overlapElsewhere(out, sealed) {
		return w.AEAD.Open(dst[:at], nonce, sealed, aad) // likewise
	}
	if !w.open(dst[at:], nonce, sealed[:n], aad, (*[tagSize]byte)(sealed[n:])) {
		clear(dst[at:])
		return nil, errWide
	}
	return dst, nil
}

// overlapElsewhere says whether writing to out would destroy what is not read yet.
func overlapElsewhere(out, in []byte) bool {
	a, b := uintptr(unsafe.Pointer(unsafe.SliceData(out))), uintptr(unsafe.Pointer(unsafe.SliceData(in)))
	return a != b && a < b+uintptr(len(in)) && b < a+uintptr(len(out))
}

// open decrypts (SP 800-38D, section 7.2) and says whether the tag is right. What is in dst may
// only be used then.
func (w *wide) open(dst, nonce, sealed, aad []byte, tag *[tagSize]byte) bool {
	var first, counter, hash, mask [16]byte
	copy(first[:], nonce)
	first[15] = 1
	counter = first
	counter[15] = 2
	for rest := aad; len(rest) > 0; rest = rest[min(len(rest), groupBytes):] {
		hashWide(w.key, &hash, &rest[0], min(len(rest), groupBytes))
	}
	groups := len(sealed) / groupBytes
	if groups > 0 {
		openWide(w.key, &hash, &counter, &dst[0], &sealed[0], groups, past(dst, sealed))
		binary.BigEndian.PutUint32(counter[12:], uint32(2+groups*groupBytes/16))
	}
	if done := groups * groupBytes; done < len(sealed) {
		hashWide(w.key, &hash, &sealed[done], len(sealed)-done)
		streamWide(w.key, &counter, &dst[done], &sealed[done], len(sealed)-done)
	}
	var lengths [16]byte
	binary.BigEndian.PutUint64(lengths[:], uint64(len(aad))*8)
	binary.BigEndian.PutUint64(lengths[8:], uint64(len(sealed))*8)
	hashWide(w.key, &hash, &lengths[0], len(lengths))
	streamWide(w.key, &first, &mask[0], &hash[0], len(mask))
	right := subtle.ConstantTimeCompare(mask[:], tag[:]) == 1
	clear(hash[:])
	clear(mask[:])
	return right
}

// past says whether plaintext is worth storing past the cache: a chunk that goes to memory of its own
// is used much later, and reading that memory's lines first would cost as much as the cipher.
func past(dst, sealed []byte) bool {
	to, from := unsafe.SliceData(dst), unsafe.SliceData(sealed)
	return to != from && len(dst) >= 32<<10 && uintptr(unsafe.Pointer(to))%64 == 0
}

// wideAgrees says whether the assembly can run here and opens what the standard library sealed, for
// lengths that end at each place of a block, and refuses it changed. A processor, an emulator or a
// hypervisor on which it does not costs speed, and nothing else.
var wideAgrees = sync.OnceValue(func() bool { return hasWide() && compareWide() })

func compareWide() bool {
	var key [KeySize]byte
	var text [3*groupBytes + 17]byte
	for i := range text {
		text[i] = byte(i*i + i>>3)
	}
	for n := 0; n <= len(text); n += 1 + n/7 {
		key[n%KeySize] ^= byte(n)
		standard, err := standardAEAD(key[:])
		if err != nil {
			return false
		}
		w := newWide(standard, &key)
		nonce, aad := text[n%64:][:12], text[:n%97]
		sealed := standard.Seal(nil, nonce, text[:n], aad)
		plain, err := w.Open(nil, nonce, sealed, aad)
		if err != nil || string(plain) != string(text[:n]) {
			return false
		}
		sealed[bits.Reverse16(uint16(n))%uint16(len(sealed))] ^= 1 << (n % 8)
		if _, err := w.Open(nil, nonce, sealed, aad); err == nil {
			return false
		}
	}
	return true
}
