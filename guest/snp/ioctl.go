package snp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/tsm"
)

// The structures of include/uapi/linux/sev-guest.h, on a 64-bit machine.
const (
	getReport         = 0xc0205300 // _IOWR('S', 0, struct snp_guest_request_ioctl)
	getExtendedReport = 0xc0205302 // _IOWR('S', 2, struct snp_guest_request_ioctl)

	argumentSize   = 32 // snp_guest_request_ioctl
	atVersion      = 0  // u8, then 7 bytes of padding
	atRequest      = 8  // address of the request
	atResponse     = 16 // address of the response
	atExitInfo2    = 24 // firmware error, then hypervisor error
	messageVersion = 1

	reportRequestSize   = 96                 // snp_report_req: REPORT_DATA, VMPL, 28 zero bytes
	extendedRequestSize = 112                // snp_ext_report_req: that, address, length, padding
	atVMPL              = 64                 // u32
	atCertsAddress      = reportRequestSize  // u64
	atCertsLength       = atCertsAddress + 8 // u32

	responseSize = 4000 // snp_report_resp
)

// MSG_REPORT_RSP (SEV-SNP firmware ABI, 56860, table of that name): status, size of the report,
// 24 reserved bytes, and the report.
const reportResponseHead = 32

const (
	pageSize       = 4096
	firstCerts     = 4 * pageSize // the kernel's own limit (SEV_FW_BLOB_MAX_SIZE) in Linux 6.x
	noFirmwareCall = 0xff         // the firmware error that stands for a request that was not made
	vmmInvalidLen  = 1            // SNP_GUEST_VMM_ERR_INVALID_LEN
	vmmBusy        = 2            // SNP_GUEST_VMM_ERR_BUSY
	throttlePause  = 2 * time.Second
)

// call is one ioctl, as bytes in the kernel's layout. Addresses are for whoever makes it.
type call struct {
	command  uint
	argument [argumentSize]byte
	request  []byte
	response [responseSize]byte
	certs    []byte // empty if none are wanted
}

// guestDevice is /dev/sev-guest: the kernel's, or a fake one in tests.
type guestDevice interface {
	// present returns nil if the device can be opened, else why not.
	present() error
	// do makes the call, and returns the errno.
	do(c *call) error
}

// newCall asks for a report, with a certificate table of at most so many bytes if they are not zero.
func newCall(command uint, reportData [64]byte, vmpl uint32, certs int) *call {
	c := &call{command: command, request: make([]byte, reportRequestSize)}
	if command == getExtendedReport {
		c.request, c.certs = make([]byte, extendedRequestSize), make([]byte, certs)
		binary.LittleEndian.PutUint32(c.request[atCertsLength:], uint32(certs))
	}
	copy(c.request, reportData[:])
	binary.LittleEndian.PutUint32(c.request[atVMPL:], vmpl)
	c.argument[atVersion] = messageVersion
	return c
}

// guestError is a request that failed: the errno, and who says why.
type guestError struct {
	errno         error
	firmware, vmm uint32
}

// Error says all three.
func (e *guestError) Error() string {
	return fmt.Sprintf("%v; firmware: %s; hypervisor: %s", e.errno, firmwareError(e.firmware), vmmError(e.vmm))
}

// Unwrap returns the errno.
func (e *guestError) Unwrap() error { return e.errno }

// firmwareError names the SEV_RET codes that a request for a report can meet
// (include/uapi/linux/psp-sev.h).
func firmwareError(code uint32) string {
	switch code {
	case 0:
		return "no error"
	case 0x16:
		return "invalid parameter (0x16)"
	case 0x27:
		return "invalid key (0x27)"
	case noFirmwareCall:
		return "not asked"
	}
	return fmt.Sprintf("error %#x", code)
}

func vmmError(code uint32) string {
	switch code {
	case 0:
		return "no error"
	case vmmInvalidLen:
		return "certificate buffer too small"
	case vmmBusy:
		return "busy"
	}
	return fmt.Sprintf("error %#x", code)
}

// ioctls is the source of kernels without configfs-tsm.
//
// A request that fails is not repeated: the kernel gives up its key to the firmware for good if
// a message might be encrypted twice. Repeated are those that the host throttled, which the
// kernel says were not made, and those that fit once their buffer is larger.
type ioctls struct {
	guest guestDevice
	vmpl  uint32
	asked tsm.Privilege
	queue *device.Queue
}

func newIoctls(guest guestDevice, privilege tsm.Privilege) *ioctls {
	level, _ := privilege.Chosen()
	return &ioctls{guest: guest, vmpl: uint32(level), asked: privilege, queue: device.NewQueue()}
}

func (s *ioctls) report(ctx context.Context, reportData [64]byte) (tsm.Report, error) {
	return device.Call(ctx, s.queue, func(ctx context.Context) (tsm.Report, error) {
		c, err := s.extended(ctx, reportData)
		if err != nil {
			return tsm.Report{}, refusal.New(ReasonDevice, "request a report: %w", err)
		}
		data, err := reportOf(c.response[:])
		return tsm.Report{Data: data, Aux: c.certs, Privilege: s.asked}, err
	})
}

// extended asks for a report with certificates: once more if the host has more of them than the
// buffer holds, and without them if there is no way to get them.
func (s *ioctls) extended(ctx context.Context, reportData [64]byte) (*call, error) {
	c := newCall(getExtendedReport, reportData, s.vmpl, firstCerts)
	err := s.do(ctx, c)
	if failure, tooSmall := errors.AsType[*guestError](err); tooSmall && failure.vmm == vmmInvalidLen {
		// The kernel has made a plain request in its place, so its key is still good.
		needed := binary.LittleEndian.Uint32(c.request[atCertsLength:])
		if needed > firstCerts && needed <= maxAux && needed%pageSize == 0 {
			c = newCall(getExtendedReport, reportData, s.vmpl, int(needed))
			err = s.do(ctx, c)
		}
	}
	failure, failed := errors.AsType[*guestError](err)
	if !failed || failure.vmm != vmmInvalidLen && failure.firmware != noFirmwareCall {
		return c, err
	}
	// No room that the kernel would give holds the table, or the kernel knows no tables.
	c = newCall(getReport, reportData, s.vmpl, 0)
	return c, s.do(ctx, c)
}

// do makes one request; a host that is busy is asked again until the context ends.
func (s *ioctls) do(ctx context.Context, c *call) error {
	for {
		clear(c.argument[atExitInfo2:])
		errno := s.guest.do(c)
		e := &guestError{errno: errno, firmware: binary.LittleEndian.Uint32(c.argument[atExitInfo2:]), vmm: binary.LittleEndian.Uint32(c.argument[atExitInfo2+4:])}
		if errno == nil && e.firmware == 0 && e.vmm == 0 {
			return nil
		}
		if errno == nil {
			e.errno = unix.EIO // an answer beside an error is none
		}
		if e.vmm != vmmBusy {
			return e
		}
		if waiting := device.Pause(ctx, throttlePause); waiting != nil {
			return errors.Join(e, waiting)
		}
	}
}

// reportOf takes the report out of the firmware's answer.
func reportOf(response []byte) ([]byte, error) {
	status, size := binary.LittleEndian.Uint32(response), binary.LittleEndian.Uint32(response[4:])
	if status == 0x16 {
		return nil, refusal.New(ReasonDevice, "firmware: %s: a guest below an SVSM has to ask for its own privilege level or one with a higher number", firmwareError(status))
	}
	if status != 0 {
		return nil, refusal.New(ReasonDevice, "firmware: %s", firmwareError(status))
	}
	if size != reportSize {
		return nil, refusal.New(ReasonDevice, "got a report of %d bytes, want %d", size, reportSize)
	}
	return response[reportResponseHead : reportResponseHead+reportSize], nil
}
