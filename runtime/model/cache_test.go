package model

import (
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

func TestWipeClearsOneSequenceOnly(t *testing.T) {
	p := Params{Layers: 2, Heads: 4, KVHeads: 2, HeadSize: 16}
	c, err := NewCache(arena.NewBudget(1<<20), p, 2, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	for i := range c.values {
		c.values[i] = 7
	}
	c.Wipe(1, 3)
	left := map[int]int{}
	for slot := range c.slots {
		for layer := range c.layers {
			for head := range c.kvHeads {
				for _, part := range [][]uint16{c.keys(slot, layer, head), c.vals(slot, layer, head)} {
					for i, v := range part {
						if v != 0 {
							left[slot]++
							if slot == 1 && i < 3*p.HeadSize {
								t.Errorf("position %d of the wiped sequence is left", i/p.HeadSize)
							}
						}
					}
				}
			}
		}
	}
	if left[0] != 2*2*2*5*16 || left[1] != 2*2*2*2*16 {
		t.Errorf("values left: %v", left)
	}
	c.Wipe(-1, 5)
	c.Wipe(2, 5)
	c.Wipe(0, 99)
	for i, v := range c.values[:len(c.values)/2] {
		if v != 0 {
			t.Fatalf("value %d of sequence 0 is left", i)
		}
	}
}
