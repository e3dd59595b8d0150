package uki

import (
	"hash"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The stub writes its name and version into a section of its own.
const markSection = ".sdmagic"

var markForm = regexp.MustCompile(`^#### LoaderInfo: systemd-stub ([0-9]{3})[^0-9]`)

// Versions of the stub whose measurements are known. Between them the order changed without a mark that is known here.
const (
	firstStub, firstOrdered, lastStub = 252, 255, 258
	// startsKernel is the last version that has the firmware load the kernel inside, which measures it.
	startsKernel = 257
)

// measured are the sections that a stub measures into PCR 11, in the order of its measurement. The section
// .pcrsig is never measured: it signs the result.
func measured(stub int) []string {
	if stub < firstOrdered {
		return []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}
	}
	order := []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"}
	if stub == firstOrdered { // .ucode came with 256
		order = slices.Delete(order, 4, 5)
	}
	return order
}

// chosen are sections among which a stub chooses by more than the file.
func chosen() []string { return []string{".profile", ".dtbauto", ".hwids", ".efifw"} }

// Image is a unified kernel image.
type Image struct {
	*File
	// Stub is the version of systemd-stub.
	Stub int
	// Kernel is the program in the section .linux.
	Kernel *File
	parts  []Part
}

// Part is a section that the stub measures.
type Part struct {
	Name string
	Data []byte
}

// Open reads an image.
func Open(raw []byte) (*Image, error) {
	f, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	u := &Image{File: f}
	if u.Stub, err = f.stub(); err != nil {
		return nil, err
	}
	for _, s := range f.sections {
		switch {
		case slices.Contains(chosen(), s.Name):
			return nil, refusal.New(ReasonUnsupported, "the image has a section %s, with which the stub chooses what it measures by more than the file", s.Name)
		case s.Name == ".ucode" && !slices.Contains(measured(u.Stub), s.Name):
			return nil, refusal.New(ReasonUnsupported, "the image has a section .ucode and a stub of version %d, which does not know it", u.Stub)
		}
	}
	for _, name := range measured(u.Stub) {
		data, ok, err := f.Section(name)
		if err != nil {
			return nil, err
		}
		if ok && len(data) > 0 { // empty ones are not measured
			u.parts = append(u.parts, Part{name, data})
		}
	}
	if len(u.parts) == 0 || u.parts[0].Name != ".linux" {
		return nil, refusal.New(ReasonUnsupported, "the file has no section .linux: it is no unified kernel image")
	}
	u.Kernel, err = Parse(u.parts[0].Data)
	return u, err
}

// stub reads the version out of the mark.
func (f *File) stub() (int, error) {
	mark, ok, err := f.Section(markSection)
	if err != nil {
		return 0, err
	}
	m := markForm.FindStringSubmatch(strings.TrimLeft(string(mark[:min(len(mark), 128)]), "\x00"))
	if !ok || m == nil {
		return 0, refusal.New(ReasonUnsupported, "the file has no mark of systemd-stub: only images made with that stub are measured")
	}
	version, err := strconv.Atoi(m[1])
	if err != nil || version != firstStub && (version < firstOrdered || version > lastStub) {
		return 0, refusal.New(ReasonUnsupported, "the image has systemd-stub %s; known is what %d and %d to %d measure", m[1], firstStub, firstOrdered, lastStub)
	}
	return version, nil
}

// Parts are the sections that the stub measures, in order.
func (u *Image) Parts() []Part { return u.parts }

// Programs are the digests of the programs that firmware loads to start the image, in order: the image, and
// the kernel inside where the stub has the firmware load it. known is false where that depends on more than the
// stub's version.
func (u *Image) Programs(newHash func() hash.Hash) (digests [][]byte, known bool) {
	if u.Stub > startsKernel {
		return nil, false
	}
	return [][]byte{u.Authenticode(newHash()), u.Kernel.Authenticode(newHash())}, true
}
