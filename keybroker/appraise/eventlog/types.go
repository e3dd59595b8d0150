package eventlog

import "fmt"

// eventType is a type of event (PC Client Platform Firmware Profile, section 10.4.1).
type eventType uint32

const (
	evPostCode            eventType = 0x01
	evNoAction            eventType = 0x03
	evSeparator           eventType = 0x04
	evAction              eventType = 0x05
	evEventTag            eventType = 0x06
	evSCRTMContents       eventType = 0x07
	evSCRTMVersion        eventType = 0x08
	evCPUMicrocode        eventType = 0x09
	evPlatformConfigFlags eventType = 0x0a
	evTableOfDevices      eventType = 0x0b
	evCompactHash         eventType = 0x0c
	evIPL                 eventType = 0x0d
	evIPLPartitionData    eventType = 0x0e
	evNonhostCode         eventType = 0x0f
	evNonhostConfig       eventType = 0x10
	evNonhostInfo         eventType = 0x11
	evOmitBootDevice      eventType = 0x12
	evPostCode2           eventType = 0x13

	evVariableDriverConfig eventType = 0x80000001
	evVariableBoot         eventType = 0x80000002
	evApplication          eventType = 0x80000003
	evBootDriver           eventType = 0x80000004
	evRuntimeDriver        eventType = 0x80000005
	evGPT                  eventType = 0x80000006
	evEFIAction            eventType = 0x80000007
	evFirmwareBlob         eventType = 0x80000008
	evHandoffTables        eventType = 0x80000009
	evFirmwareBlob2        eventType = 0x8000000a
	evHandoffTables2       eventType = 0x8000000b
	evVariableBoot2        eventType = 0x8000000c
	evGPT2                 eventType = 0x8000000d
	evHCRTM                eventType = 0x80000010
	evVariableAuthority    eventType = 0x800000e0
	evSPDMFirmwareBlob     eventType = 0x800000e1
	evSPDMFirmwareConfig   eventType = 0x800000e2
	evSPDMDevicePolicy     eventType = 0x800000e3
	evSPDMDeviceAuthority  eventType = 0x800000e4
)

// name is the type's name in the specification, "" for one that is not known.
func (t eventType) name() string {
	names := [...]string{
		evPostCode: "EV_POST_CODE", evNoAction: "EV_NO_ACTION", evSeparator: "EV_SEPARATOR", evAction: "EV_ACTION", evEventTag: "EV_EVENT_TAG",
		evSCRTMContents: "EV_S_CRTM_CONTENTS", evSCRTMVersion: "EV_S_CRTM_VERSION", evCPUMicrocode: "EV_CPU_MICROCODE",
		evPlatformConfigFlags: "EV_PLATFORM_CONFIG_FLAGS", evTableOfDevices: "EV_TABLE_OF_DEVICES", evCompactHash: "EV_COMPACT_HASH",
		evIPL: "EV_IPL", evIPLPartitionData: "EV_IPL_PARTITION_DATA", evNonhostCode: "EV_NONHOST_CODE", evNonhostConfig: "EV_NONHOST_CONFIG",
		evNonhostInfo: "EV_NONHOST_INFO", evOmitBootDevice: "EV_OMIT_BOOT_DEVICE_EVENTS", evPostCode2: "EV_POST_CODE2",
	}
	if int(t) < len(names) {
		return names[t]
	}
	switch t {
	case evVariableDriverConfig:
		return "EV_EFI_VARIABLE_DRIVER_CONFIG"
	case evVariableBoot:
		return "EV_EFI_VARIABLE_BOOT"
	case evApplication:
		return "EV_EFI_BOOT_SERVICES_APPLICATION"
	case evBootDriver:
		return "EV_EFI_BOOT_SERVICES_DRIVER"
	case evRuntimeDriver:
		return "EV_EFI_RUNTIME_SERVICES_DRIVER"
	case evGPT:
		return "EV_EFI_GPT_EVENT"
	case evEFIAction:
		return "EV_EFI_ACTION"
	case evFirmwareBlob:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB"
	case evHandoffTables:
		return "EV_EFI_HANDOFF_TABLES"
	case evFirmwareBlob2:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB2"
	case evHandoffTables2:
		return "EV_EFI_HANDOFF_TABLES2"
	case evVariableBoot2:
		return "EV_EFI_VARIABLE_BOOT2"
	case evGPT2:
		return "EV_EFI_GPT_EVENT2"
	case evHCRTM:
		return "EV_EFI_HCRTM_EVENT"
	case evVariableAuthority:
		return "EV_EFI_VARIABLE_AUTHORITY"
	case evSPDMFirmwareBlob:
		return "EV_EFI_SPDM_FIRMWARE_BLOB"
	case evSPDMFirmwareConfig:
		return "EV_EFI_SPDM_FIRMWARE_CONFIG"
	case evSPDMDevicePolicy:
		return "EV_EFI_SPDM_DEVICE_POLICY"
	case evSPDMDeviceAuthority:
		return "EV_EFI_SPDM_DEVICE_AUTHORITY"
	}
	return ""
}

// String names the type for people.
func (t eventType) String() string {
	if n := t.name(); n != "" {
		return n
	}
	return fmt.Sprintf("type %#x", uint32(t))
}

// covered says whether the digest of an event of this type is that of the data in the log. For
// all other types the data merely describes what was measured: a file's name, a table's address,
// a device path. Boot variables are covered by some firmware and not by other.
func (t eventType) covered() bool {
	switch t {
	case evSeparator, evAction, evEFIAction, evNonhostInfo, evOmitBootDevice,
		evVariableDriverConfig, evVariableAuthority, evVariableBoot2, evGPT, evGPT2,
		evSPDMDevicePolicy, evSPDMDeviceAuthority:
		return true
	}
	return false
}

// mayFollow says whether firmware measures events of the type into the register once it has
// measured the separator there; the lists are what real logs have. Registers behind those of the
// firmware have no such boundary.
func (t eventType) mayFollow(format Format, register int) bool {
	if format == CCEL {
		switch register {
		case 0: // PCRs 0, 1 and 7 of a TPM
			switch t {
			case evSeparator, evPlatformConfigFlags, evPostCode, evVariableBoot, evVariableBoot2, evVariableAuthority:
				return true
			}
			return false
		case 1: // PCRs 2 to 6
			switch t {
			case evSeparator, evEFIAction, evGPT, evGPT2, evApplication:
				return true
			}
			return false
		}
		return true
	}
	switch register {
	case 0, 3, 6:
		return false
	case 1:
		return t == evVariableBoot || t == evVariableBoot2 || t == evHandoffTables || t == evHandoffTables2
	case 2:
		return t == evGPT || t == evGPT2 || t == evApplication
	case 4:
		return t == evEFIAction || t == evApplication
	case 5:
		return t == evEFIAction || t == evGPT || t == evGPT2
	case 7:
		return t == evVariableAuthority
	}
	return true
}

// maxSeparators is how many separators a register may have: one for each PCR whose events go
// there. Registers that are not the firmware's have no limit.
func maxSeparators(format Format, register int) int {
	switch {
	case format == CCEL && register == 0:
		return 3
	case format == CCEL && register == 1:
		return 5
	case format == TCG && register <= 7:
		return 1
	}
	return MaxEvents
}
