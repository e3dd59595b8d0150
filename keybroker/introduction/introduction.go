// Package introduction is how a guest identifies itself on a new connection to the aggregator
// or the registry of proofs, before anything else is sent on it.
//
// It guarantees that the server has answered before the connection carries anything else.
// It verifies nothing: what is signed, and what it proves, is up to each server's own package
// (federation.Access, wire.Introduction).
//
// The clients in uplink and registry/wire call it when they dial.
package introduction

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// within bounds the exchange.
const within = 10 * time.Second

const (
	// maxAnswer bounds the answer to it, header and body.
	maxAnswer = 64 << 10
	// maxRefusal bounds the body of a refusal, maxMessage what of its text is handed on.
	maxRefusal = 64 << 10
	maxMessage = 1 << 10
	maxCode    = 64
)

// Guest is who speaks: an agent by its key, the lease that it holds now, and broker time.
type Guest struct {
	Key   *identity.Private
	Chain []byte
	Now   protocol.Time
}

// Refused is why the server does not believe a guest, or why the guest has nothing to say:
// the connection itself is sound.
type Refused struct{ Err error }

// Error is the refusal's text.
func (e *Refused) Error() string { return e.Err.Error() }

// Unwrap is the refusal.
func (e *Refused) Unwrap() error { return e.Err }

// Say posts what a guest signed to /v1/identity on a new connection. An answer that is a
// refusal is a *Refused, and the connection can be used on.
func Say(ctx context.Context, conn *hybridtls.Conn, signed []byte) error {
	deadline := time.Now().Add(within)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://server/v1/identity", bytes.NewReader(signed))
	if err != nil {
		return err
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// The server sends nothing before it is asked again, so that the reader's buffer keeps
	// nothing back. ReadResponse itself takes a header of any length.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	if err != nil {
		return err
	}
	var refused error
	if resp.StatusCode != http.StatusOK {
		refused = &Refused{Refusal(resp)}
	} else if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return errors.Join(err, resp.Body.Close())
	}
	if resp.Close {
		return errors.Join(refused, errors.New("the server closed the connection"))
	}
	if err := errors.Join(resp.Body.Close(), conn.SetDeadline(time.Time{})); err != nil {
		return err
	}
	return refused
}

// Refusal is an answer that is none as the error that it tells. It closes the body.
func Refusal(resp *http.Response) error {
	var answer struct {
		Error struct {
			Code    refusal.Reason `json:"code"`
			Message string         `json:"message"`
		} `json:"error"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxRefusal)).Decode(&answer)
	if err = errors.Join(err, resp.Body.Close()); err != nil || !isCode(answer.Error.Code) {
		return errors.Join(fmt.Errorf("the server answered %d", resp.StatusCode), err)
	}
	return refusal.New(answer.Error.Code, "%.*s", maxMessage, answer.Error.Message)
}

// isCode says whether a reason has the form of one. Callers record it and decide by it: the
// end of a job with a reason of a mebibyte would not be recorded.
func isCode(reason refusal.Reason) bool {
	for _, c := range reason {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(reason) > 0 && len(reason) <= maxCode
}
