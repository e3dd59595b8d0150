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
type Cache struct {
	region   *arena.Region
	memory   []byte
	kind     CacheType
	slots    int
	length   int // positions of a slot
	room     int // positions of whole tiles
	headSize int
	kvHeads  int
	layers   int
}

// NewCache maps room for slots sequences of length positions each.
func NewCache(budget *arena.Budget, p Params, slots, length int) (*Cache, error) {
	if slots < 1 || length < 1 || length > maxContext {
		return nil, fmt.Errorf("model: a cache of %d sequences of %d positions is out of range", slots, length)
	}
	if err := p.CanKeep(); err != nil {
		return nil, err
	}
	region, err := budget.Map("key and value cache", CacheBytes(p, slots, length))
	if err != nil {
		return nil, err
	}
	return &Cache{region: region, memory: region.Bytes(), kind: p.Cache,
		slots: slots, length: length, room: tiled(length), headSize: p.HeadSize, kvHeads: p.KVHeads, layers: p.Layers}, nil
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
func CacheBytes(p Params, slots, length int) int64 {
	position := p.Layers * p.KVHeads * 2 * p.Cache.bytes(p.HeadSize)
	return int64(position) * int64(slots) * int64(tiled(length))
}

// tiled rounds positions up to whole tiles of keys.
func tiled(positions int) int {
	return (positions + kernels.KeyTile - 1) / kernels.KeyTile * kernels.KeyTile
}

// Length is the number of positions of each sequence; Slots of sequences.
func (c *Cache) Length() int { return c.length }

// Slots is the number of sequences.
func (c *Cache) Slots() int { return c.slots }

// keys returns the tiles of one head, vals its values: position p at p*headSize. Both are of a cache of Float16.
func (c *Cache) keys(slot, layer, head int) []uint16 { return halves(c.part(slot, layer, head, 0)) }
func (c *Cache) vals(slot, layer, head int) []uint16 { return halves(c.part(slot, layer, head, 1)) }

// packed8 is what keys and vals are of a cache of Q8: a scale stands for each block where Float16 has a value for each element.
type packed8 struct {
	codes  []int8
	scales []uint16
}

func (c *Cache) packed(slot, layer, head, which int) packed8 {
	part, n := c.part(slot, layer, head, which), c.room*c.headSize
	return packed8{unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(part))), n), halves(part[n:])}
}

func (c *Cache) part(slot, layer, head, which int) []byte {
	size := c.kind.bytes(c.room * c.headSize)
	at := (((slot*c.layers+layer)*c.kvHeads+head)*2 + which) * size
	return c.memory[at : at+size : at+size]
}

func halves(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}

// put stores the key and the value of a position; spare has room for one head.
func (c *Cache) put(set *kernels.Set, slot, layer, head, position int, k, v []float32, spare []uint16) {
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

// Wipe clears the positions of a sequence from one to before another. It does not run beside a Forward of this sequence.
func (c *Cache) Wipe(slot, from, to int) {
	if slot < 0 || slot >= c.slots {
		return
	}
	to = max(0, min(to, c.length))
	from = max(0, min(from, to))
	if to == c.length {
		to = c.room
	}
	for layer := range c.layers {
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

// Copy gives a sequence the first positions of another one, and clears what follows in their last tile. It does not run
// beside a Forward of either.
func (c *Cache) Copy(to, from, positions int) {
	if min(to, from) < 0 || max(to, from) >= c.slots {
		return
	}
	positions = max(0, min(positions, c.length))
	n := tiled(positions) * c.headSize
	for layer := range c.layers {
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
	c.Wipe(to, positions, tiled(positions))
}

// Release wipes the cache.
func (c *Cache) Release() error { return c.region.Release() }
