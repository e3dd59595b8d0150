package infer

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
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
	mu      sync.Mutex
	fail    error         // returned by every Chunk if set
	gate    chan struct{} // each Chunk waits for one of these, if set
}

func (p *plain) setFail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
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
	p.mu.Lock()
	fail := p.fail
	p.mu.Unlock()
	if p.gate != nil {
		<-p.gate
	}
	if fail != nil {
		return nil, fail
	}
	t := p.tensors[tensor]
	size := kernels.TileBytes(t.Type, t.Cols)
	groups := (t.ChunkRows(chunk) + 15) / 16
	from := chunk * t.RowsPerChunk / 16 * size
	return p.data[tensor][from : from+groups*size], nil
}

func (p *plain) Resident() bool { return p.shared }

func (p *plain) Tiles(tensor int) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data[tensor], p.fail
}

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
	return load(t, realPath(t))
}

func realPath(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ANCHORHOLD_MODEL")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(cache, "anchorhold", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the real model is absent, so this test does not run: `make model` fetches it (%v)", err)
	}
	return path
}

// load packs a whole file in memory.
func load(t testing.TB, path string) (*plain, *gguf.File) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
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
