package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// Limits of what identifies an image.
const (
	MaxRegisters     = 32 // measurements of one guest
	MinRegisterBytes = 16 // of one measurement
	MaxRegisterBytes = 64
	maxRegisterName  = 32
)

// RegisterLaunch is the name of SEV-SNP's only measurement, the launch digest.
const RegisterLaunch = "launch"

// Register is one measurement of the software started in a guest, under the name that its kind
// of evidence gives it: "launch" for SEV-SNP.
type Register struct {
	Name  string `json:"name"`
	Value Hex    `json:"value"`
}

// Valid reports whether name and value are inside their limits.
func (r Register) Valid() bool {
	if r.Name == "" || len(r.Name) > maxRegisterName || len(r.Value) < MinRegisterBytes || len(r.Value) > MaxRegisterBytes {
		return false
	}
	for i := range len(r.Name) {
		if c := r.Name[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// ImageAlgorithm says how an [ImageDigest] is computed. It is part of every digest,
// so that another one can follow without a new certificate.
type ImageAlgorithm uint8

// ImageSHA256 is the SHA-256 of kind and registers in the canonical form of [ImageOf].
const ImageSHA256 ImageAlgorithm = 1

const (
	imageLabel       = "anchorhold/evidence/image/1"
	imageSHA256Text  = "sha256:"
	imageDigestBytes = 1 + sha256.Size
)

// ImageDigest identifies the software started in a guest, whatever kind of evidence showed it.
// The zero value identifies nothing.
type ImageDigest struct {
	Algorithm ImageAlgorithm
	Sum       [sha256.Size]byte
}

var errImage = errors.New("not an image digest: want sha256: and 64 hexadecimal digits")

// ImageOf computes the image digest of a kind's registers, which are sorted by name,
// none twice (docs/protocol.md 5.10):
//
//	SHA-256(label (1-byte length) | kind (1) | count of registers, 1 byte |
//	        of each: name (1), value (1))
func ImageOf(kind Kind, registers []Register) (ImageDigest, error) {
	if !kind.Known() || len(registers) == 0 || len(registers) > MaxRegisters {
		return ImageDigest{}, fmt.Errorf("an image of kind %q with %d registers is not allowed", kind, len(registers))
	}
	var b cryptobyte.Builder
	addString(&b, imageLabel)
	addString(&b, string(kind))
	b.AddUint8(uint8(len(registers)))
	for i, r := range registers {
		if !r.Valid() || i > 0 && registers[i-1].Name >= r.Name {
			return ImageDigest{}, fmt.Errorf("register %d of the image is malformed, out of order or repeated", i)
		}
		addString(&b, r.Name)
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(r.Value) })
	}
	data, err := b.Bytes()
	if err != nil {
		return ImageDigest{}, err
	}
	return ImageDigest{ImageSHA256, sha256.Sum256(data)}, nil
}

// LaunchRegister is the one register of SEV-SNP.
func LaunchRegister(measurement []byte) Measured {
	return Measured{Register{RegisterLaunch, measurement}, CoversLaunch}
}

// Bytes returns the algorithm's number and the sum.
func (d ImageDigest) Bytes() []byte {
	return append([]byte{byte(d.Algorithm)}, d.Sum[:]...)
}

// ImageDigestOf reads what Bytes returns, of a known algorithm.
func ImageDigestOf(b []byte) (ImageDigest, bool) {
	if len(b) != imageDigestBytes || ImageAlgorithm(b[0]) != ImageSHA256 {
		return ImageDigest{}, false
	}
	return ImageDigest{ImageSHA256, [sha256.Size]byte(b[1:])}, true
}

// String returns "sha256:" and the sum in lower-case hexadecimal; "none" for the zero value.
func (d ImageDigest) String() string {
	if d.Algorithm != ImageSHA256 {
		return "none"
	}
	return imageSHA256Text + hex.EncodeToString(d.Sum[:])
}

// ParseImageDigest reads what String writes for a digest, and nothing else.
func ParseImageDigest(s string) (ImageDigest, error) {
	text, ok := strings.CutPrefix(s, imageSHA256Text)
	sum, err := hex.DecodeString(text)
	if !ok || err != nil || len(sum) != sha256.Size || hex.EncodeToString(sum) != text {
		return ImageDigest{}, errImage
	}
	return ImageDigest{ImageSHA256, [sha256.Size]byte(sum)}, nil
}

// MarshalText writes the digest as String does; the zero value is an error.
func (d ImageDigest) MarshalText() ([]byte, error) {
	if d.Algorithm != ImageSHA256 {
		return nil, errImage
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *ImageDigest) UnmarshalText(text []byte) (err error) {
	*d, err = ParseImageDigest(string(text))
	return err
}
