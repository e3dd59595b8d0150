package luks

import (
	"encoding/json"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// profile is an accepted way to encrypt data.
type profile struct {
	encryption string // the cipher in cryptsetup's words
	integrity  string // its sectors' authentication; "" for none
	keyBytes   int    // of the volume key, the authentication's included
}

// profiles are all of them. No two have volume keys of one length: see the package comment.
var profiles = []profile{
	{"aes-xts-plain64", "hmac(sha256)", 64 + 32},
	{"aes-xts-plain64", "hmac(sha512)", 64 + 64},
	{"aes-gcm-random", "aead", 32},
	{"aegis128-random", "aead", 16},
	{"aes-xts-plain64", "", 64},
}

// What every key slot that cryptsetup makes has.
const (
	slotCipher   = "aes-xts-plain64"
	slotKeyBytes = 64
	stripes      = 4000
	alignment    = 4096
)

var hashBytes = map[string]int{"sha256": 32, "sha512": 64}

// validate checks everything that the copies of the header say.
func (h *Header) validate(o Options) error {
	m := &h.metadata
	for _, check := range []func() error{
		func() error { return m.Config.validate(h.size) },
		func() error {
			if len(m.Tokens) != 0 {
				return refusal.New(ReasonToken, "the header has %d tokens, want none", len(m.Tokens))
			}
			return nil
		},
		func() error { return h.validateSegment(o) },
		h.validateKeyslot,
		h.validateDigest,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) validate(size int64) error {
	if c.Flags != nil || c.Requirements != nil {
		return refusal.New(ReasonRequirements, "the header has flags %q and requirements %s, want neither", c.Flags, orNone(c.Requirements))
	}
	if int64(c.JSONSize) != size-binaryBytes {
		return refusal.New(ReasonSize, "a JSON area of %d bytes in a header of %d", c.JSONSize, size)
	}
	if c.KeyslotsSize > MaxKeyslotsBytes || c.KeyslotsSize%alignment != 0 {
		return refusal.New(ReasonSize, "an area of %d bytes for key slots; at most %d are accepted", c.KeyslotsSize, MaxKeyslotsBytes)
	}
	return nil
}

func orNone(raw json.RawMessage) string {
	if raw == nil {
		return "none"
	}
	return string(raw)
}

// slotsEnd is where the key slots end and data may begin.
func (h *Header) slotsEnd() int64 { return 2*h.size + int64(h.metadata.Config.KeyslotsSize) }

func (h *Header) validateSegment(o Options) error {
	s, ok := h.metadata.Segments[only]
	if !ok || len(h.metadata.Segments) != 1 {
		return refusal.New(ReasonSegment, "%d segments, want one, called 0", len(h.metadata.Segments))
	}
	if s.Type != "crypt" {
		return refusal.New(ReasonSegment, "a segment of type %q, want crypt", s.Type)
	}
	// The same position under two tweaks, or two positions under one, would repeat keystream or ciphertext.
	if s.IVTweak != 0 || s.Flags != nil {
		return refusal.New(ReasonSegment, "a segment with iv_tweak %d and flags %q, want neither", s.IVTweak, s.Flags)
	}
	if !slices.Contains([]int64{512, 1024, 2048, 4096}, s.SectorSize) {
		return refusal.New(ReasonSegment, "sectors of %d bytes", s.SectorSize)
	}
	if err := h.validateExtent(&s, o.DeviceBytes); err != nil {
		return err
	}
	return h.chooseProfile(&s, o.PermitUnauthenticated)
}

// validateExtent checks that the data lies behind the key slots and on the device.
func (h *Header) validateExtent(s *segment, device int64) error {
	if int64(s.Offset) < h.slotsEnd() || s.Offset%alignment != 0 {
		return refusal.New(ReasonSize, "data at byte %d; the key slots end at byte %d", s.Offset, h.slotsEnd())
	}
	size := s.SectorSize
	if s.Size != "dynamic" {
		var err error
		if size, err = parseDecimal(s.Size); err != nil || size == 0 || size%s.SectorSize != 0 {
			return refusal.New(ReasonSize, "a segment of %q bytes", s.Size)
		}
	}
	if device != 0 && (int64(s.Offset) > device || size > device-int64(s.Offset)) {
		return refusal.New(ReasonSize, "%s bytes of data from byte %d on a device of %d bytes", s.Size, s.Offset, device)
	}
	return nil
}

func (h *Header) chooseProfile(s *segment, unauthenticated bool) error {
	integrity := ""
	if s.Integrity != nil {
		integrity = s.Integrity.Type
		// dm-crypt encrypts and authenticates before dm-integrity sees a sector; its journal holds ciphertext.
		if s.Integrity.JournalEncryption != "none" || s.Integrity.JournalIntegrity != "none" || integrity == "" {
			return refusal.New(ReasonSegment, "unknown parameters of integrity protection")
		}
	}
	i := slices.IndexFunc(profiles, func(p profile) bool { return p.encryption == s.Encryption && p.integrity == integrity })
	if i < 0 {
		return refusal.New(ReasonCipher, "data encrypted with %q, integrity %q", s.Encryption, integrity)
	}
	if h.profile = profiles[i]; integrity == "" && !unauthenticated {
		return refusal.New(ReasonUnauthenticated, "data encrypted with %s alone, without integrity protection", s.Encryption)
	}
	return nil
}

func (h *Header) validateKeyslot() error {
	k, ok := h.metadata.Keyslots[only]
	if !ok || len(h.metadata.Keyslots) != 1 {
		return refusal.New(ReasonKeyslot, "%d key slots, want one, called 0", len(h.metadata.Keyslots))
	}
	if k.Type != "luks2" || k.Priority != nil {
		return refusal.New(ReasonKeyslot, "a key slot of type %q, want luks2 of normal priority", k.Type)
	}
	if k.KeySize != h.profile.keyBytes {
		return refusal.New(ReasonKeyslot, "a volume key of %d bytes; %s has %d", k.KeySize, h.Cipher(), h.profile.keyBytes)
	}
	if k.AF.Type != "luks1" || k.AF.Stripes != stripes || hashBytes[k.AF.Hash] == 0 {
		return refusal.New(ReasonKeyslot, "a key spread by %q, %d stripes, %q", k.AF.Type, k.AF.Stripes, k.AF.Hash)
	}
	if err := h.validateArea(&k); err != nil {
		return err
	}
	return k.KDF.validate()
}

// validateArea checks where a key slot is, and how it is encrypted: under the null cipher anyone could put a
// key of their own there, which every passphrase would open.
func (h *Header) validateArea(k *keyslot) error {
	a := &k.Area
	if a.Type != "raw" {
		return refusal.New(ReasonKeyslot, "a key slot's area of type %q, want raw", a.Type)
	}
	if a.Encryption != slotCipher || a.KeySize != slotKeyBytes {
		return refusal.New(ReasonCipher, "a key slot encrypted with %q and %d bytes of key", a.Encryption, a.KeySize)
	}
	if need := (int64(k.KeySize)*stripes + alignment - 1) / alignment * alignment; int64(a.Size) != need {
		return refusal.New(ReasonSize, "a key slot of %d bytes, want %d", a.Size, need)
	}
	if int64(a.Offset) < 2*h.size || int64(a.Offset) > h.slotsEnd()-int64(a.Size) || a.Offset%alignment != 0 {
		return refusal.New(ReasonSize, "a key slot at byte %d, outside their area", a.Offset)
	}
	if int64(a.Offset+a.Size) > MaxDetachedBytes {
		return refusal.New(ReasonSize, "a key slot that ends at byte %d; at most %d are accepted", a.Offset+a.Size, MaxDetachedBytes)
	}
	return nil
}

// validate bounds what a key derivation costs. There is no lower bound: the keys that brokers release are
// random, and no derivation makes them better.
func (k *kdf) validate() error {
	if len(k.Salt) < 16 || len(k.Salt) > 64 {
		return refusal.New(ReasonKeyslot, "a salt of %d bytes", len(k.Salt))
	}
	switch k.Type {
	case "pbkdf2":
		if hashBytes[k.Hash] == 0 || k.Time != 0 || k.Memory != 0 || k.CPUs != 0 {
			return refusal.New(ReasonKeyslot, "a PBKDF2 with hash %q, or with fields of another derivation", k.Hash)
		}
		if k.Iterations < 1 || k.Iterations > MaxIterations {
			return refusal.New(ReasonCost, "a PBKDF2 of %d iterations; at most %d are accepted", k.Iterations, MaxIterations)
		}
	case "argon2i", "argon2id":
		if k.Hash != "" || k.Iterations != 0 {
			return refusal.New(ReasonKeyslot, "an Argon2 with fields of another derivation")
		}
		if k.Memory < 8 || k.Memory > MaxArgonKiB || k.Time < 1 || k.Time > MaxArgonCost/k.Memory || k.CPUs < 1 || k.CPUs > MaxArgonLanes {
			return refusal.New(ReasonCost, "an Argon2 of %d passes over %d KiB in %d lanes; at most %d KiB, %d in all passes, and %d lanes are accepted",
				k.Time, k.Memory, k.CPUs, MaxArgonKiB, MaxArgonCost, MaxArgonLanes)
		}
	default:
		return refusal.New(ReasonKeyslot, "key derivation %q", k.Type)
	}
	return nil
}

// validateDigest checks that the digest of the volume key ties the one slot to the one segment.
func (h *Header) validateDigest() error {
	d, ok := h.metadata.Digests[only]
	one := []string{only}
	if !ok || len(h.metadata.Digests) != 1 || !slices.Equal(d.Keyslots, one) || !slices.Equal(d.Segments, one) {
		return refusal.New(ReasonDigest, "%d digests, want one, of key slot 0 and segment 0", len(h.metadata.Digests))
	}
	if d.Type != "pbkdf2" || hashBytes[d.Hash] == 0 || len(d.Digest) != hashBytes[d.Hash] || len(d.Salt) < 16 || len(d.Salt) > 64 {
		return refusal.New(ReasonDigest, "a digest of type %q, hash %q, %d bytes", d.Type, d.Hash, len(d.Digest))
	}
	if d.Iterations < 1 || d.Iterations > MaxIterations {
		return refusal.New(ReasonCost, "a digest of %d iterations; at most %d are accepted", d.Iterations, MaxIterations)
	}
	return nil
}
