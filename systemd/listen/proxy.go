package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// The header of PROXY protocol version 2 (haproxy's proxy-protocol.txt, 2.2): a
// signature, version and command, family, and the length of what follows.
const (
	proxySignature   = "\r\n\r\n\x00\r\nQUIT\n"
	proxyHeaderBytes = len(proxySignature) + 4
	proxyLocal       = 0x20 // the balancer itself, such as its health check
	proxyProxied     = 0x21
	proxyTCP4        = 0x11
	proxyTCP6        = 0x21
	maxProxyBytes    = 2 << 10 // addresses and extensions
)

// errProxy means that a listed balancer did not send the header.
var errProxy = errors.New("a listed balancer sent no valid header of PROXY protocol version 2")

// parseProxy reads the header. It returns the address that the balancer states; invalid
// for a connection of the balancer's own.
func parseProxy(r io.Reader) (netip.AddrPort, error) {
	var head [proxyHeaderBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
	}
	size := int(binary.BigEndian.Uint16(head[proxyHeaderBytes-2:]))
	if !bytes.HasPrefix(head[:], []byte(proxySignature)) || size > maxProxyBytes {
		return netip.AddrPort{}, errProxy
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
	}
	command, family := head[len(proxySignature)], head[len(proxySignature)+1]
	switch {
	case command == proxyLocal:
		return netip.AddrPort{}, nil
	case command == proxyProxied && family == proxyTCP4 && size >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:])), nil
	case command == proxyProxied && family == proxyTCP6 && size >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])).Unmap(), binary.BigEndian.Uint16(body[32:])), nil
	}
	return netip.AddrPort{}, errProxy
}

// readHeader takes a balancer's word for the source, and moves the connection under it.
func (c *Conn) readHeader() error {
	from, err := parseProxy(c.Conn)
	if err != nil {
		c.l.log.Warn("connection refused", "balancer", c.key, "err", err)
		return err
	}
	if !from.IsValid() {
		return nil
	}
	c.stated.Store(net.TCPAddrFromAddrPort(from))
	l := c.l
	l.mu.Lock()
	in := c.in
	if in == nil {
		l.mu.Unlock()
		return ErrEnded
	}
	l.leave(c)
	c.key = l.source(from.Addr())
	ended := l.enter(c, in)
	l.mu.Unlock()
	cut(ended)
	return nil
}
