package plonkprove_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/bits"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkprove"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
)

// digits is the 64-32-10 classifier with random constants, and one answer of it.
func digits() (circuits.Inference, circuits.Assignment) {
	r := rand.New(rand.NewPCG(1, 2))
	dense := func(out int, relu bool) intnet.Layer { return intnet.Layer{Kind: intnet.Dense, Out: out, ReLU: relu} }
	n := &intnet.Network{Architecture: intnet.Architecture{Input: intnet.Shape{C: 64, H: 1, W: 1}, Layers: []intnet.Layer{dense(32, true), dense(10, false)}}}
	in := 64
	for _, out := range []int{32, 10} {
		l := intnet.LayerParameters{Weights: make([]int8, in*out), Bias: make([]int32, out)}
		for i := range l.Weights {
			l.Weights[i] = int8(r.IntN(255) - 127)
		}
		if out == 32 {
			l.Multiplier = make([]uint32, out)
			for i := range l.Multiplier {
				l.Multiplier[i] = 1 << 17
			}
		}
		n.Parameters.Layers, in = append(n.Parameters.Layers, l), out
	}
	item := circuits.Item{Input: make([]int8, 64)}
	for i := range item.Input {
		item.Input[i] = int8(r.IntN(256) - 128)
	}
	return circuits.Inference{Architecture: n.Architecture, Batch: 1}, circuits.Assignment{Network: n, Items: []circuits.Item{item}}
}

// BenchmarkDigits makes PLONK's keys for the 64-32-10 classifier, proves and verifies: the
// figures beside Groth16's. It takes half a minute.
func BenchmarkDigits(b *testing.B) {
	spec, assignment := digits()
	circuit, err := circuits.CompileInferencePLONK(spec)
	if err != nil {
		b.Fatal(err)
	}
	domain, err := plonkprove.Domain(circuit.System)
	if err != nil {
		b.Fatal(err)
	}
	raw := ptautest.File(ptautest.Quick(bits.TrailingZeros64(domain)))
	file, err := ptau.Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		b.Fatal(err)
	}
	keys, err := plonkprove.Setup(b.Context(), circuit.System, file, nil)
	if err != nil {
		b.Fatal(err)
	}
	full, err := circuits.Witness(spec, assignment)
	if err != nil {
		b.Fatal(err)
	}
	var proof []byte
	b.Run("prove", func(b *testing.B) {
		began := processorTime(b)
		for b.Loop() {
			if proof, err = keys.Prove(b.Context(), circuit.System, full, nil); err != nil {
				b.Fatal(err)
			}
		}
		var size counter
		if err := keys.WriteProving(&size); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((processorTime(b)-began)/float64(b.N), "CPU-s/proof")
		b.ReportMetric(float64(circuit.Constraints()), "constraints")
		b.ReportMetric(float64(len(proof)), "proof-bytes")
		b.ReportMetric(float64(size)/1e6, "MB-key")
	})
	values, ok := full.Vector().(fr.Vector)
	if !ok {
		b.Fatal("another field")
	}
	public := values[:circuit.System.GetNbPublicVariables()]
	key, err := plonkverify.ParseKey(keys.Verifying())
	if err != nil || key.Digest() != sha256.Sum256(keys.Verifying()) {
		b.Fatal(err)
	}
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if err := key.Verify(b.Context(), proof, public); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func processorTime(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return io.Discard.Write(p) }
