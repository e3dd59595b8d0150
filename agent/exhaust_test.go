//go:build !release

package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/systemd/listen/listentest"
)

// serveForAttack runs a whole agent, and the broker that it needs, in this process.
func serveForAttack(t *testing.T, ready func(any)) {
	f, g, dir := brokertest.New(t), tenuretest.New(t), t.TempDir()
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	cfg := underBroker(t, g.Config, f, dir)
	cfg.Socket = settings.Socket{Path: filepath.Join(dir, "agent.sock"), Queue: 64,
		AllowedUsers: []settings.Account{account(listentest.AttackerUID), account(listentest.ElsewhereUID)}}
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, configText(cfg))
	for _, d := range []string{dir, filepath.Dir(dir)} { // the parties are no users of the test's directory
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Config: cfg, Collector: f.TEE, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	}()
	waitServing(t, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}})
	ready(cfg.Socket.Path)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// user asks a model one short question.
func user(t *testing.T, who *listentest.Party, socket string) listentest.Client {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return who.Dial(ctx, "unix", socket)
	}}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/completions", strings.NewReader(`{"model":"tiny","prompt":"the cat","max_tokens":4}`))
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, %s, %v", resp.StatusCode, text, err)
		}
		return nil
	}
}

// TestLocalAPIUnderAttack: a uid that is not allowed could hold all 256 places.
func TestLocalAPIUnderAttack(t *testing.T) {
	server := listentest.Start(t, serveForAttack)
	if server == nil {
		return
	}
	var socket string
	server.Decode(t, &socket)
	target := listentest.Target{Name: "local API", Network: "unix", Address: socket, Memory: listentest.UnitMemory(t, "../systemd/anchorhold-agent.service")}
	server.Withstands(t, target.HTTP("/v1/completions", 1<<20), func(who *listentest.Party) listentest.Client { return user(t, who, socket) })
}

func account(uid uint32) settings.Account {
	return settings.Account(strconv.FormatUint(uint64(uid), 10))
}
