package keybuf

import (
	"crypto/sha256"
	"hash"
	"runtime"
)

// Crypto/hmac and crypto/hkdf leave what they are given in memory that they let go of: the hash keeps its last block, and
// the key stays, padded, in two slices. A key that seals thousands of files is then readable thousands of times,
// until the collector and somebody else's data have come by. The functions below compute the same and leave nothing.

// MAC returns the HMAC-SHA-256 (RFC 2104) of parts, one after the other, under a key, and leaves no copy of them behind.
func MAC(key []byte, parts ...[]byte) (sum [sha256.Size]byte) {
	wipeStack() // it grows now, and not with a part of them on it
	mac(&sum, key, parts)
	wipeStack()
	return sum
}

//go:noinline
func mac(sum *[sha256.Size]byte, key []byte, parts [][]byte) {
	var pad [sha256.BlockSize]byte
	defer Wipe(pad[:])
	h := sha256.New()
	if len(key) > len(pad) {
		h.Write(key)
		h.Sum(pad[:0])
		overwrite(h)
	} else {
		copy(pad[:], key)
	}
	for i := range pad {
		pad[i] ^= 0x36
	}
	h.Write(pad[:])
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	overwrite(h)
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	h.Write(pad[:])
	h.Write(sum[:])
	h.Sum(sum[:0])
	overwrite(h)
}

// overwrite begins a hash anew after it has overwritten the block that it keeps. It keeps no whole block that it is
// given at once, so it gets this one in two parts.
func overwrite(h hash.Hash) {
	var zeros [sha256.BlockSize]byte
	h.Reset()
	h.Write(zeros[:1])
	h.Write(zeros[1:])
	h.Reset()
}

// wipeStack overwrites what functions that have returned left on the stack: a hash computes its sum in a copy of itself.
//
//go:noinline
func wipeStack() {
	var below [4096]byte
	clear(below[:])
	runtime.KeepAlive(&below)
}

// Extract is the first half of HKDF-SHA-256 (RFC 5869). It leaves no copy of the secret, and its caller wipes the result.
func Extract(secret, salt []byte) [sha256.Size]byte { return MAC(salt, secret) }

// Expand is the second half of HKDF-SHA-256 (RFC 5869), for at most 8160 bytes. It leaves no copy of the key, and its
// caller wipes the result.
func Expand(key []byte, info string, n int) []byte {
	if n < 0 || n > 255*sha256.Size {
		panic("keybuf: HKDF has at most 8160 bytes") // a constant of the caller's
	}
	out := make([]byte, 0, (n+sha256.Size-1)/sha256.Size*sha256.Size)
	var last []byte
	for counter := byte(1); len(out) < n; counter++ {
		sum := MAC(key, last, []byte(info), []byte{counter})
		out = append(out, sum[:]...)
		Wipe(sum[:])
		last = out[len(out)-sha256.Size:]
	}
	Wipe(out[n:cap(out)])
	return out[:n:n]
}

// Derive is HKDF-SHA-256 (RFC 5869), for at most 8160 bytes. It leaves no copy of the secret, and its caller wipes the
// result.
func Derive(secret, salt []byte, info string, n int) []byte {
	key := Extract(secret, salt)
	defer Wipe(key[:])
	return Expand(key[:], info, n)
}
