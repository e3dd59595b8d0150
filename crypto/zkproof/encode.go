package zkproof

import (
	"bytes"
	"io"
)

// marshal is the bytes of what writes itself.
func marshal(v io.WriterTo) ([]byte, error) {
	var b bytes.Buffer
	_, err := v.WriteTo(&b)
	return b.Bytes(), err
}
