package listentest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The users that parties are on unix sockets. Servers are to allow the first two.
const (
	AttackerUID  = 61001
	ElsewhereUID = 61002
	strangerUID  = 61003
)

// Party is somebody on the network, or a user of the machine.
type Party struct {
	name  string
	ip    string // the address that it connects from; on TCP
	dials chan dial
}

// dial is a connection that is to be made by the party's own thread.
type dial struct {
	fd      int
	address string
	done    chan error
}

// Parties are an attacker, an honest client elsewhere, and a user who is not allowed.
func Parties(t *testing.T) (attacker, elsewhere, stranger *Party) {
	attacker = &Party{"attacker", "127.0.0.2", make(chan dial)}
	elsewhere = &Party{"elsewhere", "127.0.0.3", make(chan dial)}
	stranger = &Party{"stranger", "127.0.0.4", make(chan dial)}
	if !SeveralUsers() {
		return attacker, elsewhere, stranger
	}
	for p, uid := range map[*Party]int{attacker: AttackerUID, elsewhere: ElsewhereUID, stranger: strangerUID} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.beUser(uid)
		}()
		t.Cleanup(func() {
			close(p.dials)
			<-ended
		})
	}
	return attacker, elsewhere, stranger
}

// SeveralUsers reports whether parties on unix sockets can be different users.
func SeveralUsers() bool { return os.Geteuid() == 0 }

// beUser makes connections as a user: the kernel notes who the connecting thread is.
func (p *Party) beUser(uid int) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	const keep = ^uintptr(0)
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep) // of this thread alone
	for d := range p.dials {
		if errno != 0 {
			d.done <- errno
			continue
		}
		d.done <- unix.Connect(d.fd, &unix.SockaddrUnix{Name: d.address})
	}
}

// Dial connects as the party.
func (p *Party) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		return p.dialUnix(address)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(p.ip)}}
	return d.DialContext(ctx, network, address)
}

func (p *Party) dialUnix(address string) (net.Conn, error) {
	if !SeveralUsers() {
		return net.Dial("unix", address)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), address)
	defer f.Close()
	d := dial{fd, address, make(chan error, 1)}
	p.dials <- d
	if err := <-d.done; err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", err)}
	}
	return net.FileConn(f)
}

// Relay listens on an address of its own and forwards connections as the party, for clients that
// dial by themselves.
func (p *Party) Relay(t *testing.T, network, address string) string {
	t.Helper()
	var l net.Listener
	var err error
	if network == "unix" {
		l, err = net.Listen("unix", fmt.Sprintf("%s/%s", t.TempDir(), p.name))
	} else {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.pass(ctx, near, network, address) })
		}
	})
	return l.Addr().String()
}

func (p *Party) pass(ctx context.Context, near net.Conn, network, address string) {
	defer near.Close()
	far, err := p.Dial(ctx, network, address)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { near.Close(); far.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, near) // how it ends shows at both ends
		if c, ok := far.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	}()
	_, _ = io.Copy(near, far)
	near.Close()
	<-done
}
