package model

import (
	"fmt"
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

// Cache keeps the keys and values of several sequences: for each sequence, layer and head, tiles of keys
// (kernels.KeyTile) and then the values, position after position. Of Q8, each of the two parts has its codes first.
//
// A layer that attends to a window keeps its last positions only: position p stands where p modulo the layer's room
// would, so that each later one takes the place of one that no token will see again.
type Cache struct {
	region   *arena.Region
	memory   []byte
	kind     CacheType
	slots    int
	length   int // positions of a slot
	window   int // positions that a layer with a window attends to
	ring     int // positions that such a layer has room for, whole tiles
	headSize int
	kvHeads  int
	layers   []layerPart
	size     int // bytes of a slot

	// from is, for each slot, the first position that layers with a window still have; next is what it will be behind
	// a batch that is being checked.
	from, next []int
}

// layerPart is where a layer lies in a slot, and for how many positions it has room, whole tiles.
type layerPart struct {
	at, room int
}

// NewCache maps room for slots sequences of length positions each, of which a pass computes at most batch.
func NewCache(budget *arena.Budget, p Params, slots, length, batch int) (*Cache, error) {
	if slots < 1 || length < 1 || length > maxContext || batch < 1 || batch > MaxBatch {
		return nil, fmt.Errorf("model: a cache of %d sequences of %d positions for passes of %d is out of range", slots, length, batch)
	}
	if err := p.CanKeep(); err != nil {
		return nil, err
	}
	region, err := budget.Map("key and value cache", CacheBytes(p, slots, length, batch))
	if err != nil {
		return nil, err
	}
	c := &Cache{region: region, memory: region.Bytes(), kind: p.Cache, slots: slots, length: length, window: p.Window, ring: p.room(0, length, batch),
		headSize: p.HeadSize, kvHeads: p.KVHeads, layers: make([]layerPart, p.Layers), from: make([]int, slots), next: make([]int, slots)}
	for i := range c.layers {
		room := p.room(i, length, batch)
		c.layers[i] = layerPart{c.size, room}
		c.size += p.KVHeads * 2 * p.Cache.bytes(room*p.HeadSize)
		c.ring = min(c.ring, room)
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
func CacheBytes(p Params, slots, length, batch int) int64 {
	positions := int64(0)
	for i := range p.Layers {
		positions += int64(p.room(i, length, batch))
	}
	return positions * int64(slots) * int64(p.KVHeads*2*p.Cache.bytes(p.HeadSize))
}

// WindowSaving is by how much less CacheBytes is than it were if layers with a window kept all positions.
func WindowSaving(p Params, slots, length, batch int) int64 {
	whole := p
	whole.Window = length
	return CacheBytes(whole, slots, length, batch) - CacheBytes(p, slots, length, batch)
}

// room is for how many positions a layer has room. With a window, that is what all tokens of one pass attend to, which
// are stored before the first of them attends.
func (p *Params) room(layer, length, batch int) int {
	if p.local(layer) {
		length = min(length, p.Window+batch-1)
	}
	return tiled(length)
}

// tiled rounds positions up to whole tiles of keys.
func tiled(positions int) int {
	return (positions + kernels.KeyTile - 1) / kernels.KeyTile * kernels.KeyTile
}

// Length is the number of positions of each sequence; Slots of sequences.
func (c *Cache) Length() int { return c.length }

// Slots is the number of sequences.
func (c *Cache) Slots() int { return c.slots }

// keys returns the tiles of one head, vals its values: those of position p at p, modulo the layer's room, times headSize. Both are of a cache of Float16.
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
	size := c.kind.bytes(c.layers[layer].room * c.headSize)
	at := slot*c.size + c.layers[layer].at + (head*2+which)*size
	return c.memory[at : at+size : at+size]
}

func halves(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}

// put stores the key and the value of a position; spare has room for one head.
func (c *Cache) put(set *kernels.Set, slot, layer, head, position int, k, v []float32, spare []uint16) {
	position %= c.layers[layer].room
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

// ahead checks that the cache still has what the tokens of a batch attend to, and will behind the batch: layers with a
// window keep only the last positions. It takes note of those that go.
func (c *Cache) ahead(batch []Input) error {
	if c.ring >= c.length { // all are kept
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
	return position == 0 || max(0, position+1-c.window) >= c.from[slot]
}

// Wipe clears the positions of a sequence from one to before another. It does not run beside a Forward of this sequence.
func (c *Cache) Wipe(slot, from, to int) {
	if slot < 0 || slot >= c.slots {
		return
	}
	to = max(0, min(to, c.length))
	from = max(0, min(from, to))
	if to == c.length {
		to = tiled(to)
	}
	for layer, part := range c.layers {
		first, end := c.held(slot, part.room, from, to)
		for room := part.room; first < end; {
			n := min(end-first, room-first%room)
			c.clear(slot, layer, first%room, first%room+n)
			first += n
		}
	}
}

// held are those of some positions that a layer with so much room has: others that share a place with one are gone already,
// or have not been. Where they take all places, they are counted from the first, so that the time of clearing them does not
// tell where in a tile a sequence ended.
func (c *Cache) held(slot, room, from, to int) (first, end int) {
	if room == tiled(c.length) {
		return from, to
	}
	first, end = max(from, c.from[slot]), min(to, c.from[slot]+room)
	if end-first == room {
		return 0, room
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
	positions = max(0, min(positions, c.length))
	for layer, part := range c.layers {
		n := min(tiled(positions), part.room) * c.headSize
		for head := range c.kvHeads {
			for which := range 2 {
				if c.kind == Float16 {
					copy(c.part(to, layer, head, which), c.part(from, layer, head, which)[:2*n])
					continue
				}
				out, in := c.packed(to, layer, head, which), c.packed(from, layer, head, which)
				copy(out.codes, in.codes[:n])
				copy(out.scales, in.scales[:n/kernels.PackedBlock])
			}
		}
	}
	end := tiled(positions)
	if c.from[to] = c.from[from]; c.from[to] > 0 { // all places of a window were copied
		end = max(end, c.from[to]+c.ring)
	}
	c.Wipe(to, positions, end)
}

// Release wipes the cache.
func (c *Cache) Release() error { return c.region.Release() }
