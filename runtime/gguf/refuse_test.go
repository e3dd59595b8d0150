package gguf

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
)

// raw builds headers that Write would not.
type raw struct{ b []byte }

func header(version uint32, tensors, keys uint64) *raw {
	r := &raw{[]byte(Magic)}
	return r.u32(version).u64(tensors).u64(keys)
}

func (r *raw) u32(v uint32) *raw { r.b = binary.LittleEndian.AppendUint32(r.b, v); return r }
func (r *raw) u64(v uint64) *raw { r.b = binary.LittleEndian.AppendUint64(r.b, v); return r }
func (r *raw) str(s string) *raw { r.u64(uint64(len(s))); r.b = append(r.b, s...); return r }
func (r *raw) kv(key string, k kind) *raw {
	return r.str(key).u32(uint32(k))
}
func (r *raw) tensor(name string, t Type, offset uint64, dims ...uint64) *raw {
	r.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		r.u64(d)
	}
	return r.u32(uint32(t)).u64(offset)
}

// data pads to the alignment and adds n bytes of tensor data.
func (r *raw) data(n int) *raw {
	r.b = append(r.b, make([]byte, alignUp(int64(len(r.b)), 32)-int64(len(r.b))+int64(n))...)
	return r
}

func parse(b []byte) error {
	_, err := Parse(bytes.NewReader(b), int64(len(b)))
	return err
}

// TestRefusals has one case for each check, in which only that check fails.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", MaxNameBytes+1)
	for name, c := range map[string]struct {
		file *raw
		want string
	}{
		"magic":                {&raw{[]byte("GGML\x03\x00\x00\x00")}, "not a GGUF file"},
		"empty":                {&raw{}, "ends inside"},
		"version 1":            {header(1, 0, 0), "version 1"},
		"version 4":            {header(4, 0, 0), "version 4"},
		"big-endian":           {header(3<<24, 0, 0), "big-endian"},
		"too many tensors":     {header(3, MaxTensors+1, 0), "tensors, the limit"},
		"too many keys":        {header(3, 0, MaxKeys+1), "keys, the limit"},
		"truncated keys":       {header(3, 0, 1), "ends inside"},
		"long key":             {header(3, 0, 1).kv(long, kindUint8), "the limit"},
		"empty key":            {header(3, 0, 1).kv("", kindUint8), "empty name"},
		"key with newline":     {header(3, 0, 1).kv("a\nb", kindUint8), "printable"},
		"key twice":            {header(3, 0, 2).kv("k", kindUint32).u32(1).kv("k", kindUint32).u32(1), "twice"},
		"unknown value type":   {header(3, 0, 1).kv("k", 13), "unknown value type 13"},
		"boolean 2":            {header(3, 0, 1).kv("k", kindBool).u32(2), "boolean"},
		"huge string":          {header(3, 0, 1).kv("k", kindString).u64(MaxStringBytes + 1), "a string has"},
		"string past end":      {header(3, 0, 1).kv("k", kindString).u64(5), "ends inside"},
		"string of 2^64-1":     {header(3, 0, 1).kv("k", kindString).u64(math.MaxUint64), "a string has"},
		"nested array":         {header(3, 0, 1).kv("k", kindArray).u32(uint32(kindArray)).u64(0), "arrays of arrays"},
		"array of unknown":     {header(3, 0, 1).kv("k", kindArray).u32(99).u64(0), "unknown value type 99"},
		"huge array":           {header(3, 0, 1).kv("k", kindArray).u32(uint32(kindUint8)).u64(MaxArrayItems + 1), "items, the limit"},
		"array past end":       {header(3, 0, 1).kv("k", kindArray).u32(uint32(kindUint64)).u64(100), "ends inside"},
		"strings past end":     {header(3, 0, 1).kv("k", kindArray).u32(uint32(kindString)).u64(100), "ends inside"},
		"string item past end": {header(3, 0, 1).kv("k", kindArray).u32(uint32(kindString)).u64(1).u64(9), "item 0"},
		"boolean item 7":       {header(3, 0, 1).kv("k", kindArray).u32(uint32(kindBool)).u64(1).u32(7), "boolean 0 is 7"},
		"alignment 0":          {header(3, 0, 1).kv(alignmentKey, kindUint32).u32(0), "power of two"},
		"alignment 48":         {header(3, 0, 1).kv(alignmentKey, kindUint32).u32(48), "power of two"},
		"alignment 4":          {header(3, 0, 1).kv(alignmentKey, kindUint32).u32(4), "power of two"},
		"alignment huge":       {header(3, 0, 1).kv(alignmentKey, kindUint32).u32(MaxAlignment * 2), "power of two"},
		"alignment as text":    {header(3, 0, 1).kv(alignmentKey, kindString).str("32"), "power of two"},
		"tensor twice":         {header(3, 2, 0).tensor("a", F32, 0, 8).tensor("a", F32, 32, 8).data(64), "twice"},
		"no dimensions":        {header(3, 1, 0).tensor("a", F32, 0).data(64), "dimensions"},
		"five dimensions":      {header(3, 1, 0).tensor("a", F32, 0, 1, 1, 1, 1, 1).data(64), "dimensions"},
		"zero dimension":       {header(3, 1, 0).tensor("a", F32, 0, 8, 0).data(64), "is zero"},
		"unknown type":         {header(3, 1, 0).tensor("a", 99, 0, 8).data(64), "unknown tensor type 99"},
		"removed type":         {header(3, 1, 0).tensor("a", 4, 0, 32).data(64), "unknown tensor type 4"},
		"partial block":        {header(3, 1, 0).tensor("a", Q4_0, 0, 33).data(64), "not a multiple of the block size"},
		"product wraps":        {header(3, 1, 0).tensor("a", F32, 0, 1<<32, 1<<32).data(64), "more than"},
		"columns wrap":         {header(3, 1, 0).tensor("a", F32, 0, 1<<63).data(64), "more than"},
		"misaligned":           {header(3, 1, 0).tensor("a", F32, 8, 8).data(64), "not aligned"},
		"offset wraps":         {header(3, 1, 0).tensor("a", F32, 1<<63, 8).data(64), "not aligned"},
		"past the end":         {header(3, 1, 0).tensor("a", F32, 0, 17).data(64), "truncated or damaged"},
		"starts past the end":  {header(3, 1, 0).tensor("a", F32, 96, 8).data(64), "truncated or damaged"},
		"overlap":              {header(3, 2, 0).tensor("a", F32, 0, 9).tensor("b", F32, 32, 8).data(64), "overlap"},
		"same place":           {header(3, 2, 0).tensor("b", F32, 0, 8).tensor("a", F32, 0, 8).data(64), "overlap"},
	} {
		if err := parse(c.file.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestEveryTruncationRefused(t *testing.T) {
	b := small(t)
	b = b[:len(b)-16] // the last tensor's padding is not needed
	for n := range b {
		if parse(b[:n]) == nil {
			t.Errorf("%d of %d bytes parse", n, len(b))
		}
	}
	if err := parse(b); err != nil {
		t.Error(err)
	}
}

// small is a file with every kind of value.
func small(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	err := Write(&b, []KV{
		{"u8", uint8(1)}, {"i8", int8(-1)}, {"u16", uint16(2)}, {"i16", int16(-2)}, {"u32", uint32(3)}, {"i32", int32(-3)},
		{"u64", uint64(math.MaxUint64)}, {"i64", int64(-4)}, {"f32", float32(1.5)}, {"f64", 2.5}, {"yes", true}, {"no", false},
		{"s", "text"}, {"ss", []string{"a", "", "ccc"}}, {"i32s", []int32{-1, 2}}, {"u32s", []uint32{7}}, {"i64s", []int64{-9}},
		{"u64s", []uint64{9}}, {"f32s", []float32{0.5}}, {"f64s", []float64{0.25}}, {"bools", []bool{true, false}},
	}, []TensorData{
		{"vec", F32, []uint64{3}, make([]byte, 12)},
		{"mat", Q4_1, []uint64{64, 2}, make([]byte, 80)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEveryKindOfValueRoundTrips(t *testing.T) {
	b := small(t)
	f, err := Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int64{"u8": 1, "i8": -1, "u16": 2, "i16": -2, "u32": 3, "i32": -3, "i64": -4, "u64": -1} {
		if got, ok := f.Int(key); !ok || got != want {
			t.Errorf("%s: %d %v", key, got, ok)
		}
		if _, ok := f.Uint(key); ok != (want >= 0 || key == "u64") {
			t.Errorf("Uint(%s): %v", key, ok)
		}
	}
	if x, ok := f.Uint("u64"); !ok || x != math.MaxUint64 {
		t.Error(x, ok)
	}
	if x, ok := f.Float("f32"); !ok || x != 1.5 {
		t.Error(x, ok)
	}
	if x, ok := f.Float("f64"); !ok || x != 2.5 {
		t.Error(x, ok)
	}
	if yes, ok := f.Bool("yes"); !yes || !ok {
		t.Error("yes")
	}
	if no, ok := f.Bool("no"); no || !ok {
		t.Error("no")
	}
	if s, ok := f.String("s"); !ok || s != "text" {
		t.Error(s)
	}
	ss, ok := f.Strings("ss")
	if !ok || ss.Len() != 3 || string(ss.At(0)) != "a" || len(ss.At(1)) != 0 || string(ss.At(2)) != "ccc" {
		t.Error(ss)
	}
	if x, ok := f.Ints("i32s"); !ok || x[0] != -1 || x[1] != 2 {
		t.Error(x)
	}
	if x, ok := f.Ints("u64s"); !ok || x[0] != 9 {
		t.Error(x)
	}
	if x, ok := f.Floats("f64s"); !ok || x[0] != 0.25 {
		t.Error(x)
	}
	if x, ok := f.Tensor("mat"); !ok || x.Columns() != 64 || x.Rows() != 2 || x.Size != 80 || x.Offset != 32 || x.Elements() != 128 || x.Type.String() != "Q4_1" {
		t.Errorf("%+v", x)
	}
	if _, ok := f.Tensor("none"); ok {
		t.Error("a tensor that is not there is found")
	}
	for _, key := range []string{"none", "ss"} {
		_, a := f.String(key)
		_, b := f.Int(key)
		_, c := f.Float(key)
		_, d := f.Bool(key)
		_, e := f.Ints(key)
		_, g := f.Floats(key)
		if a || b || c || d || e || g {
			t.Errorf("%s has a type that it has not", key)
		}
	}
	if _, ok := f.Strings("i32s"); ok || len(f.Keys()) != 21 || f.Alignment() != 32 {
		t.Error("strings, keys or alignment")
	}
}

func TestHeaderKeptApart(t *testing.T) {
	b := small(t)
	f, err := Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	padded := b[:f.DataOffset]
	if g, err := ParseHeader(padded); err != nil || g.DataOffset != f.DataOffset {
		t.Error("header with padding:", err)
	}
	if _, err := ParseHeader(b); err == nil {
		t.Error("a header followed by data was taken")
	}
	dirty := append(bytes.Clone(f.HeaderBytes), 1)
	if _, err := ParseHeader(dirty); err == nil {
		t.Error("dirty padding was taken")
	}
	if _, err := ParseHeader(make([]byte, MaxHeaderBytes+MaxAlignment+1)); err == nil {
		t.Error("an oversized header was taken")
	}
}

func TestVersion2(t *testing.T) {
	if err := parse(header(2, 1, 0).tensor("a", F32, 0, 8).data(32).b); err != nil {
		t.Error(err)
	}
}

func TestAlignmentMovesData(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, []KV{{alignmentKey, uint32(4096)}}, []TensorData{{"a", F16, []uint64{4}, make([]byte, 8)}, {"b", F16, []uint64{4}, make([]byte, 8)}}); err != nil {
		t.Fatal(err)
	}
	f, err := Parse(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || f.DataOffset != 4096 || f.Tensors[1].Offset != 4096 {
		t.Errorf("%+v %v", f, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		kv KV
		t  TensorData
	}{
		"value type": {KV{"k", struct{}{}}, TensorData{"a", F32, []uint64{1}, make([]byte, 4)}},
		"data size":  {KV{"k", true}, TensorData{"a", F32, []uint64{1}, make([]byte, 5)}},
		"dimensions": {KV{"k", true}, TensorData{"a", F32, nil, nil}},
		"alignment":  {KV{alignmentKey, uint32(7)}, TensorData{"a", F32, []uint64{1}, make([]byte, 4)}},
	} {
		if err := Write(io.Discard, []KV{c.kv}, []TensorData{c.t}); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestClaimsCostNothing: counts at their limits over a file that holds nothing
// must not take memory. A claimed array of two million strings would be 8 MiB.
func TestClaimsCostNothing(t *testing.T) {
	b := header(3, 0, 1).kv("k", kindArray).u32(uint32(kindString)).u64(MaxArrayItems).b
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if parse(b) == nil {
			t.Fatal("parsed")
		}
		if _, err := Parse(bytes.NewReader(b), 1<<40); err == nil { // the size is a claim as well
			t.Fatal("parsed")
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 200; n > 200<<10 {
		t.Errorf("%d bytes allocated for a file of %d", n, len(b))
	}
}

func TestTypeNames(t *testing.T) {
	known := 0
	for i := range Type(64) {
		name, elements, size := i.layout()
		if i.Known() != (name != "") || (i.Known() && (elements == 0 || size == 0 || i.String() != name)) {
			t.Errorf("type %d: %s %d %d", i, name, elements, size)
		}
		if i.Known() {
			known++
		}
	}
	if known != 34 {
		t.Errorf("%d types known", known)
	}
	if n, err := Q8_0.RowBytes(64); n != 68 || err != nil {
		t.Error(n, err)
	}
	if kind(77).String() != "unknown value type 77" || kindBool.String() != "bool" {
		t.Error("kind names")
	}
}
