package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// TestCheckFindsWhatAnotherProcessHas: the port, and the state directory of a broker that runs.
func TestCheckFindsWhatAnotherProcessHas(t *testing.T) {
	s := newState(t, false)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.options.Config.Listen = other.Addr().String()
	if err := Check(s.options); err == nil || !strings.Contains(err.Error(), "another program uses this port") {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(s.options); err != nil {
		t.Fatal(err)
	}
	_, _, stop := s.run(t)
	unfinished := filepath.Join(s.options.Config.StateDir, ".new-ended.json-1") // as the broker that runs may be writing it
	if err := os.WriteFile(unfinished, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = Check(s.options)
	if !errors.Is(err, audit.ErrInUse) || !errors.Is(err, keystore.ErrInUse) || !strings.Contains(err.Error(), "a broker is already running on this state directory") {
		t.Errorf("beside a broker that runs: %v", err)
	}
	if !disk.Exists(unfinished) {
		t.Error("a check beside a broker that runs took its unfinished file away")
	}
	stop()
	if err := Check(s.options); err != nil || disk.Exists(unfinished) {
		t.Errorf("what a crash left is there still: %v", err)
	}
}
