package tdx

import (
	"errors"
	"io/fs"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The ACPI table that announces the event log (UEFI specification 2.10, section 38.4.1,
// EFI_CC_EVENT_ACPI_TABLE): a header of 36 bytes, the type and subtype of the TEE, reserved
// bytes, then length and address of the log, which the kernel shows as a file of its own.
const (
	tableName     = "/CCEL"
	dataName      = "/data/CCEL"
	tableSize     = 56
	atTEEType     = 36
	tableTEETDX   = 2
	maxTableBytes = 4 << 10
)

// MaxEventLogBytes is the largest event log that is read. Firmware reserves 64 or 256 KiB for it.
const MaxEventLogBytes = 512 << 10

// EventLog returns the log of what was extended into the registers before the kernel ran, without
// the rest of the memory that the firmware had reserved. The host can write it; it means nothing
// before it was replayed against a verified quote's registers.
func (c *Collector) EventLog() ([]byte, error) {
	table, err := c.files.Read(c.acpi+tableName, maxTableBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusal.New(ReasonNoEventLog, "%s%s is absent: the firmware keeps no event log", c.acpi, tableName)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, refusal.New(ReasonDevice, "this user may not read the event log; the tmpfiles snippet lets the agent: %w", err)
	}
	if err != nil {
		return nil, refusal.New(ReasonDevice, "read the event log's table: %w", err)
	}
	if len(table) < tableSize || string(table[:4]) != "CCEL" || table[atTEEType] != tableTEETDX {
		return nil, refusal.New(ReasonDevice, "%s%s is not the table of an event log of TDX", c.acpi, tableName)
	}
	log, err := c.files.Read(c.acpi+dataName, MaxEventLogBytes+1)
	if err != nil {
		return nil, refusal.New(ReasonDevice, "read the event log: %w", err)
	}
	if len(log) == 0 || len(log) > MaxEventLogBytes {
		return nil, refusal.New(ReasonDevice, "the event log is empty or has more than %d bytes", MaxEventLogBytes)
	}
	return written(log), nil
}
