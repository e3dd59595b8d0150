package hybridtls

import (
	"crypto/tls"
	"net"
	"testing"
)

// BenchmarkHandshake compares both hybrids with plain P-256: both ends, TCP on
// loopback, one core unless told otherwise.
func BenchmarkHandshake(b *testing.B) {
	for name, group := range map[string]tls.CurveID{"P256": tls.CurveP256, "X25519MLKEM768": tls.X25519MLKEM768, "SecP256r1MLKEM768": tls.SecP256r1MLKEM768} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b, ProfileDefault, ProfileDefault)
			s.server.CurvePreferences, s.client.CurvePreferences = []tls.CurveID{group}, []tls.CurveID{group}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					raw, err := l.Accept()
					if err != nil {
						return
					}
					c := tls.Server(raw, s.server)
					_ = c.HandshakeContext(b.Context())
					_ = c.Close()
				}
			}()
			for b.Loop() {
				c, err := tls.Dial("tcp", l.Addr().String(), s.client)
				if err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			}
		})
	}
}
