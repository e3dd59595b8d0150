package ptau

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"golang.org/x/crypto/blake2b"
)

// Errors of this package.
var (
	// ErrRefused means a malformed or wrong file.
	ErrRefused = errors.New("ptau: file refused")
	// ErrPower means a file with too few powers, or a size that no file has: a larger file is
	// needed.
	ErrPower = errors.New("ptau: too few powers")
)

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// Progress is called with a description of each step.
type Progress func(what string)

// MaxPower is the highest power that the field has roots of unity for.
const MaxPower = 28

// The container: a magic, a version, a count; then sections, each with type and length.
const (
	magic              = "ptau"
	version            = 1
	containerBytes     = 12
	sectionHeaderBytes = 12
	headerBytes        = 4 + fp.Bytes + 4 + 4
)

// The sections. Those from lagrange1 are in files that were prepared for phase 2.
const (
	secHeader = 1 + iota
	secTauG1
	secTauG2
	secAlphaG1
	secBetaG1
	secBetaG2
	secContributions

	secLagrangeTauG1 = 12
	secLast          = 15
)

// Bounds of section 7: a contribution has points, a hash's state, two numbers, and three
// parameters of at most a byte's length.
const (
	maxContributions     = 4096
	minContributionBytes = 3*g1Bytes + 2*g2Bytes + 6*g1Bytes + 3*g2Bytes + 216 + 64 + 4 + 4
	maxParameterBytes    = 2 + 255 + 2 + 2 + 255
)

const copyBytes = 1 << 20

type section struct{ at, size int64 }

// File is a file whose layout was checked. Its points were not.
type File struct {
	// Power is the logarithm of the number of powers: 2^Power in G2, and one less than twice as
	// many in G1.
	Power int
	// CeremonyPower is the power of the ceremony, of whose file this one may be a part.
	CeremonyPower int
	// Contributions is the number that the file claims. Nothing proves it.
	Contributions int

	source   io.ReaderAt
	size     int64
	sections [secLast + 1]section
}

// Open checks the layout of a file of size bytes: its header, and that the sections fill the
// file with the lengths that its power requires. The error is ErrRefused, or a failure to read.
func Open(source io.ReaderAt, size int64) (*File, error) {
	f := &File{source: source, size: size}
	if err := f.findSections(); err != nil {
		return nil, err
	}
	if err := f.readHeader(); err != nil {
		return nil, err
	}
	return f, f.checkSizes()
}

// read fills b from a place.
func (f *File) read(b []byte, at int64) error {
	if at < 0 || at > f.size-int64(len(b)) {
		return refused("it ends at byte %d, inside a section", f.size)
	}
	n, err := f.source.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return refused("it ends at byte %d of %d", at+int64(n), f.size)
	}
	return fmt.Errorf("ptau: read at %d: %w", at, err)
}

func known(kind uint32) bool {
	return kind >= secHeader && kind <= secContributions || kind >= secLagrangeTauG1 && kind <= secLast
}

// findSections goes from section to section, to the end of the file.
func (f *File) findSections() error {
	var b [containerBytes]byte
	if err := f.read(b[:], 0); err != nil {
		return err
	}
	if string(b[:4]) != magic {
		return refused("it does not begin with %q", magic)
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != version {
		return refused("version %d, want %d", v, version)
	}
	count := binary.LittleEndian.Uint32(b[8:])
	if count > secLast {
		return refused("it claims %d sections", count)
	}
	at := int64(containerBytes)
	for range count {
		if err := f.read(b[:sectionHeaderBytes], at); err != nil {
			return err
		}
		kind, size := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint64(b[4:])
		at += sectionHeaderBytes
		if !known(kind) {
			return refused("section %d is unknown", kind)
		}
		if f.sections[kind].at != 0 {
			return refused("section %d appears twice", kind)
		}
		if size > uint64(f.size-at) {
			return refused("section %d claims %d bytes, of which %d are there", kind, size, f.size-at)
		}
		f.sections[kind] = section{at, int64(size)}
		at += int64(size)
	}
	if at != f.size {
		return refused("%d bytes after the last section", f.size-at)
	}
	for kind := secHeader; kind <= secContributions; kind++ {
		if f.sections[kind].at == 0 {
			return refused("section %d is missing", kind)
		}
	}
	return nil
}

func (f *File) readHeader() error {
	if n := f.sections[secHeader].size; n != headerBytes {
		return refused("a header of %d bytes, want %d: another curve?", n, headerBytes)
	}
	var b [headerBytes]byte
	if err := f.read(b[:], f.sections[secHeader].at); err != nil {
		return err
	}
	prime := modulusBytes()
	if binary.LittleEndian.Uint32(b[:]) != fp.Bytes || !bytes.Equal(b[4:4+fp.Bytes], prime) {
		return refused("it is not for the curve BN254 (bn128)")
	}
	power, ceremony := binary.LittleEndian.Uint32(b[4+fp.Bytes:]), binary.LittleEndian.Uint32(b[8+fp.Bytes:])
	if power < 1 || power > ceremony || ceremony > MaxPower {
		return refused("power %d of a ceremony of power %d is out of range, want 1 to %d", power, ceremony, MaxPower)
	}
	f.Power, f.CeremonyPower = int(power), int(ceremony)
	return nil
}

// modulusBytes is the prime of the curve's coordinates, little endian.
func modulusBytes() []byte {
	b := fp.Modulus().FillBytes(make([]byte, fp.Bytes))
	slices.Reverse(b)
	return b
}

// pointBytes is the length of one point of a section.
func pointBytes(kind int) int64 {
	if kind == secTauG2 || kind == secBetaG2 || kind == secLagrangeTauG1+1 {
		return g2Bytes
	}
	return g1Bytes
}

// points is how many points a section has in a file of a power.
func points(kind, power int) int64 {
	switch kind {
	case secTauG1:
		return 2<<power - 1
	case secBetaG2:
		return 1
	default:
		return 1 << power
	}
}

func (f *File) checkSizes() error {
	for kind := secTauG1; kind <= secBetaG2; kind++ {
		if want := points(kind, f.Power) * pointBytes(kind); f.sections[kind].size != want {
			return refused("section %d has %d bytes, want %d for power %d", kind, f.sections[kind].size, want, f.Power)
		}
	}
	for kind := secLagrangeTauG1; kind <= secLast; kind++ {
		size, each := f.sections[kind].size, pointBytes(kind)
		// One list for each power up to the file's, and one more of the powers in G1.
		if size%each != 0 || size/each > 4<<f.Power-1 {
			return refused("section %d has %d bytes, too many for power %d", kind, size, f.Power)
		}
	}
	s := f.sections[secContributions]
	var b [4]byte
	if s.size < int64(len(b)) {
		return refused("section %d has only %d bytes", secContributions, s.size)
	}
	if err := f.read(b[:], s.at); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(b[:]))
	rest := s.size - int64(len(b))
	if n > maxContributions || rest < n*minContributionBytes || rest > n*(minContributionBytes+maxParameterBytes) {
		return refused("%d contributions do not fit in %d bytes", n, rest)
	}
	f.Contributions = int(n)
	return nil
}

// Digests are of a whole file.
type Digests struct {
	SHA256 [sha256.Size]byte
	// BLAKE2b is the digest that ceremonies publish.
	BLAKE2b [blake2b.Size]byte
}

// Digests reads the whole file once.
func (f *File) Digests(ctx context.Context) (Digests, error) {
	s := sha256.New()
	b, err := blake2b.New512(nil)
	if err != nil {
		return Digests{}, err
	}
	if err := f.copy(ctx, io.MultiWriter(s, b), 0, f.size); err != nil {
		return Digests{}, err
	}
	return Digests{SHA256: [sha256.Size]byte(s.Sum(nil)), BLAKE2b: [blake2b.Size]byte(b.Sum(nil))}, nil
}

// copy writes a part of the file.
func (f *File) copy(ctx context.Context, w io.Writer, at, size int64) error {
	b := make([]byte, min(size, copyBytes))
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		b = b[:min(size, int64(len(b)))]
		if err := f.read(b, at); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		at, size = at+int64(len(b)), size-int64(len(b))
	}
	return nil
}

// Truncate writes the part of a file that has the powers of a smaller one. It copies bytes
// without checking them, and leaves out the sections prepared for phase 2. The error is
// ErrPower, or a failure to read or write.
func (f *File) Truncate(ctx context.Context, w io.Writer, power int) error {
	if power < 1 || power > f.Power {
		return fmt.Errorf("power %d of a file of power %d: %w", power, f.Power, ErrPower)
	}
	le := binary.LittleEndian
	head := le.AppendUint32([]byte(magic), version)
	head = le.AppendUint32(head, secContributions)
	head = le.AppendUint64(le.AppendUint32(head, secHeader), headerBytes)
	head = append(le.AppendUint32(head, fp.Bytes), modulusBytes()...)
	head = le.AppendUint32(le.AppendUint32(head, uint32(power)), uint32(f.CeremonyPower))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for kind := secTauG1; kind <= secContributions; kind++ {
		size := f.sections[kind].size
		if kind != secContributions {
			size = points(kind, power) * pointBytes(kind)
		}
		if _, err := w.Write(le.AppendUint64(le.AppendUint32(nil, uint32(kind)), uint64(size))); err != nil {
			return err
		}
		if err := f.copy(ctx, w, f.sections[kind].at, size); err != nil {
			return err
		}
	}
	return nil
}
