package tdx

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/image/measure/firmware/firmwaretest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// TestMRTDBesideGoogles: images of our own, and Debian's OVMF where `make peers` has unpacked it.
func TestMRTDBesideGoogles(t *testing.T) {
	longtest.Run(t, "it builds gce-tcb-verifier")
	dir := t.TempDir()
	var paths, want []string
	add := func(path string, raw []byte) {
		paths, want = append(paths, path), append(want, mrtd(t, raw, ByPage))
	}
	plain := firmwaretest.AmdSev()
	plain.TDX = slices.Delete(plain.TDX, 4, 5)
	more := plain
	more.TDX = append(slices.Clone(plain.TDX), [6]uint64{0, 0, 0xa00000, 16 * 4096, 3, 0})
	more.TDX[1][5] = 1
	for i, m := range []firmwaretest.Image{plain, more} {
		path, raw := filepath.Join(dir, string(rune('a'+i))), m.Make()
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		add(path, raw)
	}
	debian := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "measure/debian/usr/share/ovmf/OVMF.fd")
	if raw, err := os.ReadFile(debian); err == nil {
		add(debian, raw)
	} else {
		t.Logf("without Debian's OVMF: %v", err)
	}
	cmd := exec.Command("go", append([]string{"run", "."}, paths...)...)
	cmd.Dir, cmd.Stderr = filepath.Join("testdata", "oracle"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", want, got)
	}
}
