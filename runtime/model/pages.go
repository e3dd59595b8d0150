package model

// Pages is the number of pages that so many positions take.
func (c *Cache) Pages(positions int) int { return ceilDiv(max(positions, 0), c.page) }

// Held is the number of pages that a slot has.
func (c *Cache) Held(slot int) int { return len(c.pages[slot]) }

// Positions is the number of positions that they have room for.
func (c *Cache) Positions(slot int) int { return len(c.pages[slot]) * c.page }

// Free is the number of pages that no slot has. They are clear.
func (c *Cache) Free() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, taken := range c.taken {
		if !taken {
			n++
		}
	}
	return n
}

// Take gives a slot n more pages, behind those that it has, or none if there are not so many. Pages one behind the other are
// read as one, so it takes the next one where that is free, else the first.
func (c *Cache) Take(slot, n int) bool {
	if n > c.Free() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pages := c.pages[slot]
	for first := 0; n > 0; n-- {
		next := 0
		if len(pages) > 0 {
			next = int(pages[len(pages)-1]) + 1
		}
		if next == len(c.taken) || c.taken[next] {
			for c.taken[first] {
				first++
			}
			next = first
		}
		c.taken[next] = true
		pages = append(pages, int32(next))
	}
	c.pages[slot] = pages
	return true
}

// Move gives a slot the last n pages of another one, with what they hold: the caller wipes it before anything is computed there.
func (c *Cache) Move(to, from, n int) {
	left := len(c.pages[from]) - n
	c.pages[to] = append(c.pages[to], c.pages[from][left:]...)
	c.pages[from] = c.pages[from][:left]
	c.end[from] = min(c.end[from], c.Positions(from))
	c.end[to] = c.Positions(to)
}

// Keep leaves a slot what it has of the first positions, clears what was stored behind them and frees the other pages. It does not run
// beside a Forward of this sequence.
func (c *Cache) Keep(slot, positions int) {
	c.Wipe(slot, positions, c.end[slot])
	c.free(c.cut(slot, positions))
}

// Shed takes the pages behind the first positions from a slot. They become free by what it returns, which clears them, whatever they hold, and
// may run beside a Forward; nil if there are none.
func (c *Cache) Shed(slot, positions int) func() {
	pages := c.cut(slot, positions)
	if len(pages) == 0 {
		return nil
	}
	return func() {
		for layer, part := range c.layers {
			for _, page := range pages {
				if !part.ring {
					c.clear(slot, layer, int(page)*c.page, int(page+1)*c.page)
				}
			}
		}
		c.free(pages)
	}
}

// cut takes the pages behind the first positions from a slot, which frees none.
func (c *Cache) cut(slot, positions int) []int32 {
	left := min(c.Pages(positions), len(c.pages[slot]))
	pages := append([]int32(nil), c.pages[slot][left:]...)
	c.pages[slot] = c.pages[slot][:left]
	c.end[slot] = min(c.end[slot], c.Positions(slot))
	return pages
}

func (c *Cache) free(pages []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, page := range pages {
		c.taken[page] = false
	}
}
