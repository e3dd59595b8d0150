// Package provework proves and verifies in a worker process: it solves the circuit of a
// statement and makes the proof, or says whether a proof holds.
//
// It proves only the statement that it was given. The witness must match the statement's
// commitments, and its own arithmetic must compute the statement's outputs from it; anything
// else is refused with a reason. A proof holds only under the key that its envelope names.
// The package trusts the agent that started the worker to have taken circuit and key from
// the registry.
//
// The main of anchorhold-worker hands its handlers to worker.Serve.
package provework

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Reasons of this package.
const (
	// ReasonTask: the task is not one that this worker knows.
	ReasonTask refusal.Reason = "proof-task-invalid"
	// ReasonWitness: what is to be proven is not so.
	ReasonWitness refusal.Reason = "proof-witness-mismatch"
	// ReasonKey: circuit or key are not those of the statement.
	ReasonKey refusal.Reason = "proof-key-mismatch"
)

// Handlers are the classes that this package serves.
func Handlers() map[string]worker.Handler {
	return map[string]worker.Handler{provetask.ClassInference: inference, provetask.ClassGradient: gradient, provetask.ClassVerify: verify}
}

func taskInvalid(format string, args ...any) error {
	return refusal.New(ReasonTask, format, args...)
}

// maxParameters bounds the encoded parameters of a network.
const maxParameters = intnet.MaxWeights + 1<<20

func inference(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	began := time.Now()
	var task provetask.Inference
	d := json.NewDecoder(bytes.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&task); err != nil {
		return nil, taskInvalid("%v", err)
	}
	if len(in) != 3 || len(out) != 1 || task.Parameters < 1 || task.Parameters > maxParameters {
		return nil, taskInvalid("expected three inputs and one output")
	}
	s, err := statement.ParseStatement(task.Statement)
	if err != nil || s.Inference == nil {
		return nil, taskInvalid("not a statement about inferences: %v", err)
	}
	var a intnet.Architecture
	if err := a.UnmarshalBinary(task.Architecture); err != nil {
		return nil, taskInvalid("%v", err)
	}
	progress("witness", 0, 3)
	assignment, err := readWitness(in[0], task.Parameters, a, s)
	if err != nil {
		return nil, err
	}
	progress("keys", 1, 3)
	prove := proveGroth16
	if s.System == statement.PLONK {
		prove = provePLONK
	}
	proof, constraints, err := prove(ctx, s, a, assignment, in[1], in[2], func() { progress("prove", 2, 3) })
	if err != nil {
		return nil, err
	}
	if _, err := out[0].Write(proof); err != nil {
		return nil, err
	}
	progress("prove", 3, 3)
	return json.Marshal(provetask.Proved{Constraints: constraints, Bytes: len(proof), Millis: time.Since(began).Milliseconds()})
}

// readWitness reads what only the prover knows, and holds it against the statement.
func readWitness(r io.Reader, size int, a intnet.Architecture, s *statement.Statement) (out circuits.Assignment, err error) {
	in := bufio.NewReader(r)
	raw := make([]byte, size)
	defer keybuf.Wipe(raw)
	if _, err := io.ReadFull(in, raw); err != nil {
		return out, fmt.Errorf("read the parameters: %w", err)
	}
	if out.Network, err = a.UnmarshalParameters(raw); err != nil {
		return out, taskInvalid("%v", err)
	}
	f := s.Inference
	mismatch := func(what string) error {
		return refusal.New(ReasonWitness, "the %s not the statement's", what)
	}
	if digest, err := a.Digest(); err != nil || digest != f.Model.Architecture {
		return out, mismatch("architecture is")
	}
	if statement.WeightsCommitment(out.Network) != f.Model.Weights {
		return out, mismatch("parameters are")
	}
	for _, item := range f.Items {
		w := circuits.Item{Input: make([]int8, a.Input.Size())}
		raw := make([]byte, len(w.Input))
		if _, err := io.ReadFull(in, w.Salt[:]); err != nil {
			return out, fmt.Errorf("read a salt: %w", err)
		}
		if _, err := io.ReadFull(in, raw); err != nil {
			return out, fmt.Errorf("read an input: %w", err)
		}
		for i, b := range raw {
			w.Input[i] = int8(b)
		}
		if statement.InputCommitment(w.Salt, w.Input) != item.Input {
			return out, mismatch("input is")
		}
		if outputs, err := out.Network.Forward(w.Input); err != nil || !slices.Equal(outputs, item.Outputs) {
			return out, mismatch("outputs are")
		}
		out.Items = append(out.Items, w)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return out, taskInvalid("trailing bytes after the last input")
	}
	d, err := s.Digest()
	out.Statement = statement.DigestElement(d)
	return out, err
}
