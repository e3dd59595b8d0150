package chunkseal

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// OpenOptions say which file is acceptable. The zero value accepts none.
type OpenOptions struct {
	Publisher  Publisher // whose signature counts; required
	Name       string    // the model's name; empty accepts any
	MinVersion uint64    // lowest acceptable version
	ModelID    *[32]byte // the exact root; nil accepts any that the publisher signed
}

// Reader opens the chunks of one file, in any order. It is safe for concurrent
// use. The file's cipher lives until Wipe, or as long as the Reader.
type Reader struct {
	wiped    atomic.Bool
	public   *Public
	chunks   *fileKeys
	list     []Section
	first    []int // first chunk of each section, and the end
	digests  [][32]byte
	seen     []atomic.Uint32 // bit per chunk: its digest was found right
	contexts sync.Pool
}

// Open opens a file of size bytes under its model key. It reads the first block and the
// manifest; chunks are checked when they are used. If structure, root, signature, publisher,
// name, version or id are wrong, it refuses the whole file before it uses the key.
func Open(r io.ReaderAt, size int64, key *keybuf.Buffer, want OpenOptions) (*Reader, error) {
	p, err := Inspect(r, size)
	if err != nil {
		return nil, err
	}
	if err := p.Acceptable(want); err != nil {
		return nil, err
	}
	keys, err := deriveKeys(key, p.FileID)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(keys.commitment[:], p.head.commitment[:]) != 1 {
		keys.wipe()
		return nil, Refuse(ReasonKey, "the file was sealed under a different key")
	}
	plain, err := keys.manifest.Open(nil, make([]byte, 12), p.sealed, manifestAAD(p.FileID, p.public))
	if err != nil {
		keys.wipe()
		return nil, Refuse(ReasonManifest, "the sealed part of the manifest does not authenticate")
	}
	p.sealed = nil
	out := &Reader{public: p, chunks: &keys, seen: make([]atomic.Uint32, (p.Chunks+31)/32)}
	out.contexts.New = func() any { return new(sealingContext) }
	if out.list, err = parseSections(plain); err != nil {
		err = Refuse(ReasonMalformed, "sealed manifest: %v", err)
	} else {
		err = out.layOut()
	}
	if err != nil {
		keys.wipe()
		return nil, err
	}
	return out, nil
}

// Wipe clears the round keys of the assembly that opens chunks; the standard library's, which it
// does not let anybody clear, stay until they are collected. No chunk opens after it, and nobody
// may open one meanwhile.
func (r *Reader) Wipe() {
	r.wiped.Store(true)
	r.chunks.wipe()
}

func (p *Public) acceptable(want OpenOptions) error {
	if want.Name != "" && p.Name != want.Name {
		return Refuse(ReasonName, "got model %q, want %q", p.Name, want.Name)
	}
	if p.Version < want.MinVersion {
		return Refuse(ReasonRollback, "got version %d of model %q, want at least %d", p.Version, p.Name, want.MinVersion)
	}
	if want.ModelID != nil && *want.ModelID != p.Root {
		return Refuse(ReasonModelID, "got model id %x, want %x", p.Root, *want.ModelID)
	}
	return nil
}

// layOut gives each section its chunks and compares their sizes with the index.
func (r *Reader) layOut() error {
	next := 0
	for ordinal, s := range r.list {
		r.first = append(r.first, next)
		r.digests = append(r.digests, sectionDigest(r.public.FileID, ordinal, s))
		if int(s.Chunks) > r.public.Chunks-next {
			return Refuse(ReasonMalformed, "sealed manifest: it lists more chunks than the index")
		}
		for inner := range int(s.Chunks) {
			if r.public.chunkSize(next+inner) != s.size(inner) {
				return Refuse(ReasonMalformed, "sealed manifest: chunk %d has a different size in the index", next+inner)
			}
		}
		next += int(s.Chunks)
	}
	r.first = append(r.first, next)
	if next != r.public.Chunks || len(r.list) != r.public.Sections {
		return Refuse(ReasonMalformed, "sealed manifest: got %d sections and %d chunks; the public manifest says %d and %d",
			len(r.list), next, r.public.Sections, r.public.Chunks)
	}
	return nil
}

// VerifyFile checks a whole file in the memory of a single chunk: everything that Open checks,
// and each chunk against its digest. It decrypts no chunk.
func VerifyFile(ctx context.Context, path string, key *keybuf.Buffer, want OpenOptions) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	r, err := Open(file, info.Size(), key, want)
	if err != nil {
		return err
	}
	defer r.Wipe()
	return r.public.VerifyChunks(ctx, nil)
}

// Public returns what is public about the file.
func (r *Reader) Public() *Public { return r.public }

// Sections returns the sections in file order. The caller must not change them.
func (r *Reader) Sections() []Section { return r.list }

// First returns the index in the file of a section's first chunk.
func (r *Reader) First(section int) int { return r.first[section] }

// Slot returns where chunk i lies in the file: multiples of 4096.
func (r *Reader) Slot(i int) (offset int64, size int) { return r.public.Slot(i) }

// ChunkSize returns the plaintext bytes of chunk i.
func (r *Reader) ChunkSize(i int) int { return r.public.chunkSize(i) }

// Together is how many chunks [Reader.OpenSlots] checks at once, at most.
const Together = lanes

// Opening is one chunk to open: its slot's bytes, and where the plaintext goes.
type Opening struct {
	Chunk     int
	Dst, Slot []byte
}

// OpenSlot opens chunk i from its slot's bytes and returns the plaintext, which
// lies at the start of dst. dst may be the slot itself, and needs the capacity
// of the plaintext. The first use of a chunk compares its digest with the index
// that the publisher signed; every use authenticates it under the key. The
// refusal is a *Failure, after which dst holds no plaintext.
func (r *Reader) OpenSlot(dst, slot []byte, i int) ([]byte, error) {
	o := [...]Opening{{i, dst, slot}}
	if err := r.OpenSlots(o[:]); err != nil {
		return nil, err
	}
	return dst[:r.public.chunkSize(i)], nil
}

// OpenSlots opens up to [Together] chunks as OpenSlot does each of them. It opens none before the
// digests of all are right; after a refusal of one, the Dst of those before it may hold plaintext.
// Their digests are computed at once where the processor can, in less than half the time.
func (r *Reader) OpenSlots(list []Opening) error {
	if len(list) > Together {
		return errTooMany
	}
	if r.wiped.Load() {
		return errWiped
	}
	for _, o := range list {
		if err := r.fits(o); err != nil {
			return err
		}
	}
	first, err := r.checkSlots(list)
	if err != nil {
		return err
	}
	for at, o := range list {
		if err := r.authenticate(o); err != nil {
			return err
		}
		if first&(1<<at) != 0 {
			r.seen[o.Chunk/32].Or(seenBit(o.Chunk))
		}
	}
	return nil
}

var (
	errNoSuchChunk = errors.New("chunkseal: the file has no such chunk")
	errTooMany     = errors.New("chunkseal: too many chunks to open together")
	errWiped       = errors.New("chunkseal: the file's keys were wiped")
)

func seenBit(chunk int) uint32 { return 1 << (chunk % 32) }

// fits refuses bytes that are not the chunk's slot, and too little room.
func (r *Reader) fits(o Opening) error {
	if o.Chunk < 0 || o.Chunk >= r.public.Chunks {
		return errNoSuchChunk
	}
	_, size := r.public.Slot(o.Chunk)
	if n := r.public.chunkSize(o.Chunk); len(o.Slot) != size || cap(o.Dst) < n {
		return fmt.Errorf("chunkseal: got %d sealed bytes of chunk %d and room for %d, want %d and %d", len(o.Slot), o.Chunk, cap(o.Dst), size, n)
	}
	return nil
}

// checkSlots checks the padding of each slot, and the digests of those that are used for the first
// time; of these it returns the places in the list as bits.
func (r *Reader) checkSlots(list []Opening) (first uint16, err error) {
	var slots [Together][]byte
	var chunks [Together]int
	n := 0
	for at, o := range list {
		if r.seen[o.Chunk/32].Load()&seenBit(o.Chunk) == 0 {
			slots[n], chunks[n] = o.Slot, o.Chunk
			n++
			first |= 1 << at
		} else if err := checkPadding(o.Slot[r.public.chunkSize(o.Chunk)+tagSize:], o.Chunk); err != nil {
			return 0, r.inSection(err, o.Chunk)
		}
	}
	if bad, err := r.public.checkSlots(slots[:n], chunks[:n]); err != nil {
		return 0, r.inSection(err, chunks[bad])
	}
	return first, nil
}

// authenticate opens one chunk under the key and at its place.
func (r *Reader) authenticate(o Opening) error {
	section, inner := r.find(o.Chunk)
	n := r.public.chunkSize(o.Chunk)
	ctx := r.contexts.Get().(*sealingContext)
	defer r.contexts.Put(ctx)
	ctx.set(&r.digests[section], o.Chunk, inner, n)
	if _, err := r.chunks.chunks.Open(o.Dst[:0], ctx.nonce[:], o.Slot[:n+tagSize], ctx.aad[:]); err != nil {
		return r.inSection(inChunk(Refuse(ReasonTag, "it does not authenticate under this key at this position"), o.Chunk), o.Chunk)
	}
	return nil
}

// OpenChunk reads chunk i through the ReaderAt and opens it into dst, for callers to whom speed
// does not matter.
func (r *Reader) OpenChunk(dst []byte, i int) ([]byte, error) {
	if i < 0 || i >= r.public.Chunks {
		return nil, errNoSuchChunk
	}
	offset, size := r.Slot(i)
	slot := make([]byte, size)
	if err := readAt(r.public.r, slot, offset); err != nil {
		return nil, r.Locate(err, i)
	}
	return r.OpenSlot(dst, slot, i)
}

// Locate turns an error of reading chunk i's slot into a Failure that names
// chunk and tensor: truncated if the file ended, else unreadable.
func (r *Reader) Locate(err error, i int) error {
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		f = Refuse(ReasonUnreadable, "read: %w", err)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			f = Refuse(ReasonTruncated, "the file ends before this chunk does")
		}
	}
	return r.inSection(inChunk(f, i), i)
}

// find returns the section of chunk i and its index therein.
func (r *Reader) find(i int) (section, inner int) {
	at, exact := slices.BinarySearch(r.first, i)
	if !exact {
		at--
	}
	return at, i - r.first[at]
}

// inSection adds the name of a chunk's section to a Failure.
func (r *Reader) inSection(err error, chunk int) error {
	if f, ok := errors.AsType[*Failure](err); ok {
		section, _ := r.find(chunk)
		f.Tensor = r.list[section].Name
	}
	return err
}
