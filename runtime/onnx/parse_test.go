package onnx

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	w "github.com/anchorhold/anchorhold/runtime/onnx/onnxtest"
)

func TestParseKeepsWhatTheFileSays(t *testing.T) {
	f := w.Dense(w.Node("Softmax", []string{"y"}, []string{"p"}, w.Attributes{"axis": -1}))
	f.Inputs = append(f.Inputs, w.Value("w", 1, 2, 3)) // an initializer listed as an input is none
	m, err := Parse(f.Model(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.IRVersion != 8 || m.Producer != "tests" || m.Opsets[""] != 17 || m.Opsets["ai.onnx.ml"] != 1 {
		t.Errorf("%+v", m)
	}
	g := m.Graph
	if g.Name != "fixture" || len(g.Nodes) != 2 || len(g.Inputs) != 1 || g.Inputs[0].Type != Float32 || !slices.Equal(g.Inputs[0].Dims, []int64{0, 3}) || !slices.Equal(g.Outputs, []string{"y"}) {
		t.Errorf("%+v", g)
	}
	if a := g.Nodes[1].Attributes["axis"]; a.Int != -1 || a.Type != AttributeInt || g.Nodes[1].Name != "the Softmax" {
		t.Errorf("%+v", g.Nodes[1])
	}
	if w := g.Initializers["w"]; w.Len() != 6 || w.Floats[5] != 6 || g.Initializers["b"].Floats[1] != 20 || g.Initializers["names"].Strings[1] != "yes" || g.Initializers["numbers"].Ints[1] != 9 {
		t.Errorf("%+v", g.Initializers)
	}
}

// TestTensorsInEveryEncoding: raw and typed, packed and not.
func TestTensorsInEveryEncoding(t *testing.T) {
	two := []int64{2}
	var doubles, longs, shorts []byte
	for _, v := range []float64{1.5, -2} {
		doubles = binary.LittleEndian.AppendUint64(doubles, math.Float64bits(v))
	}
	for _, v := range []int64{-1, 1 << 40} {
		longs = binary.LittleEndian.AppendUint64(longs, uint64(v))
	}
	for _, v := range []int32{-1, 7} {
		shorts = binary.LittleEndian.AppendUint32(shorts, uint32(v))
	}
	cases := map[string]struct {
		t      w.Message
		floats []float64
		ints   []int64
	}{
		"float raw":         {w.Floats("t", two, 1.5, -2), []float64{1.5, -2}, nil},
		"float packed":      {w.Typed("t", two, 1.5, -2), []float64{1.5, -2}, nil},
		"float single":      {w.Shaped("t", 1, two).Float(4, 1.5).Float(4, -2), []float64{1.5, -2}, nil},
		"double raw":        {w.Shaped("t", 11, two).Bytes(9, doubles), []float64{1.5, -2}, nil},
		"double packed":     {w.Shaped("t", 11, two).Bytes(10, doubles), []float64{1.5, -2}, nil},
		"double single":     {w.Shaped("t", 11, two).Double(10, 1.5).Double(10, -2), []float64{1.5, -2}, nil},
		"int64 raw":         {w.Shaped("t", 7, two).Bytes(9, longs), nil, []int64{-1, 1 << 40}},
		"int64 packed":      {w.Ints("t", two, -1, 1<<40), nil, []int64{-1, 1 << 40}},
		"int64 single":      {w.Shaped("t", 7, two).Int(7, -1).Int(7, 1<<40), nil, []int64{-1, 1 << 40}},
		"int32 raw":         {w.Shaped("t", 6, two).Bytes(9, shorts), nil, []int64{-1, 7}},
		"int32 typed":       {w.Shaped("t", 6, two).Int(5, -1).Int(5, 7), nil, []int64{-1, 7}},
		"packed dimensions": {w.Message(nil).Bytes(1, []byte{2, 1}).Int(2, 7).String(8, "t").Int(7, -1).Int(7, 5), nil, []int64{-1, 5}},
		"nothing":           {w.Floats("t", []int64{0}), []float64{}, nil},
	}
	for name, c := range cases {
		m, err := Parse(w.Fixture{Weights: []w.Message{c.t}}.Model(), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := m.Graph.Initializers["t"]; !slices.Equal(got.Floats, c.floats) || !slices.Equal(got.Ints, c.ints) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	two := []int64{2}
	model := func(g w.Message) []byte {
		return w.Message(nil).Int(1, 8).Bytes(7, g).Bytes(8, w.Message(nil).Int(2, 17))
	}
	weight := func(t w.Message) []byte { return model(w.Message(nil).Bytes(5, t)) }
	in := func(v w.Message) []byte { return model(w.Message(nil).Bytes(11, v)) }
	inNode := func(n w.Message) []byte { return model(w.Message(nil).Bytes(1, n)) }
	typ := func(b w.Message) []byte { return in(w.Message(nil).String(1, "x").Bytes(2, b)) }
	many := func(n int, add func(w.Message) w.Message) (m w.Message) {
		for range n {
			m = add(m)
		}
		return m
	}
	long := strings.Repeat("x", MaxNameBytes+1)
	cases := map[string]struct {
		b    []byte
		want string
	}{
		"nothing":              {nil, "not an ONNX model"},
		"old":                  {w.Message(nil).Int(1, 2).Bytes(7, nil).Bytes(8, nil), "not an ONNX model"},
		"no graph":             {w.Message(nil).Int(1, 8).Bytes(8, nil), "not an ONNX model"},
		"two graphs":           {append(model(nil), w.Message(nil).Bytes(7, nil)...), "twice"},
		"functions":            {append(model(nil), w.Message(nil).Bytes(25, nil)...), "functions"},
		"training":             {append(model(nil), w.Message(nil).Bytes(20, nil)...), "training"},
		"unknown field":        {append(model(nil), w.Message(nil).Int(63, 1)...), "field 63"},
		"cut tag":              {append(model(nil), 0x80), "EOF"},
		"cut bytes":            {append(model(nil), 0x3a, 0x05, 0x01), "EOF"},
		"cut fixed":            {append(model(nil), 0x3d, 0x01), "EOF"},
		"group":                {append(model(nil), 0x3b), "wire type 3"},
		"fixed version":        {w.Message(nil).Float(1, 8), "wire type"},
		"graph as number":      {w.Message(nil).Int(7, 1), "wire type"},
		"version twice":        {append(model(nil), w.Message(nil).Int(1, 8)...), "twice"},
		"many operator sets":   {append(model(nil), many(MaxListed+1, func(m w.Message) w.Message { return m.Bytes(8, w.Opset(strconv.Itoa(len(m)), 1)) })...), "operator sets"},
		"set's unknown field":  {append(model(nil), w.Message(nil).Bytes(8, w.Message(nil).Int(3, 1))...), "field 3"},
		"sparse":               {model(w.Message(nil).Bytes(15, nil)), "sparse"},
		"graph's field":        {model(w.Message(nil).Int(9, 1)), "field 9"},
		"many nodes":           {model(many(MaxNodes+1, func(m w.Message) w.Message { return m.Bytes(1, w.Message(nil).String(4, "Relu")) })), "nodes"},
		"many inputs":          {model(many(MaxInitializers+MaxListed+1, func(m w.Message) w.Message { return m.Bytes(11, nil) })), "inputs"},
		"many outputs":         {model(many(MaxListed+1, func(m w.Message) w.Message { return m.Bytes(12, nil) })), "outputs"},
		"no operator":          {inNode(w.Message(nil).String(3, "a")), "no operator"},
		"node's field":         {inNode(w.Message(nil).String(4, "Relu").Int(10, 1)), "Relu"},
		"many node inputs":     {inNode(many(MaxListed+1, func(m w.Message) w.Message { return m.String(1, "a") })), "entries"},
		"node input number":    {inNode(w.Message(nil).Int(1, 1)), "wire type"},
		"long name":            {inNode(w.Message(nil).String(3, long)), "UTF-8"},
		"name that is none":    {inNode(w.Message(nil).String(3, "\xff")), "UTF-8"},
		"attribute's type":     {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(3, 1).Int(20, 1))), "values of another"},
		"attribute untyped":    {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(3, 1))), "type 0"},
		"attribute of two":     {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(3, 1).Float(2, 1).Int(20, 2))), "values of another"},
		"attribute's new type": {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(20, 15))), "type 15"},
		"attribute by name":    {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").String(21, "b").Int(20, 2))), "field 21"},
		"attribute twice":      {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(20, 2)).Bytes(5, w.Message(nil).String(1, "a").Int(20, 2))), "twice"},
		"attribute unnamed":    {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).Int(3, 1))), "name"},
		"attribute's float":    {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(2, 1))), "wire type"},
		"attribute's floats":   {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Int(7, 1))), "wire type"},
		"attribute's strings":  {inNode(w.Message(nil).String(4, "Relu").Bytes(5, w.Message(nil).String(1, "a").Bytes(9, []byte{0xff}))), "UTF-8"},
		"many strings":         {inNode(w.Message(nil).String(4, "Relu").Bytes(5, many(MaxStrings+1, func(m w.Message) w.Message { return m.Bytes(9, nil) }))), "strings"},
		"no weight name":       {weight(w.Floats("", two, 1, 2)), "no name"},
		"weight twice":         {model(w.Message(nil).Bytes(5, w.Floats("a", two, 1, 2)).Bytes(5, w.Floats("a", two, 1, 2))), "twice"},
		"many weights":         {model(many(MaxInitializers+1, func(m w.Message) w.Message { return m.Bytes(5, w.Floats(strconv.Itoa(len(m)), nil, 1)) })), "initializers"},
		"unsigned in float":    {weight(w.Floats("t", two, 1, 2).Int(11, 7)), "a type other than"},
		"short raw":            {weight(w.Shaped("t", 1, two).Bytes(9, make([]byte, 7))), "needs 8 bytes"},
		"short typed":          {weight(w.Typed("t", two, 1)), "needs 2 values"},
		"odd typed":            {weight(w.Shaped("t", 1, two).Bytes(4, make([]byte, 7))), "7 bytes"},
		"typed and raw":        {weight(w.Typed("t", two, 1, 2).Bytes(9, make([]byte, 8))), "twice"},
		"wrong list":           {weight(w.Shaped("t", 7, two).Float(4, 1).Float(4, 2)), "of that type"},
		"two lists":            {weight(w.Floats("t", two, 1, 2).Int(7, 1)), "twice"},
		"two typed lists":      {weight(w.Typed("t", two, 1, 2).Int(7, 1)), "of that type"},
		"raw strings":          {weight(w.Shaped("t", 8, two).Bytes(9, nil)), "raw"},
		"negative shape":       {weight(w.Shaped("t", 1, []int64{-2}).Bytes(9, nil)), "shape"},
		"huge shape":           {weight(w.Shaped("t", 1, []int64{1 << 20, 1 << 20}).Bytes(9, nil)), "values"},
		"overflowing shape":    {weight(w.Shaped("t", 1, []int64{1 << 62, 4}).Bytes(9, nil)), "shape"},
		"many dimensions":      {weight(w.Shaped("t", 1, make([]int64, MaxDims+1))), "dimensions"},
		"segment":              {weight(w.Shaped("t", 1, two).Bytes(3, nil)), "field 3"},
		"location 2":           {weight(w.Shaped("t", 1, two).Int(14, 2)), "location"},
		"location unused":      {weight(w.Floats("t", two, 1, 2).Bytes(13, w.Message(nil).String(1, "location").String(2, "w"))), "does not use"},
		"here and elsewhere":   {weight(w.Floats("t", two, 1, 2).Int(14, 1)), "in another one"},
		"entry's field":        {weight(w.Floats("t", two, 1, 2).Bytes(13, w.Message(nil).Int(3, 1))), "field 3"},
		"bad packed ints":      {weight(w.Shaped("t", 7, two).Bytes(7, []byte{0x80})), "EOF"},
		"ints as fixed":        {weight(w.Shaped("t", 7, two).Float(7, 1)), "wire type"},
		"value's field":        {in(w.Message(nil).Int(9, 1)), "field 9"},
		"value as number":      {model(w.Message(nil).Int(11, 1)), "wire type"},
		"type's field":         {typ(w.Message(nil).Int(7, 1)), "field 7"},
		"type twice":           {in(w.Message(nil).Bytes(2, nil).Bytes(2, nil)), "twice"},
		"tensor type twice":    {typ(w.Message(nil).Bytes(1, nil).Bytes(1, nil)), "twice"},
		"tensor type's field":  {typ(w.Message(nil).Bytes(1, w.Message(nil).Int(3, 1))), "field 3"},
		"shape twice":          {typ(w.Message(nil).Bytes(1, w.Message(nil).Bytes(2, nil).Bytes(2, nil))), "twice"},
		"shape's field":        {typ(w.Message(nil).Bytes(1, w.Message(nil).Bytes(2, w.Message(nil).Int(2, 1)))), "unknown field"},
		"many sizes":           {typ(w.Message(nil).Bytes(1, w.Message(nil).Bytes(2, many(MaxDims+1, func(m w.Message) w.Message { return m.Bytes(1, nil) })))), "dimensions"},
		"size of zero":         {typ(w.Message(nil).Bytes(1, w.Message(nil).Bytes(2, w.Message(nil).Bytes(1, w.Message(nil).Int(1, 0))))), "dimension 0 must be positive"},
		"size's field":         {typ(w.Message(nil).Bytes(1, w.Message(nil).Bytes(2, w.Message(nil).Bytes(1, w.Message(nil).Int(4, 1))))), "field 4"},
	}
	for name, c := range cases {
		_, err := Parse(c.b, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, named := refusal.ReasonOf(err); !named {
			t.Errorf("%s: %v has no reason", name, err)
		}
	}
	if _, err := Parse(make([]byte, MaxModelBytes+1), nil); reasonOf(err) != ReasonTooLarge {
		t.Errorf("a file over the limit: %v", err)
	}
	other := append(w.Dense().Model(), w.Message(nil).Bytes(8, w.Message(nil).String(1, "com.microsoft").Int(2, 1))...)
	m, err := Parse(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Opsets["com.microsoft"] != 1 {
		t.Errorf("%v", m.Opsets)
	}
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// TestOperatorSetsMayBeImportedTwice: nodes are bound to the highest version of a domain
// (onnx.proto), and skl2onnx writes such files.
func TestOperatorSetsMayBeImportedTwice(t *testing.T) {
	for _, sets := range [][]w.Message{
		{w.Opset("", 17), w.Opset("", 17)}, {w.Opset("", 17), w.Opset("", 9)}, {w.Opset("", 9), w.Opset("", 17)},
		{w.Opset("", 17), w.Opset("ai.onnx", 17)}, {w.Opset("ai.onnx", 11), w.Opset("", 17)}, {w.Opset("ai.onnx.ml", 1), w.Opset("", 17), w.Opset("ai.onnx.ml", 1)},
	} {
		f := w.Dense()
		f.Opsets = sets
		m, err := Parse(f.Model(), nil)
		if err != nil || m.Opsets[""] != 17 || m.Opsets["ai.onnx"] != 0 {
			t.Errorf("%q: %v", sets, err)
		}
	}
}

// TestWhatIsNotReadIsThereByName: types of values and attributes that no operator here
// takes are left to be refused by the name of the operator that has them.
func TestWhatIsNotReadIsThereByName(t *testing.T) {
	two := []int64{2}
	f := w.Dense(w.Message(nil).String(4, "If").String(2, "z").Bytes(5, w.Message(nil).String(1, "then_branch").Bytes(6, []byte("no graph")).Int(20, 5)))
	f.Weights = append(f.Weights, w.Shaped("half", 10, two).Bytes(9, make([]byte, 4)), w.Shaped("bytes", 2, two).Int(5, 1).Int(5, 2), w.Shaped("large", 13, two).Int(11, 1).Int(11, 2),
		w.Shaped("truth", 9, two).Bytes(9, []byte{1, 0}), w.Shaped("typed truth", 9, two).Int(5, 1).Int(5, 0), w.Shaped("new", 99, two).Bytes(9, []byte{1}))
	m, err := Parse(f.Model(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := m.Graph.Nodes[1].Attributes["then_branch"]; a.Type != 5 {
		t.Errorf("%+v", a)
	}
	for name, typ := range map[string]string{"half": "float16", "bytes": "uint8", "large": "uint64", "new": "data type 99"} {
		if got := m.Graph.Initializers[name]; got == nil || got.Type.String() != typ || got.Floats != nil || got.Ints != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, name := range []string{"truth", "typed truth"} {
		if got := m.Graph.Initializers[name]; got == nil || got.Type != Bool || !slices.Equal(got.Ints, []int64{1, 0}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestTheNumberOfValuesIsLimited: varints of one byte are the densest encoding.
func TestTheNumberOfValuesIsLimited(t *testing.T) {
	b := w.Fixture{Weights: []w.Message{w.Shaped("t", 7, []int64{MaxElements}).Bytes(7, make([]byte, MaxElements))}}.Model()
	if _, err := Parse(b, nil); err == nil || !strings.Contains(err.Error(), "numbers") {
		t.Error(err)
	}
}

func TestWeightsInAFileBeside(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(key, value string) w.Message { return w.Message(nil).String(1, key).String(2, value) }
	with := func(entries ...w.Message) []byte {
		f := w.Dense()
		ext := w.Shaped("w", 1, []int64{2, 3}).Int(14, 1)
		for _, e := range entries {
			ext = ext.Bytes(13, e)
		}
		f.Weights[0] = ext
		return f.Model()
	}
	write("weights", append(make([]byte, 8), w.Raw(1, 2, 3, 4, 5, 6)...))
	write("good.onnx", with(entry("location", "weights"), entry("offset", "8"), entry("length", "24"), entry("checksum", "0")))
	m, err := ParseFile(filepath.Join(dir, "good.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Graph.Initializers["w"].Floats; !slices.Equal(got, []float64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("%v", got)
	}
	if _, err := Parse(with(entry("location", "weights")), nil); err == nil {
		t.Error("weights elsewhere were read without a reader")
	}
	for _, location := range []string{"", ".", "..", "../weights", "/weights", "inner/weights", "./weights"} {
		_, err := Parse(with(entry("location", location)), func(string, int64, int64) ([]byte, error) { return make([]byte, 24), nil })
		if err == nil {
			t.Errorf("weights in %q were asked for", location)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(outside, make([]byte, 24), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, entries := range map[string][]w.Message{
		"no file":         {entry("location", "missing")},
		"no name":         {entry("offset", "0")},
		"parent":          {entry("location", "../weights")},
		"absolute":        {entry("location", "/etc/hostname")},
		"directory":       {entry("location", "inner")},
		"this directory":  {entry("location", ".")},
		"out of the root": {entry("location", "link")},
		"past the end":    {entry("location", "weights"), entry("offset", "9")},
		"far past":        {entry("location", "weights"), entry("offset", "9223372036854775807")},
		"negative offset": {entry("location", "weights"), entry("offset", "-1")},
		"other length":    {entry("location", "weights"), entry("offset", "8"), entry("length", "20")},
		"no number":       {entry("location", "weights"), entry("offset", "eight")},
		"unknown key":     {entry("location", "weights"), entry("basepath", "/")},
	} {
		write("bad.onnx", with(entries...))
		if _, err := ParseFile(filepath.Join(dir, "bad.onnx")); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseFile(filepath.Join(dir, "missing", "x.onnx")); err == nil {
		t.Error("a file that is not there")
	}
}

// FuzzParse: whatever the bytes, no panic. runtime/layers fuzzes what is made of it.
func FuzzParse(f *testing.F) {
	f.Add(w.Dense().Model())
	f.Add(w.Fixture{Weights: []w.Message{w.Shaped("t", 11, []int64{2}).Double(10, 1).Double(10, 2), w.Ints("i", []int64{1}, 5),
		w.Shaped("e", 1, []int64{2}).Int(14, 1).Bytes(13, w.Message(nil).String(1, "location").String(2, "w"))}}.Model())
	f.Add(w.Fixture{Weights: []w.Message{w.Shaped("u", 48, []int64{1})}}.Model()) // of a type that is not read
	external := func(string, int64, int64) ([]byte, error) { return make([]byte, 8), nil }
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b, external)
		if err != nil {
			return
		}
		for name, tensor := range m.Graph.Initializers {
			want := tensor.Len()
			if !tensor.Type.read() {
				want = 0
			}
			if n := len(tensor.Floats) + len(tensor.Ints) + len(tensor.Strings); n != want {
				t.Fatalf("%s: %d values for shape %v of type %v, want %d", name, n, tensor.Dims, tensor.Type, want)
			}
		}
	})
}
