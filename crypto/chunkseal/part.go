package chunkseal

import (
	"encoding/binary"
	"errors"
	"math"
)

// tailField is where the first block says where the chunks end.
const tailField = 88

// Part is everything in a sealed file but its chunks: the first block, and all that follows the
// chunks. The publisher's signature covers it, and it shows who signed which model without
// containing the model.
func (p *Public) Part() []byte { return p.part }

// InspectPart reads the result of Part as Inspect reads a file. The chunks cannot be verified.
func InspectPart(part []byte) (*Public, error) {
	if len(part) < blockBytes {
		return nil, Refuse(ReasonNotSealed, "%d bytes are too few for a first block", len(part))
	}
	tail := binary.LittleEndian.Uint64(part[tailField:])
	if tail > math.MaxInt64/2 || tail < blockBytes {
		return nil, Refuse(ReasonMalformed, "first block: invalid end of the chunks at byte %d", tail)
	}
	return Inspect(without{part, int64(tail)}, int64(tail)+int64(len(part)-blockBytes))
}

// without is a sealed file without its chunks.
type without struct {
	part []byte
	tail int64
}

var errNoChunks = errors.New("this part of a sealed file holds no chunks")

// ReadAt implements io.ReaderAt.
func (f without) ReadAt(b []byte, offset int64) (int, error) {
	if offset >= f.tail {
		offset += blockBytes - f.tail
	} else if offset+int64(len(b)) > blockBytes {
		return 0, errNoChunks
	}
	if offset < 0 || offset+int64(len(b)) > int64(len(f.part)) {
		return 0, errNoChunks
	}
	return copy(b, f.part[offset:]), nil
}
