package initrd

import (
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonVerity means that the kernel did not set up the verified device.
const ReasonVerity refusal.Reason = "verity-not-set-up"

// The device mapper's interface, include/uapi/linux/dm-ioctl.h.
const (
	dmCreate  = 0xc138fd03
	dmSuspend = 0xc138fd06 // which resumes without the flag
	dmLoad    = 0xc138fd09

	dmHeaderBytes = 312
	dmTargetBytes = 40
	dmReadOnly    = 1 << 0
	dmMajor       = 4

	dmSizeAt, dmStartAt   = 12, 16
	dmTargetsAt           = 20
	dmFlagsAt, dmDeviceAt = 28, 40
	dmNameAt, dmNameBytes = 48, 128
	dmAlign               = 8
)

// Device is a device of the device mapper in the making.
type Device struct {
	// Name is its name.
	Name string
	// Call is the ioctl on the mapper's control file: it writes the answer over the message.
	Call func(request uint, message []byte) error
}

// Open creates the device with one target over all its sectors, read only, and returns its number.
func (d Device) Open(target string, sectors uint64, table string) (number uint64, err error) {
	body := binary.LittleEndian.AppendUint64(make([]byte, 8), sectors) // from sector 0 on
	body = append(body, make([]byte, dmTargetBytes-len(body))...)
	copy(body[24:], target)
	body = append(append(body, table...), 0)
	for len(body)%dmAlign != 0 {
		body = append(body, 0)
	}
	binary.LittleEndian.PutUint32(body[20:], uint32(len(body))) // where a next target would begin
	for _, step := range []struct {
		what    string
		request uint
		message []byte
	}{
		{"create the device", dmCreate, d.message(0, 0, nil)},
		{"load its table", dmLoad, d.message(dmReadOnly, 1, body)},
		{"start it", dmSuspend, d.message(0, 0, nil)},
	} {
		if err := d.Call(step.request, step.message); err != nil {
			return 0, refusal.New(ReasonVerity, "%s: %w", step.what, err)
		}
		number = binary.LittleEndian.Uint64(step.message[dmDeviceAt:])
	}
	if number == 0 {
		return 0, refusal.New(ReasonVerity, "the kernel named no device")
	}
	return number, nil
}

// message is a request with its body.
func (d Device) message(flags, targets uint32, body []byte) []byte {
	m := make([]byte, dmHeaderBytes, dmHeaderBytes+len(body))
	binary.LittleEndian.PutUint32(m, dmMajor)
	binary.LittleEndian.PutUint32(m[dmSizeAt:], uint32(dmHeaderBytes+len(body)))
	binary.LittleEndian.PutUint32(m[dmStartAt:], dmHeaderBytes)
	binary.LittleEndian.PutUint32(m[dmTargetsAt:], targets)
	binary.LittleEndian.PutUint32(m[dmFlagsAt:], flags)
	copy(m[dmNameAt:dmNameAt+dmNameBytes-1], d.Name)
	return append(m, body...)
}
