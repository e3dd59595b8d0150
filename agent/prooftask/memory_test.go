package prooftask_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/prooftask"
	"github.com/anchorhold/anchorhold/agent/prooftest"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

func TestMemory(t *testing.T) {
	dir := t.TempDir()
	set := prooftest.Shared(t).Save(t, dir, false)
	need, err := prooftask.Memory(set, 1<<30)
	if err != nil || need < 48<<20 || need > 64<<20 {
		t.Fatal(need, err)
	}
	if got, err := prooftask.Memory(set, need); got != need || err != nil {
		t.Errorf("exactly enough: %d %v", got, err)
	}
	_, err = prooftask.Memory(set, need-1)
	if reason, _ := evidence.ReasonOf(err); reason != prooftask.ReasonMemory || !strings.Contains(err.Error(), "proofs.memory_mb to 52 or more") {
		t.Errorf("a byte short: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, set.Record.ProvingKey.String()+".pk")); err != nil {
		t.Fatal(err)
	}
	if _, err := prooftask.Memory(set, 1<<30); !errors.Is(err, keyset.ErrMissing) {
		t.Errorf("without the key: %v", err)
	}
}
