package tdx

import (
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/image/measure/firmware"
)

// DigestBytes is the size of MRTD.
const DigestBytes = sha512.Size384

// ReasonOrder means that the order in which the hypervisor builds a domain is not known.
const ReasonOrder refusal.Reason = "machine-invalid"

// Order is the order in which a hypervisor adds pages and has them measured. The zero value is none.
type Order string

const (
	// ByPage adds a page, extends its contents and goes on to the next: Linux's KVM since 6.16 and Google's.
	ByPage Order = "by-page"
	// BySection adds all pages of a section before it extends them: KVM with patches from before that, such as
	// those of Ubuntu 24.04 with Intel's.
	BySection Order = "by-section"
)

const (
	recordBytes = 128 // of an operation
	addressAt   = 16
	chunkBytes  = 256
	addPage     = "MEM.PAGE.ADD"
	extendChunk = "MR.EXTEND"
)

// MRTD computes the measurement.
func MRTD(image *firmware.Image, order Order) ([DigestBytes]byte, error) {
	if order != ByPage && order != BySection {
		return [DigestBytes]byte{}, refusal.New(ReasonOrder, "page_order: got %q, want %s or %s", order, ByPage, BySection)
	}
	sections, err := image.TDX()
	if err != nil {
		return [DigestBytes]byte{}, err
	}
	b := build{sha512.New384()}
	for _, s := range sections {
		if !s.Augmented {
			b.section(s, order)
		}
	}
	return [DigestBytes]byte(b.digest.Sum(nil)), nil
}

// build is a domain's build under way.
type build struct{ digest hash.Hash }

// record writes an operation's name and address.
func (b build) record(name string, address uint64) {
	var r [recordBytes]byte
	copy(r[:], name)
	binary.LittleEndian.PutUint64(r[addressAt:], address)
	b.digest.Write(r[:]) // a hash takes everything
}

func (b build) section(s firmware.TDXSection, order Order) {
	for at := uint64(0); at < s.Bytes; at += firmware.PageBytes {
		b.record(addPage, s.Address+at)
		if s.Measured && order == ByPage {
			b.contents(s.Address+at, s.Data[at:at+firmware.PageBytes])
		}
	}
	if s.Measured && order == BySection {
		b.contents(s.Address, s.Data)
	}
}

func (b build) contents(address uint64, data []byte) {
	for ; len(data) > 0; data, address = data[chunkBytes:], address+chunkBytes {
		b.record(extendChunk, address)
		b.digest.Write(data[:chunkBytes])
	}
}
