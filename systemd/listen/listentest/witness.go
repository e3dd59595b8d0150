package listentest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// witness does again and again what an honest client's own work comes to, against a listener
// that nobody attacks, beside the attack. What it waits for is the machine: attackers, honest
// clients and whatever else runs there share the processors, and a server cannot answer
// before it gets one.
type witness struct {
	l       net.Listener
	key     ed25519.PrivateKey
	stop    chan struct{}
	slowest chan time.Duration
}

// signatures are about what a handshake costs both sides.
const signatures = 40

// watch begins; seen ends it.
func watch(t *testing.T) *witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{l, key, make(chan struct{}), make(chan time.Duration, 1)}
	go w.serve()
	go w.look()
	return w
}

// serve answers until the listener is closed.
func (w *witness) serve() {
	for {
		c, err := w.l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for range signatures {
				ed25519.Sign(w.key, []byte("witness"))
			}
			_, _ = io.WriteString(c, "done")
		}()
	}
}

// look keeps the longest that one took. One that fails for want of descriptors counts with
// its time.
func (w *witness) look() {
	var slowest time.Duration
	for {
		began := time.Now()
		if c, err := net.Dial("tcp", w.l.Addr().String()); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
		slowest = max(slowest, time.Since(began))
		breath := time.NewTimer(50 * time.Millisecond)
		select {
		case <-w.stop:
			breath.Stop()
			w.slowest <- slowest
			return
		case <-breath.C:
		}
	}
}

// seen ends it and returns the longest that one took.
func (w *witness) seen() time.Duration {
	close(w.stop)
	defer w.l.Close()
	return <-w.slowest
}

// slowdown is how many times longer than alone a thread computes here, because of what else
// the machine does: wall time by processor time. It is taken while the server is idle, so
// that nothing that the server does is put down to the machine.
func slowdown(t *testing.T) float64 {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began, before := time.Now(), threadTime(t)
	var sum [sha256.Size]byte
	for time.Since(began) < 50*time.Millisecond {
		sum = sha256.Sum256(sum[:])
	}
	wall, used := time.Since(began), threadTime(t)-before
	return max(1, float64(wall)/float64(max(used, time.Millisecond)))
}

// threadTime is the processor time of this thread.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
