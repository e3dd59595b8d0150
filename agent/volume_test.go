//go:build !release

package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/volume"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// TestWholeAgentOpensVolumes: what opens volumes gets the key from an agent that attests to a real broker, has each
// generation confirmed through it, and hears that an older state is refused.
func TestWholeAgentOpensVolumes(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	if os.Getuid() != 0 {
		t.Skip("root alone opens volumes")
	}
	dir := t.TempDir()
	var service *volumes.Service
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		store, err := volumes.OpenBolt(filepath.Join(dir, "volumes.db"))
		if err != nil {
			t.Fatal(err)
		}
		epoch := c.Epochs[0]
		service, err = volumes.New(volumes.Config{Store: store, Log: c.Audit.(volumes.Log), Roots: []identity.Public{c.Root}, Lowest: func() uint64 { return 1 }, HasKey: func(context.Context, string) (bool, error) { return true, nil }, Now: c.Now, Logger: c.Logger,
			Signer: func() (protocol.ActiveEpoch, error) {
				return protocol.ActiveEpoch{Key: epoch.Key, Statement: epoch.Statement, Broker: c.Root.ID(), Epoch: 1}, nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		c.Volumes = service
	}))
	t.Cleanup(func() { service.Close() })
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), `{resources: ["models/*"]}`, `{resources: ["volumes/*"]}`, 1))
	f.Put("volumes/var", "the key of the volume")
	cfg := secretsConfig(t, f, dir)
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, []byte(secretsText(cfg, `[{"name": "var", "resource": "volumes/var", "users": ["`+strconv.Itoa(os.Getuid())+`"]}]`)))
	cfg, findings, err := settings.Read(path)
	if err != nil || findings.Runnable() != nil {
		t.Fatal(err, findings.Runnable())
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{ConfigPath: path, Config: cfg, Collector: f.TEE, SoftwareTEE: true, Version: "test", Logger: slog.New(slog.DiscardHandler), Reload: make(chan os.Signal)})
	}()
	local := volume.NewLocal(cfg.Socket.Path)
	key, err := local.Secret(t.Context(), "var", 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Use(func(b []byte) error {
		if string(b) != "the key of the volume" {
			t.Errorf("got the key %q", b)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	key.Wipe()
	_, err = local.Secret(t.Context(), "other", time.Second)
	refusaltest.Want(t, "a key that is not named", err, "secret-not-allowed")

	var none generation.State
	open := func(confirmed generation.State) (generation.State, error) {
		current, err := local.Opened(t.Context(), "var", confirmed, none, none)
		if err != nil {
			return none, err
		}
		next, err := generation.After(current)
		if err != nil {
			t.Fatal(err)
		}
		return local.Opened(t.Context(), "var", current, none, next)
	}
	first, err := open(none)
	if err != nil || first.Generation != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := open(first)
	if err != nil || second.Generation != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	_, err = open(first)
	refusaltest.Want(t, "an older state", err, generation.ReasonRolledBack)
	if !strings.Contains(err.Error(), "ask its operator about ") {
		t.Errorf("%v does not say whom to ask", err)
	}
	_, err = local.Opened(t.Context(), "other", none, none, none)
	refusaltest.Want(t, "a volume whose key the lease does not have", err, protocol.ReasonNotGranted)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
