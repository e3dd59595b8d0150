package generation

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// timeout bounds one statement and its answer, with the handshake.
const timeout = 30 * time.Second

// Guest is who speaks of a volume, under the lease whose key opened it.
type Guest struct {
	Key   *identity.Private
	Chain []byte        // the lease's
	Now   protocol.Time // broker time
	// Broker is the ID of the root whose broker granted the lease; Lowest is as the guest has it.
	Broker [32]byte
	Lowest protocol.Lowest
}

// Client asks one broker.
type Client struct {
	// Address is the broker's host:port, where it releases keys.
	Address string
	// TLS is made by hybridtls.ClientConfig.
	TLS *tls.Config
	// Roots are those of the measured image.
	Roots []identity.Public
}

// Holding is what a volume holds, and what is to be current from now on: see [Opening].
type Holding struct {
	Volume                       string
	Confirmed, Unconfirmed, Next State
}

// Opened tells the broker what a volume holds, and returns the state that is current then. An error means that
// the volume must not be used. It is a refusal; one by the broker names the id that the broker's operator
// finds the details by.
func (c *Client) Opened(ctx context.Context, g Guest, h Holding) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := hybridtls.Dial(ctx, "tcp", c.Address, hybridtls.For(c.TLS, hybridtls.ALPNVolumes))
	if err != nil {
		return State{}, connectionError(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	exporter := conn.Exporter()
	signed, err := SignOpening(g.Key, g.Chain, Opening{Connection: ConnectionOf(exporter[:]), Agent: digest.Digest(g.Key.Public().ID()), Time: g.Now,
		Volume: h.Volume, Confirmed: h.Confirmed, Unconfirmed: h.Unconfirmed, Next: h.Next})
	if err != nil {
		return State{}, err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(signed))), signed...)); err != nil {
		return State{}, connectionError(ctx, err)
	}
	answer, err := readAnswer(conn)
	if err != nil {
		return State{}, connectionError(ctx, err)
	}
	return c.hear(g, h, signed, answer)
}

// hear verifies an answer.
func (c *Client) hear(g Guest, h Holding, signed, answer []byte) (State, error) {
	if protocol.LabelOf(answer) == protocol.TypeRefusal.String() {
		var r protocol.Refusal
		if err := protocol.Parse(answer, &r); err != nil {
			return State{}, err
		}
		return State{}, &refusal.Error{Reason: r.Reason, Detail: fmt.Sprintf("the broker refused %s (ask its operator about %s)", h.Volume, r.ID)}
	}
	said, err := VerifyCurrent(answer, c.Roots, protocol.Of(g.Broker), protocol.Live(g.Lowest, g.Now), signed, h.Volume)
	if err != nil {
		return State{}, err
	}
	if !h.Next.Zero() && said.State != h.Next {
		return State{}, refusal.New(ReasonSignature, "the broker says that generation %d is current instead of %d", said.State.Generation, h.Next.Generation)
	}
	return said.State, nil
}

// connectionError gives the end of a connection a reason; a refused handshake keeps its own.
func connectionError(ctx context.Context, err error) error {
	if _, refused := refusal.ReasonOf(err); refused {
		return err
	}
	if ctx.Err() != nil {
		return refusal.New(protocol.ReasonDeadline, "the broker did not answer about a volume: %w", err)
	}
	return refusal.New(protocol.ReasonConnectionFailed, "ask the broker about a volume: %w", err)
}

// readAnswer reads a statement or a refusal behind its length.
func readAnswer(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxSignedBytes {
		return nil, refusal.New(protocol.ReasonMessageTooLarge, "an answer of %d bytes, limit %d", n, MaxSignedBytes)
	}
	answer := make([]byte, n)
	if _, err := io.ReadFull(r, answer); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return answer, nil
}
