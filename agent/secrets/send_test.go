package secrets

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestASecretIsSentInOnePiece: the longest one fits a new connection, and what does not fit is
// an error, not a wait.
func TestASecretIsSentInOnePiece(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	longest := bytes.Repeat([]byte{1}, protocol.MaxKeyBytes)
	if err := Send(server, longest); err != nil {
		t.Errorf("the longest secret does not fit: %v", err)
	}
	if err := server.SetWriteBuffer(1); err != nil {
		t.Fatal(err)
	}
	if err := Send(server, longest); err == nil {
		t.Error("a secret was sent into a full buffer")
	} else if reason, _ := refusal.ReasonOf(err); reason != ReasonNotSent {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if reason, _ := refusal.ReasonOf(Send(server, []byte("x"))); reason != ReasonNotSent {
		t.Errorf("to a peer that hung up: %q", reason)
	}
	if err := errors.Join(server.Close()); err != nil {
		t.Error(err)
	}
	if reason, _ := refusal.ReasonOf(Send(server, []byte("x"))); reason != ReasonNotSent {
		t.Errorf("to a closed socket: %q", reason)
	}
}
