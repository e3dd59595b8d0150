package model

import (
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

func TestWipeClearsOneSequenceOnly(t *testing.T) {
	p := Params{Layers: 2, Heads: 4, KVHeads: 2, HeadSize: 16}
	c, err := NewCache(arena.NewBudget(1<<20), p, 2, 5, 64)
	if err != nil {
		t.Fatal(err)
	}
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
					for i, v := range part {
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
	for i, v := range c.memory[:len(c.memory)/2] {
		if v != 0 {
			t.Fatalf("value %d of sequence 0 is left", i)
		}
	}
}

func TestCopyTakesTheFirstPositionsOfAnotherSequence(t *testing.T) {
	p := Params{Layers: 2, Heads: 4, KVHeads: 2, HeadSize: 16}
	c, err := NewCache(arena.NewBudget(1<<20), p, 2, 5, 64)
	if err != nil {
		t.Fatal(err)
	}
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
			for i, v := range c.keys(1, layer, head) {
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
