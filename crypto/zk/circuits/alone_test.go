package circuits

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/consensys/gnark/backend/groth16"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// keysVariable names the directory where circuits and keys of the figures stay between
// runs: make bench-zk sets it.
const keysVariable = "ANCHORHOLD_FIGURE_KEYS"

func keysDirectory(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(keysVariable)
	if dir == "" {
		t.Skip("the figures' keys have no directory: " + keysVariable)
	}
	return dir
}

// kept says what lies in the directory for a figure.
type kept struct {
	Circuit        string  `json:"circuit"` // its digest
	Constraints    int     `json:"constraints"`
	PerUnit        float64 `json:"constraints_per_unit"` // weight or coordinate
	CircuitBytes   int64   `json:"circuit_bytes"`
	ProvingBytes   int64   `json:"proving_key_bytes"`
	VerifyBytes    int64   `json:"verifying_key_bytes"`
	SetupSeconds   float64 `json:"setup_cpu_s"`
	CompileSeconds float64 `json:"compile_cpu_s"`
}

// BenchmarkKeys makes circuits and keys of the figures that are not in the directory
// yet, or are there for an earlier circuit. It is run once, with -benchtime 1x.
func BenchmarkKeys(b *testing.B) {
	dir := keysDirectory(b)
	for _, f := range figures {
		b.Run(f.name, func(b *testing.B) {
			began, _ := usage(b)
			c, units, _ := compileFigure(b, f.inference, f.gradient)
			compiled, _ := usage(b)
			index := filepath.Join(dir, f.name+".json")
			old, err := os.ReadFile(index)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				b.Fatal(err)
			}
			var k kept
			if err == nil && json.Unmarshal(old, &k) == nil && k.Circuit == hex.EncodeToString(c.Digest[:]) {
				return
			}
			pk, vk, err := Setup(c)
			if err != nil {
				b.Fatal(err)
			}
			ended, _ := usage(b)
			k = kept{Circuit: hex.EncodeToString(c.Digest[:]), Constraints: c.Constraints(), PerUnit: float64(c.Constraints()) / units,
				CompileSeconds: compiled - began, SetupSeconds: ended - compiled}
			k.CircuitBytes = writeKept(b, filepath.Join(dir, f.name+".circuit"), func(w *bufio.Writer) (int64, error) { return c.WriteTo(w) })
			k.ProvingBytes = writeKept(b, filepath.Join(dir, f.name+".pk"), func(w *bufio.Writer) (int64, error) { return pk.WriteRawTo(w) })
			k.VerifyBytes = writeKept(b, filepath.Join(dir, f.name+".vk"), func(w *bufio.Writer) (int64, error) { return vk.WriteTo(w) })
			raw, err := json.Marshal(k)
			if err != nil {
				b.Fatal(err)
			}
			// Last, so that an interrupted run makes them again.
			if err := os.WriteFile(index, raw, 0o644); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func writeKept(b *testing.B, path string, write func(*bufio.Writer) (int64, error)) int64 {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = write(w)
	if err = errors.Join(err, w.Flush()); err != nil {
		b.Fatal(errors.Join(err, f.Close()))
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

func openKept(t testing.TB, path string) *bufio.Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return bufio.NewReaderSize(f, 1<<20)
}

// BenchmarkAlone proves as a worker does: circuit and key come from files, and nothing
// was compiled in this process before. Run one figure in a process, with -benchtime 1x:
// what the kernel counted for the process is then what a proof costs, loading included.
// The first proof is written to <figure>.proof with its statement, as an envelope.
func BenchmarkAlone(b *testing.B) {
	dir := keysDirectory(b)
	for _, f := range figures {
		b.Run(f.name, func(b *testing.B) {
			at := filepath.Join(dir, f.name)
			began, _ := usage(b)
			c, err := ReadCircuit(openKept(b, at+".circuit"))
			if err != nil {
				b.Fatal(err)
			}
			key, err := ReadProvingKey(openKept(b, at+".pk"))
			if err != nil {
				b.Fatal(err)
			}
			s, prove := statementOf(b, c, f.inference, f.gradient)
			loaded, _ := usage(b)
			var proof []byte
			b.ResetTimer()
			for range b.N {
				if proof, err = prove(key); err != nil {
					b.Fatal(err)
				}
			}
			ended, memory := usage(b)
			b.ReportMetric(loaded-began, "CPU-s/load")
			b.ReportMetric((ended-loaded)/float64(b.N), "CPU-s/proof")
			b.ReportMetric(memory, "MB-peak")
			b.ReportMetric(float64(len(proof)), "proof-bytes")
			e := statement.Envelope{Statement: *s, Key: keptKey(b, at).Digest(), Proof: proof}
			raw, err := e.MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(at+".proof", raw, 0o644); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func keptKey(t testing.TB, at string) *groth16verify.Key {
	t.Helper()
	raw, err := os.ReadFile(at + ".vk")
	if err != nil {
		t.Fatal(err)
	}
	k, err := groth16verify.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// statementOf is a statement of a figure, and what proves it.
func statementOf(t testing.TB, c *Circuit, inference *Inference, gradient Gradient) (*statement.Statement, func(groth16.ProvingKey) ([]byte, error)) {
	t.Helper()
	if inference == nil {
		s, a := gradientStatement(t, gradient, c)
		return s, func(key groth16.ProvingKey) ([]byte, error) { return ProveGradient(c, gradient, key, a, nil) }
	}
	a := Assignment{Network: randomNetwork(t, inference.Architecture, 1), Items: randomItems(inference.Architecture, inference.Batch, 1)}
	s := inferenceStatement(t, c, a.Network, a.Items)
	a.Statement = statementElement(t, s)
	return s, func(key groth16.ProvingKey) ([]byte, error) { return ProveInference(c, *inference, key, a, nil) }
}

// BenchmarkVerifyAlone verifies what BenchmarkAlone proved: one envelope, with a key that
// is ready or with key and envelope from their files each time, and a hundred together.
// The hundred are one proof, which the verifier does not notice.
func BenchmarkVerifyAlone(b *testing.B) {
	dir := keysDirectory(b)
	for _, f := range figures {
		at := filepath.Join(dir, f.name)
		raw, err := os.ReadFile(at + ".proof")
		if err != nil {
			b.Fatal(fmt.Errorf("BenchmarkAlone makes it: %w", err))
		}
		e, err := statement.ParseEnvelope(raw)
		if err != nil {
			b.Fatal(err)
		}
		k := keptKey(b, at)
		many := make([]*statement.Envelope, 100)
		for i := range many {
			many[i] = e
		}
		b.Run(f.name+"/single", func(b *testing.B) {
			began, _ := usage(b)
			for b.Loop() {
				if err := k.VerifyEnvelope(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
			ended, _ := usage(b)
			b.ReportMetric((ended-began)/float64(b.N)*1e3, "CPU-ms/proof")
		})
		b.Run(f.name+"/files", func(b *testing.B) {
			began, _ := usage(b)
			for b.Loop() {
				raw, err := os.ReadFile(at + ".proof")
				if err != nil {
					b.Fatal(err)
				}
				e, err := statement.ParseEnvelope(raw)
				if err != nil {
					b.Fatal(err)
				}
				if err := keptKey(b, at).VerifyEnvelope(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
			ended, _ := usage(b)
			b.ReportMetric((ended-began)/float64(b.N)*1e3, "CPU-ms/proof")
		})
		b.Run(f.name+"/hundred", func(b *testing.B) {
			began, _ := usage(b)
			for b.Loop() {
				if err := k.VerifyEnvelopes(b.Context(), many); err != nil {
					b.Fatal(err)
				}
			}
			ended, _ := usage(b)
			b.ReportMetric((ended-began)/float64(b.N)*1e3/float64(len(many)), "CPU-ms/proof")
		})
	}
}
