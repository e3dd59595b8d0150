package chunkseal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestTwoFilesNeverShareAnIDOrAKey(t *testing.T) {
	var a, b memory
	x, err := NewWriter(&a, fixedKey(t, 1), testManifest, testSections())
	if err != nil {
		t.Fatal(err)
	}
	y, err := NewWriter(&b, fixedKey(t, 1), testManifest, testSections())
	if err != nil {
		t.Fatal(err)
	}
	if x.fileID == y.fileID || x.keys.commitment == y.keys.commitment {
		t.Error("two files under one model key share id or keys")
	}
	first := plaintext(0, 100)
	if err := errors.Join(x.WriteChunk(first), y.WriteChunk(first)); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.b[blockBytes:], b.b[blockBytes:]) {
		t.Error("the same plaintext sealed twice gives the same bytes")
	}
}

func TestUnfinishedFileIsNone(t *testing.T) {
	var out memory
	w, err := NewWriter(&out, fixedKey(t, 1), testManifest, testSections())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteChunk(make([]byte, 99)); err == nil {
		t.Error("a chunk of another size was written")
	}
	if err := w.WriteChunk(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(newSigner(3).sign); !errors.Is(err, ErrUnfinished) {
		t.Errorf("closed without all chunks: %v", err)
	}
	_, err = Inspect(bytes.NewReader(out.b), int64(len(out.b)))
	wantReason(t, err, ReasonNotSealed)
}

func TestWriterRefusesWhatAReaderWould(t *testing.T) {
	good := testSections()
	cases := map[string]func(*Manifest, *[]Section){
		"no name":          func(m *Manifest, _ *[]Section) { m.Name = "" },
		"long name":        func(m *Manifest, _ *[]Section) { m.Name = strings.Repeat("x", MaxNameBytes+1) },
		"name with space":  func(m *Manifest, _ *[]Section) { m.Name = "a b" },
		"parameter sets":   func(m *Manifest, _ *[]Section) { m.ParameterSets = make([]string, MaxParameterSets+1) },
		"parameter set":    func(m *Manifest, _ *[]Section) { m.ParameterSets = []string{"\n"} },
		"no sections":      func(_ *Manifest, s *[]Section) { *s = nil },
		"many sections":    func(_ *Manifest, s *[]Section) { *s = make([]Section, MaxSections+1) },
		"same name":        func(_ *Manifest, s *[]Section) { (*s)[1].Name = (*s)[0].Name },
		"section name":     func(_ *Manifest, s *[]Section) { (*s)[1].Name = "" },
		"kind":             func(_ *Manifest, s *[]Section) { (*s)[1].Kind = 9 },
		"no chunks":        func(_ *Manifest, s *[]Section) { (*s)[1].Chunks = 0 },
		"many chunks":      func(_ *Manifest, s *[]Section) { (*s)[0].Chunks, (*s)[1].Chunks = MaxChunks, MaxChunks },
		"large chunk":      func(_ *Manifest, s *[]Section) { (*s)[1].ChunkBytes = MaxChunkBytes + 1 },
		"large last chunk": func(_ *Manifest, s *[]Section) { (*s)[1].LastBytes = (*s)[1].ChunkBytes + 1 },
	}
	for name, change := range cases {
		m := testManifest
		list := append([]Section(nil), good...)
		change(&m, &list)
		if _, err := NewWriter(&memory{}, fixedKey(t, 1), m, list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	short := fixedKey(t, 1)
	short.Wipe()
	if _, err := NewWriter(&memory{}, short, testManifest, good); !errors.Is(err, ErrKeySize) {
		t.Errorf("wiped key: %v", err)
	}
}

// failing refuses to write or seek after a number of calls.
type failing struct {
	memory
	left int
}

var errFull = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return f.memory.Write(p)
}

func (f *failing) Seek(offset int64, whence int) (int64, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return f.memory.Seek(offset, whence)
}

// TestFailedWritesAreReported fails each write and seek of a file in turn; only
// the complete file opens.
func TestFailedWritesAreReported(t *testing.T) {
	for left := range 12 {
		out := &failing{left: left}
		err := writeTo(t, out)
		if done := left >= 11; (err == nil) != done || !done && !errors.Is(err, errFull) {
			t.Errorf("failure at call %d: %v", left, err)
		}
		if opens := readAll(t, out.b) == nil; opens != (err == nil) {
			t.Errorf("failure at call %d: file opens: %v", left, opens)
		}
	}
}

func writeTo(t *testing.T, out *failing) error {
	t.Helper()
	w, err := newWriter(out, fixedKey(t, 1), fixedID(2), testManifest, testSections())
	if err != nil {
		return err
	}
	for i, s := range []int{100, 1088, 1088, 1000, 32, 2*slotBytes - tagSize, slotBytes - tagSize} {
		if err := w.WriteChunk(plaintext(i, s)); err != nil {
			if again := w.WriteChunk(plaintext(i, s)); !errors.Is(again, ErrUnfinished) {
				t.Errorf("written on after a failure: %v", again)
			}
			return err
		}
	}
	if err := w.WriteChunk(nil); !errors.Is(err, ErrUnfinished) {
		t.Errorf("one chunk too many: %v", err)
	}
	_, err = w.Close(newSigner(3).sign)
	return err
}

func TestCloseNeedsASaneSignature(t *testing.T) {
	for name, sign := range map[string]SignFunc{
		"error":          func([]byte) ([]byte, []byte, error) { return nil, nil, errFull },
		"no key":         func([]byte) ([]byte, []byte, error) { return nil, []byte{1}, nil },
		"huge signature": func([]byte) ([]byte, []byte, error) { return []byte{1}, make([]byte, MaxSignatureBytes+1), nil },
	} {
		w, err := newWriter(&memory{}, fixedKey(t, 1), fixedID(2), testManifest, testSections()[:1])
		if err == nil {
			err = w.WriteChunk(plaintext(0, 100))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(sign); err == nil {
			t.Errorf("%s: closed", name)
		}
	}
}
