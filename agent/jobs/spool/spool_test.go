package spool

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func newKey(t testing.TB) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func write(t testing.TB, key *keybuf.Buffer, name string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, key, name)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(len(data), 1000)
		if _, err := w.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(file []byte, key *keybuf.Buffer, name string) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(file), key, name)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	return io.ReadAll(iotest.OneByteReader(r))
}

func TestFilesComeBack(t *testing.T) {
	key := newKey(t)
	for _, n := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes, 3*chunkBytes + 17} {
		data := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
		file := write(t, key, "job", data)
		if got, err := read(file, key, "job"); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: %d came back, %v", n, len(got), err)
		}
		if n > 2 && bytes.Contains(file, data) {
			t.Fatal("plaintext in the file")
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	key := newKey(t)
	data := bytes.Repeat([]byte("value "), chunkBytes/2)
	file := write(t, key, "job", data)
	const sealed = chunkBytes + tagBytes
	head := len(magic) + saltBytes
	swapped := bytes.Clone(file)
	copy(swapped[head:], file[head+sealed:head+2*sealed])
	copy(swapped[head+sealed:], file[head:head+sealed])
	for name, bad := range map[string][]byte{
		"empty": nil, "head": file[:head], "other magic": append([]byte("x"), file[1:]...), "cut in a chunk": file[:len(file)-1],
		"cut at a chunk": file[:head+sealed], "swapped": swapped, "more": append(bytes.Clone(file), 0),
	} {
		if _, err := read(bad, key, "job"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := 0; i < len(file); i += 9973 {
		bad := bytes.Clone(file)
		bad[i] ^= 4
		if _, err := read(bad, key, "job"); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if _, err := read(file, key, "other"); !errors.Is(err, ErrDamaged) {
		t.Errorf("another name: %v", err)
	}
	if _, err := read(file, newKey(t), "job"); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	key := newKey(f)
	good := [][]byte{write(f, key, "job", []byte("hello")), write(f, key, "job", make([]byte, chunkBytes))}
	for _, g := range good {
		f.Add(g)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := read(data, key, "job"); err == nil && !bytes.Equal(data, good[0]) && !bytes.Equal(data, good[1]) {
			t.Error("a foreign file was read to its end")
		}
	})
}
