package main

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// newCutter listens on loopback and passes connections on to a target.
func newCutter(target string) (*cutter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cutter{listener: l, target: target}
	c.limit.Store(-1)
	go c.serve()
	return c, nil
}

// cutter is a line to the aggregator that can be told to break after some bytes, or to
// keep what it carries upwards.
type cutter struct {
	listener net.Listener
	target   string
	limit    atomic.Int64 // bytes that a connection may carry upwards; negative: any number

	mu     sync.Mutex
	keeps  bool
	copies []*bytes.Buffer // of each connection; guarded by mu
}

// newRecorder is a line that keeps what it carries upwards.
func newRecorder(target string) (*cutter, error) {
	c, err := newCutter(target)
	if err == nil {
		c.mu.Lock()
		c.keeps = true
		c.mu.Unlock()
	}
	return c, err
}

// carried returns what each connection carried upwards since the last call.
func (c *cutter) carried() (all [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.copies {
		if b.Len() > 0 {
			all = append(all, bytes.Clone(b.Bytes()))
			b.Reset()
		}
	}
	return all
}

// keep returns where a connection's copy goes, and nil where none is kept.
func (c *cutter) keep() *bytes.Buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keeps {
		return nil
	}
	b := new(bytes.Buffer)
	c.copies = append(c.copies, b)
	return b
}

func (c *cutter) address() string { return c.listener.Addr().String() }
func (c *cutter) close() error    { return c.listener.Close() }

// cutAfter lets connections carry only so many bytes; mend lets them carry all.
func (c *cutter) cutAfter(n int64) { c.limit.Store(n) }
func (c *cutter) mend()            { c.limit.Store(-1) }

func (c *cutter) serve() {
	for {
		down, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		go c.pass(down)
	}
}

func (c *cutter) pass(down net.Conn) {
	defer down.Close()
	up, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(down, up) // ends when either side does
		_ = down.Close()
	}()
	buf, carried, kept := make([]byte, 4096), int64(0), c.keep()
	for {
		n, err := down.Read(buf)
		if err != nil {
			return
		}
		if limit := c.limit.Load(); limit >= 0 && carried+int64(n) > limit {
			return
		}
		carried += int64(n)
		if kept != nil {
			c.mu.Lock()
			kept.Write(buf[:n])
			c.mu.Unlock()
		}
		if _, err := up.Write(buf[:n]); err != nil {
			return
		}
	}
}
