package gpu

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of a report.
const (
	// MaxReportBytes bounds a report: request, response with every block and all opaque data that
	// SPDM allows, and signature.
	MaxReportBytes = requestSize + 8 + maxBlocks*blockSize + nonceSize + 2 + maxOpaque + signatureSize

	maxBlocks = 64
	maxOpaque = 1024 // DSP0274 1.1, OpaqueLength

	requestSize   = 37
	nonceSize     = 32
	digestSize    = 48 // SHA-384
	blockSize     = 4 + 3 + digestSize
	signatureSize = 96 // ECDSA P-384: r and s
)

// Values of SPDM 1.1 messages.
const (
	version11        = 0x11
	getMeasurements  = 0xe0
	measurements     = 0x60
	signatureWanted  = 1    // request attributes
	allMeasurements  = 0xff // operation
	maxSlot          = 7
	specificationOne = 1 // DMTF's own form of measurements
	maxValueType     = 4 // DMTFSpecMeasurementValueType of digests; bit 7 says that it is none
)

// report is a parsed report. Its byte fields are copies.
type report struct {
	signed       []byte
	r, s         []byte // big-endian
	nonce        []byte // the requester's
	measurements map[int][]byte
	opaque       opaque
}

// parseReport reads a report to its last byte.
func parseReport(raw []byte) (*report, error) {
	if len(raw) < requestSize+8+nonceSize+2+signatureSize || len(raw) > MaxReportBytes {
		return nil, refusal.New(ReasonSize, "%d bytes, the limit is %d", len(raw), MaxReportBytes)
	}
	raw = bytes.Clone(raw)
	end := len(raw) - signatureSize
	r := &report{signed: raw[:end], r: raw[end : end+signatureSize/2], s: raw[end+signatureSize/2:]}
	slot, err := r.readRequest(raw[:requestSize])
	if err != nil {
		return nil, err
	}
	return r, r.readResponse(raw[requestSize:end], slot)
}

// readRequest reads GET_MEASUREMENTS: version, code, attributes, operation, nonce, slot.
func (r *report) readRequest(q []byte) (slot byte, err error) {
	if q[0] != version11 || q[1] != getMeasurements || q[2] != signatureWanted || q[3] != allMeasurements || q[36] > maxSlot {
		return 0, refusal.New(ReasonFormat, "the request is %x with slot %d, want %x", q[:4], q[36],
			[]byte{version11, getMeasurements, signatureWanted, allMeasurements})
	}
	r.nonce = q[4 : 4+nonceSize]
	return q[36], nil
}

// readResponse reads MEASUREMENTS up to the signature: version, code, two parameters, blocks,
// the device's own nonce, opaque data.
func (r *report) readResponse(p []byte, slot byte) error {
	s := cryptobyte.String(p)
	var head, record, device, opaque []byte
	var opaqueSize uint16
	if !s.ReadBytes(&head, 8) {
		return refusal.New(ReasonSize, "the response is cut short")
	}
	if !bytes.Equal(head[:4], []byte{version11, measurements, 0, slot}) {
		return refusal.New(ReasonFormat, "the response is %x, want %x", head[:4], []byte{version11, measurements, 0, slot})
	}
	recordSize := int(head[5]) | int(head[6])<<8 | int(head[7])<<16
	if !s.ReadBytes(&record, recordSize) || !s.ReadBytes(&device, nonceSize) || !readLittle16(&s, &opaqueSize) {
		return refusal.New(ReasonSize, "the response ends before its %d bytes of measurements and what follows them", recordSize)
	}
	if opaqueSize > maxOpaque || !s.ReadBytes(&opaque, int(opaqueSize)) || !s.Empty() {
		return refusal.New(ReasonSize, "%d bytes of opaque data are not what is left of the response", opaqueSize)
	}
	if err := r.readBlocks(record, int(head[4])); err != nil {
		return err
	}
	return r.opaque.read(opaque)
}

// readBlocks reads the measurement record: index, specification, size, and in DMTF's form type,
// size and value. NVIDIA's devices give digests alone.
func (r *report) readBlocks(record []byte, count int) error {
	if count < 1 || count > maxBlocks {
		return refusal.New(ReasonMeasurement, "%d blocks; 1 to %d are known", count, maxBlocks)
	}
	r.measurements = make(map[int][]byte, count)
	s := cryptobyte.String(record)
	for range count {
		var index, specification, valueType uint8
		var size, valueSize uint16
		var value []byte
		if !s.ReadUint8(&index) || !s.ReadUint8(&specification) || !readLittle16(&s, &size) ||
			!s.ReadUint8(&valueType) || !readLittle16(&s, &valueSize) || !s.ReadBytes(&value, int(valueSize)) {
			return refusal.New(ReasonMeasurement, "the blocks are cut short")
		}
		if specification != specificationOne || valueType > maxValueType || valueSize != digestSize || size != valueSize+3 {
			return refusal.New(ReasonMeasurement, "block %d has specification %d, type %#x and sizes %d and %d", index, specification, valueType, size, valueSize)
		}
		if _, twice := r.measurements[int(index)]; twice || index == 0 || index == 0xff {
			return refusal.New(ReasonMeasurement, "block %d is there twice, or has no index", index)
		}
		r.measurements[int(index)] = value
	}
	if !s.Empty() {
		return refusal.New(ReasonMeasurement, "%d bytes follow the blocks", len(s))
	}
	return nil
}

// readLittle16 reads a little-endian number of two bytes.
func readLittle16(s *cryptobyte.String, out *uint16) bool {
	var b []byte
	if !s.ReadBytes(&b, 2) {
		return false
	}
	*out = uint16(b[0]) | uint16(b[1])<<8
	return true
}
