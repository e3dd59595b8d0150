package fedwork

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/crypto/dp"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// normQuantizer rounds the values that are encrypted to the coordinates of a proof of
// their norm: scaled and clamped, before they are weighted and before noise.
type normQuantizer struct {
	out   io.Writer
	scale float64 // from a value to coordinates
	top   float64
	buf   []byte
}

func newNormQuantizer(out io.Writer, r federation.Round, task fedtask.Contribute) *normQuantizer {
	return &normQuantizer{out: out, scale: dp.Factor(task.Norm, r.ClipL2) / r.NormStep(), top: float64(int(1)<<(r.NormCircuit.Bits-1) - 1)}
}

func (n *normQuantizer) add(values []float32) error {
	n.buf = n.buf[:0]
	for _, v := range values {
		c := math.Round(min(max(float64(v)*n.scale, -n.top), n.top))
		n.buf = binary.LittleEndian.AppendUint16(n.buf, uint16(int16(c)))
	}
	_, err := n.out.Write(n.buf)
	clear(n.buf)
	return err
}
