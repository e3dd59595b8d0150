package eventlog

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// entry is one event of a made log. Without a digest it has that of its data.
type entry struct {
	index  uint32
	typ    eventType
	data   string
	digest string // what was hashed, if it is not the data
	none   bool   // the digest is zero
}

// header is the first event of a log with the algorithms.
func header(index uint32, algorithms ...uint16) []byte {
	spec := append([]byte(specSignature), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = binary.LittleEndian.AppendUint32(spec, uint32(len(algorithms)))
	for _, a := range algorithms {
		spec = binary.LittleEndian.AppendUint16(spec, a)
		spec = binary.LittleEndian.AppendUint16(spec, uint16(digestBytes(a)))
	}
	spec = append(spec, 0)
	b := binary.LittleEndian.AppendUint32(nil, index)
	b = binary.LittleEndian.AppendUint32(b, uint32(evNoAction))
	b = append(b, make([]byte, legacyDigestBytes)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(spec)))
	return append(b, spec...)
}

// build makes a log with digests of SHA-256 and SHA-384; a CCEL log has the latter alone.
func build(format Format, entries ...entry) []byte {
	algorithms, first := []uint16{algSHA256, algSHA384}, uint32(0)
	if format == CCEL {
		algorithms, first = algorithms[1:], 1
	}
	b := header(first, algorithms...)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint32(b, e.index)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.typ))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(algorithms)))
		hashed := e.digest
		if hashed == "" {
			hashed = e.data
		}
		for _, a := range algorithms {
			b = binary.LittleEndian.AppendUint16(b, a)
			sum, size := hash(a, []byte(hashed))
			if e.none || e.typ == evNoAction {
				sum = [maxDigest]byte{}
			}
			b = append(b, sum[:size]...)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.data)))
		b = append(b, e.data...)
	}
	return b
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// variableData is UEFI_VARIABLE_DATA.
func variableData(vendor, name, content string) string {
	n := utf16le(name)
	b := append([]byte(vendor), binary.LittleEndian.AppendUint64(nil, uint64(len(n)/2))...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(content)))
	return string(append(append(b, n...), content...))
}

const separatorData = "\x00\x00\x00\x00"

func secureBoot(index uint32, content string) entry {
	return entry{index: index, typ: evVariableDriverConfig, data: variableData(globalVariable, "SecureBoot", content)}
}

func separator(index uint32) entry { return entry{index: index, typ: evSeparator, data: separatorData} }

func app(index uint32, program string) entry {
	return entry{index: index, typ: evApplication, data: "device path of " + program, digest: program}
}

// tpmBoot is a whole boot as a virtual machine's firmware and GRUB log it.
func tpmBoot() []entry {
	entries := []entry{
		{index: 0, typ: evSCRTMVersion, data: "v\x002\x00\x00\x00"},
		{index: 0, typ: evFirmwareBlob2, data: "address", digest: "firmware"},
		secureBoot(7, "\x01"),
		{index: 7, typ: evVariableDriverConfig, data: variableData(globalVariable, "PK", "platform key")},
		separator(7),
		{index: 1, typ: evVariableBoot, data: variableData(globalVariable, "BootOrder", "\x00\x00"), digest: "\x00\x00"},
		{index: 4, typ: evEFIAction, data: "Calling EFI Application from Boot Option"},
	}
	for pcr := range uint32(7) {
		entries = append(entries, separator(pcr))
	}
	return append(entries,
		entry{index: 7, typ: evVariableAuthority, data: variableData(globalVariable, "db", "certificate")},
		entry{index: 5, typ: evGPT, data: "EFI PART of a disk"},
		app(4, "shim"), app(4, "grub"),
		entry{index: 8, typ: evIPL, data: "grub_cmd: set timeout=0\x00", digest: "set timeout=0"},
		entry{index: 8, typ: evIPL, data: "grub_cmd: linux /vmlinuz root=/dev/vda1\x00", digest: "linux /vmlinuz root=/dev/vda1"},
		entry{index: 9, typ: evIPL, data: "/vmlinuz\x00", digest: "kernel"},
		entry{index: 8, typ: evIPL, data: "kernel_cmdline: /vmlinuz root=/dev/vda1\x00", digest: "/vmlinuz root=/dev/vda1"},
		entry{index: 9, typ: evEventTag, data: "Linux initrd", digest: "initrd"},
		entry{index: 5, typ: evEFIAction, data: "Exit Boot Services Invocation"},
		entry{index: 5, typ: evEFIAction, data: exitedBootServices},
	)
}

// ccBoot is the same of a confidential guest.
func ccBoot() []entry {
	return []entry{
		{index: 0, typ: evNoAction, data: "SP800-155 Event3"},
		{index: 1, typ: evFirmwareBlob2, data: "address", digest: "firmware"},
		secureBoot(1, "\x00"),
		separator(1),
		{index: 1, typ: evPlatformConfigFlags, data: "ACPI DATA", digest: "tables"},
		{index: 2, typ: evEFIAction, data: "Calling EFI Application from Boot Option"},
		separator(2),
		{index: 2, typ: evGPT, data: "EFI PART of a disk"},
		app(2, "shim"),
		{index: 1, typ: evVariableAuthority, data: variableData(globalVariable, "SbatLevel", "x")},
		separator(1),
		{index: 3, typ: evIPL, data: "grub_cmd: linux /vmlinuz quiet\x00", digest: "linux /vmlinuz quiet"},
		{index: 3, typ: evIPL, data: "/vmlinuz\x00", digest: "kernel"},
		{index: 2, typ: evEFIAction, data: exitedBootServices},
	}
}

// inserted is the list with an entry before the at-th.
func inserted(list []entry, at int, e ...entry) []entry {
	return slices.Insert(slices.Clone(list), at, e...)
}
