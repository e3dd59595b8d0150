// Package pipe feeds workers through pipes and collects what they write.
//
// It guarantees that no goroutine outlives End, that the error which ended a source is
// kept, and that what is collected is bounded. It trusts its caller to call End once the
// worker is gone. It refuses nothing.
//
// The agent's services call it around a task.
package pipe

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Feed writes from a source into a pipe whose other end a worker reads.
type Feed struct {
	// Reader is the worker's end.
	Reader *os.File
	done   chan error
}

// NewFeed begins to write.
func NewFeed(source func(io.Writer) error) (*Feed, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	f := &Feed{Reader: r, done: make(chan error, 1)}
	go func() { f.done <- errors.Join(source(w), w.Close()) }()
	return f, nil
}

// End closes the reading end and returns why the source ended, which the worker saw only as
// an early end. A worker that stopped reading is not the source's fault.
func (f *Feed) End() error {
	err := f.Reader.Close()
	if fed := <-f.done; fed != nil && !errors.Is(fed, os.ErrClosed) && !errors.Is(fed, syscall.EPIPE) {
		return fed
	}
	return err
}

// Drain collects what a worker writes into a pipe.
type Drain struct {
	// Writer is the worker's end.
	Writer *os.File
	came   chan []byte
}

// NewDrain begins to collect, at most limit bytes.
func NewDrain(limit int64) (*Drain, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d := &Drain{Writer: w, came: make(chan []byte, 1)}
	go func() {
		buf := make([]byte, limit)  // at once: nothing is left behind by growing
		n, _ := io.ReadFull(r, buf) // what is cut short is for the caller to notice
		_ = r.Close()               // read only
		d.came <- buf[:n]
	}()
	return d, nil
}

// End closes the writing end and returns what came.
func (d *Drain) End() []byte {
	_ = d.Writer.Close() // the worker has its own
	return <-d.came
}
