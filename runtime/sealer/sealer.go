package sealer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// Options say what to seal. All fields but ParameterSets and Progress are
// required.
type Options struct {
	In            string         // the GGUF file
	Out           string         // the sealed file; it must not exist
	Key           *keybuf.Buffer // the model key, 32 bytes; the caller keeps it
	Name          string         // of the model
	Version       uint64         // grows with each release of the model
	ParameterSets []string       // names of cryptographic parameter sets
	Sign          chunkseal.SignFunc
	Progress      func(done, total int64) // bytes sealed so far, of all

	// Unchecked seals a GGUF file that an agent would refuse to open, as older versions did. It
	// is for tests of the code that opens files.
	Unchecked bool
}

// Summary describes a sealed file.
type Summary struct {
	FileID      [32]byte
	Root        [32]byte // the model's id
	SourceBytes int64
	SealedBytes int64
	Tensors     int
	Chunks      int
	Duration    time.Duration
}

// Seal writes opt.Out from opt.In. A name that is taken is ErrExists; a model that no agent
// could serve exactly as its file means is a *servable.Error. If it fails or ctx ends, no file
// is left.
func Seal(ctx context.Context, opt Options) (Summary, error) {
	start := time.Now()
	in, size, err := open(opt.In)
	if err != nil {
		return Summary{}, err
	}
	defer in.Close() // read only
	if opt.Sign == nil {
		return Summary{}, errors.New("sealer: no publisher key to sign with")
	}
	file, report, err := look(in, size)
	if err != nil {
		return Summary{}, err
	}
	if !opt.Unchecked || file == nil {
		if err := servable.Refuse(report.Findings); err != nil {
			return Summary{}, fmt.Errorf("sealer: %s: %w", opt.In, err)
		}
	}
	parts, err := plan(file)
	if err != nil {
		return Summary{}, err
	}
	var done chunkseal.Summary
	err = create(opt.Out, func(out *os.File) error {
		done, err = write(ctx, out, in, file, parts, opt)
		return err
	})
	if err != nil {
		return Summary{}, err
	}
	return Summary{FileID: done.FileID, Root: done.Root, SourceBytes: size, SealedBytes: done.Bytes,
		Tensors: len(parts) - 1, Chunks: done.Chunks, Duration: time.Since(start)}, nil
}

// write seals all parts into out.
func write(ctx context.Context, out io.WriteSeeker, in io.ReaderAt, file *gguf.File, parts []part, opt Options) (chunkseal.Summary, error) {
	sections := make([]chunkseal.Section, len(parts))
	total, largest := int64(0), 0
	for i, p := range parts {
		sections[i] = p.Section
		total += p.Bytes()
		largest = max(largest, int(p.ChunkBytes))
	}
	manifest := chunkseal.Manifest{Name: opt.Name, Version: opt.Version, ParameterSets: opt.ParameterSets}
	w, err := chunkseal.NewWriter(out, opt.Key, manifest, sections)
	if err != nil {
		return chunkseal.Summary{}, fmt.Errorf("sealer: %w", err)
	}
	c := chunker{in: in, file: file, unchecked: opt.Unchecked, plain: make([]byte, largest), rows: make([]byte, largest)}
	defer func() { clear(c.plain); clear(c.rows) }()
	done := int64(0)
	for _, p := range parts {
		for i := range int(p.Chunks) {
			if err := ctx.Err(); err != nil {
				return chunkseal.Summary{}, err
			}
			chunk, err := c.chunk(p, i)
			if err != nil {
				return chunkseal.Summary{}, fmt.Errorf("sealer: %s: %w", p.Name, err)
			}
			if err := w.WriteChunk(chunk); err != nil {
				return chunkseal.Summary{}, fmt.Errorf("sealer: %w", err)
			}
			done += int64(len(chunk))
			if opt.Progress != nil {
				opt.Progress(done, total)
			}
		}
	}
	sum, err := w.Close(opt.Sign)
	if err != nil {
		return sum, fmt.Errorf("sealer: %w", err)
	}
	return sum, nil
}

// chunker makes the plaintext of chunks, in buffers that it uses again.
type chunker struct {
	in    io.ReaderAt
	file  *gguf.File
	plain []byte // one chunk, packed
	rows  []byte // the same rows as the source has them: never larger

	unchecked bool
}

func (c *chunker) chunk(p part, i int) ([]byte, error) {
	switch p.Kind {
	case chunkseal.KindMetadata:
		begin := i * int(p.ChunkBytes)
		return c.file.HeaderBytes[begin:min(begin+int(p.ChunkBytes), len(c.file.HeaderBytes))], nil
	case chunkseal.KindVector:
		return c.read(p, 0, int(p.tensor.Size))
	}
	return c.tiles(p, i)
}

// tiles packs the row groups of chunk i. Rows that the last group lacks are
// made zero by the kernels' layout.
func (c *chunker) tiles(p part, i int) ([]byte, error) {
	cols := int(p.Cols)
	rowBytes, group := kernels.RowBytes(p.tile, cols), kernels.TileBytes(p.tile, cols)
	first := i * int(p.RowsPerChunk)
	rows := min(int(p.RowsPerChunk), int(p.Rows)-first)
	src, err := c.read(p, int64(first)*int64(rowBytes), rows*rowBytes)
	if err != nil {
		return nil, err
	}
	groups := ceilDiv(rows, kernels.TileRows)
	workers := min(groups, runtime.GOMAXPROCS(0))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for g := w; g < groups && errs[w] == nil; g += workers {
				at := g * kernels.TileRows
				n := min(kernels.TileRows, rows-at)
				errs[w] = kernels.Pack(c.plain[g*group:(g+1)*group], src[at*rowBytes:(at+n)*rowBytes], p.tile, n, cols)
			}
		})
	}
	wg.Wait()
	return c.plain[:groups*group], errors.Join(errs...)
}

// read reads n bytes of a tensor from offset.
func (c *chunker) read(p part, offset int64, n int) ([]byte, error) {
	at := c.file.DataOffset + p.tensor.Offset + offset
	if got, err := c.in.ReadAt(c.rows[:n], at); got < n {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, at, err)
	}
	if finding := finite(p.tensor, c.rows[:n]); finding != nil && !c.unchecked {
		return nil, servable.Refuse([]servable.Finding{*finding})
	}
	return c.rows[:n], nil
}
