package chunkseal

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wideOrSkip skips where the processor lacks the instructions, and fails where the self-test of the start
// passes the assembly over.
func wideOrSkip(t testing.TB) {
	t.Helper()
	if !hasWide() {
		t.Skip("NO VAES with AVX-512: the assembly cannot run here")
	}
	if !wideAgrees() {
		t.Fatal("the assembly disagrees with the standard library, so it would never be used")
	}
}

// pair is the standard library and the assembly under one key.
func pair(t testing.TB, key [KeySize]byte) (cipher.AEAD, *wide) {
	t.Helper()
	standard, err := standardAEAD(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return standard, newWide(standard, &key)
}

// beside is a copy of b beside an unmapped page: before it, or behind it.
func beside(t testing.TB, b []byte, fromStart bool) []byte {
	t.Helper()
	const page = 4096
	size := page + (len(b)+page-1)/page*page + page
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{mem[:page], mem[size-page:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	at := size - page - len(b)
	if fromStart {
		at = page
	}
	out := mem[at:][:len(b):len(b)]
	copy(out, b)
	return out
}

// compareOpen opens what the standard library sealed, in place and elsewhere, beside pages that
// nobody may touch; then with one bit changed at `flip`, which must be refused and leave zeros.
func compareOpen(t *testing.T, key [KeySize]byte, plain, aad []byte, skew int, flip uint, fromStart bool) {
	t.Helper()
	standard, w := pair(t, key)
	nonce := []byte{0: byte(len(plain)), 11: byte(skew)}
	sealed := standard.Seal(nil, nonce, plain, aad)
	extra := beside(t, aad, fromStart)
	at := func(b []byte) []byte { // the same bytes, off by some from what is guarded
		if fromStart {
			return beside(t, append(make([]byte, skew), b...), true)[skew:]
		}
		return beside(t, append(bytes.Clone(b), make([]byte, skew)...), false)[:len(b):len(b)]
	}
	src, dst := at(sealed), at(make([]byte, len(plain)))
	got, err := w.Open(dst[:0], nonce, src, extra)
	if err != nil || !bytes.Equal(got, plain) || !bytes.Equal(dst, plain) {
		t.Fatalf("%d bytes, %d of associated data: other plaintext than the standard library's (%v)", len(plain), len(aad), err)
	}
	if !bytes.Equal(src, sealed) {
		t.Fatalf("%d bytes: the ciphertext changed", len(plain))
	}
	if got, err = w.Open(src[:0], nonce, src, extra); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes in place: other plaintext than the standard library's (%v)", len(plain), err)
	}
	bad := bytes.Clone(sealed)
	flip %= uint(8 * len(bad))
	bad[flip/8] ^= 1 << (flip % 8)
	for _, into := range [][]byte{dst, bad[:len(plain)]} {
		if got, err = w.Open(into[:0], nonce, bad, extra); err == nil || got != nil {
			t.Fatalf("%d bytes: opened with bit %d changed", len(plain), flip)
		}
		if !bytes.Equal(into, make([]byte, len(plain))) {
			t.Fatalf("%d bytes: a refused message left plaintext", len(plain))
		}
	}
}

// TestWideOpensAsTheStandardLibrary goes through all lengths up to a few groups, and sizes of chunks.
func TestWideOpensAsTheStandardLibrary(t *testing.T) {
	wideOrSkip(t)
	text := make([]byte, 300<<10)
	for i := range text {
		text[i] = byte(i*i>>5 + i)
	}
	for n := range 1100 {
		compareOpen(t, [KeySize]byte{byte(n), byte(n >> 8)}, text[:n], text[n:][:n*7%600], n%5, uint(n*77), n%2 == 0)
	}
	for _, n := range []int{5760 * 34, 192 << 10, 192<<10 - 1, 256<<10 + 17} {
		compareOpen(t, [KeySize]byte{9}, text[:n], text[:44], 3, uint(8*n+5), true)
	}
}

// FuzzWideOpen looks for lengths, keys and data for which the assembly and the standard library differ.
func FuzzWideOpen(f *testing.F) {
	f.Add([]byte("key"), []byte("text"), []byte("aad"), uint16(40), uint8(1), uint16(3), true)
	f.Fuzz(func(t *testing.T, key, text, aad []byte, repeat uint16, skew uint8, flip uint16, fromStart bool) {
		wideOrSkip(t)
		var k [KeySize]byte
		copy(k[:], key)
		if len(text)*int(repeat) < 8<<10 {
			text = bytes.Repeat(text, int(repeat))
		}
		compareOpen(t, k, text, aad, int(skew%64), uint(flip), fromStart)
	})
}

func TestWideRefusesWhatIsNoMessage(t *testing.T) {
	wideOrSkip(t)
	_, w := pair(t, [KeySize]byte{1})
	for n := range tagSize {
		if _, err := w.Open(nil, make([]byte, 12), make([]byte, n), nil); err == nil {
			t.Errorf("%d bytes opened", n)
		}
	}
	if _, err := w.Open(nil, make([]byte, 12), make([]byte, MaxChunkBytes+tagSize+1), nil); err == nil {
		t.Error("more than a chunk opened")
	}
	buf := make([]byte, 1024)
	if !overlapElsewhere(buf[1:500], buf[:500]) || !overlapElsewhere(buf[:500], buf[499:]) || overlapElsewhere(buf[:500], buf[500:]) || overlapElsewhere(buf[:5], buf[:9]) {
		t.Error("what overlaps is not found")
	}
}

// TestWipedKeysOpenNothing: afterwards the memory of the keys is zero, and a Reader refuses.
func TestWipedKeysOpenNothing(t *testing.T) {
	r, list := together(t)
	if err := r.OpenSlots(list); err != nil {
		t.Fatal(err)
	}
	r.Wipe()
	if err := r.OpenSlots(list); err != errWiped {
		t.Errorf("opened after Wipe: %v", err)
	}
	if w, ok := r.chunks.chunks.(*wide); ok && *w.key != (wideKey{}) {
		t.Error("round keys are still there")
	}
}

// TestWideOpensWycheproof opens what the project's suite has for keys of 256 bits.
func TestWideOpensWycheproof(t *testing.T) {
	wideOrSkip(t)
	dir := os.Getenv("ANCHORHOLD_SHARED")
	for at := ".."; dir == "" && len(at) < 30; at += "/.." {
		if _, err := os.Stat(filepath.Join(at, "shared", "vectors")); err == nil {
			dir = filepath.Join(at, "shared")
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "vectors", "aes_gcm_test.json"))
	if err != nil {
		t.Skip("the vectors are absent:", err)
	}
	var file struct {
		TestGroups []struct {
			IVSize, KeySize, TagSize int
			Tests                    []struct {
				TCID                               int
				Key, IV, AAD, Msg, CT, Tag, Result string
			}
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, g := range file.TestGroups {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			continue
		}
		for _, v := range g.Tests {
			checked++
			want := v.Msg
			if v.Result != "valid" {
				want = "FAIL"
			}
			checkVector(t, fmt.Sprint(v.TCID), v.Key, v.IV, v.AAD, v.CT+v.Tag, want)
		}
	}
	if checked < 50 {
		t.Errorf("%d vectors, want more", checked)
	}
}

// TestWideOpensNIST opens NIST's vectors (CAVP, gcmDecrypt256 and gcmEncryptExtIV256) that the form has nonces
// and tags for.
func TestWideOpensNIST(t *testing.T) {
	wideOrSkip(t)
	for _, name := range []string{"gcmDecrypt256.rsp", "gcmEncryptExtIV256.rsp"} {
		f, err := os.Open(filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "nist", name))
		if err != nil {
			t.Skip("NIST's vectors are absent: set ANCHORHOLD_PEERS to what `make peers` makes:", err)
		}
		defer f.Close()
		v := map[string]string{}
		checked := 0
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			name, value, _ := strings.Cut(strings.Trim(line, "[]"), "=")
			if line == "FAIL" {
				name, value = "PT", "FAIL"
			}
			v[strings.TrimSpace(name)] = strings.TrimSpace(value)
			if line == "" && v["Key"] != "" {
				if v["IVlen"] == "96" && v["Taglen"] == "128" {
					checked++
					checkVector(t, v["Count"], v["Key"], v["IV"], v["AAD"], v["CT"]+v["Tag"], v["PT"])
				}
				delete(v, "Key")
			}
		}
		if err := lines.Err(); err != nil || checked < 100 {
			t.Errorf("%s: %d vectors, want more (%v)", name, checked, err)
		}
	}
}

// checkVector opens one vector, given in hexadecimal; FAIL is a message to refuse.
func checkVector(t *testing.T, id, key, iv, aad, sealed, want string) {
	t.Helper()
	var b [4][]byte
	for i, s := range []string{key, iv, aad, sealed} {
		var err error
		if b[i], err = hex.DecodeString(s); err != nil {
			t.Fatal(err)
		}
	}
	_, w := pair(t, [KeySize]byte(b[0]))
	got, err := w.Open(nil, b[1], b[3], b[2])
	if refused := err != nil; refused != (want == "FAIL") || !refused && hex.EncodeToString(got) != strings.ToLower(want) {
		t.Errorf("%s: %x, %v, want %s", id, got, err, want)
	}
}

// BenchmarkOpenWide opens chunks of the sizes in use with the assembly and with the standard library
// by turns; the fastest round of each counts, because other work makes the rest slower.
func BenchmarkOpenWide(b *testing.B) {
	wideOrSkip(b)
	for _, size := range []int{4 << 10, 48 << 10, 192 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			standard, w := pair(b, [KeySize]byte{7})
			nonce, aad := make([]byte, 12), make([]byte, 44)
			sealed := standard.Seal(nil, nonce, make([]byte, size), aad)
			dst := make([]byte, 0, size)
			best := [2]time.Duration{time.Hour, time.Hour}
			for b.Loop() {
				for i, a := range []cipher.AEAD{w, standard} {
					start := time.Now()
					if _, err := a.Open(dst, nonce, sealed, aad); err != nil {
						b.Fatal(err)
					}
					best[i] = min(best[i], time.Since(start))
				}
			}
			b.ReportMetric(float64(size)/float64(best[0]), "GB/s-wide")
			b.ReportMetric(float64(size)/float64(best[1]), "GB/s-standard")
			b.ReportMetric(float64(best[1])/float64(best[0]), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
