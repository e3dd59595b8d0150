package weights

import (
	"errors"
	"fmt"
	"sync"

	"github.com/anchorhold/anchorhold/runtime/arena"
)

// readers is how many goroutines read ahead: two keep a disk's queue filled.
const readers = 2

// runLength is how many chunks one request reads, at most: four take 0.6 of the processor's time of
// four requests, and a disk gives them faster.
const runLength = 4

// ahead is how many chunks are read before they are asked for: a run for each reader, and what the
// workers take meanwhile.
func ahead(workers int) int { return min(workers+readers*runLength, 24) }

func ringSlots(workers int) int { return workers + ahead(workers) }

// ringCost is what streaming takes from the budget, with the buffers that fill
// the header before it.
func ringCost(workers, slot int) int64 {
	return max(arena.Cost(int64(ringSlots(workers))*int64(slot)), loadCost(workers, slot))
}

type slotState uint8

const (
	slotEmpty   slotState = iota
	slotLoading           // a reader fills it
	slotReady             // holds ciphertext
	slotTaken             // a worker decrypted it in place
)

// elsewhere is the position of chunks that only some passes read, at no foreseeable time.
const elsewhere = -1

type slot struct {
	buf   []byte
	chunk int
	state slotState
	err   error // of the read, once ready
}

// ring serves streamed chunks. Readers fetch ciphertext in file order, which is
// the order of use, ahead of the workers; a worker takes a slot and decrypts it
// in place, so that plaintext is made where it is used, in the worker's cache.
// What was not foreseen is read by the worker itself.
type ring struct {
	w      *Weights
	region *arena.Region
	order  []int32 // streamed chunks that each pass reads, in file order
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the rest
	cond     *sync.Cond
	slots    []slot
	held     []int   // slot of each worker, -1
	position []int32 // of a chunk in order, or elsewhere; read-only
	forecast forecast
	closed   bool
}

func newRing(w *Weights, budget *arena.Budget, workers int) (*ring, error) {
	size, n := w.layout.largestSlot, ringSlots(workers)
	region, err := budget.Map("stream buffers", int64(n)*int64(size))
	if err != nil {
		return nil, err
	}
	g := &ring{w: w, region: region, slots: make([]slot, n), held: make([]int, workers), position: make([]int32, w.reader.Public().Chunks)}
	g.cond = sync.NewCond(&g.mu)
	for i := range g.slots {
		g.slots[i] = slot{buf: region.Bytes()[i*size : (i+1)*size], chunk: -1}
	}
	for i := range g.held {
		g.held[i] = -1
	}
	for i := range g.position {
		g.position[i] = elsewhere
	}
	for i := range w.layout.tensors {
		t := &w.layout.tensors[i]
		if w.layout.lookedUp(t) {
			continue
		}
		for c := t.kept; c < t.chunks; c++ {
			g.position[t.first+c] = int32(len(g.order))
			g.order = append(g.order, int32(t.first+c))
		}
	}
	g.forecast = newForecast(len(g.order), workers)
	for range readers {
		g.wg.Go(g.readAhead)
	}
	return g, nil
}

// take returns the plaintext of a chunk in a slot that the worker then holds.
func (g *ring) take(worker, chunk int) ([]byte, error) {
	if worker < 0 || worker >= len(g.held) {
		return nil, fmt.Errorf("weights: there is no worker %d of %d", worker, len(g.held))
	}
	i, err := g.claim(worker, chunk)
	if errors.Is(err, ErrClosed) {
		return nil, err
	}
	if err != nil {
		return nil, g.w.reader.Locate(err, chunk)
	}
	_, size := g.w.reader.Slot(chunk)
	buf := g.slots[i].buf[:size]
	return g.w.reader.OpenSlot(buf, buf, chunk)
}

// claim gives the worker a slot with the chunk's ciphertext.
func (g *ring) claim(worker, chunk int) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := g.held[worker]; last >= 0 {
		g.slots[last].state, g.held[worker] = slotEmpty, -1
	}
	if p := g.position[chunk]; p != elsewhere {
		g.forecast.observe(int(p))
	}
	g.cond.Broadcast()
	for !g.closed {
		i, ready := g.find(chunk)
		if ready {
			s := &g.slots[i]
			if s.err != nil {
				s.state = slotEmpty
				return 0, s.err
			}
			s.state, g.held[worker] = slotTaken, i
			return i, nil
		}
		if i < 0 {
			if i = g.room(true); i >= 0 {
				return i, g.readNow(worker, i, chunk)
			}
		}
		g.cond.Wait()
	}
	return 0, ErrClosed
}

// find returns the slot that holds or is being filled with the chunk, or -1.
func (g *ring) find(chunk int) (i int, ready bool) {
	for i := range g.slots {
		s := &g.slots[i]
		if s.chunk == chunk && (s.state == slotReady || s.state == slotLoading) {
			return i, s.state == slotReady
		}
	}
	return -1, false
}

// room returns a slot to fill: an empty one, or one whose chunk is not expected
// any more, or, for a worker that cannot wait, any that nobody uses.
func (g *ring) room(urgent bool) int {
	stale, idle := -1, -1
	for i := range g.slots {
		s := &g.slots[i]
		if s.state == slotEmpty {
			return i
		}
		if s.state == slotReady {
			idle = i
			if !g.forecast.expected(int(g.position[s.chunk])) {
				stale = i
			}
		}
	}
	if stale < 0 && urgent {
		return idle
	}
	return stale
}

// readNow reads a chunk for a worker. The lock is open while it reads.
func (g *ring) readNow(worker, i, chunk int) error {
	s := &g.slots[i]
	s.chunk, s.state, s.err = chunk, slotTaken, nil
	g.held[worker] = i
	g.mu.Unlock()
	offset, size := g.w.reader.Slot(chunk)
	err := g.w.file.read(s.buf[:size], offset)
	g.mu.Lock()
	return err
}

// readAhead fills slots until the ring is closed.
func (g *ring) readAhead() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var run [runLength]int
	for !g.closed {
		n := g.nextRun(run[:])
		if n == 0 {
			g.cond.Wait()
			continue
		}
		g.fill(run[:n])
		g.cond.Broadcast()
	}
}

// fill reads the chunks of some slots, which lie together in the file. The lock is open while it
// reads.
func (g *ring) fill(run []int) {
	var list [runLength][]byte
	for i, at := range run {
		_, size := g.w.reader.Slot(g.slots[at].chunk)
		list[i] = g.slots[at].buf[:size]
	}
	begin, _ := g.w.reader.Slot(g.slots[run[0]].chunk)
	g.mu.Unlock()
	var errs [runLength]error
	if len(run) == 1 || g.w.file.readRun(list[:len(run)], begin) != nil {
		for i, b := range list[:len(run)] {
			errs[i] = g.w.file.read(b, begin)
			begin += int64(len(b))
		}
	}
	g.mu.Lock()
	for i, at := range run {
		g.slots[at].state, g.slots[at].err = slotReady, errs[i]
	}
}

// nextRun puts the slots of the next foreseen chunks that are in no slot into run, as long as they
// follow each other in the file and there is room, and returns their number. It waits until a whole
// run may be read: chunks one by one, as workers give their slots back, would make runs of one.
func (g *ring) nextRun(run []int) (n int) {
	if !g.forecast.room(len(run)) {
		return 0
	}
	var end int64
	for n < len(run) {
		p, ok := g.forecast.next()
		if !ok {
			break
		}
		chunk := int(g.order[p])
		if at, _ := g.find(chunk); at >= 0 {
			g.forecast.advance()
			continue
		}
		offset, size := g.w.reader.Slot(chunk)
		i := g.room(false)
		if i < 0 || n > 0 && offset != end {
			break
		}
		g.forecast.advance()
		g.slots[i].chunk, g.slots[i].state, g.slots[i].err = chunk, slotLoading, nil
		end = offset + int64(size)
		run[n] = i
		n++
	}
	return n
}

// close stops the readers and wipes the slots.
func (g *ring) close() error {
	g.mu.Lock()
	g.closed = true
	g.cond.Broadcast()
	g.mu.Unlock()
	g.wg.Wait()
	return g.region.Release()
}
