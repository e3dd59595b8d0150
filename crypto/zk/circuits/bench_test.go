package circuits

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"github.com/consensys/gnark/backend/groth16"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

func mlp(sizes ...int) intnet.Architecture {
	a := intnet.Architecture{Input: intnet.Shape{C: sizes[0], H: 1, W: 1}}
	for i, n := range sizes[1:] {
		a.Layers = append(a.Layers, denseLayer(n, i < len(sizes)-2))
	}
	return a
}

// lenet is LeNet-5 with ReLU and pools of largest values, for images of 28 by 28.
var lenet = intnet.Architecture{Input: intnet.Shape{C: 1, H: 28, W: 28}, Layers: []intnet.Layer{
	intnet.Convolution(6, 5, 1, 2, true), {Kind: intnet.MaxPool, Window: intnet.Square(2, 2, 0)},
	intnet.Convolution(16, 5, 1, 0, true), {Kind: intnet.MaxPool, Window: intnet.Square(2, 2, 0)},
	denseLayer(120, true), denseLayer(84, true), denseLayer(10, false)}}

// figures are the circuits whose cost is quoted. Those whose set-up takes a minute and
// more run when ANCHORHOLD_SLOW_BENCH is set.
var figures = []struct {
	name      string
	inference *Inference
	gradient  Gradient
	slow      bool
}{
	{"64-32-10", &Inference{mlp(64, 32, 10), 1}, Gradient{}, false},
	{"784-128-10", &Inference{mlp(784, 128, 10), 1}, Gradient{}, true},
	{"784-128-10x16", &Inference{mlp(784, 128, 10), 16}, Gradient{}, true},
	{"cnn-28x28", &Inference{intnet.Architecture{Input: intnet.Shape{C: 1, H: 28, W: 28}, Layers: []intnet.Layer{
		intnet.Convolution(8, 3, 2, 0, true), intnet.Convolution(16, 3, 2, 0, true), denseLayer(10, false)}}, 1}, Gradient{}, true},
	{"lenet-5", &Inference{lenet, 1}, Gradient{}, true},
	{"gradient-10000x8", nil, Gradient{10_000, 8}, false},
	{"gradient-10000x16", nil, Gradient{10_000, 16}, true},
}

// usage is the processor time of this process in seconds, and its peak memory in MB.
func usage(b *testing.B) (seconds, memory float64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	add := func(t syscall.Timeval) { seconds += float64(t.Sec) + float64(t.Usec)/1e6 }
	add(u.Utime)
	add(u.Stime)
	return seconds, float64(u.Maxrss) / 1e3
}

// compileFigure compiles a circuit, and returns a proof of it by a key.
func compileFigure(b *testing.B, inference *Inference, gradient Gradient) (c *Circuit, units float64, prove func(groth16.ProvingKey) ([]byte, error)) {
	var err error
	if inference == nil {
		c, err = CompileGradient(gradient)
		a := gradientAssignment(1, 100, make([]int16, gradient.Coordinates)...)
		for i := range a.Values {
			a.Values[i] = int16(i%201 - 100)
		}
		a.SquaredL2 = 1 << 40
		prove = func(key groth16.ProvingKey) ([]byte, error) { return ProveGradient(c, gradient, key, a, nil) }
		units = float64(gradient.Coordinates)
	} else {
		c, err = CompileInference(*inference)
		a := Assignment{Network: randomNetwork(b, inference.Architecture, 1), Items: randomItems(inference.Architecture, inference.Batch, 1)}
		prove = func(key groth16.ProvingKey) ([]byte, error) { return ProveInference(c, *inference, key, a, nil) }
		for _, g := range inference.Architecture.Geometries() {
			units += float64(g.Weights())
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return c, units, prove
}

// BenchmarkConstraints reports the size of each circuit, also per weight or coordinate.
func BenchmarkConstraints(b *testing.B) {
	for _, f := range figures {
		b.Run(f.name, func(b *testing.B) {
			var c *Circuit
			var units float64
			for b.Loop() {
				c, units, _ = compileFigure(b, f.inference, f.gradient)
			}
			b.ReportMetric(float64(c.Constraints()), "constraints")
			b.ReportMetric(float64(c.Constraints())/units, "constraints/unit")
		})
	}
}

// BenchmarkProve reports the processor time of one proof, sizes of its keys, and what the
// set-up took. The peak memory is that of this process, set-up included.
func BenchmarkProve(b *testing.B) {
	for _, f := range figures {
		b.Run(f.name, func(b *testing.B) {
			if f.slow && os.Getenv("ANCHORHOLD_SLOW_BENCH") == "" {
				b.Skip("its set-up takes minutes: ANCHORHOLD_SLOW_BENCH=1")
			}
			c, _, prove := compileFigure(b, f.inference, f.gradient)
			before, _ := usage(b)
			pk, _, err := Setup(c)
			if err != nil {
				b.Fatal(err)
			}
			after, _ := usage(b)
			var raw bytes.Buffer
			if _, err := pk.WriteRawTo(&raw); err != nil {
				b.Fatal(err)
			}
			size := raw.Len()
			raw = bytes.Buffer{}
			var proof []byte
			began, _ := usage(b)
			b.ResetTimer()
			for range b.N {
				if proof, err = prove(pk); err != nil {
					b.Fatal(err)
				}
			}
			ended, memory := usage(b)
			b.ReportMetric(after-before, "CPU-s/set-up")
			b.ReportMetric((ended-began)/float64(b.N), "CPU-s/proof")
			b.ReportMetric(float64(size)/1e6, "MB-key")
			b.ReportMetric(memory, "MB-peak")
			b.ReportMetric(float64(len(proof)), "proof-bytes")
		})
	}
}
