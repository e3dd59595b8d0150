package uplink

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
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// reasonEnded is the aggregator's word that the lease by which a connection was begun is
// over.
const reasonEnded evidence.Reason = "client-identity-expired"

// introduceTime bounds the first exchange on a connection.
const introduceTime = 10 * time.Second

// introduction is why a connection could not be begun: the aggregator does not let this
// guest in, or the guest has no lease to show.
type introduction struct{ err error }

// Error is the refusal's text.
func (e *introduction) Error() string { return e.err.Error() }

// Unwrap is the refusal.
func (e *introduction) Unwrap() error { return e.err }

// introduce says on a new connection who is at this end, before anything is asked on it.
// What is signed names this connection alone.
func introduce(ctx context.Context, conn *hybridtls.Conn, guest func() (Guest, error)) error {
	g, err := guest()
	if err != nil {
		return &introduction{err}
	}
	exporter := conn.Exporter()
	signed, err := federation.SignAccess(g.Key, g.Chain, federation.Access{Binding: federation.BindingOf(exporter[:]), Agent: g.Key.Public().ID(), Time: g.Now})
	if err != nil {
		return err
	}
	deadline := time.Now().Add(introduceTime)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://aggregator/v1/identity", bytes.NewReader(signed))
	if err != nil {
		return err
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// The aggregator sends nothing before it is asked again, so that the reader's buffer
	// keeps nothing back.
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &introduction{refusal(resp)}
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)); err != nil {
		return errors.Join(err, resp.Body.Close())
	}
	return errors.Join(resp.Body.Close(), conn.SetDeadline(time.Time{}))
}

// refusal is an answer that is none as the error that it tells.
func refusal(resp *http.Response) error {
	var answer struct {
		Error struct {
			Code    evidence.Reason `json:"code"`
			Message string          `json:"message"`
		} `json:"error"`
	}
	err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&answer)
	if err = errors.Join(err, resp.Body.Close()); err != nil || answer.Error.Code == "" {
		return errors.Join(fmt.Errorf("the aggregator answered %s", resp.Status), err)
	}
	return evidence.Refuse(answer.Error.Code, "%s", answer.Error.Message)
}
