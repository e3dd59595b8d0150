// Package luks validates the headers of LUKS2 volumes for a guest that does not trust its disk.
//
// A LUKS2 header is not authenticated: whoever owns the disk may write into it that the data, or the key
// slot, is "encrypted" with the null cipher, and a guest that opens it stores its secrets as plaintext
// (CVE-2025-59054, CVE-2025-58356). [Read] therefore takes a header only if all of it is known and harmless:
// one key slot of bounded cost, one segment with an accepted cipher and authenticated sectors, one digest,
// no tokens, no flags, no requirements. Everything else is refused with a reason.
//
// What was read is never read again. [Header.Detached] writes the validated header anew, from what was
// understood of it and from nothing else, and cryptsetup opens the volume with that file (--header). So the
// host can neither change the header after the check nor gain from reading JSON differently than cryptsetup
// does. The package trusts cryptsetup and the kernel; it cannot tell an old header or old sectors from
// current ones, which is what generations of volumes are for (docs/protocol.md).
//
// The lengths of the volume keys of all accepted ciphers differ, and the key slot opens for one length
// alone. So a host that names another accepted cipher gains a volume that does not open.
package luks

import (
	"bytes"
	"errors"
	"io"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of what is accepted. None of them is near what cryptsetup makes by default.
const (
	// MaxHeaderBytes bounds one copy of the header, binary and JSON part together; 16 KiB are usual.
	MaxHeaderBytes = 64 << 10
	// MaxKeyslotsBytes bounds the area of the key slots; somewhat less than 16 MiB are usual.
	MaxKeyslotsBytes = 128 << 20
	// MaxDetachedBytes bounds the header and the used key slot, which are kept in memory.
	MaxDetachedBytes = 2 << 20
	// MaxIterations bounds a PBKDF2: some seconds.
	MaxIterations = 10_000_000
	// MaxArgonKiB bounds the memory of an Argon2: what cryptsetup takes at most unless it is told otherwise.
	MaxArgonKiB = 1 << 20
	// MaxArgonCost bounds the product of an Argon2's passes and KiB: some ten seconds.
	MaxArgonCost = 8 << 20
	// MaxArgonLanes bounds the threads of an Argon2.
	MaxArgonLanes = 4
)

// Options say what of a volume is known or permitted. The zero value requires authenticated sectors.
type Options struct {
	// DeviceBytes is the size of the device with the data; 0 where only the header is at hand, as with a
	// detached one.
	DeviceBytes int64
	// PermitUnauthenticated accepts aes-xts-plain64 without integrity protection: the host can then change
	// any sector to noise, or back to what it was, and nobody notices.
	PermitUnauthenticated bool
}

// Header is a valid header. [Read] makes it.
type Header struct {
	uuid     string
	seqID    uint64
	salt     []byte // of the binary header; it makes checksums differ and protects nothing
	size     int64  // of one copy
	metadata metadata
	profile  profile
	slot     []byte // the one key slot's area
}

// UUID is the volume's, as its header has it.
func (h *Header) UUID() string { return h.uuid }

// Cipher is how the data is encrypted, and authenticated, in cryptsetup's words.
func (h *Header) Cipher() string {
	if h.profile.integrity == "" {
		return h.profile.encryption + ", unauthenticated"
	}
	return h.profile.encryption + ", " + h.profile.integrity
}

// Authenticated says whether a changed sector is noticed.
func (h *Header) Authenticated() bool { return h.profile.integrity != "" }

// Read reads and validates the header at the beginning of a device or of a file with a detached header.
// Each byte is read once. An error is a refusal unless the device cannot be read.
func Read(r io.ReaderAt, o Options) (*Header, error) {
	first, err := readCopy(r, 0, primaryMagic)
	if err != nil {
		return nil, err
	}
	second, err := readCopy(r, first.size, secondaryMagic)
	if err != nil {
		return nil, err
	}
	// cryptsetup takes the copy with the higher sequence id. A validator that looked at one copy alone would
	// let the host choose the other; and copies differ only after a crash while the header was changed.
	if first.seqID != second.seqID || first.uuid != second.uuid || !bytes.Equal(first.json, second.json) {
		return nil, refusal.New(ReasonCopies, "the two copies of the header differ (sequence ids %d and %d)", first.seqID, second.seqID)
	}
	m, err := decodeMetadata(first.json)
	if err != nil {
		return nil, err
	}
	h := &Header{uuid: first.uuid, seqID: first.seqID, salt: first.salt, size: first.size, metadata: m}
	if err := h.validate(o); err != nil {
		return nil, err
	}
	area := m.Keyslots[only].Area
	h.slot = make([]byte, area.Size)
	if err := readFull(r, h.slot, int64(area.Offset)); err != nil {
		return nil, err
	}
	return h, nil
}

// Check validates a detached header, such as one that [Header.Detached] made, whose data is elsewhere.
func Check(r io.ReaderAt, permitUnauthenticated bool) error {
	_, err := Read(r, Options{PermitUnauthenticated: permitUnauthenticated})
	return err
}

// Zero says whether the first n bytes of a device are all zero, as those of a disk that nobody has used.
func Zero(r io.ReaderAt, n int64) (bool, error) {
	block := make([]byte, 64<<10)
	for at := int64(0); at < n; {
		part := block[:min(int64(len(block)), n-at)]
		if err := readFull(r, part, at); err != nil {
			return false, err
		}
		if len(bytes.TrimLeft(part, "\x00")) != 0 {
			return false, nil
		}
		at += int64(len(part))
	}
	return true, nil
}

// readFull reads exactly what was asked for; a device that ends before is refused.
func readFull(r io.ReaderAt, into []byte, at int64) error {
	n, err := r.ReadAt(into, at)
	switch {
	case n == len(into):
		return nil
	case errors.Is(err, io.EOF):
		return refusal.New(ReasonSize, "the device ends at byte %d, inside the header", at+int64(n))
	case err == nil:
		err = io.ErrNoProgress
	}
	return err
}
