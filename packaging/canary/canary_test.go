package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"
)

// noise is what surrounds a secret.
func noise(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func floats(seed uint64, n int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 2))
	v := make([]float32, n)
	for i := range v {
		v[i] = rng.Float32() - 0.5
	}
	return v
}

// sent is an index as it arrives elsewhere.
func sent(t *testing.T, x *Index) *Searcher {
	t.Helper()
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	var arrived Index
	if err := json.Unmarshal(text, &arrived); err != nil {
		t.Fatal(err)
	}
	s, err := NewSearcher(&arrived)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func search(t *testing.T, s *Searcher, data []byte) []Hit {
	t.Helper()
	hits, err := s.Search(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// TestEveryFormIsFound writes each secret as programs do, not as the package does.
func TestEveryFormIsFound(t *testing.T) {
	key, text, vector := noise(1, 32), `prompt "k7Qz" says: 9fWm2 & XbT4 <pL0> vR8`, floats(3, 64)
	x, err := New(Bytes("key", key), Text("prompt", text), Floats("gradient", vector))
	if err != nil {
		t.Fatal(err)
	}
	s := sent(t, x)
	utf16le := func(order binary.AppendByteOrder) (b []byte) {
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return b
	}
	var le4, be4, le8, be8, q []byte
	var most float64
	for _, v := range vector {
		le4 = binary.LittleEndian.AppendUint32(le4, math.Float32bits(v))
		be4 = binary.BigEndian.AppendUint32(be4, math.Float32bits(v))
		le8 = binary.LittleEndian.AppendUint64(le8, math.Float64bits(float64(v)))
		be8 = binary.BigEndian.AppendUint64(be8, math.Float64bits(float64(v)))
		most = max(most, math.Abs(float64(v)))
	}
	for _, v := range vector {
		q = append(q, byte(int8(math.Round(float64(v)/most*127))))
	}
	asJSON := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var list []int
	for _, b := range key {
		list = append(list, int(b))
	}
	for _, tc := range []struct {
		canary, form string
		data         []byte
	}{
		{"key", "raw", key},
		{"key", "hex", []byte(hex.EncodeToString(key))},
		{"key", "hex", fmt.Appendf(nil, "%X", key)},
		{"key", "base64", []byte(base64.StdEncoding.EncodeToString(key))},
		{"key", "base64", []byte(base64.StdEncoding.EncodeToString(append([]byte("x"), key...)))},
		{"key", "base64", []byte(base64.RawURLEncoding.EncodeToString(append([]byte("xy"), key...)))},
		{"key", "decimals", fmt.Append(nil, key)},
		{"key", "decimals", asJSON(list)},
		{"prompt", "raw", []byte(text)},
		{"prompt", "JSON", asJSON(map[string]string{"content": text})},
		{"prompt", "percent", []byte(percentEscaped(text))},
		{"prompt", "UTF-16", utf16le(binary.LittleEndian)},
		{"prompt", "UTF-16", utf16le(binary.BigEndian)},
		{"prompt", "hex", fmt.Appendf(nil, "%x", text)},
		{"prompt", "base64", asJSON([]byte(text))},
		{"gradient", "float32", le4},
		{"gradient", "float32", be4},
		{"gradient", "float64", le8},
		{"gradient", "float64", be8},
		{"gradient", "float32 hex", fmt.Appendf(nil, "%x", le4)},
		{"gradient", "float32 base64", asJSON(le4)},
		{"gradient", "JSON", asJSON(vector)},
		{"gradient", "int8", q},
	} {
		around := append(append(noise(5, 100), tc.data...), noise(6, 100)...)
		found := false
		for _, h := range search(t, s, around) {
			found = found || h.Canary == tc.canary && h.Form == tc.form
			if h.Canary != tc.canary || h.Offset < 100-Window || h.Offset+h.Length > int64(len(around)-100+Window) {
				t.Errorf("%s as %s: found %+v", tc.canary, tc.form, h)
			}
		}
		if !found {
			t.Errorf("%s is not found as %s in %q", tc.canary, tc.form, tc.data)
		}
	}
	if hits := search(t, s, noise(9, 4<<20)); len(hits) != 0 {
		t.Errorf("found in noise: %+v", hits)
	}
}

func percentEscaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// TestSixteenBytesAreEnoughWhereverTheyAre: at any offset, across reads, and not one byte less.
func TestSixteenBytesAreEnoughWhereverTheyAre(t *testing.T) {
	secret := noise(1, 48)
	x, err := New(Bytes("key", secret))
	if err != nil {
		t.Fatal(err)
	}
	s := sent(t, x)
	for from := range len(secret) - Window + 1 {
		for _, at := range []int{0, 1, 7, 500, 4096, 3 * 4096, 4096 + 8, BufferBytes - Window, BufferBytes - 15, BufferBytes - 1, BufferBytes, BufferBytes + 3} {
			data := make([]byte, BufferBytes+200)
			copy(data[at:], secret[from:from+Window])
			if hits := search(t, s, data); len(hits) != 1 || hits[0] != (Hit{"key", "raw", int64(at), Window}) {
				t.Fatalf("%d bytes from %d at %d: %+v", Window, from, at, hits)
			}
		}
		short := make([]byte, 300)
		copy(short[100:], secret[from:from+Window-1])
		if hits := search(t, s, short); len(hits) != 0 {
			t.Fatalf("%d bytes from %d are found: %+v", Window-1, from, hits)
		}
	}
	// A reader that gives a byte at a time hides nothing.
	hits, err := s.Search(iotest.OneByteReader(bytes.NewReader(append(noise(2, 50), secret...))))
	if err != nil || len(hits) != 1 || hits[0] != (Hit{"key", "raw", 50, 48}) {
		t.Errorf("%+v, %v", hits, err)
	}
}

// TestTheIndexHoldsNoPartOfASecret: it is searched for, in memory of the machine it is sent to.
func TestTheIndexHoldsNoPartOfASecret(t *testing.T) {
	key, text := noise(1, 32), "a prompt with 8Kd02lqPz in it"
	x, err := New(Bytes("key", key), Text("prompt", text), Floats("gradient", floats(3, 64)))
	if err != nil {
		t.Fatal(err)
	}
	s := sent(t, x)
	written, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"entries": x.Entries, "JSON": written} {
		if hits := search(t, s, data); len(hits) != 0 {
			t.Errorf("%s: %+v", name, hits)
		}
	}
	// Of whole windows only: eight bytes of a key in a row would be half of it.
	for i := range len(key) - 7 {
		if bytes.Contains(x.Entries, key[i:i+8]) {
			t.Errorf("bytes %d to %d of the key", i, i+8)
		}
	}
	search(t, s, append(noise(4, 1000), key...))
	if !bytes.Contains(s.buf, key) {
		t.Error("the buffer is not where the searcher reads")
	}
	s.Wipe()
	if bytes.Contains(s.buf, key[:8]) {
		t.Error("a key is left in the buffer")
	}
}

func TestWhatDoesNotStandOutIsRefused(t *testing.T) {
	for name, c := range map[string]Canary{
		"zeros": {Name: "a", Forms: []Form{{"raw", make([]byte, 100)}}},
		"short": Bytes("a", noise(1, 2)),
		"equal": {Name: "a", Forms: []Form{{"raw", bytes.Repeat([]byte{7, 7, 7, 9}, 100)}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	x, err := New(Bytes("b", noise(1, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Add(Bytes("a", make([]byte, 50))); err == nil {
		t.Error("zeros: added")
	}
	if err := x.Add(Bytes("a", noise(2, 32))); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
	if hits := search(t, sent(t, x), noise(2, 32)); len(hits) != 1 || hits[0].Canary != "a" {
		t.Errorf("%+v", hits)
	}
	if _, err := New(Bytes("a", noise(1, 32)), Bytes("a", noise(2, 32))); err == nil {
		t.Error("two canaries of one name: accepted")
	}
}

func TestMalformedIndexIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Index){
		"a part of an entry": func(x *Index) { x.Entries = x.Entries[:len(x.Entries)-1] },
		"no key":             func(x *Index) { x.Key = nil },
		"another canary":     func(x *Index) { x.Entries[8] = 1 },
		"another form":       func(x *Index) { x.Entries[11] = 1 },
		"a high head":        func(x *Index) { x.Entries[15] = 1 },
		"a high tail":        func(x *Index) { x.Entries[19] = 1 },
		"a part of a word":   func(x *Index) { x.Words = x.Words[1:] },
		"a high word":        func(x *Index) { x.Words[3] = 1 },
	} {
		x, err := New(Bytes("key", noise(1, 32)))
		if err != nil {
			t.Fatal(err)
		}
		change(x)
		if _, err := NewSearcher(x); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReadersThatFail: what was found before counts, and the error is told.
func TestReadersThatFail(t *testing.T) {
	secret := noise(1, 32)
	x, err := New(Bytes("key", secret))
	if err != nil {
		t.Fatal(err)
	}
	s := sent(t, x)
	broken := errors.New("broken")
	hits, err := s.Search(io.MultiReader(bytes.NewReader(secret), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || len(hits) != 1 {
		t.Errorf("%+v, %v", hits, err)
	}
	if _, err := s.SearchFrom(func(int64, []byte) (int, error) { return BufferBytes + 1, nil }); err == nil {
		t.Error("a read of more than the buffer: accepted")
	}
	many := bytes.Repeat(append(make([]byte, 100), secret...), 10*maxHits)
	if hits := search(t, s, many); len(hits) != maxHits {
		t.Errorf("%d hits, want %d", len(hits), maxHits)
	}
}

func BenchmarkSearch(b *testing.B) {
	x, err := New(Bytes("key", noise(1, 32)), Floats("gradient", floats(3, 256)), Floats("weights", floats(4, 256)))
	if err != nil {
		b.Fatal(err)
	}
	s, err := NewSearcher(x)
	if err != nil {
		b.Fatal(err)
	}
	data := noise(2, 16<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := s.Search(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(x.Entries)/entryBytes), "windows")
}

// FuzzIndex: an index from elsewhere makes a searcher that searches, or is refused.
func FuzzIndex(f *testing.F) {
	x, err := New(Bytes("key", noise(1, 32)))
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(x)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, noise(1, 32))
	f.Add([]byte(`{"key":"","entries":"AAAA"}`), []byte("text"))
	f.Fuzz(func(t *testing.T, index, data []byte) {
		var x Index
		if json.Unmarshal(index, &x) != nil {
			return
		}
		s, err := NewSearcher(&x)
		if err != nil {
			return
		}
		hits, err := s.Search(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hits {
			if h.Offset < 0 || h.Length < Window || h.Offset+h.Length > int64(len(data)) {
				t.Errorf("%+v in %d bytes", h, len(data))
			}
		}
	})
}
