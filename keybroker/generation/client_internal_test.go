package generation

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestABrokerThatIsAwayIsNoAnswer: every way in which a connection ends is a refusal.
func TestABrokerThatIsAwayIsNoAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections into its queue, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{Address: l.Addr().String(), TLS: &tls.Config{ServerName: "127.0.0.1"}}
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = c.Opened(ended, Guest{}, Holding{Volume: "volumes/var"})
	wantReason(t, err, protocol.ReasonDeadline)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Opened(t.Context(), Guest{}, Holding{Volume: "volumes/var"})
	wantReason(t, err, protocol.ReasonConnectionFailed)
}

// TestAnswersHaveTheirLength: a broker can neither announce more than a statement has nor end within one.
func TestAnswersHaveTheirLength(t *testing.T) {
	head := func(n uint32, rest ...byte) *bytes.Reader {
		return bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, n), rest...))
	}
	_, err := readAnswer(head(MaxSignedBytes + 1))
	wantReason(t, err, protocol.ReasonMessageTooLarge)
	for _, cut := range []*bytes.Reader{head(3, 1, 2), bytes.NewReader([]byte{0, 0})} {
		if _, err := readAnswer(cut); err == nil {
			t.Error("half an answer is one")
		}
	}
	if got, err := readAnswer(head(2, 1, 2)); err != nil || !bytes.Equal(got, []byte{1, 2}) {
		t.Errorf("%v, %v", got, err)
	}
}
