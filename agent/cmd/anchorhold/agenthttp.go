package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"syscall"

	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// Reasons of an agent that gives no answer.
const (
	reasonAgentUnreachable = "agent-unreachable"
	reasonAgentCut         = "agent-cut-off"
)

// maxAnswer bounds what is read from the agent in one piece.
const maxAnswer = 16 << 20

// agentClient speaks HTTP to the agent's unix socket.
type agentClient struct {
	socket string
	http   *http.Client
}

func newAgentClient(socket string) *agentClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &agentClient{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// do sends a request and returns the answer of a success; an error object of
// the agent becomes the error.
func (c *agentClient) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	return c.doWith(ctx, method, path, body, nil)
}

// doWith is do with further headers.
func (c *agentClient) doWith(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var send io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, send)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp)
}

// explain turns the usual connection failures into what to do about them.
func (c *agentClient) explain(err error) error {
	if operator.IsCut(err) {
		return namedError{reasonAgentCut, fmt.Errorf("the agent at %s ended before it had answered: whether it did what was asked, anchorhold jobs list tells once it runs again (systemctl status anchorhold-agent): %w", c.socket, err)}
	}
	return namedError{reasonAgentUnreachable, c.explained(err)}
}

func (c *agentClient) explained(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("no agent socket at %s: is anchorhold-agent running? (--agent names another socket)", c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens on %s: anchorhold-agent has ended; see its journal", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not open %s: ask for membership in the socket's group", c.socket)
	}
	return fmt.Errorf("talk to the agent at %s: %w", c.socket, err)
}

// answerError reads the agent's error object.
func answerError(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the agent answered %s: %w", resp.Status, err)
	}
	var answer struct {
		Error struct {
			Message string `json:"message"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.Error.Message == "" {
		return fmt.Errorf("the agent answered %s: %.200s", resp.Status, data)
	}
	return refusedBecause(answer.Error.Message, answer.Error.Code)
}

// refusedBecause is a refusal of the agent: its text, and its code behind it.
func refusedBecause(message, code string) error {
	return namedError{code, fmt.Errorf("%w: %s (%s)", errRefused, message, code)}
}

// getJSON decodes the answer of a GET.
func (c *agentClient) getJSON(ctx context.Context, path string, into any) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return decodeBody(resp, into)
}

func decodeBody(resp *http.Response, into any) error {
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into)
}

// post sends a body as it is and decodes the answer.
func (c *agentClient) post(ctx context.Context, path, media string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", media)
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return answerError(resp)
	}
	return decodeBody(resp, into)
}
