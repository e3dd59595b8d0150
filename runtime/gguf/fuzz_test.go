package gguf

import (
	"bytes"
	"os"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add(small(f))
	f.Add(header(3, 1, 0).tensor("a", F32, 0, 8).data(32).b)
	f.Add(header(2, 0, 1).kv("k", kindArray).u32(uint32(kindString)).u64(1).str("x").b)
	for _, p := range []string{"gpt-2", "llama-spm", "bert-bge"} {
		if raw, err := os.ReadFile(shared(f, "models/vocab/ggml-vocab-"+p+".gguf")); err == nil {
			f.Add(raw[:4096]) // the beginning of a real file
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, x := range file.Tensors {
			if x.Offset < 0 || x.Size <= 0 || file.DataOffset+x.Offset+x.Size > int64(len(b)) {
				t.Errorf("tensor %+v outside a file of %d bytes", x, len(b))
			}
		}
		for _, key := range file.Keys() {
			if !file.Has(key) {
				t.Error("a key is missing")
			}
			file.String(key)
			file.Int(key)
			file.Float(key)
			file.Ints(key)
			file.Floats(key)
			if a, ok := file.Strings(key); ok {
				for i := range a.Len() {
					_ = a.At(i)
				}
			}
		}
		if _, err := ParseHeader(file.HeaderBytes); err != nil {
			t.Errorf("the header alone: %v", err)
		}
	})
}
