package gpu

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Types of opaque data that are read (NVIDIA/nvtrust, OPAQUE_FIELD_ID).
const (
	fieldDriver         = 3
	fieldVBIOS          = 6
	fieldNVDEC0         = 11
	fieldCounts         = 12 // how often each block was measured, four bytes each
	fieldChipSKU        = 15
	fieldProject        = 17
	fieldProjectSKU     = 18
	fieldFWID           = 20
	fieldProtectedPCIe  = 21
	fieldSwitches       = 22 // eight bytes for each connected switch
	fieldLastOfFirst    = 25
	fieldLinks          = 32
	fieldOpaqueVersion  = 34
	fieldChip           = 35
	fieldMode           = 36
	maxOpaqueVersion    = 1
	maxOpaqueText       = 64
	statusOn, statusOff = 0xaa, 0x55
)

// opaque is NVIDIA's data beside the measurements, which the signature covers as well.
type opaque struct {
	driver, vbios, chip          string
	chipSKU, project, projectSKU string
	fwid                         []byte // nil if it is not there
	protectedPCIe, nvdec0        *bool
	mode                         evidence.GPUMode
}

// read takes the fields apart: type, size, data. NVIDIA's own verifiers refuse types that they
// do not know, and so does this: nothing says that one may be passed over. Types that are known
// and say nothing that a policy could use (SKUs of boards, sizes of memory regions, links) are
// checked for their size alone.
func (o *opaque) read(data []byte) error {
	s := cryptobyte.String(data)
	seen := map[uint16]bool{}
	for !s.Empty() {
		var kind, size uint16
		var value []byte
		if !readLittle16(&s, &kind) || !readLittle16(&s, &size) || !s.ReadBytes(&value, int(size)) {
			return refusal.New(ReasonOpaque, "the fields are cut short")
		}
		known := kind >= 1 && kind <= fieldLastOfFirst || kind >= fieldLinks && kind <= fieldMode
		if !known || seen[kind] {
			return refusal.New(ReasonOpaque, "field %d is unknown, or there twice", kind)
		}
		seen[kind] = true
		if err := o.field(kind, value); err != nil {
			return err
		}
	}
	if o.driver == "" || o.vbios == "" {
		return refusal.New(ReasonOpaque, "no version of the driver or of the VBIOS")
	}
	return nil
}

func (o *opaque) field(kind uint16, value []byte) (err error) {
	switch kind {
	case fieldDriver:
		o.driver, err = text(kind, value)
	case fieldChipSKU:
		o.chipSKU, err = text(kind, value)
	case fieldProject:
		o.project, err = text(kind, value)
	case fieldProjectSKU:
		o.projectSKU, err = text(kind, value)
	case fieldChip:
		o.chip, err = text(kind, value)
	case fieldVBIOS:
		o.vbios, err = vbiosVersion(value)
	case fieldNVDEC0:
		o.nvdec0, err = status(kind, value)
	case fieldProtectedPCIe:
		o.protectedPCIe, err = status(kind, value)
	case fieldFWID:
		if o.fwid = value; len(value) != digestSize {
			err = refusal.New(ReasonOpaque, "an FWID of %d bytes", len(value))
		}
	case fieldCounts:
		if len(value)%4 != 0 || len(value) > 4*maxBlocks {
			err = refusal.New(ReasonOpaque, "%d bytes of counts", len(value))
		}
	case fieldSwitches:
		if len(value)%8 != 0 {
			err = refusal.New(ReasonOpaque, "%d bytes of names of switches", len(value))
		}
	case fieldOpaqueVersion:
		if n, ok := number(value); !ok || n > maxOpaqueVersion {
			err = refusal.New(ReasonOpaque, "version %x of the opaque data; up to %d is known", value, maxOpaqueVersion)
		}
	case fieldMode:
		o.mode, err = mode(value)
	}
	return err
}

// text is printable ASCII with zeros behind it.
func text(kind uint16, value []byte) (string, error) {
	s := strings.TrimRight(string(value), "\x00")
	if len(s) > maxOpaqueText || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", refusal.New(ReasonOpaque, "field %d is not a text of at most %d printable characters", kind, maxOpaqueText)
	}
	return s, nil
}

// vbiosVersion shows eight bytes as NVIDIA's tools do: the first four from the last to the
// first, then the fifth. What tools leave out is shown if it is there.
func vbiosVersion(value []byte) (string, error) {
	if len(value) != 8 {
		return "", refusal.New(ReasonOpaque, "a version of the VBIOS of %d bytes", len(value))
	}
	head := bytes.Clone(value[:4])
	slices.Reverse(head)
	out := fmt.Sprintf("%02x.%02x.%02x.%02x.%02x", head[0], head[1], head[2], head[3], value[4])
	if rest := value[5:]; !bytes.Equal(rest, make([]byte, 3)) {
		out += "." + hex.EncodeToString(rest)
	}
	return out, nil
}

func status(kind uint16, value []byte) (*bool, error) {
	if len(value) != 1 || value[0] != statusOn && value[0] != statusOff {
		return nil, refusal.New(ReasonOpaque, "field %d is %x, neither on (%#x) nor off (%#x)", kind, value, statusOn, statusOff)
	}
	on := value[0] == statusOn
	return &on, nil
}

func mode(value []byte) (evidence.GPUMode, error) {
	modes := []evidence.GPUMode{evidence.GPUModeSPT, evidence.GPUModeMPT, evidence.GPUModePPCIe}
	n, ok := number(value)
	if !ok || n >= uint64(len(modes)) {
		return "", refusal.New(ReasonOpaque, "mode %x is unknown", value)
	}
	return modes[n], nil
}

// number is a little-endian number of one to eight bytes.
func number(value []byte) (n uint64, ok bool) {
	for i, b := range value {
		if i >= 8 {
			return 0, false
		}
		n |= uint64(b) << (8 * i)
	}
	return n, len(value) > 0
}
