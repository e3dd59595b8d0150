package provetask_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/prove/provetask"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
)

func TestMemory(t *testing.T) {
	dir := t.TempDir()
	set := provetest.Shared(t).Save(t, dir, false)
	need, err := provetask.Memory(set, 1<<30)
	if err != nil || need < 48<<20 || need > 64<<20 {
		t.Fatal(need, err)
	}
	if got, err := provetask.Memory(set, need); got != need || err != nil {
		t.Errorf("exactly enough: %d %v", got, err)
	}
	_, err = provetask.Memory(set, need-1)
	if reason, _ := refusal.ReasonOf(err); reason != provetask.ReasonMemory || !strings.Contains(err.Error(), "proofs.memory_mb to at least 52") {
		t.Errorf("a byte short: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, set.Record.ProvingKey.String()+".pk")); err != nil {
		t.Fatal(err)
	}
	if _, err := provetask.Memory(set, 1<<30); !errors.Is(err, keyset.ErrMissing) {
		t.Errorf("without the key: %v", err)
	}
}
