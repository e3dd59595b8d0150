package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi/volumeapi"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

const (
	maxSecret = 16 << 10
	maxAnswer = 16 << 10
	// tellWait bounds the agent's talk with the broker.
	tellWait = time.Minute
	// connectWait is how long the agent's socket may take to be there, and connectPause the time between
	// two tries: a unit that is started is not always one that listens.
	connectWait  = 30 * time.Second
	connectPause = 200 * time.Millisecond
)

// Local is the agent behind its unix socket.
type Local struct{ http *http.Client }

// NewLocal makes a client of the agent on a socket.
func NewLocal(socket string) *Local {
	return &Local{&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx, socket)
	}}}}
}

// dial tries for a while.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(within, "unix", socket)
		if err == nil {
			return c, nil
		}
		select {
		case <-within.Done():
			return nil, err
		case <-time.After(connectPause):
		}
	}
}

// Secret implements Agent.
func (l *Local) Secret(ctx context.Context, name string, wait time.Duration) (*keybuf.Buffer, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+connectWait+10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/secrets/"+url.PathEscape(name)+"?wait="+strconv.Itoa(int(wait/time.Second)), nil)
	if err != nil {
		return nil, err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent for the key: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp)
	}
	if resp.ContentLength < 1 || resp.ContentLength > maxSecret {
		return nil, fmt.Errorf("the agent's secret has %d bytes, want 1 to %d", resp.ContentLength, maxSecret)
	}
	secret, err := keybuf.New(int(resp.ContentLength))
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(resp.Body, secret.Bytes()); err != nil {
		secret.Wipe()
		return nil, fmt.Errorf("the agent's secret ends early: %w", err)
	}
	return secret, nil
}

// Opened implements Agent.
func (l *Local) Opened(ctx context.Context, volume string, confirmed, unconfirmed, next generation.State) (s generation.State, err error) {
	ctx, cancel := context.WithTimeout(ctx, tellWait+connectWait)
	defer cancel()
	body, err := json.Marshal(volumeapi.Holding{Confirmed: confirmed, Unconfirmed: unconfirmed, Next: next})
	if err != nil {
		return s, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/volumes/"+url.PathEscape(volume), bytes.NewReader(body))
	if err != nil {
		return s, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.http.Do(req)
	if err != nil {
		return s, fmt.Errorf("ask the agent about the volume: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, refused(resp)
	}
	return s, json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&s)
}

// refused is an answer that is a refusal.
func refused(resp *http.Response) error {
	var answer struct {
		Error struct {
			Message string         `json:"message"`
			Code    refusal.Reason `json:"code"`
		} `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil || answer.Error.Code == "" {
		return fmt.Errorf("the agent answered %s", resp.Status)
	}
	return refusal.New(answer.Error.Code, "%s", answer.Error.Message)
}
