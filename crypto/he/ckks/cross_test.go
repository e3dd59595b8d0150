package ckks

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// seal runs SEAL's half, testdata/cross.py, where the peers are installed.
func seal(t *testing.T, verb, dir string) string {
	t.Helper()
	peers := os.Getenv("ANCHORHOLD_PEERS")
	if peers == "" {
		t.Skip("ANCHORHOLD_PEERS is not set: SEAL is not installed")
	}
	python := filepath.Join(peers, "fhe", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Skipf("SEAL is not installed: %v", err)
	}
	out, err := exec.Command(python, filepath.Join("testdata", "cross.py"), verb, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("cross.py %s: %v\n%s", verb, err, out)
	}
	return string(out)
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Ciphertexts go both ways at the template's primes, byte for byte: SEAL's sum under
// SEAL's key is decrypted here, and SEAL decrypts sums that were encrypted here, one
// under its own public key and secret, one under a key pair made here.
func TestSEALDecryptsWhatWeEncryptAndTheReverse(t *testing.T) {
	dir, p := t.TempDir(), Template()
	seal(t, "export", dir)
	raw := read(t, dir, "expected")
	expected := make([]float64, p.Values(Real))
	for i := range expected {
		expected[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
	}
	secret, err := keybuf.Take(read(t, dir, "seal-secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	theirs := decryptReal(t, p, secret, read(t, dir, "seal-sum"))
	report(t, "SEAL's sum, decrypted here", largestError(theirs, expected))

	s, err := newScheme(p)
	if err != nil {
		t.Fatal(err)
	}
	pair, half := read(t, dir, "seal-public"), polyBytes(p.N(), p.primes())
	b, a := newPoly(p.N(), 4), newPoly(p.N(), 4)
	if len(pair) != 2*half || !unpackPoly(b, pair[:half], p.primes()) || !unpackPoly(a, pair[half:], p.primes()) {
		t.Fatal("SEAL's public key is not canonical")
	}
	e, err := s.encryptor(s.encryptionKey(b, a), Real)
	if err != nil {
		t.Fatal(err)
	}
	ourSecret, ourPublic := keyPair(t, p, 5)
	write(t, dir, "our-secret", ourSecret.Bytes())
	write(t, dir, "our-sum-seal-key", halves(t, e, expected))
	write(t, dir, "our-sum-our-key", halves(t, encryptor(t, p, ourPublic, Real), expected))
	lines := strings.Fields(seal(t, "check", dir))
	if len(lines) != 4 {
		t.Fatalf("cross.py check printed %q", lines)
	}
	report(t, "our sum under SEAL's key, decrypted by SEAL", number(t, lines[1]))
	report(t, "our sum under our key, decrypted by SEAL", number(t, lines[3]))
}

func report(t *testing.T, what string, worst float64) {
	t.Helper()
	t.Logf("%s: largest error %.2g", what, worst)
	if !(worst < 1e-6) {
		t.Errorf("%s: error %g", what, worst)
	}
}

func decryptReal(t *testing.T, p Params, secret *keybuf.Buffer, ct []byte) []float64 {
	t.Helper()
	d, err := NewDecryptor(p, secret, Real, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	out := make([]float64, p.Values(Real))
	if err := d.Decrypt(out, ct); err != nil {
		t.Fatal(err)
	}
	return out
}

// halves is the sum of two ciphertexts of half the values each.
func halves(t *testing.T, e *Encryptor, values []float64) []byte {
	t.Helper()
	half := make([]float64, len(values))
	for i, v := range values {
		half[i] = v / 2
	}
	sum, ct := NewResidues(e.Params), NewResidues(e.Params)
	for range 2 {
		if err := ct.Unmarshal(encrypt(t, e, half)); err != nil {
			t.Fatal(err)
		}
		AddInto(sum, ct)
	}
	return marshal(t, e.Params, sum)
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
