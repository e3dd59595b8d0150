//go:build !release

package agent

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// change makes the first plain value of a section another one.
func change(t *testing.T, v reflect.Value) bool {
	t.Helper()
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && change(t, v.Field(i)) {
				return true
			}
		}
		return false
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	default:
		return false
	}
	return true
}

// A reload that succeeds has taken up what the file says: a section that this process has
// read for good is refused by its name, and one that is new to the configuration must be
// put among either.
func TestReloadRefusesWhatOnlyARestartTakesUp(t *testing.T) {
	takenUp := []string{"transport", "compute", "broker", "models", "classifiers", "secrets"}
	sections := reflect.TypeFor[settings.Config]()
	for i := range sections.NumField() {
		name := sections.Field(i).Tag.Get("yaml")
		var old, now settings.Config
		if slices.Contains(takenUp, name) {
			continue
		}
		if !change(t, reflect.ValueOf(&now).Elem().Field(i)) {
			t.Fatalf("%s: no value to change", name)
		}
		if got := restartOnly(old, now, false); !slices.Equal(got, []string{name}) {
			t.Errorf("%s changed: named are %q", name, got)
		}
		if got := restartOnly(now, now, false); got != nil {
			t.Errorf("nothing changed: named are %q", got)
		}
	}
	var old, now settings.Config
	now.Classifiers = []settings.Classifier{{Name: "first"}}
	if got := restartOnly(old, now, false); !slices.Equal(got, []string{"classifiers (there were none)"}) {
		t.Errorf("the first classifier: named are %q", got)
	}
	if got := restartOnly(old, now, true); got != nil {
		t.Errorf("another classifier: named are %q", got)
	}
	old, now = settings.Config{Models: []settings.Model{{Name: "a", Sequences: 2}}}, settings.Config{Models: []settings.Model{{Name: "b", Sequences: 3}}}
	if got := restartOnly(old, now, false); !slices.Equal(got, []string{"models[].sequences"}) {
		t.Errorf("more sequences: named are %q", got)
	}
	old, now = settings.Config{}, settings.Config{}
	old.Compute.TEE.TPM, now.Compute.TEE.TPM = &settings.TPM{Bank: "sha256"}, &settings.TPM{Bank: "sha384"}
	if got := restartOnly(old, now, false); !slices.Equal(got, []string{"compute.tee.tpm"}) {
		t.Errorf("another bank: named are %q", got)
	}
	now.Compute.TEE.TPM.Bank = "sha256"
	if got := restartOnly(old, now, false); got != nil {
		t.Errorf("the same TPM: named are %q", got)
	}
	now.Compute.TEE.VMPL = new(int)
	if got := restartOnly(old, now, false); !slices.Equal(got, []string{"compute.tee.vmpl"}) {
		t.Errorf("VMPL 0 in place of the kernel's choice: named are %q", got)
	}
}

// reloadable is an agent that reads path again and whose keeper takes nothing.
func reloadable(t *testing.T) (d *daemon, cfg settings.Config, path string) {
	t.Helper()
	dir := t.TempDir()
	root, _, err := hybridtls.NewRoot("a root", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	text, err := key.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	cfg = tenuretest.New(t).Config
	cfg.Broker = settings.Broker{Address: "127.0.0.1:1", ServerName: "broker", TLSRoots: filepath.Join(dir, "tls.pem"), RootKeys: []string{string(text)}, MinimumEpoch: 1}
	write(t, cfg.Broker.TLSRoots, root)
	cfg.Guest = settings.Guest{ImageID: "test", StateDir: filepath.Join(dir, "state")}
	cfg.Socket = settings.Socket{Path: filepath.Join(dir, "agent.sock")}
	path = filepath.Join(dir, "agent.yaml")
	in, _, err := settings.Parse(configText(cfg))
	if err != nil {
		t.Fatal(err)
	}
	d = &daemon{Options: Options{ConfigPath: path, Config: in}, keeper: tenure.NewKeeper(tenure.Config{})}
	d.cfg.Store(&in)
	if d.guest, err = attested.New(in, brokertest.New(t).TEE, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.guest.Close)
	return d, cfg, path
}

// Whatever stands in the place of the file, a reload says so and changes nothing.
func TestReloadRefusesFilesAndChangesNothing(t *testing.T) {
	d, cfg, path := reloadable(t)
	before := d.cfg.Load()
	for name, tc := range map[string]struct {
		put  func() error
		want string
	}{
		"gone":      {func() error { return nil }, "no such file"},
		"directory": {func() error { return os.Mkdir(path, 0o700) }, "is a directory"},
		"pipe":      {func() error { return syscall.Mkfifo(path, 0o600) }, "a pipe"},
		"large":     {func() error { return os.WriteFile(path, make([]byte, 2<<20), 0o600) }, "larger than 1048576 bytes"},
		"empty":     {func() error { return os.WriteFile(path, nil, 0o600) }, "empty"},
		"another socket": {func() error {
			other := cfg
			other.Socket.Path += ".new"
			return os.WriteFile(path, configText(other), 0o600)
		}, "socket changed"},
	} {
		if err := tc.put(); err != nil {
			t.Fatal(err)
		}
		if err := d.reload(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if d.cfg.Load() != before {
			t.Errorf("%s: another configuration is in force", name)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A reload that meets the agent's end took nothing up, and does not say that it did.
func TestReloadDuringTheEndIsNotDone(t *testing.T) {
	d, cfg, path := reloadable(t)
	write(t, path, configText(cfg))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := d.reload(ctx); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Error(err)
	}
}

// A socket that somebody removed does not come back with a restart of the agent where the
// service manager holds it: what is served goes on, and the log says what helps.
func TestASocketWhoseFileIsGoneCostsNoKeys(t *testing.T) {
	d, cfg, _ := reloadable(t)
	var log bytes.Buffer
	d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	d.tenure, d.address = tenure.New(d.Logger), cfg.Socket.Path
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	defer d.guest.Close()
	if d.healthy(t.Context()) == nil {
		t.Error("an agent that lost its own socket is healthy; a restart makes another")
	}
	d.passed = true
	for range 2 {
		if err := d.healthy(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if said := log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "systemctl restart anchorhold-agent.socket") {
		t.Errorf("logged %q", said)
	}
}
