package snp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
)

// DerivedKeyBytes is the size of a derived key.
const DerivedKeyBytes = 32

// ReasonOlderFirmware means that the firmware is older than the one for which the key was derived.
const ReasonOlderFirmware refusal.Reason = "sealed-under-newer-firmware"

// snp_derived_key_req and its answer (include/uapi/linux/sev-guest.h), and MSG_KEY_REQ and
// MSG_KEY_RSP within (SEV-SNP firmware ABI, 56860, tables of these names).
const (
	getDerivedKey = 0xc0205301 // _IOWR('S', 1, struct snp_guest_request_ioctl)

	keyRequestSize = 32
	atFieldSelect  = 8  // u64
	atKeyVMPL      = 16 // u32
	atKeyTCB       = 24 // u64

	keyResponseSize = 64
	atDerivedKey    = 32

	// The key depends on the launch policy, the launch measurement and the TCB, beside the chip: another image,
	// a guest that may be debugged, or firmware older than the TCB gets another key, or none.
	mixPolicy      = 1 << 0
	mixImageID     = 1 << 1
	mixFamilyID    = 1 << 2
	mixMeasurement = 1 << 3
	mixTCB         = 1 << 5

	atCommittedTCB = 0x1e0 // of a report
)

// Deriver has the firmware derive keys that only this image on this chip gets. What it
// cannot tell apart are two guests of one image on one chip, and a guest from itself after a restart.
// It asks /dev/sev-guest alone: configfs-tsm derives no keys.
type Deriver struct{ *ioctls }

// NewDeriver returns a deriver, which asks once whether the device is there.
func NewDeriver(o Options) (*Deriver, error) {
	guest := o.guest
	if guest == nil {
		guest = sevGuest{path: guestPath, ioctl: ioctl}
	}
	switch absent := guest.present(); {
	case errors.Is(absent, fs.ErrNotExist):
		return nil, refusal.New(ReasonNoTEE, "%s is absent, and nothing else derives keys: %w", guestPath, absent)
	case absent != nil:
		return nil, refusal.New(ReasonNoTEE, "%s: %w", guestPath, absent)
	}
	return &Deriver{newIoctls(guest, o.Privilege)}, nil
}

// CommittedTCB is the TCB below which this platform's firmware cannot go any more, from a
// report: what a key may be derived for.
func (d *Deriver) CommittedTCB(ctx context.Context) (uint64, error) {
	report, err := device.Call(ctx, d.queue, func(ctx context.Context) ([]byte, error) {
		c := newCall(getReport, [64]byte{}, d.vmpl, 0)
		if err := d.do(ctx, c); err != nil {
			return nil, refusal.New(ReasonDevice, "request a report: %w", err)
		}
		return reportOf(c.response[:])
	})
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(report[atCommittedTCB:]), nil
}

// Derive returns the key for a TCB, which the caller wipes. Firmware that was set back below it refuses.
func (d *Deriver) Derive(ctx context.Context, tcb uint64) ([]byte, error) {
	return device.Call(ctx, d.queue, func(ctx context.Context) ([]byte, error) {
		c := &call{command: getDerivedKey, request: make([]byte, keyRequestSize)}
		defer clear(c.response[:])
		c.argument[atVersion] = messageVersion
		binary.LittleEndian.PutUint64(c.request[atFieldSelect:], mixPolicy|mixImageID|mixFamilyID|mixMeasurement|mixTCB)
		binary.LittleEndian.PutUint32(c.request[atKeyVMPL:], d.vmpl)
		binary.LittleEndian.PutUint64(c.request[atKeyTCB:], tcb)
		if err := d.do(ctx, c); err != nil {
			return nil, refusal.New(ReasonDevice, "request a derived key: %w", err)
		}
		if status := binary.LittleEndian.Uint32(c.response[:]); status == 0x16 {
			return nil, refusal.New(ReasonOlderFirmware, "firmware: %s: the committed TCB is below %#x, or the privilege level is not this guest's", firmwareError(status), tcb)
		} else if status != 0 {
			return nil, refusal.New(ReasonDevice, "firmware: %s", firmwareError(status))
		}
		key := bytes.Clone(c.response[atDerivedKey:keyResponseSize])
		if bytes.Equal(key, make([]byte, DerivedKeyBytes)) {
			return nil, refusal.New(ReasonDevice, "the firmware returned no key")
		}
		return key, nil
	})
}
