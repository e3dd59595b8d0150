package fedwork

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// file is an input or output with content.
func file(t testing.TB, content []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // nothing is lost: the test is over
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func nothing(string, uint64, uint64) {}

func halves(values ...float32) []byte {
	var out []byte
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

// Each task that is not one is refused before anything is computed, each vector that
// is not the round's when it shows.
func TestTasksAreChecked(t *testing.T) {
	w := federationtest.New(t)
	r, _, _ := w.Round(t, 3, func(r *federation.Round) { r.ClipL2 = 10 })
	good := fedtask.Contribute{Weight: 1, Format: fedtask.Float32, Norm: 5}
	run := func(round any, task any, values []byte) error {
		_, err := contribute(context.Background(), marshal(t, task), []*os.File{file(t, marshal(t, round)), file(t, values)}, []*os.File{file(t, nil), file(t, nil)}, nothing)
		return err
	}
	if err := run(r, good, halves(1, 2, 3)); err != nil {
		t.Fatal(err)
	}
	other := r
	other.SetDigest[0] ^= 1
	for name, tc := range map[string]struct {
		err  error
		want refusal.Reason
	}{
		"unknown field":   {run(r, map[string]any{"weight": 1, "format": "float32", "norm": 5, "key": 1}, halves(1, 2, 3)), ReasonTask},
		"weight":          {run(r, fedtask.Contribute{Weight: 2, Format: fedtask.Float32, Norm: 5}, halves(1, 2, 3)), ReasonTask},
		"format":          {run(r, fedtask.Contribute{Weight: 1, Format: "int8", Norm: 5}, halves(1, 2, 3)), ReasonTask},
		"round":           {run(map[string]any{"round": 7}, good, halves(1, 2, 3)), ReasonTask},
		"parameters":      {run(other, good, halves(1, 2, 3)), federation.ReasonSet},
		"short":           {run(r, good, halves(1, 2)), fedtask.ReasonVector},
		"long":            {run(r, good, halves(1, 2, 3, 4)), fedtask.ReasonVector},
		"not a number":    {run(r, good, halves(1, 2, float32(math.NaN()))), fedtask.ReasonVector},
		"grew since then": {run(r, good, halves(1, 2, 30)), fedtask.ReasonVector},
	} {
		if got, _ := refusal.ReasonOf(tc.err); got != tc.want {
			t.Errorf("%s: %q, want %q: %v", name, got, tc.want, tc.err)
		}
	}
	for name, err := range map[string]error{
		"no inputs":  second(contribute(context.Background(), marshal(t, good), nil, nil, nothing)),
		"no round":   second(decrypt(context.Background(), marshal(t, fedtask.Decrypt{Count: 2, TotalWeight: 2}), nil, nil, nothing)),
		"one source": second(decrypt(context.Background(), marshal(t, fedtask.Decrypt{Count: 1, TotalWeight: 1}), []*os.File{file(t, marshal(t, r))}, nil, nothing)),
		"nonsense":   second(decrypt(context.Background(), []byte("{"), nil, nil, nothing)),
	} {
		if got, _ := refusal.ReasonOf(err); got != ReasonTask {
			t.Errorf("%s: %v", name, err)
		}
	}
	for class, h := range Handlers() {
		var _ worker.Handler = h
		if !strings.HasPrefix(class, "fed-") {
			t.Errorf("class %q", class)
		}
	}
}

func second(_ []byte, err error) error { return err }

// A sum under another key, cut short, or with something behind it is not opened.
func TestSumsAreChecked(t *testing.T) {
	w := federationtest.New(t)
	r, signed, seed := w.Round(t, 100, nil)
	_, a := w.Agent(t, nil).Contribute(t, r, signed, make([]int32, 100))
	sum := rlwe.NewSum()
	for range 2 {
		if err := sum.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	block := make([]byte, rlwe.BlockBytes)
	if err := sum.Write(block); err != nil {
		t.Fatal(err)
	}
	open := func(key []byte, blocks []byte) ([]byte, error) {
		out := file(t, nil)
		_, err := decrypt(context.Background(), marshal(t, fedtask.Decrypt{Count: 2, TotalWeight: 2}), []*os.File{file(t, marshal(t, r)), file(t, key), file(t, blocks)}, []*os.File{out}, nothing)
		values, _ := os.ReadFile(out.Name())
		return values, err
	}
	first, err := open(seed.Bytes(), block)
	if err != nil || len(first) != 800 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	if again, err := open(seed.Bytes(), block); err != nil || !bytes.Equal(first, again) {
		t.Error("the same sum under the same ticket gave other values")
	}
	wide := 0
	for i := range 100 {
		if v := int64(binary.LittleEndian.Uint64(first[8*i:])); v > 1000 || v < -1000 {
			wide++
		}
	}
	if wide < 50 { // the flood has a standard deviation of about 2,000 steps
		t.Errorf("only %d of 100 values are hidden by noise", wide)
	}
	if _, err := open(bytes.Repeat([]byte{7}, 32), block); err == nil {
		t.Error("another key opened the sum")
	}
	foreign := bytes.Repeat([]byte{0x55, 0x33}, rlwe.BlockBytes/2)
	for name, blocks := range map[string][]byte{"short": block[1:], "long": append(bytes.Clone(block), 0), "foreign": foreign} {
		if _, err := open(seed.Bytes(), blocks); err == nil {
			t.Errorf("%s: opened", name)
		} else if got, _ := refusal.ReasonOf(err); got != ReasonSum {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkContribute is all that a participant's worker does for a value: read,
// measure, scale, rotate where the round is, round, encrypt, hash, write.
func BenchmarkContribute(b *testing.B) {
	const n = 64 * rlwe.BlockValues
	for name, change := range map[string]func(*federation.Round){
		"plain":   func(r *federation.Round) { r.ClipL2, r.ClipLinf = 1000, 1 },
		"rotated": func(r *federation.Round) { r.ClipL2 = 1000; rotated(8)(r) },
	} {
		b.Run(name, func(b *testing.B) {
			w := federationtest.New(b)
			r, _, _ := w.Round(b, n, change)
			values := make([]byte, 4*n)
			for i := range n {
				binary.LittleEndian.PutUint32(values[4*i:], math.Float32bits(float32(i%1000)/1000))
			}
			task := fedtask.Contribute{Weight: 1, Format: fedtask.Float32, Norm: 900}
			for b.Loop() {
				q, err := newQuantizer(task, r)
				if err != nil {
					b.Fatal(err)
				}
				enc, err := newCipher(r)
				if err != nil {
					b.Fatal(err)
				}
				c := &contribution{round: r, quantizer: q, cipher: enc, values: fedtask.NewValues(bytes.NewReader(values), task.Format, n)}
				if _, err := c.run(context.Background(), io.Discard, io.Discard, nothing); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/value")
		})
	}
}
