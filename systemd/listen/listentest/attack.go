package listentest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Target is a listener from an attacker's point of view.
type Target struct {
	Name             string
	Network, Address string
	// TLS is the configuration of a client; nil without TLS. Certificates are not checked.
	TLS *tls.Config
	// Hello is the beginning of a conversation: the first message, or half a header. Header is
	// everything before a long body, Body the beginning of that body.
	Hello, Header, Body []byte
	// Refused is a complete request that the server refuses and logs.
	Refused []byte
	// Memory is the memory limit of the server's unit.
	Memory int64
}

// HTTP fills in an attacker's requests to an HTTP server, at a path that takes a body.
func (t Target) HTTP(path string, size int) Target {
	t.Hello = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: server\r\n", path)
	t.Header = fmt.Appendf(slices.Clone(t.Hello), "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", size)
	t.Refused = fmt.Appendf(slices.Clone(t.Hello), "Connection: close\r\nContent-Length: 2\r\n\r\n{}")
	t.Body = []byte(`{"` + strings.Repeat("x", min(size/2, 64<<10)))
	return t
}

// Client is an honest client: it is served once, on a connection of its own.
type Client func(ctx context.Context) error

// What the suite holds a listener to.
const (
	// servedWithin is the time in which an honest client is served on a machine that has
	// processors left, whatever goes on; it may try again when it is cut off. On one that has
	// not, it is as many times longer as a thread computes longer there.
	servedWithin = 2 * time.Second
	// asLong is how many times longer it may wait than the witness of the same attack, which
	// waits for the machine alone, or than an honest client of the idle server did: where
	// that is more than servedWithin, the machine is what is slow.
	asLong = 8
	// patience is what an honest client waits at most, on any machine. The attack goes on
	// until it is served or gives up: who is locked out stays so.
	patience = 30 * time.Second
	// lasts is how long each attack goes on, once it is at full strength.
	lasts = 1500 * time.Millisecond
	// attackers is how many connections an attacker keeps open, if it can.
	attackers = 1100
	// perSecond is how many new ones it makes at most. It begins with as many at once as
	// it keeps, but for those that take a handshake, which attackers pay for with the
	// server's processors here.
	perSecond = 300
	// crowd is how many it makes as fast as it can in the last attack.
	crowd = 10_000
	// mostLog is how much the server may log meanwhile.
	mostLog = 64 << 10
	// recovers is the time in which the server lets go of everything.
	recovers = 10 * time.Second
)

// errHeld ends a connection that an attacker held.
var errHeld = errors.New("cut off")

// attack is one way to hold a connection: it returns when that was cut off.
type attack struct {
	name string
	hold func(ctx context.Context, t Target, c net.Conn) error
	// most connections at a time; 0 for the usual.
	most int
	// handshake says that each connection has one.
	handshake bool
	// descriptors that the server has left, 0 for many.
	descriptors int
}

func attacks() []attack {
	return []attack{
		{name: "silent after connect", hold: func(ctx context.Context, _ Target, c net.Conn) error { return wait(ctx, c) }},
		{name: "silent after hello", handshake: true, hold: func(ctx context.Context, t Target, c net.Conn) error {
			if t.TLS != nil { // a ClientHello, and no more
				return tls.Client(deaf{c}, t.TLS).HandshakeContext(ctx)
			}
			return send(ctx, t, c, t.Hello, nil)
		}},
		{name: "silent after first message", handshake: true, hold: func(ctx context.Context, t Target, c net.Conn) error { return send(ctx, t, c, t.Hello, nil) }},
		{name: "silent after header", handshake: true, hold: func(ctx context.Context, t Target, c net.Conn) error { return send(ctx, t, c, nil, t.Header) }},
		{name: "one byte a second", handshake: true, hold: trickle},
		{name: "stalled body", handshake: true, hold: func(ctx context.Context, t Target, c net.Conn) error {
			return send(ctx, t, c, nil, slices.Concat(t.Header, t.Body))
		}},
		{name: "log growth", handshake: true, hold: func(ctx context.Context, t Target, c net.Conn) error { return send(ctx, t, c, t.Refused, nil) }},
		{name: "descriptors exhausted", descriptors: 24, hold: func(ctx context.Context, _ Target, c net.Conn) error { return wait(ctx, c) }},
		{name: "10,000 connections from one address", most: crowd, hold: func(ctx context.Context, _ Target, c net.Conn) error { return wait(ctx, c) }},
	}
}

// deaf is a connection whose answers are never read.
type deaf struct{ net.Conn }

// Read waits for the end.
func (d deaf) Read([]byte) (int, error) {
	_, err := io.Copy(io.Discard, d.Conn)
	return 0, errors.Join(errHeld, err)
}

// wait reads until the server ends the connection.
func wait(_ context.Context, c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// open runs the handshake where there is one.
func (t Target) open(ctx context.Context, c net.Conn) (net.Conn, error) {
	if t.TLS == nil {
		return c, nil
	}
	s := tls.Client(c, t.TLS)
	return s, s.HandshakeContext(ctx)
}

func send(ctx context.Context, t Target, c net.Conn, hello, rest []byte) error {
	c, err := t.open(ctx, c)
	if err != nil {
		return err
	}
	if _, err := c.Write(append(slices.Clone(hello), rest...)); err != nil {
		return err
	}
	return wait(ctx, c)
}

func trickle(ctx context.Context, t Target, c net.Conn) error {
	c, err := t.open(ctx, c)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- wait(ctx, c) }()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for _, b := range slices.Concat(t.Header, t.Body) {
		if _, err := c.Write([]byte{b}); err != nil {
			break
		}
		select {
		case <-second.C:
		case err := <-ended:
			return err
		}
	}
	c.Close()
	return <-ended
}

// force is an attack under way.
type force struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	held   atomic.Int64 // now
	made   atomic.Int64
	cut    atomic.Int64 // ended by the server
}

// begin attacks as a party until end is called.
func begin(t Target, a attack, who *Party) *force {
	ctx, cancel := context.WithCancel(context.Background())
	f := &force{cancel: cancel}
	most := attackers
	if a.most > 0 {
		most = a.most
	}
	dialling := make(chan struct{}, 32)
	budget := make(chan struct{}, most)
	if !a.handshake || t.TLS == nil {
		for range most {
			budget <- struct{}{}
		}
	}
	f.wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for owed := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for owed += perSecond / 100; owed >= 1; owed-- {
				select {
				case budget <- struct{}{}:
				default:
				}
			}
		}
	})
	for range most {
		f.wg.Go(func() { f.keep(ctx, t, a, who, dialling, budget) })
	}
	return f
}

// keep holds one connection, and makes it again when it is cut off. In the attack of a
// crowd each is made once.
func (f *force) keep(ctx context.Context, t Target, a attack, who *Party, dialling, budget chan struct{}) {
	for ctx.Err() == nil {
		select {
		case <-budget:
		case <-ctx.Done():
			return
		}
		dialling <- struct{}{}
		c, err := who.Dial(ctx, t.Network, t.Address)
		<-dialling
		if err != nil {
			continue // the server's queue is full, or the attacker's own means are
		}
		f.made.Add(1)
		f.held.Add(1)
		stop := context.AfterFunc(ctx, func() { c.Close() })
		_ = a.hold(ctx, t, c) // ends in one way or another
		stop()
		c.Close()
		f.held.Add(-1)
		if ctx.Err() == nil {
			f.cut.Add(1)
		}
		if a.most == crowd {
			return
		}
	}
}

func (f *force) end() {
	f.cancel()
	f.wg.Wait()
}

// service is what an honest client saw.
type service struct {
	times   []time.Duration
	retries int
	failed  error // of the last one that was not served in time
}

// serve runs an honest client again and again until stop is closed.
func serve(client Client, stop <-chan struct{}) (s service) {
	for {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := client(ctx)
		for err != nil && ctx.Err() == nil {
			s.retries++
			pause := time.NewTimer(20 * time.Millisecond)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
			}
			err = errors.Join(client(ctx))
		}
		cancel()
		s.times = append(s.times, time.Since(began))
		if err != nil {
			s.failed = err
		}
		breath := time.NewTimer(50 * time.Millisecond)
		select {
		case <-stop:
			breath.Stop()
			return s
		case <-breath.C:
		}
	}
}

func (s service) String() string {
	slices.Sort(s.times)
	ms := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/1e6) }
	return fmt.Sprintf("%d served, median %s ms, slowest %s ms, %d retries", len(s.times), ms(s.times[len(s.times)/2]), ms(s.times[len(s.times)-1]), s.retries)
}

// Withstands runs every attack on a server, and expects the same each time: honest clients on
// the attacker's address and elsewhere are served, memory and log stay within bounds, and
// everything recovers. It logs the figures. client makes an honest client that connects as a
// party.
func (s *Server) Withstands(t *testing.T, target Target, client func(who *Party) Client) {
	s.confine(t, target.Memory)
	attacker, other, stranger := Parties(t)
	beside, elsewhere := client(attacker), client(other)
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) { s.withstands(t, target, a, attacker, beside, elsewhere) })
	}
	if target.Network == "unix" && SeveralUsers() {
		a := attacks()[0]
		t.Run("a user who is not allowed", func(t *testing.T) { s.withstands(t, target, a, stranger, beside, elsewhere) })
	}
}

// withstands runs one attack. It runs it again where only time is the matter: a machine
// that stood still for a second says nothing about the server, and a lockout shows each
// time.
func (s *Server) withstands(t *testing.T, target Target, a attack, who *Party, beside, elsewhere Client) {
	const attempts = 3
	for i := range attempts {
		late := s.attacked(t, target, a, who, beside, elsewhere)
		if late == nil || t.Failed() {
			return
		}
		if t.Log(late); i == attempts-1 {
			t.Error(late)
		}
	}
}

func (s *Server) attacked(t *testing.T, target Target, a attack, who *Party, beside, elsewhere Client) (late error) {
	var idle time.Duration
	for what, client := range map[string]Client{"beside": beside, "elsewhere": elsewhere} {
		began := time.Now()
		if err := client(t.Context()); err != nil {
			t.Fatalf("the client %s is not served by an idle server: %v", what, err)
		}
		idle = max(idle, time.Since(began))
	}
	slow := slowdown(t)
	s.resetPeak()
	logged, open := s.logBytes(t), s.descriptors()
	restore := func() {}
	if a.descriptors > 0 {
		restore = s.limitDescriptors(t, a.descriptors)
	}
	stop := make(chan struct{})
	var near, far service
	var clients sync.WaitGroup
	machine := watch(t)
	f := begin(target, a, who)
	clients.Go(func() { near = serve(beside, stop) })
	clients.Go(func() { far = serve(elsewhere, stop) })
	most := int64(attackers)
	if a.most > 0 {
		most = int64(a.most)
	}
	poll(20*time.Second, func() bool { return f.made.Load() >= most })
	poll(lasts, func() bool { return false })
	held := f.held.Load()
	close(stop)
	clients.Wait()
	waited := machine.seen()
	f.end()
	within := min(max(time.Duration(slow*float64(servedWithin)), asLong*idle, asLong*waited), patience)
	restore()
	t.Logf("%s, %s: attacker made %d, held %d, lost %d; beside it %s; elsewhere %s; idle %d ms, the machine %d ms and %.1f times slower; memory %d MiB; log %d bytes", target.Name, a.name, f.made.Load(), held, f.cut.Load(),
		near, far, idle.Milliseconds(), waited.Milliseconds(), slow, s.peak(t)>>20, s.logBytes(t)-logged)
	for where, client := range map[string]service{"the attacker's address": near, "another address": far} {
		if client.failed != nil || slices.Max(client.times) > within {
			late = errors.Join(late, fmt.Errorf("an honest client on %s waited %s, more than %s: %v", where, slices.Max(client.times), within, client.failed))
		}
	}
	if peak := s.peak(t); peak > target.Memory {
		t.Errorf("%d MiB of memory, the unit allows %d", peak>>20, target.Memory>>20)
	}
	if grown := s.logBytes(t) - logged; grown > mostLog {
		t.Errorf("the log grew by %d bytes", grown)
	}
	if open >= 0 && !poll(recovers, func() bool { return s.descriptors() <= open+8 }) {
		t.Errorf("%d descriptors stay open, %d were before", s.descriptors(), open)
	}
	return late
}
