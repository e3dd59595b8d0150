package circuits

import (
	"encoding/hex"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// Keys are made for circuits, so circuits of the first version of architectures never change.
func TestCircuitsOfTheFirstVersionStay(t *testing.T) {
	for want, spec := range map[string]Inference{
		"cffbe1acb7d44a7d": {mlp(64, 32, 10), 1},
		"ff5429090472cccf": {mlp(5, 4, 3), 3},
		"aeb1afa4647ce4b0": {intnet.Architecture{Input: intnet.Shape{C: 2, H: 6, W: 5}, Layers: []intnet.Layer{intnet.Convolution(3, 3, 2, 1, true), denseLayer(3, false)}}, 1},
		"332967d7473a599c": {intnet.Architecture{Input: intnet.Shape{C: 2, H: 5, W: 4}, Layers: []intnet.Layer{intnet.Convolution(12, 2, 1, 0, false), denseLayer(2, false)}}, 2},
	} {
		c, err := CompileInference(spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(c.Digest[:8]); got != want {
			t.Errorf("%+v: circuit %s, want %s", spec, got, want)
		}
	}
}
