package prooftask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/agent/worker/pipe"
	"github.com/anchorhold/anchorhold/crypto/proofkeys"
	"github.com/anchorhold/anchorhold/crypto/statement"
)

// ErrFiles means that circuit or proving key of a set cannot be used.
var ErrFiles = errors.New("prooftask: circuit or proving key")

// Run has a worker do a task of proving with a set: class, spec and limits are the task's,
// the parts of the witness go to the worker one after the other. It returns the worker's
// result and the proof, which the caller verifies: one that is cut short does not.
func Run(ctx context.Context, pool *worker.Pool, task worker.Task, set proofkeys.Set, progress func(worker.Progress), witness ...[]byte) (result, proof []byte, err error) {
	circuit, err := set.OpenCircuit()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFiles, err)
	}
	defer circuit.Close() // read only
	key, err := set.OpenProvingKey()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFiles, err)
	}
	defer key.Close() // read only
	feed, err := pipe.NewFeed(func(w io.Writer) error {
		for _, part := range witness {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	out, err := pipe.NewDrain(statement.MaxProofBytes + 1)
	if err != nil {
		return nil, nil, errors.Join(err, feed.End())
	}
	task.In, task.Out = []*os.File{feed.Reader, circuit, key}, []*os.File{out.Writer}
	result, err = pool.Run(ctx, task, progress)
	proof = out.End()
	return result, proof, errors.Join(err, feed.End())
}
