//go:build !release

package appraisal

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

// BenchmarkStart is a broker's verifier of every kind at its start, with 10,000 certificates of chips
// in its directory of collateral.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for n := range 10_000 {
		hwid := make([]byte, 64)
		hwid[0], hwid[62], hwid[63] = 1, byte(n>>8), byte(n)
		key, err := collateral.ParseKey("amd-vcek/Milan/" + hex.EncodeToString(hwid) + "/000400181d")
		if err != nil {
			b.Fatal(err)
		}
		data, err := collateral.Item{Key: key, Fetched: time.Unix(1, 0), Documents: [][]byte{bytes.Repeat([]byte{byte(n)}, 1360)}}.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		// Not through the store, which syncs each.
		if err := os.WriteFile(filepath.Join(dir, key.FileName()+".item"), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	c := tdxSettings(dir)
	c.GPU = true
	c.TPM = settings.TPM{Roots: []string{"google"}, WithoutRevocation: "a benchmark"}
	for b.Loop() {
		a, err := Open(c, Roots{}, discard())
		if err != nil {
			b.Fatal(err)
		}
		if len(a.Kinds()) < 5 {
			b.Fatalf("kinds %v", a.Kinds())
		}
		a.Close()
	}
}
