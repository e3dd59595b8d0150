package provetask

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// ErrFiles means that the circuit or the proving key of a set cannot be used.
var ErrFiles = errors.New("provetask: circuit or proving key cannot be used")

// Run has a worker do a task of proving with a set: class, spec and limits are the task's,
// the parts of the witness go to the worker one after the other. It returns the worker's
// result and the proof, which the caller verifies: one that is cut short does not.
//
// The parts are lent: they are wiped as soon as ctx ends, whatever a disk, a pipe or the
// worker is doing, and remain the caller's to wipe otherwise.
func Run(ctx context.Context, pool *worker.Pool, task worker.Task, set keyset.Set, progress func(worker.Progress), witness ...[]byte) (result, proof []byte, err error) {
	lent, err := lend(ctx, witness...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, lent.end()) }()
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
	out, err := worker.NewDrain(statement.MaxProofBytes + 1)
	if err != nil {
		return nil, nil, err
	}
	task.In, task.Out = []*os.File{lent.feed.Reader, circuit, key}, []*os.File{out.Writer}
	result, err = pool.Run(ctx, task, progress)
	if err != nil {
		out.Stop() // a worker that did not heed may still hold it
	}
	return result, out.End(), err
}

// loan is a witness on its way to a worker.
type loan struct {
	feed  *worker.Feed
	parts [][]byte
	stop  func() bool
	wiped chan struct{} // closed when the parts were wiped because the context ended
}

// lend begins to write the parts into a pipe.
func lend(ctx context.Context, parts ...[]byte) (*loan, error) {
	feed, err := worker.NewFeed(func(w io.Writer) error {
		for _, part := range parts {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l := &loan{feed: feed, parts: parts, wiped: make(chan struct{})}
	l.stop = context.AfterFunc(ctx, l.wipe)
	return l, nil
}

func (l *loan) wipe() {
	defer close(l.wiped)
	l.feed.Stop() // nobody reads the parts from here on
	for _, part := range l.parts {
		keybuf.Wipe(part)
	}
}

// end gives the parts back.
func (l *loan) end() error {
	if !l.stop() {
		<-l.wiped
	}
	return l.feed.End()
}
