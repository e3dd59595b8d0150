package gguf

import (
	"encoding/binary"
	"fmt"
)

// kind is the type of a metadata value, numbered as in the GGUF specification.
type kind uint32

const (
	kindUint8 kind = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// value says where in the header a metadata value lies.
type value struct {
	kind    kind
	elem    kind     // of an array
	start   uint32   // first byte of the payload: after a string's length, after an array's count
	size    uint32   // payload bytes of a string or a scalar
	count   int      // items of an array
	strings []uint32 // of an array of strings: where each length stands
}

// width returns the bytes of a fixed-width kind, 0 for strings and arrays.
func (k kind) width() int {
	switch k {
	case kindUint8, kindInt8, kindBool:
		return 1
	case kindUint16, kindInt16:
		return 2
	case kindUint32, kindInt32, kindFloat32:
		return 4
	case kindUint64, kindInt64, kindFloat64:
		return 8
	}
	return 0
}

func (k kind) integer() bool {
	switch k {
	case kindUint8, kindInt8, kindUint16, kindInt16, kindUint32, kindInt32, kindUint64, kindInt64:
		return true
	}
	return false
}

func (k kind) String() string {
	names := [...]string{"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64", "float64"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("unknown value type %d", uint32(k))
}

func (k kind) known() bool { return k <= kindFloat64 }

func decodeInt(k kind, b []byte) int64 {
	switch k {
	case kindUint8:
		return int64(b[0])
	case kindInt8:
		return int64(int8(b[0]))
	case kindUint16:
		return int64(binary.LittleEndian.Uint16(b))
	case kindInt16:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case kindUint32:
		return int64(le32(b))
	case kindInt32:
		return int64(int32(le32(b)))
	}
	return int64(le64(b))
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
