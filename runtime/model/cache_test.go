package model

import (
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// scatter gives all slots all their pages, by turns, so that those of a slot lie apart.
func scatter(c *Cache) {
	for range c.Pages(c.length) {
		for slot := range c.slots {
			c.Take(slot, 1)
		}
	}
}

// parts are what a slot has of memory.
func parts(c *Cache, slot int) (list [][]byte) {
	for layer, l := range c.layers {
		for which := range 2 * c.kvHeads {
			part := c.part(slot, layer, which/2, which%2)
			cut := func(first, n int) {
				if c.kind == Float16 {
					list = append(list, part[first*c.headSize*2:][:n*c.headSize*2])
					return
				}
				scales, block := part[l.room*c.headSize:], c.headSize/kernels.PackedBlock
				list = append(list, part[first*c.headSize:][:n*c.headSize], scales[2*first*block:][:2*n*block])
			}
			if l.ring {
				cut(0, l.room)
				continue
			}
			for _, page := range c.pages[slot] {
				cut(int(page)*c.page, c.page)
			}
		}
	}
	return list
}

// used counts the bytes of a slot that are not zero.
func used(c *Cache, slot int) (n int) {
	for _, part := range parts(c, slot) {
		for _, b := range part {
			if b != 0 {
				n++
			}
		}
	}
	return n
}

func TestWipeClearsOneSequenceOnly(t *testing.T) {
	p := Params{Layers: 2, Heads: 4, KVHeads: 2, HeadSize: 16}
	c, err := NewCache(arena.NewBudget(1<<20), p, CacheSize{Slots: 2, Length: 5, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	scatter(c)
	defer c.Release()
	for i := range c.memory {
		c.memory[i] = 7
	}
	c.Wipe(1, 0, 3)
	left := map[int]int{}
	for slot := range c.slots {
		for layer := range c.layers {
			for head := range c.kvHeads {
				for which, part := range [][]uint16{c.keys(slot, layer, head), c.vals(slot, layer, head)} {
					for i, v := range part[slot*c.page*p.HeadSize:][:c.page*p.HeadSize] {
						if v != 0 {
							left[slot]++
							position := i / p.HeadSize
							if which == 0 {
								position = i % kernels.KeyTile
							}
							if slot == 1 && position < 3 {
								t.Errorf("position %d of the wiped sequence is left", position)
							}
						}
					}
				}
			}
		}
	}
	if room := kernels.KeyTile; left[0] != 2*2*2*room*16 || left[1] != 2*2*2*(room-3)*16 {
		t.Errorf("values left: %v", left)
	}
	c.Wipe(-1, 0, 5)
	c.Wipe(2, 0, 5)
	c.Wipe(0, -1, 99)
	if n := used(c, 0); n != 0 {
		t.Errorf("%d bytes of sequence 0 are left", n)
	}
}

func TestCopyTakesTheFirstPositionsOfAnotherSequence(t *testing.T) {
	p := Params{Layers: 2, Heads: 4, KVHeads: 2, HeadSize: 16}
	c, err := NewCache(arena.NewBudget(1<<20), p, CacheSize{Slots: 2, Length: 5, Batch: 64})
	if err != nil {
		t.Fatal(err)
	}
	scatter(c)
	defer c.Release()
	for i, values := 0, halves(c.memory); i < len(values); i++ {
		values[i] = uint16(i + 1)
	}
	c.Wipe(1, 1, 5) // keeps position 0
	c.Copy(1, 0, 3)
	c.Copy(2, 0, 3)
	c.Copy(1, -1, 3)
	for layer := range c.layers {
		for head := range c.kvHeads {
			for i, v := range c.keys(1, layer, head)[c.page*p.HeadSize:] {
				switch want := c.keys(0, layer, head)[i]; {
				case i%kernels.KeyTile < 3 && v != want:
					t.Fatalf("value %d of the keys is %d, want %d", i, v, want)
				case i%kernels.KeyTile >= 3 && v != 0:
					t.Fatalf("value %d of the keys was copied, too", i)
				}
			}
		}
	}
}
