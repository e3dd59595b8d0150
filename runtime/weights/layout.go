package weights

import (
	"fmt"
	"math"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// align is how each tensor begins in memory: a cache line, a vector register.
const align = 64

// layout is what a file holds and where it lies in memory.
type layout struct {
	tensors     []tensor
	byName      map[string]int
	vectors     map[string]*vector
	header      chunkRun
	headerBytes int64
	vectorBytes int64
	largestSlot int
}

// chunkRun is a section's chunks in the file and, of the first ones, their place in memory.
type chunkRun struct {
	first, chunks, chunkBytes int
	size                      int
	data                      []byte // of the chunks that are kept in memory
	kept                      int    // number of these
}

// bytes returns the plaintext bytes of the first n chunks.
func (r *chunkRun) bytes(n int) int { return min(n*r.chunkBytes, r.size) }

// keep gives the first n chunks their memory.
func (r *chunkRun) keep(data []byte, n int) { r.data, r.kept = data, n }

// part returns a chunk that is kept.
func (r *chunkRun) part(chunk int) []byte {
	begin, end := chunk*r.chunkBytes, r.bytes(chunk+1)
	return r.data[begin:end:end]
}

type tensor struct {
	kernels.Tensor
	chunkRun
}

type vector struct {
	chunkRun
	values []float32
}

// layOut takes the file's sections for tensors, vectors and header. The
// manifest is signed, yet a publisher's mistake must not become an overrun in
// assembly: every size is computed anew from the shape.
func layOut(r *chunkseal.Reader) (layout, error) {
	l := layout{byName: map[string]int{}, vectors: map[string]*vector{}}
	for i, s := range r.Sections() {
		run := chunkRun{first: r.First(i), chunks: int(s.Chunks), chunkBytes: int(s.ChunkBytes), size: int(s.Bytes())}
		_, slot := r.Slot(run.first)
		l.largestSlot = max(l.largestSlot, slot)
		switch s.Kind {
		case chunkseal.KindMetadata:
			if l.headerBytes != 0 {
				return l, fmt.Errorf("section %s is a second header", s.Name)
			}
			l.header, l.headerBytes = run, s.Bytes()
		case chunkseal.KindVector:
			if uint64(run.size) != 4*uint64(s.Cols) || s.Rows != 1 || s.Chunks != 1 {
				return l, fmt.Errorf("vector %s: %d values do not match %d bytes", s.Name, s.Cols, run.size)
			}
			l.vectors[s.Name] = &vector{chunkRun: run}
			l.vectorBytes += alignUp(s.Bytes())
		case chunkseal.KindTiles:
			t := tensor{chunkRun: run, Tensor: kernels.Tensor{ID: len(l.tensors), Name: s.Name, Type: kernels.Type(s.Type),
				Rows: int(s.Rows), Cols: int(s.Cols), RowsPerChunk: int(s.RowsPerChunk), Chunks: int(s.Chunks)}}
			if err := t.check(); err != nil {
				return l, err
			}
			l.byName[s.Name] = len(l.tensors)
			l.tensors = append(l.tensors, t)
		case chunkseal.KindClassifier:
			return l, fmt.Errorf("section %s: the file holds a classifier, not a language model", s.Name)
		default:
			return l, fmt.Errorf("section %s has unknown kind %d", s.Name, s.Kind)
		}
	}
	if l.headerBytes == 0 || len(l.tensors) == 0 {
		return l, fmt.Errorf("the file has no header or no tensors")
	}
	return l, nil
}

// check compares the chunks with the shape.
func (t *tensor) check() error {
	group := kernels.TileBytes(t.Type, t.Cols)
	switch {
	case group == 0 || t.Rows < 1 || t.Rows > math.MaxInt32:
		return fmt.Errorf("tensor %s: %d rows of %d columns of %s are out of range", t.Name, t.Rows, t.Cols, t.Type)
	case t.RowsPerChunk < kernels.TileRows || t.RowsPerChunk%kernels.TileRows != 0:
		return fmt.Errorf("tensor %s: got %d rows per chunk, want a multiple of %d", t.Name, t.RowsPerChunk, kernels.TileRows)
	}
	groups := (t.Rows + kernels.TileRows - 1) / kernels.TileRows
	each := t.RowsPerChunk / kernels.TileRows
	if t.Chunks != (groups+each-1)/each || t.chunkBytes/group != each || t.chunkBytes%group != 0 || t.size/group != groups || t.size%group != 0 {
		return fmt.Errorf("tensor %s: %d rows of %d bytes do not make %d chunks of %d bytes", t.Name, t.Rows, group/kernels.TileRows, t.Chunks, t.chunkBytes)
	}
	return nil
}

func alignUp(n int64) int64 { return (n + align - 1) / align * align }

// The matrix of which a pass reads a row for each token, unless there is no matrix for the output:
// then it is both.
const (
	embeddingName = "token_embd.weight"
	outputName    = "output.weight"
)

// lookedUp says that passes read only rows of a tensor here and there.
func (l *layout) lookedUp(t *tensor) bool {
	_, other := l.byName[outputName]
	return other && t.Name == embeddingName
}

// pinOrder lists the tensors in the order in which they are worth their memory: a byte that each
// pass reads saves as much as any other, a tensor of which it reads a row nearly nothing.
func (l *layout) pinOrder() []*tensor {
	var list, last []*tensor
	for i := range l.tensors {
		if t := &l.tensors[i]; l.lookedUp(t) {
			last = append(last, t)
		} else {
			list = append(list, t)
		}
	}
	return append(list, last...)
}

// pinning is how many chunks of each tensor, by its number, are kept in memory, and their bytes.
type pinning struct {
	chunks []int
	bytes  int64
}

// pin chooses what is kept in limit bytes: tensors one after another, and of the first that does
// not fit its first chunks.
func (l *layout) pin(limit int64) pinning {
	p := pinning{chunks: make([]int, len(l.tensors))}
	for _, t := range l.pinOrder() {
		n := t.chunks
		if whole := int64(t.size); arena.Cost(p.bytes+alignUp(whole)) > limit {
			n = int(max(0, limit/arena.Cost(1)*arena.Cost(1)-p.bytes) / alignUp(int64(t.chunkBytes)))
			n = min(n, t.chunks-1)
		}
		p.chunks[t.ID] = n
		p.bytes += alignUp(int64(t.bytes(n)))
		if n < t.chunks {
			break
		}
	}
	return p
}

// place gives header, vectors and what is pinned their memory.
func (l *layout) place(header []byte, vectors, pinned *arena.Region, pin pinning) {
	l.header.keep(header, l.header.chunks)
	at := int64(0)
	for _, v := range l.vectors {
		n := int64(v.size)
		v.keep(vectors.Bytes()[at:at+n:at+n], v.chunks)
		v.values = vectors.Float32s()[at/4 : (at+n)/4 : (at+n)/4]
		at += alignUp(n)
	}
	at = 0
	for i := range l.tensors {
		t := &l.tensors[i]
		if pin.chunks[i] == 0 {
			continue
		}
		n := int64(t.bytes(pin.chunks[i]))
		t.keep(pinned.Bytes()[at:at+n:at+n], pin.chunks[i])
		at += alignUp(n)
	}
}

// complete says whether nothing is left to stream.
func (l *layout) complete() bool {
	for i := range l.tensors {
		if t := &l.tensors[i]; t.kept < t.chunks {
			return false
		}
	}
	return true
}
