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
	c, server := connected(t)
	longest := bytes.Repeat([]byte{1}, protocol.MaxKeyBytes)
	if err := Send(server, longest); err != nil {
		t.Errorf("the longest secret does not fit: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	narrow, small := connected(t)
	if err := small.SetWriteBuffer(1); err != nil { // the kernel makes it some kilobytes
		t.Fatal(err)
	}
	for _, what := range []string{"a part fits", "nothing fits"} {
		if reason, _ := refusal.ReasonOf(Send(small, longest)); reason != ReasonNotSent {
			t.Errorf("%s: %q", what, reason)
		}
	}
	if err := errors.Join(narrow.Close(), small.Close()); err != nil {
		t.Error(err)
	}
	if reason, _ := refusal.ReasonOf(Send(server, []byte("x"))); reason != ReasonNotSent {
		t.Errorf("to a peer that hung up: %q", reason)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if reason, _ := refusal.ReasonOf(Send(server, []byte("x"))); reason != ReasonNotSent {
		t.Errorf("to a closed socket: %q", reason)
	}
}

// connected are both ends of a connection.
func connected(t *testing.T) (client net.Conn, server *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	return client, server
}
