package model

import (
	"fmt"
	"unsafe"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// Cache keeps the keys and values of several sequences, as float16: for each sequence, layer and head, tiles of keys
// (kernels.KeyTile) and then the values, position after position.
type Cache struct {
	region   *arena.Region
	values   []uint16
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
	region, err := budget.Map("key and value cache", CacheBytes(p, slots, length))
	if err != nil {
		return nil, err
	}
	data := region.Bytes()
	return &Cache{region: region, values: unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/2),
		slots: slots, length: length, room: tiled(length), headSize: p.HeadSize, kvHeads: p.KVHeads, layers: p.Layers}, nil
}

// CacheBytes is the memory that NewCache takes.
func CacheBytes(p Params, slots, length int) int64 {
	return p.CacheBytes() * int64(slots) * int64(tiled(length))
}

// tiled rounds positions up to whole tiles of keys.
func tiled(positions int) int {
	return (positions + kernels.KeyTile - 1) / kernels.KeyTile * kernels.KeyTile
}

// Length is the number of positions of each sequence; Slots of sequences.
func (c *Cache) Length() int { return c.length }

// Slots is the number of sequences.
func (c *Cache) Slots() int { return c.slots }

// keys returns the tiles of one head, vals its values: position p at p*headSize.
func (c *Cache) keys(slot, layer, head int) []uint16 { return c.part(slot, layer, head, 0) }
func (c *Cache) vals(slot, layer, head int) []uint16 { return c.part(slot, layer, head, 1) }

func (c *Cache) part(slot, layer, head, which int) []uint16 {
	size := c.room * c.headSize
	at := (((slot*c.layers+layer)*c.kvHeads+head)*2 + which) * size
	return c.values[at : at+size : at+size]
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
			c.wipeKeys(c.keys(slot, layer, head), from, to)
			clear(c.vals(slot, layer, head)[from*c.headSize : to*c.headSize])
		}
	}
}

// wipeKeys clears positions in tiles.
func (c *Cache) wipeKeys(keys []uint16, from, to int) {
	const tile = kernels.KeyTile
	for from < to {
		end := min(to, (from/tile+1)*tile)
		if part := keys[from/tile*tile*c.headSize:][:tile*c.headSize]; end-from == tile {
			clear(part)
		} else {
			for d := range c.headSize {
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
			copy(c.keys(to, layer, head), c.keys(from, layer, head)[:n])
			copy(c.vals(to, layer, head), c.vals(from, layer, head)[:n])
		}
	}
	c.Wipe(to, positions, tiled(positions))
}

// Release wipes the cache.
func (c *Cache) Release() error { return c.region.Release() }
