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
	"time"

	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

func gradient(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	began := time.Now()
	var task provetask.Gradient
	d := json.NewDecoder(bytes.NewReader(spec))
	d.DisallowUnknownFields()
	if err := d.Decode(&task); err != nil {
		return nil, taskInvalid("%v", err)
	}
	if len(in) != 3 || len(out) != 1 {
		return nil, taskInvalid("expected three inputs and one output")
	}
	s, err := statement.ParseStatement(task.Statement)
	if err != nil || s.Gradient == nil || s.System != statement.Groth16 {
		return nil, taskInvalid("not a statement about a gradient under %s: %v", statement.Groth16, err)
	}
	c := circuits.Gradient{Coordinates: int(s.Gradient.Coordinates), Bits: task.Bits}
	if err := c.Check(); err != nil {
		return nil, taskInvalid("%v", err)
	}
	progress("witness", 0, 3)
	a, err := readGradient(in[0], c, s)
	if err != nil {
		return nil, err
	}
	defer clear(a.Values)
	progress("keys", 1, 3)
	proof, constraints, err := groth16(ctx, s.Circuit, in[1], in[2], func() { progress("prove", 2, 3) }, func(circuit *circuits.Circuit, key circuits.ProvingKey) ([]byte, error) {
		return circuits.ProveGradient(circuit, c, key, a, nil)
	})
	if err != nil {
		return nil, err
	}
	if _, err := out[0].Write(proof); err != nil {
		return nil, err
	}
	progress("prove", 3, 3)
	return json.Marshal(provetask.Proved{Constraints: constraints, Bytes: len(proof), Millis: time.Since(began).Milliseconds()})
}

// readGradient reads the coordinates and holds them against the commitment.
func readGradient(in io.Reader, c circuits.Gradient, s *statement.Statement) (a circuits.GradientAssignment, err error) {
	r := bufio.NewReader(in)
	raw := make([]byte, 2*c.Coordinates)
	defer keybuf.Wipe(raw)
	if _, err := io.ReadFull(r, a.Salt[:]); err != nil {
		return a, fmt.Errorf("read the salt: %w", err)
	}
	if _, err := io.ReadFull(r, raw); err != nil {
		return a, fmt.Errorf("read the coordinates: %w", err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return a, taskInvalid("trailing bytes after the last coordinate")
	}
	a.Values = provetask.Coordinates(raw)
	if c.Commit(a.Salt, a.Values) != s.Gradient.Commitment {
		return a, refusal.New(ReasonWitness, "the coordinates do not match the commitment")
	}
	d, err := s.Digest()
	a.LInf, a.SquaredL2, a.Statement = s.Gradient.LInf, s.Gradient.SquaredL2, statement.DigestElement(d)
	return a, err
}
