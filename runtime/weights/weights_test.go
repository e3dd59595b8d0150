package weights

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
	"github.com/anchorhold/anchorhold/runtime/sealer"
)

func testKey(t testing.TB) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{7}, chunkseal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// synthetic is a small GGUF file with every type, odd row counts, vectors, and more matrices as large as the embedding.
func synthetic(t testing.TB, more ...string) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	tensor := func(name string, typ gguf.Type, cols, rows int) gguf.TensorData {
		rowBytes, err := typ.RowBytes(uint64(cols))
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, int(rowBytes)*rows)
		for i := range data {
			data[i] = byte(rng.Uint32()) & 0x3B // no NaN as F16 or F32
		}
		return gguf.TensorData{Name: name, Type: typ, Dims: []uint64{uint64(cols), uint64(rows)}, Data: data}
	}
	vector := func(name string, n int) gguf.TensorData {
		d := tensor(name, gguf.F32, n, 1)
		d.Dims = d.Dims[:1]
		return d
	}
	var b bytes.Buffer
	tensors := []gguf.TensorData{
		vector("output_norm.weight", 64),
		tensor("blk.1.attn_q.weight", gguf.Q4_0, 64, 100),
		tensor("blk.0.ffn_down.weight", gguf.Q4_1, 640, 1000),
		tensor("blk.0.attn_q.weight", gguf.F16, 32, 1),
		vector("blk.0.attn_norm.weight", 33),
		tensor("token_embd.weight", gguf.Q8_0, 64, 5003),
		tensor("blk.1.attn_k.weight", gguf.F32, 96, 17),
		tensor("blk.2.attn_q.weight", gguf.Q5_0, 96, 17),
		tensor("blk.2.attn_k.weight", gguf.Q4_K, 512, 40),
		tensor("blk.2.attn_v.weight", gguf.Q6_K, 256, 33),
		tensor("blk.2.attn_output.weight", gguf.MXFP4, 96, 16),
	}
	for _, name := range more {
		tensors = append(tensors, tensor(name, gguf.Q8_0, 64, 5003))
	}
	err := gguf.Write(&b, []gguf.KV{{Key: "general.architecture", Value: "llama"}, {Key: "filler", Value: string(bytes.Repeat([]byte("x"), 300<<10))}}, tensors)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "synthetic.gguf")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sealed seals a GGUF file and returns the path.
func sealed(t testing.TB, in string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "model.sealed")
	_, err := sealer.Seal(context.Background(), sealer.Options{In: in, Out: out, Key: testKey(t), Name: "test", Version: 3, Sign: chunksealtest.NewPublisher(1).Sign, Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// realModel is the path of the model file of the demo, if it is there.
func realModel(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ANCHORHOLD_MODEL")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("NO REAL MODEL: %v", err)
		}
		path = filepath.Join(cache, "anchorhold", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("NO REAL MODEL: set ANCHORHOLD_MODEL to a GGUF file, or run `make demo` once, which fetches one: %v", err)
	}
	return path
}

func open(t testing.TB, path string, limit int64, opt Options) *Weights {
	t.Helper()
	if opt.Workers == 0 {
		opt.Workers = 2
	}
	opt.Publisher = chunksealtest.NewPublisher(1)
	budget := arena.NewBudget(limit)
	w, err := Open(path, testKey(t), budget, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if budget.Used() != 0 {
			t.Errorf("%d bytes of the budget left after Close: %v", budget.Used(), budget.Report())
		}
	})
	return w
}

// digest reads every chunk, with several workers, and hashes them in order.
func digest(t testing.TB, w *Weights, workers int) [32]byte {
	t.Helper()
	type job struct{ tensor, chunk int }
	var jobs []job
	for i, tn := range w.layout.tensors {
		for c := range tn.Chunks {
			jobs = append(jobs, job{i, c})
		}
	}
	sums := make([][32]byte, len(jobs))
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				at := next
				next++
				mu.Unlock()
				if at >= len(jobs) {
					return
				}
				b, err := w.Chunk(worker, jobs[at].tensor, jobs[at].chunk)
				if err != nil {
					t.Error(err)
					return
				}
				sums[at] = sha256.Sum256(b)
			}
		})
	}
	wg.Wait()
	h := sha256.New()
	for _, s := range sums {
		h.Write(s[:])
	}
	return [32]byte(h.Sum(nil))
}

func TestResidentStreamedAndPinnedServeTheSameBytes(t *testing.T) {
	path := sealed(t, synthetic(t))
	want := digest(t, open(t, path, 64<<20, Options{Mode: Resident}), 2)
	for _, workers := range []int{1, 2, 5} {
		for _, opt := range []Options{{Mode: Streamed}, {Mode: Streamed, Pin: 400 << 10}, {Mode: Auto}} {
			opt.Workers = workers
			w := open(t, path, 64<<20, opt)
			for pass := range 3 {
				if got := digest(t, w, workers); got != want {
					t.Errorf("%d workers, %+v, pass %d: other bytes than resident", workers, opt, pass)
				}
			}
		}
	}
}

// TestTilesUnpackToTheSource compares every weight with the GGUF file's, by
// kernels.Pack and UnpackRow from the file's own rows.
func TestTilesUnpackToTheSource(t *testing.T) {
	in := synthetic(t)
	raw, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	w := open(t, sealed(t, in), 64<<20, Options{Mode: Streamed})
	if !bytes.Equal(w.Header(), f.HeaderBytes) {
		t.Error("the header is not the source's")
	}
	for _, g := range f.Tensors {
		data := raw[f.DataOffset+g.Offset:][:g.Size]
		if len(g.Dims) == 1 {
			checkVector(t, w, g.Name, data)
			continue
		}
		tn, ok := w.Tensor(g.Name)
		if !ok || tn.Rows != g.Rows() || tn.Cols != g.Columns() {
			t.Fatalf("%s: %+v", g.Name, tn)
		}
		checkMatrix(t, w, tn, data)
	}
}

func checkVector(t *testing.T, w *Weights, name string, data []byte) {
	t.Helper()
	v, err := w.Vector(name)
	if err != nil || len(v)*4 != len(data) {
		t.Fatalf("%s: %d values, %v", name, len(v), err)
	}
	for i := range v {
		if math.Float32bits(v[i]) != binary.LittleEndian.Uint32(data[4*i:]) {
			t.Fatalf("%s[%d] is %v", name, i, v[i])
		}
	}
}

func checkMatrix(t *testing.T, w *Weights, tn kernels.Tensor, data []byte) {
	t.Helper()
	group, rowBytes := kernels.TileBytes(tn.Type, tn.Cols), kernels.RowBytes(tn.Type, tn.Cols)
	want := make([]byte, group)
	for c := range tn.Chunks {
		chunk, err := w.Chunk(0, tn.ID, c)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < tn.ChunkRows(c); at += kernels.TileRows {
			n := min(kernels.TileRows, tn.ChunkRows(c)-at)
			src := data[(c*tn.RowsPerChunk+at)*rowBytes:][:n*rowBytes]
			if err := kernels.Pack(want, src, tn.Type, n, tn.Cols); err != nil {
				t.Fatal(err)
			}
			if got := chunk[at/kernels.TileRows*group:][:group]; !bytes.Equal(got, want) {
				t.Fatalf("%s chunk %d, row %d: other tiles than the source's", tn.Name, c, at)
			}
		}
	}
}

func TestModelThatDoesNotFitIsRefusedWithTheFigure(t *testing.T) {
	path := sealed(t, synthetic(t))
	for mode, limit := range map[Mode]int64{Resident: 1 << 20, Streamed: 512 << 10, Auto: 512 << 10} {
		_, err := Open(path, testKey(t), arena.NewBudget(limit), Options{Workers: 2, Mode: mode, Publisher: chunksealtest.NewPublisher(1)})
		refusal, ok := errors.AsType[*arena.DoesNotFit](err)
		if !ok {
			t.Fatalf("%s in %d bytes: %v", mode, limit, err)
		}
		w := open(t, path, refusal.Need, Options{Mode: mode})
		if used := w.header; used == nil {
			t.Errorf("%s does not open in the figure it asked for", mode)
		}
	}
}

func TestAutoStreamsWhatDoesNotFitAndPinsBesideTheReserve(t *testing.T) {
	path := sealed(t, synthetic(t, "a.weight", "b.weight", "c.weight", "d.weight", "e.weight", "f.weight", "g.weight", "h.weight"))
	w := open(t, path, 3200<<10, Options{Workers: 1, Reserve: 560 << 10})
	if w.Mode() != Streamed || w.Pinned() == 0 {
		t.Errorf("mode %s, %d bytes pinned", w.Mode(), w.Pinned())
	}
	if w := open(t, path, 64<<20, Options{Reserve: 1 << 20}); w.Mode() != Resident {
		t.Errorf("a large budget: mode %s", w.Mode())
	}
	if w := open(t, path, 64<<20, Options{Reserve: 63 << 20}); w.Mode() != Streamed {
		t.Errorf("a large reserve: mode %s", w.Mode())
	}
}

func TestFlippedBitNamesChunkAndTensorInBothModes(t *testing.T) {
	path := sealed(t, synthetic(t))
	w := open(t, path, 64<<20, Options{Mode: Resident})
	tn, _ := w.Tensor("blk.0.ffn_down.weight")
	chunk := w.layout.tensors[tn.ID].first + 1
	offset, _ := w.reader.Slot(chunk)
	flip(t, path, offset+1000)

	_, err := Open(path, testKey(t), arena.NewBudget(64<<20), Options{Workers: 2, Mode: Resident, Publisher: chunksealtest.NewPublisher(1)})
	wantFailure(t, err, chunkseal.ReasonDigest, chunk, tn.Name)

	s := open(t, path, 64<<20, Options{Mode: Streamed})
	for c := range tn.Chunks {
		b, err := s.Chunk(0, tn.ID, c)
		if c != 1 && err != nil {
			t.Fatal(err)
		}
		if c == 1 {
			wantFailure(t, err, chunkseal.ReasonDigest, chunk, tn.Name)
			if b != nil {
				t.Error("a changed chunk was served")
			}
		}
	}
}

// TestChunkChangedAfterItsFirstUseIsRefused: a streamed chunk is authenticated
// at every use, not only at the first.
func TestChunkChangedAfterItsFirstUseIsRefused(t *testing.T) {
	path := sealed(t, synthetic(t))
	w := open(t, path, 64<<20, Options{Mode: Streamed})
	digest(t, w, 2)
	tn, _ := w.Tensor("blk.0.ffn_down.weight")
	chunk := w.layout.tensors[tn.ID].first
	offset, _ := w.reader.Slot(chunk)
	flip(t, path, offset)
	// A slot may still hold it, read ahead: it is refused when it is read anew.
	var err error
	for pass := 0; pass < 4 && err == nil; pass++ {
		for i := range w.layout.tensors {
			for c := range w.layout.tensors[i].Chunks {
				if _, failed := w.Chunk(0, i, c); failed != nil {
					err = failed
				}
			}
		}
	}
	wantFailure(t, err, chunkseal.ReasonTag, chunk, tn.Name)
}

func TestFileCutAfterOpeningIsTruncatedAtTheChunk(t *testing.T) {
	path := sealed(t, synthetic(t))
	w := open(t, path, 64<<20, Options{Mode: Streamed})
	tn, _ := w.Tensor("blk.1.attn_q.weight")
	chunk := w.layout.tensors[tn.ID].first
	offset, _ := w.reader.Slot(chunk)
	if err := os.Truncate(path, offset); err != nil {
		t.Fatal(err)
	}
	_, err := w.Chunk(0, tn.ID, 0)
	wantFailure(t, err, chunkseal.ReasonTruncated, chunk, tn.Name)
}

func wantFailure(t *testing.T, err error, reason refusal.Reason, chunk int, tensor string) {
	t.Helper()
	f, ok := errors.AsType[*chunkseal.Failure](err)
	if !ok || f.Err.Reason != reason || f.Chunk != chunk || f.Tensor != tensor {
		t.Errorf("failure %v, want %s in chunk %d of %s", err, reason, chunk, tensor)
	}
}

func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], offset)
	b[0] ^= 1
	if err == nil {
		_, err = f.WriteAt(b[:], offset)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestWrongKeyPublisherNameVersionAreRefused(t *testing.T) {
	path := sealed(t, synthetic(t))
	good := Options{Workers: 1, Publisher: chunksealtest.NewPublisher(1), Name: "test", MinVersion: 3}
	other, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wipe()
	cases := []struct {
		reason refusal.Reason
		key    *keybuf.Buffer
		change func(*Options)
	}{
		{chunkseal.ReasonKey, other, func(*Options) {}},
		{chunkseal.ReasonPublisher, testKey(t), func(o *Options) { o.Publisher = chunksealtest.NewPublisher(2) }},
		{chunkseal.ReasonPublisher, testKey(t), func(o *Options) { o.Publisher = nil }},
		{chunkseal.ReasonName, testKey(t), func(o *Options) { o.Name = "other" }},
		{chunkseal.ReasonRollback, testKey(t), func(o *Options) { o.MinVersion = 4 }},
		{chunkseal.ReasonModelID, testKey(t), func(o *Options) { o.ModelID = new([32]byte) }},
	}
	for _, c := range cases {
		opt := good
		c.change(&opt)
		budget := arena.NewBudget(64 << 20)
		_, err := Open(path, c.key, budget, opt)
		if got, _ := refusal.ReasonOf(err); got != c.reason || budget.Used() != 0 {
			t.Errorf("want %s, have %v, %d bytes in use", c.reason, err, budget.Used())
		}
	}
}

// TestTilesAreAllChunks of a tensor, and those of one that is not whole in memory are refused.
func TestTilesAreAllChunks(t *testing.T) {
	path := sealed(t, synthetic(t))
	w := open(t, path, 64<<20, Options{Mode: Resident})
	streamed := open(t, path, 64<<20, Options{Mode: Streamed})
	for i := range w.layout.tensors {
		var want []byte
		for n := range w.layout.tensors[i].Chunks {
			chunk, err := w.Chunk(0, i, n)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, chunk...)
		}
		if got, err := w.Tiles(i); err != nil || !bytes.Equal(got, want) {
			t.Errorf("tensor %d: %d bytes of tiles, %d of chunks, %v", i, len(got), len(want), err)
		}
		if _, err := streamed.Tiles(i); err == nil {
			t.Errorf("tensor %d: tiles of a streamed model", i)
		}
	}
	for _, number := range []int{-1, len(w.layout.tensors)} {
		if _, err := w.Tiles(number); err == nil {
			t.Errorf("there are tiles of tensor %d", number)
		}
	}
	for _, open := range []*Weights{w, streamed} {
		if err := open.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestClosedWeightsServeNothing(t *testing.T) {
	path := sealed(t, synthetic(t))
	for _, mode := range []Mode{Resident, Streamed} {
		w := open(t, path, 64<<20, Options{Mode: mode})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Chunk(0, 0, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: chunk after close: %v", mode, err)
		}
		if _, err := w.Tiles(0); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: tiles after close: %v", mode, err)
		}
		if _, err := w.Vector("output_norm.weight"); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: vector after close: %v", mode, err)
		}
	}
}

// TestNothingIsDecryptedIntoAWipedBudget: what a slow disk brings after the end of a
// lease stays ciphertext, and nothing is left of what was decrypted before.
func TestNothingIsDecryptedIntoAWipedBudget(t *testing.T) {
	path := sealed(t, synthetic(t))
	for _, mode := range []Mode{Resident, Streamed} {
		budget := arena.NewBudget(64 << 20)
		w, err := Open(path, testKey(t), budget, Options{Workers: 1, Mode: mode, Publisher: chunksealtest.NewPublisher(1)})
		if err != nil {
			t.Fatal(err)
		}
		budget.Wipe()
		if mode == Resident {
			data, err := w.Chunk(0, 0, 0)
			if err != nil || len(bytes.Trim(data, "\x00")) > 0 {
				t.Errorf("resident: %d bytes of weights are left, %v", len(bytes.Trim(data, "\x00")), err)
			}
		} else if _, err := w.Chunk(0, 0, 0); err == nil {
			t.Error("a chunk was decrypted after the wipe")
		}
		if err := w.file.read(make([]byte, 4096), 0); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: what was read is handed on: %v", mode, err)
		}
		if err := w.Close(); err != nil || budget.Used() != 0 {
			t.Errorf("%s: %v, %d bytes in use", mode, err, budget.Used())
		}
		if _, err := Open(path, testKey(t), budget, Options{Workers: 1, Mode: mode, Publisher: chunksealtest.NewPublisher(1)}); err == nil {
			t.Errorf("%s: opened into a wiped budget", mode)
		}
	}
}

func TestBadRequestsAreErrors(t *testing.T) {
	path := sealed(t, synthetic(t))
	w := open(t, path, 64<<20, Options{Mode: Streamed})
	for _, c := range [][3]int{{-1, 0, 0}, {2, 0, 0}, {0, -1, 0}, {0, 99, 0}, {0, 0, -1}, {0, 0, 1 << 20}} {
		if _, err := w.Chunk(c[0], c[1], c[2]); err == nil {
			t.Errorf("chunk %v was served", c)
		}
	}
	if _, ok := w.Tensor("no"); ok {
		t.Error("a tensor that is not there")
	}
	if _, err := w.Vector("no"); err == nil {
		t.Error("a vector that is not there")
	}
	for _, opt := range []Options{{}, {Workers: maxWorkers + 1}, {Workers: 1, Mode: "fast", Publisher: chunksealtest.NewPublisher(1)}} {
		if _, err := Open(path, testKey(t), arena.NewBudget(64<<20), opt); err == nil {
			t.Errorf("opened with %+v", opt)
		}
	}
}

func TestStreamedChunkDoesNotAllocate(t *testing.T) {
	w := open(t, sealed(t, synthetic(t)), 64<<20, Options{Mode: Streamed, Workers: 1})
	digest(t, w, 1)
	chunk := 0
	n := testing.AllocsPerRun(200, func() {
		if _, err := w.Chunk(0, 0, chunk); err != nil {
			t.Fatal(err)
		}
		chunk = (chunk + 1) % w.layout.tensors[0].Chunks
	})
	if n >= 1 {
		t.Errorf("%v allocations for each chunk", n)
	}
}

// TestSectionsAreTheTensorsOfTheHeader, by name, type and shape, none more and none fewer.
func TestSectionsAreTheTensorsOfTheHeader(t *testing.T) {
	w := open(t, sealed(t, synthetic(t)), 64<<20, Options{})
	header := func() *gguf.File {
		f, err := gguf.ParseHeader(w.Header())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if err := w.Match(header()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*gguf.File){
		"one more":        func(f *gguf.File) { f.Tensors = append(f.Tensors, gguf.Tensor{Name: "x", Dims: []uint64{4}}) },
		"one fewer":       func(f *gguf.File) { f.Tensors = f.Tensors[1:] },
		"another name":    func(f *gguf.File) { f.Tensors[2].Name += "x" },
		"another type":    func(f *gguf.File) { f.Tensors[1].Type = gguf.Q8_0 },
		"other rows":      func(f *gguf.File) { f.Tensors[1].Dims[1]++ },
		"other columns":   func(f *gguf.File) { f.Tensors[1].Dims[0] += 32 },
		"another length":  func(f *gguf.File) { f.Tensors[0].Dims[0]++ },
		"a vector turned": func(f *gguf.File) { f.Tensors[0].Dims = []uint64{1, 64} },
		"a matrix flat":   func(f *gguf.File) { f.Tensors[1].Dims = f.Tensors[1].Dims[:1] },
		"three times":     func(f *gguf.File) { f.Tensors[1].Dims = append(f.Tensors[1].Dims, 1) },
	} {
		f := header()
		change(f)
		if err := w.Match(f); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestTypesOfLaterVersionsAreRefused: an older agent does not read a file whose tiles it does not know.
func TestTypesOfLaterVersionsAreRefused(t *testing.T) {
	known := tensor{Tensor: kernels.Tensor{Type: kernels.Q3_K, Rows: 16, Cols: 256, RowsPerChunk: 16, Chunks: 1}}
	known.size = kernels.TileBytes(known.Type, known.Cols)
	known.chunkBytes = known.size
	if err := known.check(); err != nil {
		t.Fatal(err)
	}
	for typ := range 256 {
		if known.Type = kernels.Type(typ); !known.Type.Known() && known.check() == nil {
			t.Errorf("type %d was taken", typ)
		}
	}
	for _, cols := range []int{128, 255, 288} {
		known.Type, known.Cols = kernels.Q3_K, cols
		if known.check() == nil {
			t.Errorf("%d columns of %s were taken", cols, known.Type)
		}
	}
}
