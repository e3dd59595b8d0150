package model

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// plain is a Source over an unsealed GGUF file, packed in memory.
type plain struct {
	tensors []kernels.Tensor
	names   map[string]int
	data    [][]byte
	vectors map[string][]float32
	shared  bool
	fail    error // returned by every Chunk if set
}

func (p *plain) Tensor(name string) (kernels.Tensor, bool) {
	i, ok := p.names[name]
	if !ok {
		return kernels.Tensor{}, false
	}
	return p.tensors[i], true
}

func (p *plain) Vector(name string) ([]float32, error) {
	v, ok := p.vectors[name]
	if !ok {
		return nil, fmt.Errorf("vector %s is missing", name)
	}
	return v, nil
}

func (p *plain) Chunk(_, tensor, chunk int) ([]byte, error) {
	if p.fail != nil {
		return nil, p.fail
	}
	t := p.tensors[tensor]
	size := kernels.TileBytes(t.Type, t.Cols)
	groups := (t.ChunkRows(chunk) + 15) / 16
	from := chunk * t.RowsPerChunk / 16 * size
	return p.data[tensor][from : from+groups*size], nil
}

func (p *plain) Resident() bool { return p.shared }

func (p *plain) Tiles(tensor int) ([]byte, error) { return p.data[tensor], p.fail }

var tileTypes = map[gguf.Type]kernels.Type{
	gguf.F32: kernels.F32, gguf.F16: kernels.F16, gguf.BF16: kernels.BF16,
	gguf.Q4_0: kernels.Q4_0, gguf.Q4_1: kernels.Q4_1, gguf.Q5_0: kernels.Q5_0, gguf.Q5_1: kernels.Q5_1, gguf.Q8_0: kernels.Q8_0,
	gguf.Q2_K: kernels.Q2_K, gguf.Q3_K: kernels.Q3_K, gguf.Q4_K: kernels.Q4_K, gguf.Q5_K: kernels.Q5_K, gguf.Q6_K: kernels.Q6_K,
	gguf.IQ4_NL: kernels.IQ4_NL, gguf.IQ4_XS: kernels.IQ4_XS, gguf.MXFP4: kernels.MXFP4,
}

// add packs one tensor of GGUF bytes.
func (p *plain) add(name string, typ kernels.Type, rows, cols int, raw []byte) error {
	if typ == kernels.F32 && rows == 1 {
		v := make([]float32, cols)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		p.vectors[name] = v
		return nil
	}
	size, rowBytes := kernels.TileBytes(typ, cols), kernels.RowBytes(typ, cols)
	t := kernels.Tensor{ID: len(p.tensors), Name: name, Type: typ, Rows: rows, Cols: cols, RowsPerChunk: max(1, 200<<10/size) * 16}
	t.Chunks = (rows + t.RowsPerChunk - 1) / t.RowsPerChunk
	packed := make([]byte, (rows+15)/16*size)
	for g := range (rows + 15) / 16 {
		n := min(16, rows-16*g)
		if err := kernels.Pack(packed[g*size:(g+1)*size], raw[g*16*rowBytes:][:n*rowBytes], typ, n, cols); err != nil {
			return err
		}
	}
	p.names[name] = t.ID
	p.tensors, p.data = append(p.tensors, t), append(p.data, packed)
	return nil
}

func newPlain() *plain {
	return &plain{names: map[string]int{}, vectors: map[string][]float32{}, shared: true}
}

// realModel opens SmolLM2-135M-Instruct from $ANCHORHOLD_MODEL or the cache.
func realModel(t testing.TB) (*plain, *gguf.File) {
	t.Helper()
	path := os.Getenv("ANCHORHOLD_MODEL")
	if path == "" {
		path = cached(t, "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	return fileModel(t, path, "make model")
}

// cached is the path of a model in the cache.
func cached(t testing.TB, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "anchorhold", "models", name)
}

// fileModel opens a model that a command fetches.
func fileModel(t testing.TB, path, command string) (*plain, *gguf.File) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("the real model is absent, so this test does not run: `%s` fetches it (%v)", command, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	header, err := gguf.Parse(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p := newPlain()
	for _, g := range header.Tensors {
		raw := make([]byte, g.Size)
		if _, err := io.ReadFull(io.NewSectionReader(f, header.DataOffset+g.Offset, g.Size), raw); err != nil {
			t.Fatal(err)
		}
		typ, ok := tileTypes[g.Type]
		if !ok {
			t.Fatalf("tensor %s has type %v", g.Name, g.Type)
		}
		if err := p.add(g.Name, typ, g.Rows(), g.Columns(), raw); err != nil {
			t.Fatal(err)
		}
	}
	return p, header
}

// shared finds a file of the reference data beside the checkout.
func shared(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("ANCHORHOLD_SHARED")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for ; at != "/"; at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "shared", "models")); err == nil {
				dir = filepath.Join(at, "shared")
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("reference data is absent, so this test does not run: put it beside the checkout as shared/ or set ANCHORHOLD_SHARED (%v)", err)
	}
	return data
}
