package bounds_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs/bounds"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// The queue's key leaves the lease's, and no other key does.
func TestTheQueueTakesItsOwnKeyAlone(t *testing.T) {
	key := func(n int) *keybuf.Buffer {
		k, err := keybuf.Random(n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Wipe)
		return k
	}
	for what, tc := range map[string]struct {
		name  string
		bytes int
		says  string // of an error
		left  int
	}{
		"none is configured": {"", 32, "", 2},
		"its own":            {"keys/queue", 32, "", 1},
		"a short one":        {"keys/queue", 16, "32 bytes", 2},
		"not granted":        {"keys/other", 32, "federation.queue_key: keys/other", 2},
	} {
		var cfg settings.Config
		cfg.Guest.StateDir, cfg.Federation.QueueKey, cfg.Jobs.SizeMB, cfg.Jobs.KeptDays = "/state", tc.name, 3, 2
		keys := map[string]client.Key{"keys/queue": {Key: key(tc.bytes)}, "models/test": {Key: key(32)}}
		o, err := bounds.Opening(cfg, keys, slog.New(slog.DiscardHandler))
		if len(keys) != tc.left {
			t.Errorf("%s: %d keys are left, want %d", what, len(keys), tc.left)
		}
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s: %v does not say %q", what, err, tc.says)
			}
			continue
		}
		if err != nil || (o.Key != nil) != (tc.name != "") || o.Dir != "/state/jobs" || o.Options.MaxBytes != 3<<20 || o.Options.KeptAge != 48*time.Hour {
			t.Errorf("%s: %+v, %v", what, o, err)
		}
	}
}

// What is not configured has the spool's own default; half of all is one user's.
func TestSpoolLimitsFollowTheConfiguration(t *testing.T) {
	if got := bounds.Spool(settings.Config{}); got != spool.Defaults() {
		t.Errorf("got %+v, want %+v", got, spool.Defaults())
	}
	var cfg settings.Config
	cfg.Spool.SizeMB, cfg.Spool.FreeMB = 10, 7
	want := spool.Defaults()
	want.Total, want.PerOwner, want.Floor = 10<<20, 5<<20, 7<<20
	if got := bounds.Spool(cfg); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	cfg.Spool.SizePerUIDMB, want.PerOwner = 2, 2<<20
	if got := bounds.Spool(cfg); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Workers are those of the socket, or a program that is there; without either the setting is
// named.
func TestWorkersAreFound(t *testing.T) {
	self, err := os.Executable() // any file that is there
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		socket, path string
		want         worker.Runner // nil: an error
	}{
		"a socket":        {"/run/workers", self, worker.Socket{Path: "/run/workers"}},
		"a program":       {"", self, worker.Exec{Path: self}},
		"none":            {"", filepath.Join(t.TempDir(), "absent"), nil},
		"none beside me":  {"", "", nil},
		"a socket, alone": {"/run/workers", "", worker.Socket{Path: "/run/workers"}},
	} {
		var cfg settings.Config
		cfg.Workers.Socket, cfg.Workers.Path = tc.socket, tc.path
		w, err := bounds.NewWorkers(cfg, slog.New(slog.DiscardHandler))
		if tc.want == nil {
			if err == nil || !strings.Contains(err.Error(), "workers.path") {
				t.Errorf("%s: %v does not name the setting", what, err)
			}
			continue
		}
		if err != nil || w.Runner != tc.want || w.Pool == nil || w.Encrypting.Memory != cfg.WorkerMemory() || w.Proving.Memory != cfg.ProofMemory() {
			t.Errorf("%s: %+v, %v", what, w, err)
		}
	}
}
