package model

import (
	"fmt"
	"unsafe"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

// Cache keeps the keys and values of several sequences, as float16.
type Cache struct {
	region   *arena.Region
	values   []uint16
	slots    int
	length   int // positions of a slot
	headSize int
	kvHeads  int
	layers   int
}

// NewCache maps room for slots sequences of length positions each.
func NewCache(budget *arena.Budget, p Params, slots, length int) (*Cache, error) {
	if slots < 1 || length < 1 || length > maxContext {
		return nil, fmt.Errorf("model: a cache of %d sequences of %d positions is out of range", slots, length)
	}
	region, err := budget.Map("key and value cache", p.CacheBytes()*int64(slots)*int64(length))
	if err != nil {
		return nil, err
	}
	data := region.Bytes()
	return &Cache{region: region, values: unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/2),
		slots: slots, length: length, headSize: p.HeadSize, kvHeads: p.KVHeads, layers: p.Layers}, nil
}

// Length is the number of positions of each sequence; Slots of sequences.
func (c *Cache) Length() int { return c.length }

// Slots is the number of sequences.
func (c *Cache) Slots() int { return c.slots }

// keys and vals return all positions of one head: position p at p*headSize.
func (c *Cache) keys(slot, layer, head int) []uint16 { return c.part(slot, layer, head, 0) }
func (c *Cache) vals(slot, layer, head int) []uint16 { return c.part(slot, layer, head, 1) }

func (c *Cache) part(slot, layer, head, which int) []uint16 {
	size := c.length * c.headSize
	at := (((slot*c.layers+layer)*c.kvHeads+head)*2 + which) * size
	return c.values[at : at+size : at+size]
}

// Wipe clears the positions of a sequence from one to before another. It does not run beside Forward.
func (c *Cache) Wipe(slot, from, to int) {
	if slot < 0 || slot >= c.slots {
		return
	}
	to = max(0, min(to, c.length))
	from = max(0, min(from, to))
	for layer := range c.layers {
		for head := range c.kvHeads {
			clear(c.keys(slot, layer, head)[from*c.headSize : to*c.headSize])
			clear(c.vals(slot, layer, head)[from*c.headSize : to*c.headSize])
		}
	}
}

// Copy gives a sequence the first positions of another one. It does not run beside Forward.
func (c *Cache) Copy(to, from, positions int) {
	if min(to, from) < 0 || max(to, from) >= c.slots {
		return
	}
	n := max(0, min(positions, c.length)) * c.headSize
	for layer := range c.layers {
		for head := range c.kvHeads {
			copy(c.keys(to, layer, head), c.keys(from, layer, head)[:n])
			copy(c.vals(to, layer, head), c.vals(from, layer, head)[:n])
		}
	}
}

// Release wipes the cache.
func (c *Cache) Release() error { return c.region.Release() }
