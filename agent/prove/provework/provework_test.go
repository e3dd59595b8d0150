package provework_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/prove/provework"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

var input = []int8{5, -6, 7, -8}

// task is what the handler gets; tests change it before it runs.
type task struct {
	statement                   statement.Statement
	spec                        provetask.Inference
	witness, circuit, proving   []byte
	rawSpec                     []byte // instead of spec
	in, out                     int    // how many descriptors, if not all
	network                     *intnet.Network
	salt                        statement.Salt
	input                       []int8
	noStatement, closedEarlyOut bool
}

func newTask(t testing.TB) *task {
	t.Helper()
	k := provetest.Shared(t)
	n := classifytest.Network(1)
	outputs, err := n.Forward(input)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := n.Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	salt, err := statement.NewSalt()
	if err != nil {
		t.Fatal(err)
	}
	m := statement.Model{Architecture: sum, Quantization: digest.Digest{1}, Chunks: digest.Digest{2}, Weights: statement.WeightsCommitment(n)}
	return &task{statement: k.Statement(m, digest.ReceiptID{3}, salt, input, outputs), circuit: k.Circuit, proving: k.Proving, in: 3, out: 1,
		network: n, salt: salt, input: slices.Clone(input)}
}

// item is the statement's one answer.
func (k *task) item() *statement.Item { return &k.statement.Inference.Items[0] }

// run calls the handler with a pipe to it and a pipe from it.
func (k *task) run(t testing.TB, ctx context.Context) (done provetask.Proved, proof []byte, err error) {
	t.Helper()
	architecture, err := k.network.Architecture.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	parameters, err := k.network.MarshalParameters()
	if err != nil {
		t.Fatal(err)
	}
	if k.spec.Architecture == nil {
		k.spec.Architecture = architecture
	}
	if k.spec.Parameters == 0 {
		k.spec.Parameters = len(parameters)
	}
	if k.spec.Statement == nil && !k.noStatement {
		if k.spec.Statement, err = k.statement.MarshalBinary(); err != nil {
			t.Fatal(err)
		}
	}
	if k.witness == nil {
		k.witness = append(slices.Clone(parameters), k.salt[:]...)
		for _, v := range k.input {
			k.witness = append(k.witness, byte(v))
		}
	}
	spec := k.rawSpec
	if spec == nil {
		if spec, err = json.Marshal(k.spec); err != nil {
			t.Fatal(err)
		}
	}
	in, feed := pipe(t)
	drain, out := pipe(t)
	go func() {
		_, _ = feed.Write(k.witness) // the handler may not want all of it
		_ = feed.Close()
	}()
	written := make(chan []byte, 1)
	go func() {
		raw, _ := io.ReadAll(drain)
		written <- raw
	}()
	if k.closedEarlyOut {
		drain.Close()
	}
	files := []*os.File{in, file(t, k.circuit), file(t, k.proving), file(t, nil)}
	var phases []string
	raw, err := provework.Handlers()[provetask.ClassInference](ctx, spec, files[:k.in], []*os.File{out, out}[:k.out], func(phase string, _, _ uint64) { phases = append(phases, phase) })
	out.Close()
	in.Close()
	proof = <-written
	if err != nil {
		if len(proof) != 0 || raw != nil {
			t.Errorf("a proof of %d bytes in spite of %v", len(proof), err)
		}
		return done, nil, err
	}
	if !slices.Equal(phases, []string{"witness", "keys", "prove", "prove"}) {
		t.Errorf("phases %q", phases)
	}
	return done, proof, json.Unmarshal(raw, &done)
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func file(t testing.TB, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// verify verifies a proof of the task's statement.
func (k *task) verify(t testing.TB, proof []byte) error {
	t.Helper()
	set := provetest.Shared(t).Save(t, t.TempDir(), false)
	ring, err := keyset.NewRing([]keyset.Set{set}, false, 0, provetest.Verifiers())
	if err != nil {
		t.Fatal(err)
	}
	_, err = ring.Verify(t.Context(), &statement.Envelope{Statement: k.statement, Key: set.Record.VerifyingKey, Proof: proof})
	return err
}

func TestWhatIsSoIsProven(t *testing.T) {
	k := newTask(t)
	done, proof, err := k.run(t, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if done.Bytes != len(proof) || done.Constraints < 1 || done.Millis < 0 {
		t.Errorf("%+v", done)
	}
	if err := k.verify(t, proof); err != nil {
		t.Error(err)
	}
	k.item().Outputs[0]++
	if err := k.verify(t, proof); err == nil {
		t.Error("the proof verifies for other outputs")
	}
}

// Each of these changes one thing alone.
func TestEveryMismatchIsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		reason refusal.Reason
		change func(t *testing.T, k *task)
	}{
		"other parameters": {provework.ReasonWitness, func(t *testing.T, k *task) { k.network = classifytest.Network(2) }},
		"one weight": {provework.ReasonWitness, func(t *testing.T, k *task) {
			w := &k.network.Parameters.Layers[0].Weights[0]
			*w ^= 1
		}},
		"the salt":              {provework.ReasonWitness, func(t *testing.T, k *task) { k.salt[30]++ }},
		"the input":             {provework.ReasonWitness, func(t *testing.T, k *task) { k.input[3]++ }},
		"the input's claim":     {provework.ReasonWitness, func(t *testing.T, k *task) { k.item().Input = statement.Commitment{31: 1} }},
		"the outputs":           {provework.ReasonWitness, func(t *testing.T, k *task) { k.item().Outputs[1]++ }},
		"one output less":       {provework.ReasonWitness, func(t *testing.T, k *task) { k.item().Outputs = k.item().Outputs[:1] }},
		"the weights' claim":    {provework.ReasonWitness, func(t *testing.T, k *task) { k.statement.Inference.Model.Weights = statement.Commitment{31: 1} }},
		"the architecture":      {provework.ReasonWitness, func(t *testing.T, k *task) { k.statement.Inference.Model.Architecture[0]++ }},
		"the circuit":           {provework.ReasonKey, func(t *testing.T, k *task) { k.statement.Circuit[0]++ }},
		"a circuit's byte":      {provework.ReasonKey, func(t *testing.T, k *task) { k.circuit = append(slices.Clone(k.circuit), 0) }},
		"no circuit":            {provework.ReasonKey, func(t *testing.T, k *task) { k.circuit = nil }},
		"no key":                {provework.ReasonKey, func(t *testing.T, k *task) { k.proving = nil }},
		"a cut key":             {provework.ReasonKey, func(t *testing.T, k *task) { k.proving = k.proving[:len(k.proving)/2] }},
		"the circuit as a key":  {provework.ReasonKey, func(t *testing.T, k *task) { k.proving = k.circuit }},
		"an input's byte more":  {provework.ReasonTask, func(t *testing.T, k *task) { k.input = append(k.input, 0) }},
		"another system":        {provework.ReasonKey, func(t *testing.T, k *task) { k.statement.System = statement.PLONK }},
		"no statement":          {provework.ReasonTask, func(t *testing.T, k *task) { k.noStatement = true }},
		"no spec":               {provework.ReasonTask, func(t *testing.T, k *task) { k.rawSpec = []byte("{") }},
		"an unknown field":      {provework.ReasonTask, func(t *testing.T, k *task) { k.rawSpec = []byte(`{"more":1}`) }},
		"two inputs":            {provework.ReasonTask, func(t *testing.T, k *task) { k.in = 2 }},
		"four inputs":           {provework.ReasonTask, func(t *testing.T, k *task) { k.in = 4 }},
		"no output":             {provework.ReasonTask, func(t *testing.T, k *task) { k.out = 0 }},
		"two outputs":           {provework.ReasonTask, func(t *testing.T, k *task) { k.out = 2 }},
		"negative length":       {provework.ReasonTask, func(t *testing.T, k *task) { k.spec.Parameters = -1 }},
		"endless parameters":    {provework.ReasonTask, func(t *testing.T, k *task) { k.spec.Parameters = 1 << 40 }},
		"parameters' length":    {provework.ReasonTask, func(t *testing.T, k *task) { k.spec.Parameters = 9 }},
		"another architecture":  {provework.ReasonTask, func(t *testing.T, k *task) { k.spec.Architecture = wider(t) }},
		"no architecture":       {provework.ReasonTask, func(t *testing.T, k *task) { k.spec.Architecture = []byte("x") }},
		"a gradient":            {provework.ReasonTask, func(t *testing.T, k *task) { k.statement.Inference, k.statement.Gradient = nil, aGradient() }},
		"a statement and bytes": {provework.ReasonTask, func(t *testing.T, k *task) { k.spec.Statement = append(encode(t, k.statement), 0) }},
	} {
		t.Run(what, func(t *testing.T) {
			k := newTask(t)
			c.change(t, k)
			_, _, err := k.run(t, t.Context())
			if got, _ := refusal.ReasonOf(err); err == nil || got != c.reason {
				t.Errorf("%q, want %q: %v", got, c.reason, err)
			}
		})
	}
}

func encode(t *testing.T, s statement.Statement) []byte {
	t.Helper()
	raw, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func aGradient() *statement.Gradient {
	return &statement.Gradient{Coordinates: 1, LInf: 1, SquaredL2: 1}
}

// wider is an architecture with one more input.
func wider(t *testing.T) []byte {
	t.Helper()
	a := classifytest.Network(1).Architecture
	a.Input.C++
	raw, err := a.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The agent that fed the pipe is gone: nothing is wrong with the task, so that it may be
// tried again.
func TestATruncatedWitnessIsNoRefusal(t *testing.T) {
	whole := newTask(t)
	if _, _, err := whole.run(t, t.Context()); err != nil {
		t.Fatal(err)
	}
	parameters := whole.spec.Parameters
	for _, n := range []int{0, 1, parameters - 1, parameters, parameters + 1, parameters + statement.SaltBytes, len(whole.witness) - 1} {
		k := newTask(t)
		k.witness = append([]byte{}, whole.witness[:n]...)
		k.statement = whole.statement
		_, _, err := k.run(t, t.Context())
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d bytes: %v", n, len(whole.witness), err)
		}
	}
}

// A key of the same circuit from another set-up proves, and what it proves does not
// verify with the registered one.
func TestAnotherSetUpsProofDoesNotVerify(t *testing.T) {
	k := newTask(t)
	k.proving = provetest.Other(t).Proving
	_, proof, err := k.run(t, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.verify(t, proof); err == nil {
		t.Error("it verified")
	}
}

func TestACancelledTaskEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := newTask(t).run(t, ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAnOutputThatIsClosedIsAnError(t *testing.T) {
	k := newTask(t)
	k.closedEarlyOut = true
	if _, _, err := k.run(t, t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestSecretsDoNotAppearInErrors(t *testing.T) {
	k := newTask(t)
	k.input[0]++
	_, _, err := k.run(t, t.Context())
	if err == nil || bytes.Contains([]byte(err.Error()), []byte("[")) {
		t.Errorf("the error shows values: %v", err)
	}
}
