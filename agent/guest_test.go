package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// quote makes evidence with a measurement.
type quote struct {
	kind        evidence.Kind
	measurement byte
}

func (q quote) Collect(context.Context, [64]byte) (evidence.Envelope, error) {
	report := make([]byte, 0x4a0)
	for i := snpMeasurement; i < snpMeasurementEnd; i++ {
		report[i] = q.measurement
	}
	return evidence.Envelope{Kind: q.kind, Report: report}, nil
}

func TestEvidenceOfAnotherImageDoesNotLeave(t *testing.T) {
	measured := strings.Repeat("\x05", 48)
	compact := sha256.Sum256([]byte(measured))
	full := "sha384:" + hex.EncodeToString([]byte(measured))
	for name, tc := range map[string]struct {
		list    []string
		kind    evidence.Kind
		allowed bool
	}{
		"no list":        {nil, evidence.KindSNP, true},
		"measurement":    {[]string{"sha384:" + strings.Repeat("00", 48), full}, evidence.KindSNP, true},
		"its SHA-256":    {[]string{"sha256:" + hex.EncodeToString(compact[:])}, evidence.KindSNP, true},
		"others only":    {[]string{"sha384:" + strings.Repeat("00", 48)}, evidence.KindSNP, false},
		"unknown kind":   {[]string{full}, evidence.KindTDX, false},
		"damaged entry":  {[]string{"sha384:00"}, evidence.KindSNP, false},
		"wrong in SHA-2": {[]string{"sha256:" + strings.Repeat("05", 32)}, evidence.KindSNP, false},
	} {
		_, err := whitelisted{quote{tc.kind, 5}, tc.list}.Collect(t.Context(), [64]byte{})
		if (err == nil) != tc.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStaleSocketsAreRemovedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.sock")
	d := &daemon{Options: Options{Config: settings.Config{Socket: settings.Socket{Path: path}}}}
	l, err := d.listen()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := d.listen(); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = d.listen(); err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.listen(); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("%q %v", data, err)
	}
	d.Config.Socket.Path = filepath.Join(dir, "absent", "agent.sock")
	if _, err := d.listen(); err == nil || !strings.Contains(err.Error(), "make the directory") {
		t.Errorf("a socket in a missing directory: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(d.Config.Socket.Path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's directory was made: %v", err)
	}
	d.Config.Socket.Path = ""
	if _, err := d.listen(); err == nil {
		t.Error("no path and no socket passed")
	}
}
