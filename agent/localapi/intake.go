package localapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons why a request is not let in, which are also the codes of error objects.
const (
	// ReasonQueue: too many requests wait, for memory or for their turn.
	ReasonQueue refusal.Reason = "queue-full"
	// ReasonTooLarge: the body is over its limit.
	ReasonTooLarge refusal.Reason = "request-too-large"
	// ReasonSlow: the body did not arrive in time.
	ReasonSlow refusal.Reason = "request-too-slow"
	// ReasonIncomplete: the body ended early.
	ReasonIncomplete refusal.Reason = "incomplete-request"
)

// Limits of reading a body.
const (
	// Grace is how long a body may take while another request waits for its memory.
	Grace = time.Second
	// bodyTime is how long a body may take at all.
	bodyTime = 30 * time.Second
	// firstPiece is what is read at first of a body whose length was not declared.
	firstPiece = 64 << 10
	// Overhead is what a request costs beside its body: connection, headers, answer.
	Overhead = 16 << 10
)

// Intake lets requests in: it reserves the memory that a request takes before a byte of its
// body is read, and lets a bounded number work at a time. All requests together never hold
// more bytes than the budget says; one user never has all of it, nor all places of the line;
// a request that waits keeps out nobody who fits beside it; and a body that does not arrive
// holds memory that others need for a second at most. It trusts its callers to say what a
// request costs. Completions, classifiers and updates share one.
type Intake struct {
	// Budget is the memory of all requests.
	Budget *Budget
	// Line is who may work.
	Line *Line
}

// Source is where a body comes from. SetDeadline sets until when its reads may wait, one
// that waits already included; zero is for ever. It may be called while another goroutine
// reads, and no read undoes it.
type Source interface {
	io.Reader
	SetDeadline(time.Time) error
}

// Body is one that is to be read.
type Body struct {
	R Source
	// Length is the declared one, or -1.
	Length int64
	// Max is the limit.
	Max int64
	// Cost is what a request with a body of this many bytes holds, the body included,
	// and grows with it; nil is the body and Overhead.
	Cost func(length int64) int64
}

// FromRequest is the body of a request.
func FromRequest(w http.ResponseWriter, r *http.Request, limit int64, cost func(int64) int64) Body {
	return Body{R: connection{r.Body, http.NewResponseController(w)}, Length: r.ContentLength, Max: limit, Cost: cost}
}

// connection is the body of a request as it comes. Its deadlines are of writes too: who
// wants to be told to continue, and does not read that, does not send either.
type connection struct {
	io.Reader
	control *http.ResponseController
}

func (c connection) SetDeadline(t time.Time) error {
	return errors.Join(c.control.SetReadDeadline(t), c.control.SetWriteDeadline(t))
}

// Read reserves what a user's request costs, then reads its body. The caller gives back
// what is held when the request has ended.
func (in *Intake) Read(ctx context.Context, uid uint32, b Body) (body []byte, held *Held, err error) {
	if b.Cost == nil {
		b.Cost = func(n int64) int64 { return n + Overhead }
	}
	if b.Length > b.Max {
		b.discard()
		return nil, nil, tooLarge(fmt.Sprintf("the request is larger than %d bytes", b.Max))
	}
	need := b.Cost(b.Length)
	if b.Length < 0 {
		need = max(b.Cost(b.Max), b.Max+b.Max/2+Overhead) // while it grows there are an old and a new piece
	}
	if held, err = in.Budget.Reserve(ctx, uid, need); err != nil {
		b.discard()
		return nil, nil, err
	}
	body, err = held.read(ctx, b)
	if err != nil {
		held.Release()
		return nil, nil, err
	}
	held.Shrink(b.Cost(int64(len(body))))
	return body, held, nil
}

// discard takes a body that is not wanted off the connection, for a moment: a client that
// still sends would not read why it was refused.
func (b Body) discard() {
	_ = b.R.SetDeadline(time.Now().Add(Grace))
	defer func() { _ = b.R.SetDeadline(time.Time{}) }()
	piece := make([]byte, 4<<10)
	for left := b.Max; left > 0; {
		n, err := b.R.Read(piece)
		if left -= int64(n); err != nil {
			return
		}
	}
}

// read reads a body whose memory is reserved.
func (h *Held) read(ctx context.Context, b Body) ([]byte, error) {
	_ = b.R.SetDeadline(time.Now().Add(bodyTime))
	h.begin(func() { _ = b.R.SetDeadline(time.Unix(1, 0)) })
	body, err := b.fill()
	slow := h.end(err == nil)
	_ = b.R.SetDeadline(time.Time{})
	var large *http.MaxBytesError
	var told *Error
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &told):
		return nil, err
	case errors.As(err, &large):
		return nil, tooLarge(fmt.Sprintf("the request is larger than %d bytes", large.Limit))
	case slow:
		return nil, slowBody(fmt.Sprintf("the body did not arrive within %s, and other requests are waiting for its memory", Grace))
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, slowBody(fmt.Sprintf("the body did not arrive within %s", bodyTime))
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled): // which is all that net/http says of any read that fails
		return nil, context.Cause(ctx)
	}
	return nil, BadRequest("", string(ReasonIncomplete), "the request's body could not be read")
}

func slowBody(message string) error {
	return &Error{Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: string(ReasonSlow), Message: message}
}

// fill reads to the declared length, or to the end.
func (b Body) fill() ([]byte, error) {
	size := b.Length
	if size < 0 {
		size = min(firstPiece, b.Max)
	}
	body := make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			if int64(len(body)) >= b.Max || b.Length >= 0 {
				return body, b.atEnd()
			}
			grown := make([]byte, len(body), min(2*int64(cap(body)), b.Max))
			copy(grown, body)
			body = grown
		}
		n, err := b.R.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			if b.Length >= 0 && int64(len(body)) < b.Length {
				return nil, io.ErrUnexpectedEOF
			}
			return body, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// atEnd requires that nothing follows.
func (b Body) atEnd() error {
	var one [1]byte
	for {
		n, err := b.R.Read(one[:])
		switch {
		case n > 0:
			return tooLarge(fmt.Sprintf("the request is larger than %d bytes", b.Max))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
