// Package listen keeps a listener open to honest peers while others abuse it.
//
// Every connection is in one of four classes. Strangers are peers of a unix socket whose uid is
// not allowed; they get an answer, and hold nothing that others need. Unproven connections have
// shown nothing yet. Proven connections have: [Conn.Promote] names who they are, for example by an
// attested guest's key. Kept connections ([Conn.Keep]) are proven ones between two exchanges: they
// use places and memory that the others leave free, and are ended before any other. Each class has
// places of its own, so no number of unproven connections costs a proven one its place, and a fleet
// behind one address is not locked out.
//
// A newcomer is never refused for lack of a place. When its class is full, or its source holds as
// much as one source may, another connection is ended: from the source that holds the most, in the
// stage of life that holds the most, the connection that has been in that stage longest. A peer
// that keeps moving therefore outlives a flood from its own address, unless the flood pays for
// every step that the peer takes, as fast.
//
// Memory for bodies is reserved before a body is read ([Conn.Reserve]), by the same rule. Accept
// waits out a lack of descriptors and never ends because of one. Behind load balancers, PROXY
// protocol version 2 names the source, if the balancer is listed.
//
// The package trusts the kernel's addresses and peer credentials, and the balancers in its
// configuration. All five listeners use it: the broker for guests, the registry of proofs, the
// aggregator, the operators' socket and the agent's local API.
package listen

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Limits bound what peers can hold. The struct is part of the daemons' configuration; 0 means
// the listener's default.
type Limits struct {
	// Connections at the same time, in all.
	Connections int `yaml:"connections"`
	// Unproven bounds the connections that have not shown who they are; the remaining places are
	// for peers that have. By default half.
	Unproven int `yaml:"unproven"`
	// PerSource bounds the unproven connections of one source, and the proven
	// ones of one identity. By default a quarter of the unproven.
	PerSource int `yaml:"per_source"`
	// IPv4Prefix and IPv6Prefix are the bits of an address that make a source: by
	// default 32, for IPv4 addresses are scarce and neighbours are strangers, and
	// 64, for that is what one subscriber gets at least.
	IPv4Prefix int `yaml:"ipv4_prefix"`
	IPv6Prefix int `yaml:"ipv6_prefix"`
	// Balancers are addresses or prefixes of load balancers. Their connections
	// begin with a header of PROXY protocol version 2, which names the source.
	Balancers []string `yaml:"balancers"`
	// BodyMiB bounds the memory for bodies that are being read or worked on:
	// half of it for unproven connections.
	BodyMiB int `yaml:"body_mib"`
	// HeaderSeconds bounds the wait for a request's header, BodySeconds that for
	// its body.
	HeaderSeconds int `yaml:"header_seconds"`
	BodySeconds   int `yaml:"body_seconds"`
}

// Or fills in the limits that are not set: first from d, then from the common defaults.
func (l Limits) Or(d Limits) Limits {
	fill := func(v *int, values ...int) {
		for _, d := range values {
			if *v == 0 {
				*v = d
			}
		}
	}
	fill(&l.Connections, d.Connections, 1024)
	fill(&l.Unproven, d.Unproven, max(l.Connections/2, 1))
	fill(&l.PerSource, d.PerSource, max(l.Unproven/4, 1))
	l.Unproven = min(l.Unproven, l.Connections)
	l.PerSource = min(l.PerSource, l.Connections)
	fill(&l.IPv4Prefix, d.IPv4Prefix, 32)
	fill(&l.IPv6Prefix, d.IPv6Prefix, 64)
	fill(&l.BodyMiB, d.BodyMiB, 32)
	fill(&l.HeaderSeconds, d.HeaderSeconds, 10)
	fill(&l.BodySeconds, d.BodySeconds, 30)
	return l
}

// Check reports what is wrong with limits from a configuration.
func (l Limits) Check() error {
	for name, v := range map[string]int{"connections": l.Connections, "unproven": l.Unproven, "per_source": l.PerSource,
		"ipv4_prefix": l.IPv4Prefix, "ipv6_prefix": l.IPv6Prefix, "body_mib": l.BodyMiB, "header_seconds": l.HeaderSeconds, "body_seconds": l.BodySeconds} {
		if v < 0 || v > 1<<20 {
			return fmt.Errorf("%s: %d is not between 0 (the default) and %d", name, v, 1<<20)
		}
	}
	switch {
	case l.IPv4Prefix > 32 || l.IPv6Prefix > 128:
		return errors.New("ipv4_prefix must be at most 32, and ipv6_prefix at most 128")
	case l.Connections != 0 && l.Unproven > l.Connections:
		return fmt.Errorf("unproven: %d is more than the total of %d connections", l.Unproven, l.Connections)
	}
	_, err := prefixes(l.Balancers)
	return err
}

// Config is everything that a listener needs in addition to its limits.
type Config struct {
	Limits
	// Kept bounds the connections that are kept ([Conn.Keep]); 0 keeps none. KeptBytes is
	// the memory that each of them holds: together with the bodies of others they hold no
	// more than BodyMiB.
	Kept      int
	KeptBytes int64
	// Allowed reports whether a peer may use a unix socket; nil allows everybody who can reach
	// it. It is called once, at accept.
	Allowed func(Peer) bool
	// Logger receives messages about connections, with repetitions left out; by default nothing.
	Logger *slog.Logger
}

const (
	// maxStrangers bounds the connections of peers that are not allowed.
	maxStrangers = 8
	// strangerTime ends each of them, whatever it does.
	strangerTime = 2 * time.Second
	// acceptPause is the wait when no descriptor is left, evictPause that after
	// connections were ended for theirs: the queue is long by then, and honest peers
	// are in it.
	acceptPause = 20 * time.Millisecond
	evictPause  = time.Millisecond
)

// Listener accepts connections within limits.
type Listener struct {
	raw       net.Listener
	cfg       Config
	balancers []netip.Prefix
	log       *slog.Logger
	// live has a token for every connection that its owner has not closed yet, those
	// that were ended included: what they use is bounded as well.
	live chan struct{}
	done chan struct{}
	end  func()

	mu        sync.Mutex
	strangers class // guarded by mu, as the next ones
	unproven  class
	proven    class
	kept      class
	keepers   map[string]*Conn // kept connections by identity
	dropped   uint64           // order up to which none is kept
	closed    bool
	order     uint64
	stats     Stats
}

// Stats are counters since the start, and the numbers held now.
type Stats struct {
	Accepted, Evicted, Strangers, Exhausted int64
	Unproven, Proven, Kept                  int
	BodyBytes                               int64
	// KeptEvicted counts kept connections that gave way to others, which are not in Evicted;
	// Reused counts those on which something arrived.
	KeptEvicted, Reused int64
}

// New wraps a listener, which it owns. Limits must have passed Check.
func New(raw net.Listener, cfg Config) (*Listener, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	cfg.Limits = cfg.Limits.Or(Limits{})
	balancers, err := prefixes(cfg.Balancers)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if most := affordable(); cfg.Connections > most {
		cfg.Unproven = max(cfg.Unproven*most/cfg.Connections, 1)
		cfg.Connections = most
	}
	cfg.PerSource, cfg.Kept = min(cfg.PerSource, cfg.Unproven), min(cfg.Kept, cfg.Connections)
	bytes := int64(cfg.BodyMiB) << 20 / 2
	l := &Listener{raw: raw, cfg: cfg, balancers: balancers, log: Sparse(cfg.Logger),
		live: make(chan struct{}, 2*cfg.Connections+maxStrangers), done: make(chan struct{}),
		strangers: newClass(maxStrangers, maxStrangers, 1<<20),
		unproven:  newClass(cfg.Unproven, cfg.PerSource, bytes),
		proven:    newClass(max(cfg.Connections-cfg.Unproven, 1), cfg.PerSource, bytes),
		kept:      newClass(math.MaxInt, math.MaxInt, 0), // crowded bounds them
		keepers:   map[string]*Conn{}}
	l.end = sync.OnceFunc(func() { close(l.done) })
	return l, nil
}

// affordable is the number of connections that the process has descriptors for: a
// quarter of its limit, so that three listeners leave some for its files.
func affordable() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(max(min(r.Cur/4, 1<<20), 2))
}

// Accept waits for the next connection, a *Conn. An error means that the listener was closed or
// is permanently broken.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.live <- struct{}{}:
		case <-l.done:
			return nil, net.ErrClosed
		}
		raw, err := l.raw.Accept()
		if err == nil {
			return l.admit(raw), nil
		}
		<-l.live
		if !transient(err) {
			return nil, err
		}
		if err := l.recover(err); err != nil {
			return nil, err
		}
	}
}

// transient says whether accepting may work again later: the process or the system ran
// out of descriptors or memory, or the peer gave up already.
func transient(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR, syscall.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// recover ends a quarter of the kept connections, or if there are none of the unproven
// ones, at least one, and waits a moment: whoever is in the queue is served with their descriptors.
func (l *Listener) recover(err error) error {
	if errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EPROTO) {
		return nil
	}
	l.mu.Lock()
	l.stats.Exhausted++
	var ended []*Conn
	if n := len(l.kept.conns); n > 0 {
		for range (n + 3) / 4 {
			ended = append(ended, l.endKept())
		}
	} else {
		for range (len(l.unproven.conns) + 3) / 4 {
			ended = append(ended, l.evict(&l.unproven, ""))
		}
	}
	l.mu.Unlock()
	cut(ended)
	l.log.Warn("accept failed; the listener keeps accepting", "err", err, "ended", len(ended))
	wait := acceptPause
	if len(ended) > 0 { // their owners are about to let go of the descriptors
		wait = evictPause
	}
	pause := time.NewTimer(wait)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-l.done:
		return net.ErrClosed
	}
}

// admit gives a connection a place.
func (l *Listener) admit(raw net.Conn) *Conn {
	c := &Conn{Conn: raw, l: l, gone: make(chan struct{})}
	c.release = sync.OnceFunc(func() { <-l.live })
	in := l.identify(c)
	if in == &l.strangers {
		// Its end is certain, whatever deadlines the server sets.
		c.timer = time.AfterFunc(strangerTime, func() { _ = raw.Close() })
	}
	l.mu.Lock()
	l.stats.Accepted++
	ended := l.enter(c, in)
	c.born = c.since
	kept := l.trim()
	l.mu.Unlock()
	if len(ended) > 0 {
		l.log.Warn("connections ended in favour of new ones", "source", ended[0].key, "new", c.key)
	}
	cut(append(ended, kept...))
	return c
}

// Addr is the address of the listener.
func (l *Listener) Addr() net.Addr { return l.raw.Addr() }

// Close ends Accept and the kept connections. The others stay with their owners.
func (l *Listener) Close() error {
	l.end()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.DropKept()
	return l.raw.Close()
}

// Stats returns the current numbers and the counters.
func (l *Listener) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Unproven, s.Proven, s.Kept = len(l.unproven.conns), len(l.proven.conns), len(l.kept.conns)
	s.BodyBytes = l.unproven.bytes + l.proven.bytes
	return s
}
