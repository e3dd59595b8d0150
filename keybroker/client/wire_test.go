package client_test

import (
	"net"
	"sync"
	"testing"
)

// wire passes connections on to a broker, until fail is called: then those that are there
// fail in one way, and later ones do not.
type wire struct {
	address string

	mu     sync.Mutex
	broker string
	pairs  []*pair
}

// pair is a connection on both sides of a wire.
type pair struct {
	guest, broker *net.TCPConn

	mu      sync.Mutex
	failing failure // nil while all is well
}

// failure is told what the guest sends on a failing connection.
type failure func(p *pair, sent []byte)

// The ways to fail.
var failures = map[string]failure{
	"never answers":    func(*pair, []byte) {},
	"was reset":        func(p *pair, _ []byte) { _ = p.guest.SetLinger(0); _ = p.guest.Close() },
	"was closed":       func(p *pair, _ []byte) { _ = p.guest.Close() },
	"answers nonsense": func(p *pair, _ []byte) { _, _ = p.guest.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n")) },
}

func newWire(t *testing.T, broker string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: ln.Addr().String(), broker: broker}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		for _, p := range w.all() {
			p.guest.Close()
			p.broker.Close()
		}
		wg.Wait()
	})
	wg.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			broker := w.broker
			w.mu.Unlock()
			far, err := net.Dial("tcp", broker)
			if err != nil {
				near.Close()
				continue
			}
			p := &pair{guest: near.(*net.TCPConn), broker: far.(*net.TCPConn)}
			w.mu.Lock()
			w.pairs = append(w.pairs, p)
			w.mu.Unlock()
			wg.Go(func() { p.pass(p.guest, p.broker) })
			wg.Go(func() { p.pass(p.broker, p.guest) })
		}
	})
	return w
}

func (w *wire) all() []*pair {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*pair(nil), w.pairs...)
}

// lead leads later connections to another broker.
func (w *wire) lead(broker string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broker = broker
}

// fail has all connections fail that there are.
func (w *wire) fail(how failure) {
	for _, p := range w.all() {
		p.mu.Lock()
		p.failing = how
		p.mu.Unlock()
	}
}

// pass copies one direction, the end included.
func (p *pair) pass(from, to *net.TCPConn) {
	buf := make([]byte, 1<<15)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		failing := p.failing
		p.mu.Unlock()
		switch {
		case failing != nil && from == p.guest && n > 0:
			failing(p, buf[:n])
		case failing == nil && n > 0:
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if failing == nil {
				_ = to.CloseWrite()
			}
			return
		}
	}
}
