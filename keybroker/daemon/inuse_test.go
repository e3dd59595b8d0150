package daemon

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
)

// TestCheckFindsWhatAnotherProcessHas: the port, and the state directory of a broker that runs.
func TestCheckFindsWhatAnotherProcessHas(t *testing.T) {
	s := newState(t, false)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.options.Config.Listen = other.Addr().String()
	if err := Check(s.options); err == nil || !strings.Contains(err.Error(), "another program has this port") {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(s.options); err != nil {
		t.Fatal(err)
	}
	_, _, stop := s.run(t)
	err = Check(s.options)
	if !errors.Is(err, audit.ErrInUse) || !errors.Is(err, keystore.ErrInUse) || !strings.Contains(err.Error(), "a broker runs on this state directory already") {
		t.Errorf("beside a broker that runs: %v", err)
	}
	stop()
}
