package listen

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func addr(t testing.TB, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func proxyHeader(command, family byte, body []byte) []byte {
	return append([]byte(proxySignature+string([]byte{command, family, byte(len(body) >> 8), byte(len(body))})), body...)
}

var tcp4 = []byte{198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 80}

func TestProxyHeaders(t *testing.T) {
	tcp6 := make([]byte, 36)
	copy(tcp6, net.ParseIP("2001:db8::7"))
	tcp6[33] = 9
	for what, tc := range map[string]struct {
		header []byte
		want   string // "" for the balancer's own, "error" for a refusal
	}{
		"TCP over IPv4":     {proxyHeader(proxyProxied, proxyTCP4, tcp4), "198.51.100.7:4660"},
		"with extensions":   {proxyHeader(proxyProxied, proxyTCP4, append(bytes.Clone(tcp4), 4, 0, 1, 0)), "198.51.100.7:4660"},
		"TCP over IPv6":     {proxyHeader(proxyProxied, proxyTCP6, tcp6), "[2001:db8::7]:9"},
		"local":             {proxyHeader(proxyLocal, 0, nil), ""},
		"short":             {proxyHeader(proxyProxied, proxyTCP4, tcp4[:8]), "error"},
		"UDP":               {proxyHeader(proxyProxied, 0x12, tcp4), "error"},
		"unix":              {proxyHeader(proxyProxied, 0x31, make([]byte, 216)), "error"},
		"version 1":         {[]byte("PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\n"), "error"},
		"unknown version":   {proxyHeader(0x31, proxyTCP4, tcp4), "error"},
		"unknown command":   {proxyHeader(0x22, proxyTCP4, tcp4), "error"},
		"too long":          {proxyHeader(proxyProxied, proxyTCP4, make([]byte, maxProxyBytes+1)), "error"},
		"longest":           {proxyHeader(proxyProxied, proxyTCP4, append(bytes.Clone(tcp4), make([]byte, maxProxyBytes-12)...)), "198.51.100.7:4660"},
		"truncated":         {proxyHeader(proxyProxied, proxyTCP4, tcp4)[:20], "error"},
		"a TLS ClientHello": {append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 32)...), "error"},
	} {
		r := bytes.NewReader(append(tc.header, "rest"...))
		if what == "truncated" {
			r = bytes.NewReader(tc.header)
		}
		got, err := parseProxy(r)
		switch {
		case tc.want == "error":
			if err == nil {
				t.Errorf("%s: accepted as %s", what, got)
			}
			continue
		case err != nil || tc.want == "" && got.IsValid() || tc.want != "" && got.String() != tc.want:
			t.Errorf("%s: %s, %v", what, got, err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("%s: %q is left", what, rest)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add(proxyHeader(proxyProxied, proxyTCP4, tcp4))
	f.Add(proxyHeader(proxyLocal, 0, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		if _, err := parseProxy(r); err == nil && len(data)-r.Len() > proxyHeaderBytes+maxProxyBytes {
			t.Error("more was read than a header may have")
		}
	})
}

func tcpListener(t *testing.T, balancers ...string) *Listener {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(raw, Config{Limits: Limits{Balancers: balancers}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestBalancersNameTheSource(t *testing.T) {
	l := tcpListener(t, "127.0.0.0/8")
	peer := dial(t, l)
	c := accept(t, l)
	if _, err := peer.Write(append(proxyHeader(proxyProxied, proxyTCP4, tcp4), "hello"...)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Fatalf("%q %v", b, err)
	}
	if c.key != "198.51.100.7/32" || c.Source() != c.key || c.RemoteAddr().String() != "198.51.100.7:4660" {
		t.Errorf("source %s, address %s", c.key, c.RemoteAddr())
	}
	if l.unproven.held["198.51.100.7/32"] != 1 || len(l.unproven.held) != 1 {
		t.Errorf("%v", l.unproven.held)
	}
	peer = dial(t, l)
	c = accept(t, l)
	if _, err := peer.Write([]byte(strings.Repeat("no header ", 4))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(b); err == nil {
		t.Error("a balancer's connection without a header was read")
	}
}

func TestHeadersOfUnlistedPeersAreNotBelieved(t *testing.T) {
	l := tcpListener(t, "192.0.2.1")
	peer := dial(t, l)
	c := accept(t, l)
	header := proxyHeader(proxyProxied, proxyTCP4, tcp4)
	if _, err := peer.Write(header); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(header))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, header) {
		t.Errorf("%q %v", got, err)
	}
	if c.key != "127.0.0.1/32" {
		t.Errorf("source %s", c.key)
	}
}
