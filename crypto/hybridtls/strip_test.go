package hybridtls

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// TestStrippingProxyGetsNothing puts an attacker between the ends who takes
// hybrids out of the ClientHello, so that they would meet on something weaker.
func TestStrippingProxyGetsNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		strip      func(group uint16) bool
		serverCode refusal.Reason
	}{
		"every hybrid":   {func(g uint16) bool { return g == 4587 || g == 4588 }, ReasonClassical},
		"the better one": {func(g uint16) bool { return g == 4588 }, ReasonHandshake},
		"nothing":        {func(uint16) bool { return false }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, ProfileDefault, ProfileDefault)
			address, done := s.listen(t)
			proxy, proxied := listen(t, func(down net.Conn) (*Conn, error) { return nil, stripAndForward(down, address, tc.strip) })
			c, err := Dial(t.Context(), "tcp", proxy, s.client)
			if tc.serverCode == "" {
				if err != nil {
					t.Fatalf("the proxy itself breaks the handshake: %v", err)
				}
				c.Close()
			} else if _, ok := refusal.ReasonOf(err); !ok {
				t.Errorf("the client got %v, want a refusal", err)
			} else {
				t.Log(err)
			}
			got := <-done
			if tc.serverCode != "" {
				refused(t, got.err, tc.serverCode)
			} else if got.conn != nil {
				got.conn.Close()
			}
			<-proxied
		})
	}
}

func stripAndForward(down net.Conn, address string, strip func(uint16) bool) error {
	up, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer up.Close()
	defer down.Close()
	header := make([]byte, 5)
	if _, err := io.ReadFull(down, header); err != nil {
		return err
	}
	record := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(down, record); err != nil {
		return err
	}
	hello, err := stripHello(record, strip)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(header[3:], uint16(len(hello)))
	if _, err := up.Write(append(header, hello...)); err != nil {
		return err
	}
	answered := make(chan struct{})
	go func() {
		_, _ = io.Copy(down, up)
		_ = down.Close()
		close(answered)
	}()
	_, _ = io.Copy(up, down)
	_ = up.Close()
	<-answered
	return nil
}

var errHello = errors.New("not a ClientHello")

// stripHello rewrites supported_groups (10) and key_share (51) of RFC 8446.
func stripHello(message []byte, strip func(uint16) bool) ([]byte, error) {
	var (
		in                          = cryptobyte.String(message)
		kind, compressionLength     uint8
		body, session, suites, exts cryptobyte.String
		fixed                       []byte
	)
	if !in.ReadUint8(&kind) || !in.ReadUint24LengthPrefixed(&body) || !body.ReadBytes(&fixed, 34) || !body.ReadUint8LengthPrefixed(&session) ||
		!body.ReadUint16LengthPrefixed(&suites) || !body.ReadUint8(&compressionLength) || !body.Skip(int(compressionLength)) || !body.ReadUint16LengthPrefixed(&exts) {
		return nil, errHello
	}
	out := cryptobyte.NewBuilder(nil)
	out.AddUint8(kind)
	out.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddBytes(fixed)
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(session) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(suites) })
		b.AddBytes([]byte{1, 0}) // the null compression of TLS 1.3
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for !exts.Empty() {
				var id uint16
				var data, items cryptobyte.String
				if !exts.ReadUint16(&id) || !exts.ReadUint16LengthPrefixed(&data) {
					b.SetError(errHello)
					return
				}
				if id != 10 && id != 51 {
					b.AddUint16(id)
					b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data) })
					continue
				}
				data.ReadUint16LengthPrefixed(&items)
				b.AddUint16(id)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
					b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { keepGroups(b, items, id == 51, strip) })
				})
			}
		})
	})
	return out.Bytes()
}

func keepGroups(b *cryptobyte.Builder, items cryptobyte.String, shares bool, strip func(uint16) bool) {
	kept := false
	for !items.Empty() {
		var group uint16
		var share cryptobyte.String
		if !items.ReadUint16(&group) || shares && !items.ReadUint16LengthPrefixed(&share) {
			b.SetError(errHello)
			return
		}
		if strip(group) {
			continue
		}
		kept = true
		b.AddUint16(group)
		if shares {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(share) })
		}
	}
	if !kept && !shares {
		b.AddUint16(29) // the attacker offers X25519 in the client's name
	}
}
