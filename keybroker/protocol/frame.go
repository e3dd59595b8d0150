package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Name is the protocol's name and version; every label and context begins with it, but
// those of former.
const Name = "anchorhold/kbp/2"

// former is version 1. M1 and refusals keep its labels, so that ends of either version
// can tell each other that they have none in common; epoch statements, which roots sign
// offline for weeks, have not changed since.
const former = "anchorhold/kbp/1"

// Type says which message a frame holds (docs/protocol.md 4.1).
type Type uint8

// The messages in the order in which they are sent, and the refusal.
const (
	TypeHello         Type = iota + 1 // M1, agent to broker
	TypeChallenge                     // M2, broker to agent
	TypeAttest                        // M3, agent to broker
	TypeGrant                         // M4, broker to agent
	TypeRequest                       // M5, agent to broker
	TypeRelease                       // M6, broker to agent
	TypeReceipt                       // M7, agent to broker
	TypePermitRequest                 // M8, agent to broker, if it wants something of 5.12
	TypePermitAnswer                  // M9, broker to agent
	TypeRefusal                       // either answer may be a refusal instead
)

// Largest body of each message in bytes (docs/protocol.md 4.2).
const (
	maxHelloBody     = 4 << 10
	maxChallengeBody = 24 << 10
	maxAttestBody    = 416 << 10
	maxGrantBody     = 8 << 10
	maxRequestBody   = 8 << 10
	maxReleaseBody   = 128 << 10
	maxReceiptBody   = 8 << 10
	maxPermitRequest = 176 << 10
	maxPermitAnswer  = 16 << 10
	maxRefusalBody   = 128
)

// A frame begins with its label, after one byte of length, and three bytes of
// the body's length.
const (
	lengthBytes   = 3
	maxLabelBytes = 32
)

// messages maps each type to its label and limit.
var messages = [...]struct {
	label string
	limit int
}{
	TypeHello:         {former + "/M1", maxHelloBody},
	TypeChallenge:     {Name + "/M2", maxChallengeBody},
	TypeAttest:        {Name + "/M3", maxAttestBody},
	TypeGrant:         {Name + "/M4", maxGrantBody},
	TypeRequest:       {Name + "/M5", maxRequestBody},
	TypeRelease:       {Name + "/M6", maxReleaseBody},
	TypeReceipt:       {Name + "/M7", maxReceiptBody},
	TypePermitRequest: {Name + "/M8", maxPermitRequest},
	TypePermitAnswer:  {Name + "/M9", maxPermitAnswer},
	TypeRefusal:       {former + "/refusal", maxRefusalBody},
}

// String returns the label of the message type.
func (t Type) String() string {
	if t < TypeHello || t > TypeRefusal {
		return fmt.Sprintf("unknown message type %d", uint8(t))
	}
	return messages[t].label
}

// MaxFrame returns the largest frame of this type in bytes; 0 for an unknown type.
func (t Type) MaxFrame() int {
	if t < TypeHello || t > TypeRefusal {
		return 0
	}
	return 1 + len(messages[t].label) + lengthBytes + messages[t].limit
}

// Message is one message of the protocol. The implementations are Hello,
// Challenge, Attest, Grant, Request, Release, Receipt, PermitRequest, PermitAnswer and Refusal.
type Message interface {
	// Type names the message.
	Type() Type
	// valid says whether every field is inside its limits.
	valid() bool
	// encode appends the body of a valid message, decode reads one.
	encode(b *cryptobyte.Builder)
	decode(s *cryptobyte.String) bool
}

// Marshal encodes a message as a frame. A message outside the limits is an error.
func Marshal(m Message) ([]byte, error) {
	t := m.Type()
	if !m.valid() {
		return nil, fmt.Errorf("encode %s: %w", t, errLimit)
	}
	room := 512
	switch t {
	case TypeChallenge, TypeAttest, TypeRelease:
		room = usualBody
	}
	b := newBuilder(room)
	addFrame(b, m)
	frame, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", t, err)
	}
	if len(frame) > t.MaxFrame() {
		return nil, fmt.Errorf("encode %s: got %d bytes, want at most %d", t, len(frame), t.MaxFrame())
	}
	return frame, nil
}

func addFrame(b *cryptobyte.Builder, m Message) {
	addString8(b, messages[m.Type()].label)
	b.AddUint24LengthPrefixed(m.encode)
}

// Parse decodes a frame that must hold exactly the message m and nothing else.
// It accepts only the bytes that Marshal would produce for the same message
// (docs/protocol.md 4.3).
func Parse(frame []byte, m Message) error {
	t := m.Type()
	if len(frame) > t.MaxFrame() {
		return refusal.New(ReasonMessageTooLarge, "%s of %d bytes", t, len(frame))
	}
	s := cryptobyte.String(frame)
	var label, body cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&label) || !s.ReadUint24LengthPrefixed(&body) || !s.Empty() {
		return malformed("%s: frame lengths do not fit", t)
	}
	if string(label) != messages[t].label {
		return unexpected(string(label), t)
	}
	if !m.decode(&body) || !body.Empty() || !m.valid() {
		return malformed("%s: truncated, trailing bytes, or a value outside its limits", t)
	}
	same := false
	err := transient(func(b *cryptobyte.Builder) { addFrame(b, m) }, func(again []byte) error {
		same = bytes.Equal(again, frame)
		return nil
	})
	if err != nil || !same {
		return malformed("%s: not the canonical encoding", t)
	}
	return nil
}

// ReadFrame reads one frame whose type must be among want. It allocates for a
// body only after its label is known and its length is inside the label's
// limit. A *refusal.Error means that the peer broke the protocol; any other
// error is the connection's.
func ReadFrame(r io.Reader, want ...Type) (Type, []byte, error) {
	return ReadFrameWithin(r, func(int) error { return nil }, want...)
}

// ReadFrameWithin is ReadFrame for those who answer for memory: reserve is asked for
// so many bytes before they are allocated, and its error ends the reading.
func ReadFrameWithin(r io.Reader, reserve func(bytes int) error, want ...Type) (Type, []byte, error) {
	var head [1 + maxLabelBytes + lengthBytes]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", err)
	}
	n := int(head[0])
	if n == 0 || n > maxLabelBytes {
		return 0, nil, refusal.New(ReasonUnexpectedMessage, "label of %d bytes", n)
	}
	fixed := head[:1+n+lengthBytes]
	if _, err := io.ReadFull(r, fixed[1:]); err != nil {
		return 0, nil, fmt.Errorf("read frame header: %w", noEOF(err))
	}
	i := slices.IndexFunc(want, func(t Type) bool { return messages[t].label == string(fixed[1:1+n]) })
	if i < 0 {
		return 0, nil, unexpected(string(fixed[1:1+n]), want...)
	}
	t := want[i]
	size := int(fixed[1+n])<<16 | int(fixed[2+n])<<8 | int(fixed[3+n])
	if size > messages[t].limit {
		return 0, nil, refusal.New(ReasonMessageTooLarge, "%s announces %d bytes, limit %d", t, size, messages[t].limit)
	}
	if err := reserve(len(fixed) + size); err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", t, err)
	}
	frame := make([]byte, len(fixed)+size)
	copy(frame, fixed)
	if _, err := io.ReadFull(r, frame[len(fixed):]); err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", t, noEOF(err))
	}
	return t, frame, nil
}

// unexpected refuses a message that the state does not admit; the right one in another
// version has a reason of its own.
func unexpected(label string, want ...Type) error {
	for _, t := range want {
		if kindOf(label) == kindOf(messages[t].label) {
			return refusal.New(ReasonMessageVersion, "got %q, this end speaks %s", label, messages[t].label)
		}
	}
	return refusal.New(ReasonUnexpectedMessage, "label %q, want %s", label, want)
}

// noEOF turns the end of the stream inside a frame into what it is: truncation.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func malformed(format string, args ...any) error {
	return refusal.New(ReasonMalformedMessage, format, args...)
}
