package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// KV is one metadata entry to write. Value is one of: bool, string, every sized
// integer and float type, and slices of bool, string, int32, uint32, int64,
// uint64, float32, float64.
type KV struct {
	Key   string
	Value any
}

// TensorData is one tensor to write. Data must be exactly as long as Type and Dims (innermost
// first) require.
type TensorData struct {
	Name string
	Type Type
	Dims []uint64
	Data []byte
}

// Write writes a version 3 file, for tests and tools. It refuses the names and sizes of tensors
// that Parse would refuse. Alignment is 32 unless kvs contain general.alignment as a uint32.
func Write(w io.Writer, kvs []KV, tensors []TensorData) error {
	alignment := int64(defaultAlignment)
	b := append([]byte(nil), Magic...)
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(kvs)))
	for _, kv := range kvs {
		if a, ok := kv.Value.(uint32); ok && kv.Key == alignmentKey {
			alignment = int64(a)
		}
		var err error
		if b, err = appendValue(appendString(b, kv.Key), kv.Value); err != nil {
			return fmt.Errorf("gguf: write %s: %w", kv.Key, err)
		}
	}
	if alignment < 8 || alignment&(alignment-1) != 0 {
		return fmt.Errorf("gguf: write: %s %d is not a power of two", alignmentKey, alignment)
	}
	offset := int64(0)
	for _, t := range tensors {
		size, err := t.Type.size(t.Dims)
		if err != nil {
			return fmt.Errorf("gguf: write %s: %w", t.Name, err)
		}
		if size != int64(len(t.Data)) {
			return fmt.Errorf("gguf: write %s: got %d bytes of data, want %d", t.Name, len(t.Data), size)
		}
		b = appendTensor(b, t, offset)
		offset = alignUp(offset+size, alignment)
	}
	return writeData(w, b, tensors, alignment)
}

func writeData(w io.Writer, header []byte, tensors []TensorData, alignment int64) error {
	if len(tensors) > 0 {
		header = append(header, make([]byte, alignUp(int64(len(header)), alignment)-int64(len(header)))...)
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
		n := int64(len(t.Data))
		if _, err := w.Write(make([]byte, alignUp(n, alignment)-n)); err != nil {
			return err
		}
	}
	return nil
}

func appendTensor(b []byte, t TensorData, offset int64) []byte {
	b = appendString(b, t.Name)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Dims)))
	for _, d := range t.Dims {
		b = binary.LittleEndian.AppendUint64(b, d)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
	return binary.LittleEndian.AppendUint64(b, uint64(offset))
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue appends type and payload of one value.
func appendValue(b []byte, v any) ([]byte, error) {
	if k, ok := kindOf(v); ok {
		return appendScalar(binary.LittleEndian.AppendUint32(b, uint32(k)), v), nil
	}
	switch v := v.(type) {
	case []bool:
		return appendArray(b, kindBool, v), nil
	case []string:
		return appendArray(b, kindString, v), nil
	case []uint8:
		return appendArray(b, kindUint8, v), nil
	case []int8:
		return appendArray(b, kindInt8, v), nil
	case []int32:
		return appendArray(b, kindInt32, v), nil
	case []uint32:
		return appendArray(b, kindUint32, v), nil
	case []int64:
		return appendArray(b, kindInt64, v), nil
	case []uint64:
		return appendArray(b, kindUint64, v), nil
	case []float32:
		return appendArray(b, kindFloat32, v), nil
	case []float64:
		return appendArray(b, kindFloat64, v), nil
	}
	return nil, fmt.Errorf("no GGUF type for %T", v)
}

func appendArray[T any](b []byte, elem kind, items []T) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(kindArray))
	b = binary.LittleEndian.AppendUint32(b, uint32(elem))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(items)))
	for _, item := range items {
		b = appendScalar(b, item)
	}
	return b
}

func kindOf(v any) (kind, bool) {
	switch v.(type) {
	case uint8:
		return kindUint8, true
	case int8:
		return kindInt8, true
	case uint16:
		return kindUint16, true
	case int16:
		return kindInt16, true
	case uint32:
		return kindUint32, true
	case int32:
		return kindInt32, true
	case float32:
		return kindFloat32, true
	case bool:
		return kindBool, true
	case string:
		return kindString, true
	case uint64:
		return kindUint64, true
	case int64:
		return kindInt64, true
	case float64:
		return kindFloat64, true
	}
	return 0, false
}

func appendScalar(b []byte, v any) []byte {
	le := binary.LittleEndian
	switch v := v.(type) {
	case uint8:
		return append(b, v)
	case int8:
		return append(b, uint8(v))
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case uint16:
		return le.AppendUint16(b, v)
	case int16:
		return le.AppendUint16(b, uint16(v))
	case uint32:
		return le.AppendUint32(b, v)
	case int32:
		return le.AppendUint32(b, uint32(v))
	case float32:
		return le.AppendUint32(b, math.Float32bits(v))
	case uint64:
		return le.AppendUint64(b, v)
	case int64:
		return le.AppendUint64(b, uint64(v))
	case float64:
		return le.AppendUint64(b, math.Float64bits(v))
	case string:
		return appendString(b, v)
	}
	return b
}
