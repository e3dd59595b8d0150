package worker

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// Feed writes from a source into a pipe whose other end a worker reads. The caller calls End once
// the worker is gone; no goroutine outlives it, and it returns the error that ended the source, be
// it a panic. Stop may be called before, and does not wait for the worker.
type Feed struct {
	// Reader is the worker's end.
	Reader *os.File
	writer *os.File
	done   chan struct{}
	err    error // why the source ended; to be read when done is closed
}

// NewFeed starts writing.
func NewFeed(source func(io.Writer) error) (*Feed, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	f := &Feed{Reader: r, writer: w, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.err = errors.Join(Contain(func() error { return source(w) }), w.Close())
	}()
	return f, nil
}

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// Stop makes every further write of the source fail, and returns when the source has ended:
// from then on nothing is read for the worker, whether or not it is gone. It may be called
// more than once, before End, and by any goroutine.
func (f *Feed) Stop() {
	_ = f.writer.SetWriteDeadline(longAgo) // closed already is as good
	<-f.done
}

// End closes the reading end, stops the source and returns why it ended, which the worker
// saw only as an early end. A worker that stopped reading is not the source's fault.
func (f *Feed) End() error {
	err := f.Reader.Close()
	f.Stop() // a worker that is not gone may hold the other end
	for _, harmless := range []error{os.ErrClosed, os.ErrDeadlineExceeded, syscall.EPIPE} {
		if errors.Is(f.err, harmless) {
			return err
		}
	}
	return errors.Join(f.err, err)
}

// Drain collects what a worker writes into a pipe, up to a limit. The caller calls End once the
// worker is gone, as for [Feed].
type Drain struct {
	// Writer is the worker's end.
	Writer *os.File
	reader *os.File
	came   chan []byte
}

// NewDrain starts collecting at most limit bytes.
func NewDrain(limit int64) (*Drain, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d := &Drain{Writer: w, reader: r, came: make(chan []byte, 1)}
	go func() {
		buf := make([]byte, limit)  // at once: nothing is left behind by growing
		n, _ := io.ReadFull(r, buf) // what is cut short is for the caller to notice
		_ = r.Close()               // read only
		d.came <- buf[:n]
	}()
	return d, nil
}

// Stop keeps End from waiting for a worker that still holds the pipe.
func (d *Drain) Stop() { _ = d.reader.SetReadDeadline(longAgo) } // closed already is as good

// End closes the writing end and returns what came.
func (d *Drain) End() []byte {
	_ = d.Writer.Close() // the worker has its own
	return <-d.came
}
