package eventlog

import (
	"bytes"
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The variable SecureBoot of the vendor EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c
// (UEFI Specification, 3.3), as logs have it: little-endian parts of the GUID, UTF-16 name.
const (
	globalVariable    = "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"
	secureBootName    = "S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t\x00"
	variableHeader    = 16 + 8 + 8 // vendor, characters of the name, bytes of the content
	secureBootPCR     = 7
	secureBootRTMR    = 0
	maxVariableLength = MaxEventBytes
)

func (j *judge) secureBootRegister() int {
	if j.format == CCEL {
		return secureBootRTMR
	}
	return secureBootPCR
}

// variable reads UEFI_VARIABLE_DATA (section 10.4.2.1), whose digest was found to cover it, and
// keeps what SecureBoot was. That it was measured before the separator is checked by the caller.
// A variable without content does not exist, which means that Secure Boot is off.
func (j *judge) variable(e *event, register, at int) error {
	vendor, name, content, ok := readVariable(e.data)
	if !ok {
		return refusal.New(ReasonMalformed, "event %d: a variable's sizes are not those of its data", at)
	}
	if register != j.secureBootRegister() || string(vendor) != globalVariable || string(name) != secureBootName {
		return nil
	}
	if j.secureBoot != nil {
		return refusal.New(ReasonSecureBoot, "event %d: the variable was measured before", at)
	}
	if len(content) > 1 || len(content) == 1 && content[0] > 1 {
		return refusal.New(ReasonSecureBoot, "event %d: the content %x is neither 0 nor 1", at, content[:min(len(content), 8)])
	}
	j.secureBoot = new(bytes.Equal(content, []byte{1}))
	return nil
}

// readVariable splits UEFI_VARIABLE_DATA; the parts fill it exactly.
func readVariable(data []byte) (vendor, name, content []byte, ok bool) {
	if len(data) < variableHeader {
		return nil, nil, nil, false
	}
	characters, size := binary.LittleEndian.Uint64(data[16:]), binary.LittleEndian.Uint64(data[24:])
	if characters > maxVariableLength || size > maxVariableLength || variableHeader+2*characters+size != uint64(len(data)) {
		return nil, nil, nil, false
	}
	rest := data[variableHeader:]
	return data[:16], rest[:2*characters], rest[2*characters:], true
}
