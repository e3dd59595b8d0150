package setup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau/ptautest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"golang.org/x/crypto/blake2b"
)

// powersFile writes powers of tau, and returns the file and both of its digests.
func powersFile(t *testing.T, data []byte) (path, short, long string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "powers.ptau")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := sha256.Sum256(data), blake2b.Sum512(data)
	return path, hex.EncodeToString(a[:]), hex.EncodeToString(b[:])
}

// sealed is a small sealed classifier as arguments of setup.
func sealed(t *testing.T) []string {
	t.Helper()
	m := classifytest.Seal(t, "tiny", 1)
	key := filepath.Join(t.TempDir(), "model.key")
	if err := os.WriteFile(key, m.Secret, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{m.Path, "--key", key, "--publisher", m.Publisher}
}

func TestKeysOfPLONK(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys of PLONK")
	data := provetest.Powers(t)
	path, short, long := powersFile(t, data)
	dir := t.TempDir()
	setup := append([]string{"proof", "setup", "--plonk", "--out", dir, "--ptau", path}, sealed(t)...)
	for _, digest := range []string{short, long} {
		if out, status, err := run(t, slices.Concat(setup, []string{"--ptau-digest", digest, "--json"})...); status != 0 || !strings.Contains(out, `"development": false`) {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if out, _, err := run(t, slices.Concat(setup, []string{"--ptau-digest", long})...); err != nil || !strings.Contains(out, "powers of tau, SHA-256 "+short) {
		t.Errorf("what is trusted is not told: %s, %v", out, err)
	}
	sets, err := keyset.Load(dir)
	if err != nil || len(sets) != 1 {
		t.Fatalf("%d sets, %v", len(sets), err)
	}
	r := sets[0].Record
	if r.System != statement.PLONK || r.Development || r.Ceremony.String() != short {
		t.Errorf("%+v", r)
	}
	if _, err := keyset.NewRing(sets, false, 0, keyset.Parsers{statement.PLONK: keyset.By(plonkverify.ParseKey)}); err != nil {
		t.Error(err)
	}

	// A point that is not a power of the others' secret, and fewer powers than are needed.
	wrong := bytes.Clone(data)
	at := bytes.LastIndex(wrong[:len(wrong)/8], wrong[200:264]) // the second point of a section
	copy(wrong[at+64:at+128], wrong[at:at+64])
	wrongPath, wrongDigest, _ := powersFile(t, wrong)
	cutPath, cutDigest, _ := powersFile(t, data[:len(data)-1])
	fewPath, fewDigest, _ := powersFile(t, ptautest.File(ptautest.Quick(4)))
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"no digest":       {setup, cli.StatusUsage, "--ptau-digest"},
		"half a digest":   {slices.Concat(setup, []string{"--ptau-digest", short[:32]}), cli.StatusUsage, "--ptau-digest"},
		"another digest":  {slices.Concat(setup, []string{"--ptau-digest", strings.Repeat("0", 64)}), cli.StatusRefused, short},
		"a wrong point":   {slices.Concat(setup, []string{"--ptau", wrongPath, "--ptau-digest", wrongDigest}), cli.StatusRefused, "refused"},
		"cut short":       {slices.Concat(setup, []string{"--ptau", cutPath, "--ptau-digest", cutDigest}), cli.StatusRefused, cutPath},
		"too few powers":  {slices.Concat(setup, []string{"--ptau", fewPath, "--ptau-digest", fewDigest}), cli.StatusRefused, "got 2^4, want a domain of 2^"},
		"for updates":     {[]string{"proof", "setup", "--plonk", "--gradient", "3", "--out", dir, "--ptau", path, "--ptau-digest", short}, cli.StatusUsage, "--gradient"},
		"without --plonk": {append([]string{"proof", "setup", "--out", dir, "--ptau", path, "--ptau-digest", short}, sealed(t)...), cli.StatusUsage, "--plonk"},
		"no such file":    {slices.Concat(setup, []string{"--ptau", path + "x", "--ptau-digest", short}), 1, "no such file"},
	} {
		if _, status, err := run(t, c.args...); status != c.status || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: status %d, %v", name, status, err)
		}
	}
}

// A ceremony may take its first phase from the same file, and whoever has the file sees it.
func TestACeremonyFromPublicPowers(t *testing.T) {
	longtest.Arithmetic(t, "it makes keys from powers of tau")
	path, short, _ := powersFile(t, provetest.Powers(t))
	dir := filepath.Join(t.TempDir(), "ceremony")
	if _, status, err := run(t, "proof", "ceremony", "begin", "--gradient", "3", "--out", dir, "--ptau", path, "--ptau-digest", strings.Repeat("0", 64)); status != cli.StatusRefused {
		t.Errorf("another digest: status %d, %v", status, err)
	}
	if out, status, err := run(t, "proof", "ceremony", "begin", "--gradient", "3", "--out", dir, "--ptau", path, "--ptau-digest", short); status != 0 {
		t.Fatalf("%s, %v", out, err)
	}
	if _, status, err := run(t, "proof", "ceremony", "verify", dir, "--ptau", path, "--ptau-digest", short); status != 0 {
		t.Error(err)
	}
	other, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other[len(other)-1] ^= 1
	otherPath, otherDigest, _ := powersFile(t, other)
	if _, status, err := run(t, "proof", "ceremony", "verify", dir, "--ptau", otherPath, "--ptau-digest", otherDigest); status != cli.StatusRefused {
		t.Errorf("another file: status %d, %v", status, err)
	}
}
