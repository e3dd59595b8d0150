package keyset_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// What was measured for one proof stays inside the bound, and the bound is no guess far
// above it. Sizes in bytes, peaks in 10^6 bytes.
func TestProvingMemoryCoversWhatWasMeasured(t *testing.T) {
	for _, c := range []struct {
		what         string
		system       statement.System
		circuit, key int64
		peak         float64
	}{
		{"64-32-10", statement.Groth16, 961_709, 3_178_109, 34},
		{"gradient, 10,000 coordinates of 8 bits", statement.Groth16, 3_242_543, 10_912_343, 71},
		{"gradient, 10,000 coordinates of 16 bits", statement.Groth16, 7_052_137, 21_648_843, 129},
		{"CNN 28x28", statement.Groth16, 4_941_548, 23_227_807, 136},
		{"784-128-10", statement.Groth16, 35_235_508, 102_320_745, 514},
		{"784-128-10, batch of 16", statement.Groth16, 42_830_331, 143_795_145, 755},
		{"8-4-2, PLONK", statement.PLONK, 139_090, 1_083_608, 31},
		{"64-32-10, PLONK", statement.PLONK, 822_737, 8_423_640, 163},
		{"256-32-10, PLONK", statement.PLONK, 2_592_542, 33_589_464, 614},
	} {
		dir := t.TempDir()
		s := save(t, dir, nil)
		s.Record.System = c.system
		for name, size := range map[string]int64{s.Record.Circuit.String() + ".circuit": c.circuit, s.Record.ProvingKey.String() + ".pk": c.key} {
			if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.ProvingMemory()
		if err != nil {
			t.Fatal(err)
		}
		// A worker's garbage collector begins to work harder at seven eighths of its bound.
		if room := float64(got)*7/8 - c.peak*1e6; room < 0 || float64(got) > 1.5*c.peak*1e6+60e6 {
			t.Errorf("%s: a bound of %d for a peak of %g MB", c.what, got, c.peak)
		}
	}
}

func TestProvingMemoryNeedsTheFiles(t *testing.T) {
	for _, ext := range []string{".circuit", ".pk"} {
		dir := t.TempDir()
		s := save(t, dir, nil)
		name, err := filepath.Glob(filepath.Join(dir, "*"+ext))
		if err != nil || len(name) != 1 {
			t.Fatal(name, err)
		}
		if err := os.Truncate(name[0], 1<<40); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ProvingMemory(); !errors.Is(err, keyset.ErrChanged) {
			t.Errorf("%s of a terabyte: %v", ext, err)
		}
		if err := os.Remove(name[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ProvingMemory(); !errors.Is(err, keyset.ErrMissing) {
			t.Errorf("%s missing: %v", ext, err)
		}
	}
}
