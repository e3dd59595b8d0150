package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

const labelProcessor = Name + "/processor"

// Processor is the name that lease certificates of one epoch give the processor that a guest
// runs on (docs/protocol.md 5.10), so that whoever sees them can count what comes from one
// processor, whatever agent keys and guests it makes. It is another in every epoch and of
// every broker; whoever does not know the chip's id learns nothing else from it. The zero
// value names none, and stands for all processors that nobody knows.
type Processor [32]byte

// ProcessorOf names a processor by the chip id of its evidence: the zero value if there is
// none, or if the platform masks it.
func ProcessorOf(broker [32]byte, epoch uint64, kind evidence.Kind, chip []byte) Processor {
	if len(bytes.Trim(chip, "\x00")) == 0 {
		return Processor{}
	}
	return sha256.Sum256(Join(labelProcessor, broker[:], binary.BigEndian.AppendUint64(nil, epoch), []byte(kind), chip))
}
