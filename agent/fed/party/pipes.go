package party

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// pipes are the ends that a worker's task has, and the goroutines at the others.
type pipes struct {
	running sync.WaitGroup
	ends    []*os.File // the worker's, and ours of drains
	writers []*os.File // that our goroutines read from until they are closed

	mu  sync.Mutex
	err error
}

func newPipes() *pipes { return &pipes{} }

func (p *pipes) fail(err error) {
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return // a worker that stopped reading says why itself
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = errors.Join(p.err, err)
}

// feed is an input that gets secrets, one after the other.
func (p *pipes) feed(secrets ...*keybuf.Buffer) (*os.File, error) {
	return p.from(func(w io.Writer) error {
		for _, s := range secrets {
			if _, err := w.Write(s.Bytes()); err != nil {
				return err
			}
		}
		return nil
	})
}

// from is an input that a function writes.
func (p *pipes) from(write func(io.Writer) error) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.ends = append(p.ends, r)
	p.running.Go(func() { p.fail(errors.Join(worker.Contain(func() error { return write(w) }), w.Close())) })
	return r, nil
}

// drained is an output that is kept in memory.
type drained struct {
	write *os.File
	data  []byte // after close
}

// drain takes at most limit bytes. Those of a secret output never lie in memory that
// was given back.
func (p *pipes) drain(limit int, secret bool) (*drained, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.writers = append(p.writers, w)
	d := &drained{write: w}
	p.running.Go(func() {
		defer r.Close() // read only
		buf := make([]byte, 64<<10)
		defer keybuf.Wipe(buf)
		for {
			n, err := r.Read(buf)
			if len(d.data)+n > limit {
				p.fail(errors.New("a worker wrote more than was asked for"))
				return
			}
			if old := d.data; secret && len(old)+n > cap(old) {
				d.data = append(make([]byte, 0, 2*cap(old)+n), old...)
				keybuf.Wipe(old)
			}
			d.data = append(d.data, buf[:n]...)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				p.fail(err)
				return
			}
		}
	})
	return d, nil
}

// close ends everything and waits; then the outputs are whole.
func (p *pipes) close() error {
	var err error
	for _, f := range append(p.ends, p.writers...) {
		err = errors.Join(err, f.Close())
	}
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.err, err)
}
