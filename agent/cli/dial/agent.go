// Package dial reaches agent, broker and aggregators through their unix sockets, and explains
// what to do if they do not answer.
//
// Nothing that comes from there is trusted further than the file mode of its socket: whoever
// uses a signed answer verifies it.
package dial

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
	"strings"
	"syscall"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of an agent that does not answer.
const (
	agentCutOff           = "the agent at %s ended before it answered; once it runs again (systemctl status anchorhold-agent), anchorhold jobs list shows whether it did what was asked: %w"
	agentNoSocket         = "no agent socket at %s: is anchorhold-agent running? (--agent names another socket)"
	agentNotListening     = "nothing listens on %s: anchorhold-agent has stopped; see its journal"
	agentForbidden        = "this user may not open %s: ask to be added to the socket's group"
	agentUnreachable      = "talk to the agent at %s: %w"
	agentAnswerUnread     = "the agent answered %s: %w"
	agentAnswerUnexpected = "the agent answered %s: %.200s"
	flagAgent             = "unix socket of the agent ($ANCHORHOLD_AGENT changes the default)"
)

// Reasons of an agent that gives no answer.
const (
	reasonAgentUnreachable = "agent-unreachable"
	reasonAgentCut         = "agent-cut-off"
)

// MaxAnswer bounds what is read from the agent in one piece.
const MaxAnswer = 16 << 20

// AgentClient speaks HTTP to the agent's unix socket.
type AgentClient struct {
	socket string
	http   *http.Client
}

// Agent is a client of the agent whose socket is at a path.
func Agent(socket string) *AgentClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &AgentClient{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 64}}}
}

// Do sends a request and returns the response to a successful one; an error object
// of the agent becomes the error.
func (c *AgentClient) Do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	return c.DoWith(ctx, method, path, body, nil)
}

// DoWith is [AgentClient.Do] with additional headers.
func (c *AgentClient) DoWith(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	resp, err := c.Send(ctx, method, path, data, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, AnswerError(resp)
}

// Send sends a body as it is and returns the response, whatever its status. [AnswerError] reads
// one that is not successful.
func (c *AgentClient) Send(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	return resp, nil
}

// explain turns the usual connection failures into what to do about them.
func (c *AgentClient) explain(err error) error {
	if operator.IsCut(err) {
		return cli.Named(reasonAgentCut, fmt.Errorf(agentCutOff, c.socket, err))
	}
	return cli.Named(reasonAgentUnreachable, c.explained(err))
}

func (c *AgentClient) explained(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf(agentNoSocket, c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf(agentNotListening, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf(agentForbidden, c.socket)
	}
	return fmt.Errorf(agentUnreachable, c.socket, err)
}

// AnswerError is the agent's error object as an error.
func AnswerError(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
	if err != nil {
		return fmt.Errorf(agentAnswerUnread, resp.Status, err)
	}
	var answer struct {
		Error struct {
			Message string `json:"message"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.Error.Message == "" {
		return fmt.Errorf(agentAnswerUnexpected, resp.Status, data)
	}
	return Refused(answer.Error.Message, answer.Error.Code)
}

// Refused is the agent's refusal as an error: its text, followed by its code. Where the text begins with the code it is
// said once.
func Refused(message, code string) error {
	message = strings.TrimPrefix(message, code+": ")
	if message == code {
		return cli.Named(code, fmt.Errorf("%w: %s", cli.ErrRefused, code))
	}
	return cli.Named(code, fmt.Errorf("%w: %s (%s)", cli.ErrRefused, message, code))
}

// GetJSON decodes the answer of a GET.
func (c *AgentClient) GetJSON(ctx context.Context, path string, into any) error {
	resp, err := c.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return Decode(resp, into)
}

// Decode reads an answer, within a bound.
func Decode(resp *http.Response, into any) error {
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, MaxAnswer)).Decode(into)
}

// Post sends a body as it is and decodes the answer.
func (c *AgentClient) Post(ctx context.Context, path, media string, body io.Reader, into any) error {
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
		return AnswerError(resp)
	}
	return Decode(resp, into)
}

// AgentFlag adds --agent, the socket of the local agent.
func AgentFlag(inv *cli.Invocation, c *cobra.Command) {
	c.Flags().StringVar(&inv.Agent, "agent", envOr("ANCHORHOLD_AGENT", defaultAgentSocket), flagAgent)
}
