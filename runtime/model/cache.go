package model

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// CacheType is how a Cache keeps keys and values.
type CacheType uint8

// Float16 takes 2 bytes a value. Q8 takes 34 bytes for 32: codes of 8 bits and a scale (kernels.Pack8); it needs
// heads of whole blocks of 32 elements.
const (
	Float16 CacheType = iota
	Q8
)

// ParseCacheType reads a type by its name: "f16" (or nothing) and "q8".
func ParseCacheType(name string) (CacheType, error) {
	switch name {
	case "", "f16":
		return Float16, nil
	case "q8":
		return Q8, nil
	}
	return 0, fmt.Errorf("model: the cache type %q is unknown; use f16 or q8", name)
}

// bytes is the memory of so many values, whole blocks.
func (t CacheType) bytes(values int) int {
	if t == Q8 {
		return values + values/kernels.PackedBlock*2
	}
	return 2 * values
}

// Cache keeps the keys and values of several sequences in pages, which sequences take as they need them: for each layer and
// head, tiles of keys (kernels.KeyTile) and then the values of all pages, page after page. Of Q8, each of the two parts has
// its codes first. Pages that a sequence has one behind the other thus are one stretch.
//
// A layer that attends to a window keeps the last positions only, of each sequence apart: position p stands where p modulo the
// layer's room would, so that each later one takes the place of one that no token will see again.
type Cache struct {
	region   *arena.Region
	memory   []byte
	kind     CacheType
	slots    int
	length   int // positions of a sequence, at most
	page     int // positions of a page, whole tiles
	window   int // positions that a layer with a window attends to
	ring     int // positions that such a layer has room for, whole tiles; 0 if there is none
	headSize int
	kvHeads  int
	layers   []layerPart
	pooled   int // bytes of all pages, which are first
	size     int // bytes that each slot has of its own, for layers with a window

	pages [][]int32 // of each slot, in the order of its positions
	mu    sync.Mutex
	taken []bool // of each page, whether it is a slot's or being cleared; under mu

	// from is, for each slot, the first position that layers with a window still have; next is what it will be behind
	// a batch that is being checked. Behind end, nothing was stored since it was cleared.
	from, next, end []int
}

// layerPart is where a layer lies, and for how many positions it has room, whole tiles: all pages, or those of each slot.
type layerPart struct {
	at, room int
	ring     bool
}

// pagePositions is the number of positions of a page, for contexts that have so many.
const pagePositions = 2 * kernels.KeyTile

// CacheSize is what a cache has room for.
type CacheSize struct {
	// Slots is the number of sequences, Length their positions at most, and Batch how many a pass computes at most.
	Slots, Length, Batch int
	// Positions is what all sequences have together, at least Length; 0 stands for Slots times Length.
	Positions int
}

// page is the number of positions of a page, pages the number of pages.
func (s CacheSize) page() int { return min(pagePositions, tiled(s.Length)) }

func (s CacheSize) pages() int {
	whole := s.Slots * ceilDiv(s.Length, s.page())
	if s.Positions == 0 {
		return whole
	}
	return min(ceilDiv(s.Positions, s.page()), whole)
}

// ring is for how many positions a layer has room of its own for each slot. That is the window and what one pass stores
// before its first token attends; 0 if the layer keeps all, in pages, because it sees all or because pages take no more.
func (s CacheSize) ring(p *Params, layer int) int {
	if room := tiled(p.Window + s.Batch - 1); p.local(layer) && room < s.Length && s.Slots*room < s.pages()*s.page() {
		return room
	}
	return 0
}

// NewCache maps the memory of a cache, whose slots have no pages.
func NewCache(budget *arena.Budget, p Params, s CacheSize) (*Cache, error) {
	if s.Slots < 1 || s.Slots > MaxBatch || s.Length < 1 || s.Length > maxContext || s.Batch < 1 || s.Batch > MaxBatch || s.Positions != 0 && s.Positions < s.Length {
		return nil, fmt.Errorf("model: a cache of %d sequences of %d positions, of %d together, for passes of %d is out of range", s.Slots, s.Length, s.Positions, s.Batch)
	}
	if err := p.CanKeep(); err != nil {
		return nil, err
	}
	region, err := budget.Map("key and value cache", CacheBytes(p, s))
	if err != nil {
		return nil, err
	}
	c := &Cache{region: region, memory: region.Bytes(), kind: p.Cache, slots: s.Slots, length: s.Length, page: s.page(), window: p.Window, headSize: p.HeadSize, kvHeads: p.KVHeads,
		layers: make([]layerPart, p.Layers), pages: make([][]int32, s.Slots), taken: make([]bool, s.pages()), from: make([]int, s.Slots), next: make([]int, s.Slots), end: make([]int, s.Slots)}
	for i := range c.layers {
		l, size := layerPart{c.pooled, s.pages() * c.page, false}, &c.pooled
		if room := s.ring(&p, i); room > 0 {
			l, size = layerPart{c.size, room, true}, &c.size
			c.ring = room
		}
		c.layers[i] = l
		*size += p.KVHeads * 2 * p.Cache.bytes(l.room*p.HeadSize)
	}
	for i := range c.pages {
		c.pages[i] = make([]int32, 0, len(c.taken))
	}
	return c, nil
}

// ReasonCacheType is the code of a refusal to keep a model's keys and values in a type that cannot hold its heads.
const ReasonCacheType = "cache-type"

// CanKeep says why keys and values cannot be kept as p.Cache says.
func (p Params) CanKeep() error {
	if p.Cache == Q8 && p.HeadSize%kernels.PackedBlock != 0 {
		return refusal.New(ReasonCacheType, "this model's heads of %d elements cannot be kept as q8, in blocks of %d: leave out models[].cache, or set it to f16", p.HeadSize, kernels.PackedBlock)
	}
	return nil
}

// CacheBytes is the memory that NewCache takes.
func CacheBytes(p Params, s CacheSize) int64 {
	positions := int64(0)
	for i := range p.Layers {
		if room := s.ring(&p, i); room > 0 {
			positions += int64(s.Slots) * int64(room)
		} else {
			positions += int64(s.pages()) * int64(s.page())
		}
	}
	return positions * int64(p.KVHeads*2*p.Cache.bytes(p.HeadSize))
}

// WindowSaving is by how much less CacheBytes is than it were if layers with a window kept all positions.
func WindowSaving(p Params, s CacheSize) int64 {
	whole := p
	whole.Window = s.Length
	return CacheBytes(whole, s) - CacheBytes(p, s)
}

// tiled rounds positions up to whole tiles of keys.
func tiled(positions int) int {
	return (positions + kernels.KeyTile - 1) / kernels.KeyTile * kernels.KeyTile
}

// keys returns the tiles of one head, vals its values: those of a position at its place times headSize. Both are of a cache of Float16.
func (c *Cache) keys(slot, layer, head int) []uint16 { return halves(c.part(slot, layer, head, 0)) }
func (c *Cache) vals(slot, layer, head int) []uint16 { return halves(c.part(slot, layer, head, 1)) }

// packed8 is what keys and vals are of a cache of Q8: a scale stands for each block where Float16 has a value for each element.
type packed8 struct {
	codes  []int8
	scales []uint16
}

func (c *Cache) packed(slot, layer, head, which int) packed8 {
	part, n := c.part(slot, layer, head, which), c.layers[layer].room*c.headSize
	return packed8{unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(part))), n), halves(part[n:])}
}

func (c *Cache) part(slot, layer, head, which int) []byte {
	l := &c.layers[layer]
	size := c.kind.bytes(l.room * c.headSize)
	at := l.at + (head*2+which)*size
	if l.ring {
		at += c.pooled + slot*c.size
	}
	return c.memory[at : at+size : at+size]
}

func halves(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}

// place is where a position of a sequence lies in a layer, and how many from it to before end lie one behind the other there.
func (c *Cache) place(slot, layer, position, end int) (at, n int) {
	if l := &c.layers[layer]; l.ring {
		at = position % l.room
		return at, min(end-position, l.room-at)
	}
	pages, i := c.pages[slot], position/c.page
	at = int(pages[i])*c.page + position%c.page
	for n = c.page - position%c.page; n < end-position && pages[i+1] == pages[i]+1; i++ {
		n += c.page
	}
	return at, min(n, end-position)
}

// put stores the key and the value of a position; spare has room for one head.
func (c *Cache) put(set *kernels.Set, slot, layer, head, position int, k, v []float32, spare []uint16) {
	position, _ = c.place(slot, layer, position, position+1)
	at := position * c.headSize
	if c.kind == Float16 {
		set.Halves(spare, k)
		kernels.PutKey(c.keys(slot, layer, head), position, spare)
		set.Halves(c.vals(slot, layer, head)[at:at+c.headSize], v)
		return
	}
	blocks := c.headSize / kernels.PackedBlock
	codes, scales := unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(spare))), c.headSize), spare[c.headSize-blocks:]
	kernels.Pack8(codes, scales, k)
	keys, vals := c.packed(slot, layer, head, 0), c.packed(slot, layer, head, 1)
	kernels.PutKey8(keys.codes, keys.scales, position, codes, scales)
	kernels.Pack8(vals.codes[at:at+c.headSize], vals.scales[position*blocks:][:blocks], v)
}

// ahead checks that the cache has pages for a batch, still has what its tokens attend to, and will behind the batch: layers with a
// window keep only the last positions. It takes note of those that go, and of what is stored.
func (c *Cache) ahead(batch []Input) error {
	for _, in := range batch {
		if in.Position >= c.Positions(in.Slot) {
			return fmt.Errorf("%w: position %d of slot %d, whose pages have %d", ErrInput, in.Position, in.Slot, c.Positions(in.Slot))
		}
	}
	if err := c.behind(batch); err != nil {
		return err
	}
	for _, in := range batch {
		c.end[in.Slot] = max(c.end[in.Slot], in.Position+1)
	}
	return nil
}

func (c *Cache) behind(batch []Input) error {
	if c.ring == 0 { // all are kept
		return nil
	}
	copy(c.next, c.from)
	for _, in := range batch {
		if in.Position == 0 { // a sequence begins
			c.next[in.Slot] = 0
		}
		c.next[in.Slot] = max(c.next[in.Slot], in.Position+1-c.ring)
	}
	for _, in := range batch {
		if first := max(0, in.Position+1-c.window); first < c.next[in.Slot] {
			return fmt.Errorf("%w: position %d of slot %d attends to position %d, and the cache has those from %d on", ErrInput, in.Position, in.Slot, first, c.next[in.Slot])
		}
	}
	for _, in := range batch { // a Wipe may read what is of other slots meanwhile
		c.from[in.Slot] = c.next[in.Slot]
	}
	return nil
}

// Resumes says whether a sequence can go on at a position: whether the cache has all that a token there attends to, if it
// ever had it. Layers with a window lose it once the sequence went on for longer than their room.
func (c *Cache) Resumes(slot, position int) bool {
	return position == 0 || c.ring == 0 || max(0, position+1-c.window) >= c.from[slot]
}

// Wipe clears the positions of a sequence from one to before another, as far as it has pages. It does not run beside a Forward of
// this sequence.
func (c *Cache) Wipe(slot, from, to int) {
	if slot < 0 || slot >= c.slots {
		return
	}
	to = max(0, min(to, c.length))
	from = max(0, min(from, to))
	if to >= c.end[slot] {
		c.end[slot] = min(c.end[slot], from)
	}
	if to == c.length {
		to = max(tiled(to), c.Positions(slot))
	}
	for layer, part := range c.layers {
		first, end := from, min(to, c.Positions(slot))
		if part.ring {
			first, end = c.lasting(slot, from, to)
		}
		for first < end {
			at, n := c.place(slot, layer, first, end)
			c.clear(slot, layer, at, at+n)
			first += n
		}
	}
}

// lasting are those of some positions that a layer with a window has: others that share a place with one are gone already,
// or have not been. Where they take all places, they are counted from the first, so that the time of clearing them does not
// tell where in a tile a sequence ended.
func (c *Cache) lasting(slot, from, to int) (first, end int) {
	first, end = max(from, c.from[slot]), min(to, c.from[slot]+c.ring)
	if end-first == c.ring {
		return 0, c.ring
	}
	return first, end
}

// clear clears places of a layer.
func (c *Cache) clear(slot, layer, from, to int) {
	for head := range c.kvHeads {
		if c.kind == Float16 {
			wipe(c.keys(slot, layer, head), c.vals(slot, layer, head), c.headSize, from, to)
			continue
		}
		keys, vals := c.packed(slot, layer, head, 0), c.packed(slot, layer, head, 1)
		wipe(keys.codes, vals.codes, c.headSize, from, to)
		wipe(keys.scales, vals.scales, c.headSize/kernels.PackedBlock, from, to)
	}
}

// wipe clears positions in tiles and rows of so many elements each.
func wipe[T any](tiles, rows []T, size, from, to int) {
	clear(rows[from*size : to*size])
	const tile = kernels.KeyTile
	for from < to {
		end := min(to, (from/tile+1)*tile)
		if part := tiles[from/tile*tile*size:][:tile*size]; end-from == tile {
			clear(part)
		} else {
			for d := range size {
				clear(part[d*tile+from%tile:][:end-from])
			}
		}
		from = end
	}
}

// Copy gives a sequence the first positions of another one, or what the cache still has of them, and clears what follows
// in their last tile. It does not run beside a Forward of either.
func (c *Cache) Copy(to, from, positions int) {
	if min(to, from) < 0 || max(to, from) >= c.slots {
		return
	}
	positions = max(0, min(positions, c.length, c.Positions(to), c.Positions(from)))
	for layer, part := range c.layers {
		end := tiled(positions)
		if part.ring {
			end = min(end, part.room)
		}
		for first := 0; first < end; {
			source, n := c.place(from, layer, first, end)
			target, m := c.place(to, layer, first, end)
			n = min(n, m)
			for which := range 2 * c.kvHeads {
				c.copy(to, from, layer, which, target*c.headSize, source*c.headSize, n*c.headSize)
			}
			first += n
		}
	}
	c.end[to] = max(c.end[to], positions)
	end := tiled(positions)
	if c.from[to] = c.from[from]; c.from[to] > 0 { // all places of a window were copied
		end = max(end, c.from[to]+c.ring)
	}
	c.Wipe(to, positions, end)
}

// copy copies values of one part of a layer, of each head's two.
func (c *Cache) copy(to, from, layer, which, target, source, values int) {
	if c.kind == Float16 {
		copy(c.part(to, layer, which/2, which%2)[2*target:], c.part(from, layer, which/2, which%2)[2*source:2*(source+values)])
		return
	}
	out, in := c.packed(to, layer, which/2, which%2), c.packed(from, layer, which/2, which%2)
	const block = kernels.PackedBlock
	copy(out.codes[target:], in.codes[source:source+values])
	copy(out.scales[target/block:], in.scales[source/block:(source+values)/block])
}

// Release wipes the cache.
func (c *Cache) Release() error { return c.region.Release() }
