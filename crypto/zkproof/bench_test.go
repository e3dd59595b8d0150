package zkproof

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/intnet"
)

func mlp(sizes ...int) intnet.Architecture {
	a := intnet.Architecture{Input: intnet.Shape{C: sizes[0], H: 1, W: 1}}
	for i, n := range sizes[1:] {
		a.Layers = append(a.Layers, denseLayer(n, i < len(sizes)-2))
	}
	return a
}

// figures are the circuits whose cost is quoted. Those whose set-up takes minutes run
// when ANCHORHOLD_SLOW_BENCH is set.
var figures = []struct {
	name string
	spec Inference
	slow bool
}{
	{"64-32-10", Inference{mlp(64, 32, 10), 1}, false},
	{"784-128-10", Inference{mlp(784, 128, 10), 1}, true},
	{"784-128-10x16", Inference{mlp(784, 128, 10), 16}, true},
	{"cnn-28x28", Inference{intnet.Architecture{Input: intnet.Shape{C: 1, H: 28, W: 28}, Layers: []intnet.Layer{
		{Kind: intnet.Conv, Out: 8, Kernel: 3, Stride: 2, ReLU: true}, {Kind: intnet.Conv, Out: 16, Kernel: 3, Stride: 2, ReLU: true}, denseLayer(10, false)}}, 1}, true},
}

// cpu is the processor time of this process in seconds.
func cpu(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}

// BenchmarkConstraints reports the size of each circuit, and per weight.
func BenchmarkConstraints(b *testing.B) {
	for _, f := range figures {
		b.Run(f.name, func(b *testing.B) {
			weights := 0
			for _, g := range f.spec.Architecture.Geometries() {
				weights += g.Weights()
			}
			var c *Circuit
			for b.Loop() {
				var err error
				if c, err = CompileInference(f.spec); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.Constraints()), "constraints")
			b.ReportMetric(float64(c.Constraints())/float64(weights), "constraints/weight")
		})
	}
}

// BenchmarkProve reports the processor time of one proof, and its keys' sizes.
func BenchmarkProve(b *testing.B) {
	for _, f := range figures {
		b.Run(f.name, func(b *testing.B) {
			if f.slow && os.Getenv("ANCHORHOLD_SLOW_BENCH") == "" {
				b.Skip("its set-up takes minutes: ANCHORHOLD_SLOW_BENCH=1")
			}
			c, err := CompileInference(f.spec)
			if err != nil {
				b.Fatal(err)
			}
			before := cpu(b)
			pk, vk, err := Setup(c)
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("%s: %d constraints, set-up %.1f CPU-s", f.name, c.Constraints(), cpu(b)-before)
			var raw bytes.Buffer
			if _, err := pk.WriteTo(&raw); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(raw.Len())/1e6, "MB-key")
			w, err := f.spec.assign(Assignment{Network: randomNetwork(b, f.spec.Architecture, 1), Items: randomItems(f.spec.Architecture, f.spec.Batch, 1)})
			if err != nil {
				b.Fatal(err)
			}
			full, err := frontend.NewWitness(w, ecc.BN254.ScalarField())
			if err != nil {
				b.Fatal(err)
			}
			public, err := full.Public()
			if err != nil {
				b.Fatal(err)
			}
			before = cpu(b)
			b.ResetTimer()
			var proof groth16.Proof
			for range b.N {
				if proof, err = groth16.Prove(c.System, pk, full); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpu(b)-before)/float64(b.N), "CPU-s/proof")
			b.ReportMetric((cpu(b)-before)/float64(b.N*f.spec.Batch), "CPU-s/inference")
			if err := groth16.Verify(proof, vk, public); err != nil {
				b.Fatal(err)
			}
			data, err := marshal(proof)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(data)), "proof-bytes")
			var u syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
				b.Fatal(err)
			}
			b.Log(fmt.Sprintf("%s: peak memory of this process %d MB, set-up included", f.name, u.Maxrss>>10))
		})
	}
}
