package sealer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

func sign(root []byte) ([]byte, []byte, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	return key.Public().(ed25519.PublicKey), ed25519.Sign(key, root), nil
}

func options(t testing.TB, in string) Options {
	t.Helper()
	key, err := keybuf.Random(chunkseal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	return Options{In: in, Out: filepath.Join(t.TempDir(), "model.sealed"), Key: key, Name: "test", Version: 1, Sign: sign}
}

// formatOptions are options for files whose tensors make no whole model.
func formatOptions(t testing.TB, in string) Options {
	opt := options(t, in)
	opt.Unchecked = true
	return opt
}

func source(t testing.TB, tensors ...gguf.TensorData) string {
	t.Helper()
	var b bytes.Buffer
	if err := gguf.Write(&b, []gguf.KV{{Key: "general.architecture", Value: "llama"}}, tensors); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "in.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zeros(t testing.TB, name string, typ gguf.Type, dims ...uint64) gguf.TensorData {
	t.Helper()
	n, err := typ.RowBytes(dims[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dims[1:] {
		n *= int64(d)
	}
	return gguf.TensorData{Name: name, Type: typ, Dims: dims, Data: make([]byte, n)}
}

func TestSealReportsProgressAndLeavesOneFile(t *testing.T) {
	opt := formatOptions(t, source(t, zeros(t, "token_embd.weight", gguf.Q8_0, 64, 9000), zeros(t, "output_norm.weight", gguf.F32, 64)))
	var last, total int64
	opt.Progress = func(done, of int64) {
		if done <= last || done > of {
			t.Errorf("progress from %d to %d of %d", last, done, of)
		}
		last, total = done, of
	}
	sum, err := Seal(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if last != total || sum.Tensors != 2 || sum.SealedBytes == 0 || sum.Duration <= 0 {
		t.Errorf("%d of %d bytes, %+v", last, total, sum)
	}
	onlyFile(t, opt.Out)
	b, err := os.ReadFile(opt.Out)
	if err != nil {
		t.Fatal(err)
	}
	p, err := chunkseal.Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil || p.Root != sum.Root || p.FileID != sum.FileID || p.Name != "test" || int64(len(b)) != sum.SealedBytes {
		t.Errorf("%+v, %v", p, err)
	}
}

func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("left over: %s", e.Name())
		}
	}
}

func TestUnsupportedTensorsAreRefusedByName(t *testing.T) {
	cases := map[string]gguf.TensorData{
		"NVFP4":            zeros(t, "blk.0.attn_q.weight", 40, 64, 16),
		"Q1_0":             zeros(t, "blk.0.attn_q.weight", 41, 128, 16),
		"vector blk.0":     zeros(t, "blk.0.attn_norm.weight", gguf.F16, 32),
		"shape":            zeros(t, "blk.0.attn_q.weight", gguf.F32, 32, 16, 2),
		"rows of 33":       zeros(t, "blk.0.attn_q.weight", gguf.F32, 33, 16),
		"4194304":          zeros(t, "blk.0.attn_q.weight", gguf.F32, 1<<17, 1),
		"the limit is 419": zeros(t, "blk.0.attn_norm.weight", gguf.F32, 1<<20+1),
	}
	for want, tensor := range cases {
		opt := formatOptions(t, source(t, tensor))
		_, err := Seal(t.Context(), opt)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "blk.0.attn") {
			t.Errorf("%v, want %q and the tensor's name", err, want)
		}
		if _, err := os.Stat(opt.Out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a refused model left a file: %v", err)
		}
	}
}

func TestBadInputsAreErrors(t *testing.T) {
	good := source(t, zeros(t, "a.weight", gguf.F32, 32, 16))
	empty := source(t)
	for name, change := range map[string]func(*Options){
		"no file":      func(o *Options) { o.In = filepath.Join(o.In, "no") },
		"no model":     func(o *Options) { o.In = empty },
		"not gguf":     func(o *Options) { o.In = os.Args[0] },
		"a directory":  func(o *Options) { o.In = filepath.Dir(o.In) },
		"no publisher": func(o *Options) { o.Sign = nil },
		"no key":       func(o *Options) { o.Key = nil },
		"no name":      func(o *Options) { o.Name = "" },
		"no output":    func(o *Options) { o.Out = "" },
		"no directory": func(o *Options) { o.Out = filepath.Join(o.Out, "x", "y") },
		"no signature": func(o *Options) { o.Sign = func([]byte) ([]byte, []byte, error) { return nil, nil, errors.New("no") } },
	} {
		opt := formatOptions(t, good)
		change(&opt)
		if _, err := Seal(t.Context(), opt); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

// TestAFileIsNeverReplaced: one that is there refuses the work, one that comes meanwhile
// the result.
func TestAFileIsNeverReplaced(t *testing.T) {
	for _, late := range []bool{false, true} {
		opt := formatOptions(t, source(t, zeros(t, "a.weight", gguf.F32, 32, 16)))
		old := func() {
			if err := os.WriteFile(opt.Out, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		began := false
		opt.Progress = func(int64, int64) {
			if began = true; late {
				old()
			}
		}
		if !late {
			old()
		}
		if _, err := Seal(t.Context(), opt); !errors.Is(err, ErrExists) || began != late {
			t.Errorf("late %v, began %v: %v", late, began, err)
		}
		if b, err := os.ReadFile(opt.Out); err != nil || string(b) != "old" {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		onlyFile(t, opt.Out)
	}
}

// TestCancelledSealLeavesNothing: the final name holds a whole model, never a part.
func TestCancelledSealLeavesNothing(t *testing.T) {
	opt := formatOptions(t, source(t, zeros(t, "token_embd.weight", gguf.Q8_0, 64, 9000)))
	ctx, cancel := context.WithCancel(t.Context())
	opt.Progress = func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	}
	if _, err := Seal(ctx, opt); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(opt.Out)); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestLeftoverOfACrashIsWrittenOverAndABusyOneRefused(t *testing.T) {
	opt := formatOptions(t, source(t, zeros(t, "a.weight", gguf.F32, 32, 16)))
	beside := filepath.Join(filepath.Dir(opt.Out), ".model.sealed.sealing")
	if err := os.WriteFile(beside, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(beside)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Seal(t.Context(), opt); !errors.Is(err, ErrBusy) {
		t.Errorf("two sealers at once: %v", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	sum, err := Seal(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(opt.Out); err != nil || info.Size() != sum.SealedBytes {
		t.Errorf("%v, %v", info, err)
	}
	onlyFile(t, opt.Out)
}

func TestSourceThatShrinksIsAnError(t *testing.T) {
	in := source(t, zeros(t, "token_embd.weight", gguf.Q8_0, 64, 9000))
	opt := formatOptions(t, in)
	opt.Progress = func(done, total int64) {
		if err := os.Truncate(in, 1000); err != nil {
			t.Error(err)
		}
	}
	if _, err := Seal(t.Context(), opt); err == nil || !strings.Contains(err.Error(), "token_embd.weight") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(opt.Out); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestSectionsStandInTheOrderOfUse(t *testing.T) {
	names := []string{"output.weight", "blk.10.attn_q.weight", "blk.2.ffn_down.weight", "blk.2.attn_norm.weight", "blk.x.y", "rope_freqs.weight",
		"token_embd.weight", "blk.2.attn_q.bias", "blk.2.attn_q.weight", "output_norm.weight", "blk.2.other.weight"}
	want := []string{"token_embd.weight", "blk.2.attn_norm.weight", "blk.2.attn_q.bias", "blk.2.attn_q.weight", "blk.2.ffn_down.weight",
		"blk.2.other.weight", "blk.10.attn_q.weight", "blk.x.y", "rope_freqs.weight", "output_norm.weight", "output.weight"}
	var tensors []gguf.Tensor
	for _, n := range names {
		tensors = append(tensors, gguf.Tensor{Name: n})
	}
	var have []string
	for _, i := range orderOfUse(tensors) {
		have = append(have, names[i])
	}
	if !slices.Equal(have, want) {
		t.Errorf("order %v", have)
	}
}

// TestChunksAreWholeRowGroups over many shapes: every row is in exactly one
// chunk, chunks are about equal, none is above the limit unless one group is.
func TestChunksAreWholeRowGroups(t *testing.T) {
	for typ := range tileTypes {
		for _, cols := range []uint64{32, 576, 1536, 4096, 14336, 32768} {
			if _, err := typ.RowBytes(cols); err != nil {
				continue // no multiple of a super-block
			}
			for _, rows := range []uint64{1, 15, 16, 17, 576, 1000, 49152} {
				p, err := planTensor(gguf.Tensor{Name: "x", Type: typ, Dims: []uint64{cols, rows}})
				if err != nil {
					t.Fatal(err)
				}
				group := kernels.TileBytes(p.tile, int(cols))
				groups := (int(rows) + 15) / 16
				at := fmt.Sprintf("%s %dx%d: %+v", typ, rows, cols, p.Section)
				if p.Bytes() != int64(groups*group) || int(p.ChunkBytes) != int(p.RowsPerChunk)/16*group {
					t.Errorf("%s: chunks do not add up", at)
				}
				if p.ChunkBytes > maxChunk && p.RowsPerChunk != 16 {
					t.Errorf("%s: large chunks", at)
				}
				if p.Chunks > 1 && p.Chunks < 8 && p.LastBytes < p.ChunkBytes/2 && groups > 2*int(p.Chunks)*int(p.Chunks) {
					t.Errorf("%s: a small last chunk", at)
				}
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	opt := formatOptions(b, source(b, zeros(b, "a.weight", gguf.Q4_1, 576, 64<<10)))
	info, err := os.Stat(opt.In)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		if _, err := Seal(b.Context(), opt); err != nil {
			b.Fatal(err)
		}
		if err := os.Remove(opt.Out); err != nil { // a sealed file is never replaced
			b.Fatal(err)
		}
	}
}
