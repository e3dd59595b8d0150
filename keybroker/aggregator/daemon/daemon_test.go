package daemon

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/systemd/service"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func certificate(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	certPEM, keyPEM, err := hybridtls.NewCertificate([]string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the port is only asked for
	return l.Addr().String()
}

// settings writes a configuration and loads it.
func settings(t *testing.T, dir string, change func(string) string) (Settings, error) {
	t.Helper()
	root, err := federationtest.New(t).Root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("state_dir: %[1]s/state\nlisten: %[2]s\ntls_certificate: %[1]s/tls.crt\ntls_key: %[1]s/tls.key\nroot_keys: [%[3]s]\nadmin_socket: %[1]s/admin.sock\n", dir, freePort(t), root)
	if change != nil {
		text = change(text)
	}
	path := filepath.Join(dir, "aggregator.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadSettings(path)
}

// warned counts what is said about dates that are near.
type warned struct {
	slog.Handler
	dates atomic.Int32
}

func (w *warned) Enabled(context.Context, slog.Level) bool { return true }

func (w *warned) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "expires soon") {
		w.dates.Add(1)
	}
	return nil
}

func TestRunsAndReadsItsCertificateAgain(t *testing.T) {
	dir := t.TempDir()
	first := certificate(t, dir)
	s, err := settings(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(s, quiet()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	reload, done := make(chan os.Signal), make(chan error, 1)
	log := &warned{}
	go func() { done <- Run(ctx, s, slog.New(log), reload) }()
	seen := func(root *x509.Certificate) error {
		pool := x509.NewCertPool()
		pool.AddCert(root)
		cfg, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := hybridtls.Dial(ctx, "tcp", s.Listen, hybridtls.For(cfg, hybridtls.ALPNFederation))
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	deadline := time.NewTimer(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	wait := func(root *x509.Certificate) {
		t.Helper()
		for {
			err := seen(root)
			if err == nil {
				return
			}
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatal(err)
			}
		}
	}
	wait(first)
	second := certificate(t, dir)
	reload <- syscall.SIGHUP
	wait(second)
	if seen(first) == nil {
		t.Error("the old certificate is still served")
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP // taken only after the first was dealt with
	wait(second)
	over, key, err := hybridtls.NewCertificate([]string{"localhost"}, time.Nanosecond)
	if err == nil {
		err = errors.Join(os.WriteFile(s.TLSCertificate, over, 0o600), os.WriteFile(s.TLSKey, key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP
	wait(second)
	if info, err := os.Stat(s.AdminSocket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("admin socket: %v, %v", info, err)
	}
	certificate(t, dir)
	// What the first one writes at the moment would be remains of an earlier run to another.
	if err := Run(ctx, s, quiet(), nil); !errors.Is(err, service.ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	if err := Check(s, quiet()); !errors.Is(err, service.ErrRunning) || !strings.Contains(err.Error(), "NOT checked while it is in use") {
		t.Errorf("check: %v", err)
	}
	other := s
	other.StateDir = filepath.Join(dir, "other")
	if err := Run(ctx, other, quiet(), nil); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second one with a state of its own: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := log.dates.Load(); n != 1 { // it is valid for an hour
		t.Errorf("%d warnings about the certificate's end", n)
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	agent, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Wipe()
	epoch, err := agent.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(string) string{
		"unknown key":    func(s string) string { return s + "secret: x\n" },
		"relative state": func(s string) string { return strings.Replace(s, "state_dir: /", "state_dir: ", 1) },
		"no address":     func(s string) string { return strings.Replace(s, "listen: ", "listen: nowhere # ", 1) },
		"no certificate": func(s string) string { return strings.Replace(s, "tls.crt", "none.crt", 1) },
		"no roots":       func(s string) string { return s[:strings.Index(s, "root_keys")] + "admin_socket: " + dir + "/a.sock\n" },
		"epoch as root": func(s string) string {
			return s[:strings.Index(s, "root_keys")] + "root_keys: [" + string(epoch) + "]\nadmin_socket: " + dir + "/a.sock\n"
		},
		"not a key": func(s string) string { return strings.Replace(s, "root_keys: [", "root_keys: [nonsense, ", 1) },
		"profile":   func(s string) string { return s + "profile: classical\n" },
		"shard":     func(s string) string { return s + "shard: 3\nshards: 2\n" },
		"free disk": func(s string) string { return s + "free_mb: -1\n" },
		"limits":    func(s string) string { return s + "limits: {connections: -1}\n" },
		"balancer":  func(s string) string { return s + "limits: {balancers: [nowhere]}\n" },
	} {
		s, err := settings(t, dir, change)
		if err == nil {
			err = Check(s, quiet())
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s, err := settings(t, dir, func(s string) string {
		return strings.NewReplacer("state_dir: /", "state_dir: ", "listen: ", "listen: nowhere # ", "tls.crt", "none.crt", "root_keys: [", "root_keys: [nonsense, ", "admin_socket: ", "admin_socket: /absent").Replace(s) + "profile: classical\n"
	})
	if err != nil {
		t.Fatal(err)
	}
	all := Check(s, quiet())
	for _, says := range []string{"state_dir: ", "listen: ", "tls_certificate: ", "root_keys: ", "profile: ", "admin_socket: "} {
		if all == nil || !strings.Contains(all.Error(), says) {
			t.Errorf("%q is not in\n%v", says, all)
		}
	}
	if _, err := LoadSettings(filepath.Join(dir, "none.yaml")); err == nil {
		t.Error("a missing file")
	}
	if s, err := settings(t, dir, func(s string) string { return s + "profile: fips\nlimits: {connections: 9, balancers: [192.0.2.1]}\n" }); err != nil || Check(s, quiet()) != nil {
		t.Errorf("fips: %v", err)
	}
}

// What stands where the socket should be is not removed unless it is a dead socket.
func TestAdminSocketReplacesOnlyADeadOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenAdmin(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenAdmin(path); err == nil {
		t.Error("a living socket was replaced")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = listenAdmin(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAdmin(path); err == nil {
		t.Error("a file was replaced")
	}
}

// Keys whose maker could forge proofs are taken only where the configuration says so, and
// nothing is said about keys that are not there.
func TestKeysOfProofsOfNorms(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	keys := federationtest.SharedNormKeys(t, 2, 8)
	ceremony, development, empty, damaged := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	keys.Save(t, ceremony)
	own := *keys
	own.Record.Development, own.Record.Ceremony = true, digest.Digest{}
	own.Save(t, development)
	set := keys.Save(t, damaged)
	if err := os.Remove(filepath.Join(damaged, set.Record.VerifyingKey.String()+".vk")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		more, want string // of the error; none if it is taken
	}{
		{"", ""},
		{"norm_keys: " + ceremony + "\n", ""},
		{"norm_keys: " + ceremony + "\nverification_timeout_ms: 60000\n", ""},
		{"norm_keys: " + development + "\nallow_development_setup: true\n", ""},
		{"norm_keys: " + development + "\n", "development"},
		{"norm_keys: " + empty + "\n", "no key records"},
		{"norm_keys: " + damaged + "\n", "missing"},
		{"norm_keys: " + filepath.Join(empty, "none") + "\n", "no key records"},
		{"norm_keys: " + ceremony + "\nverification_timeout_ms: 60001\n", "verification_timeout_ms"},
		{"norm_keys: " + ceremony + "\nverification_timeout_ms: -1\n", "verification_timeout_ms"},
		{"allow_development_setup: true\n", "norm_keys is missing"},
		{"verification_timeout_ms: 5\n", "norm_keys is missing"},
	} {
		s, err := settings(t, dir, func(s string) string { return s + tc.more })
		if err == nil {
			err = Check(s, quiet())
		}
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.more, err, tc.want)
		}
	}
}

// Without its watchdog or its reload socket the service manager would end an aggregator later,
// and nothing would say why: it ends at once, with the reason.
func TestWhatRunsBesideEndsTheAggregatorWithItsReason(t *testing.T) {
	for name, tc := range map[string]struct{ variable, value, want string }{
		"watchdog": {"WATCHDOG_USEC", "soon", "watchdog: read the watchdog's interval"},
		"reload":   {"RUNTIME_DIRECTORY", "/proc/no such directory", "reload socket: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			certificate(t, dir)
			s, err := settings(t, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("WATCHDOG_PID", "")
			t.Setenv(tc.variable, tc.value)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := Run(ctx, s, quiet(), nil); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v (%v)", err, ctx.Err())
			}
		})
	}
}
