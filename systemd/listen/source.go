package listen

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is a process at the other end of a unix socket, as the kernel reported it when it
// connected.
type Peer struct {
	UID, GID uint32
	// Groups are the supplementary groups, to which a user was added. SO_PEERCRED gives only the
	// primary one.
	Groups []uint32
}

// In reports whether the peer is a member of a group.
func (p Peer) In(gid uint32) bool { return p.GID == gid || slices.Contains(p.Groups, gid) }

// prefixes reads addresses and prefixes.
func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, failed := netip.ParseAddr(text)
			if failed != nil {
				return nil, fmt.Errorf("balancers: %.60q is neither an address nor a prefix such as 192.0.2.0/24", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// identify says what a new connection's source is and which class it enters.
func (l *Listener) identify(c *Conn) *class {
	switch raw := c.Conn.(type) {
	case *net.UnixConn:
		c.peer, c.known = credentials(raw)
		c.key = "uid " + strconv.FormatUint(uint64(c.peer.UID), 10)
		if l.cfg.Allowed != nil && (!c.known || !l.cfg.Allowed(c.peer)) {
			return &l.strangers
		}
	case *net.TCPConn:
		a, ok := raw.RemoteAddr().(*net.TCPAddr)
		if !ok {
			break
		}
		c.key = l.source(a.AddrPort().Addr())
		for _, b := range l.balancers {
			if b.Contains(a.AddrPort().Addr().Unmap()) {
				c.proxied = true
			}
		}
	default:
		if a := raw.RemoteAddr(); a != nil {
			c.key = a.String()
		}
	}
	return &l.unproven
}

// source is the prefix that an address counts under.
func (l *Listener) source(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := l.cfg.IPv6Prefix
	if a.Is4() {
		bits = l.cfg.IPv4Prefix
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// credentials asks the kernel.
func credentials(c *net.UnixConn) (Peer, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, false
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr, groupErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, groupErr = peerGroups(int(fd))
	})
	if err != nil || credErr != nil || groupErr != nil {
		return Peer{}, false
	}
	return Peer{cred.Uid, cred.Gid, groups}, true
}

// maxGroups is what Linux lets a process have (NGROUPS_MAX).
const maxGroups = 65536

// peerGroups reads SO_PEERGROUPS (Linux 4.13), an array of gid_t.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno != unix.ERANGE || size/4 > maxGroups || int(size/4) <= len(groups):
			return nil, errno
		}
		groups = make([]uint32, size/4) // the kernel says how many there are
	}
}
