// Package arena is one exact memory budget outside the Go heap.
//
// The sum of everything mapped or charged never exceeds the limit of the [Budget]. A request that
// does not fit is refused before any memory is taken, with the figure that it needs ([DoesNotFit]).
// A [Region] is wiped when it is released, and all regions are wiped with the budget, whoever still
// holds them. Regions are locked where the limits allow, left out of core dumps and of child
// processes, and ask for 2 MiB pages. Code that runs past a region's last page faults. The package
// trusts the kernel.
//
// Weights, caches and the scratch memory of inference live here.
package arena

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	pageSize = 4 << 10
	hugePage = 2 << 20
)

// DoesNotFit is the error of a request that exceeds the budget.
type DoesNotFit struct {
	// For says what the memory was for.
	For string
	// Need is the requested amount, Available what was left of the budget, and Limit the whole
	// budget, in bytes.
	Need, Available, Limit int64
}

// Error says the figures in MiB.
func (e *DoesNotFit) Error() string {
	return fmt.Sprintf("%s needs %.1f MiB, %.1f MiB of the budget of %.1f MiB are left: raise the limit by %.1f MiB",
		e.For, mib(e.Need), mib(e.Available), mib(e.Limit), mib(e.Need-e.Available))
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// ErrWiped means that the budget was wiped.
var ErrWiped = errors.New("arena: the budget was wiped")

// Budget accounts for memory. It is safe for concurrent use.
type Budget struct {
	limit int64
	wiped atomic.Bool

	mu    sync.Mutex // guards the rest, and the data of its regions against Wipe
	used  int64
	peak  int64
	items map[*Region]int64
}

// NewBudget returns a budget of limit bytes; zero or less allows nothing.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: max(limit, 0), items: map[*Region]int64{}}
}

// Limit is the whole budget in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Used is the amount taken, in bytes.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Available is the amount left, in bytes.
func (b *Budget) Available() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit - b.used
}

// Peak is the largest amount ever taken at once, in bytes.
func (b *Budget) Peak() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peak
}

// Cost is the amount that Map takes from a budget for n bytes: whole pages.
func Cost(n int64) int64 { return (n + pageSize - 1) / pageSize * pageSize }

// Item is one line of a report.
type Item struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Locked bool   `json:"locked"`
}

// Report lists what the budget is used for, largest first.
func (b *Budget) Report() []Item {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Item, 0, len(b.items))
	for r, n := range b.items {
		list = append(list, Item{Name: r.name, Bytes: n, Locked: r.locked})
	}
	slices.SortFunc(list, func(x, y Item) int {
		if x.Bytes != y.Bytes {
			return int(max(-1, min(1, y.Bytes-x.Bytes)))
		}
		return strings.Compare(x.Name, y.Name)
	})
	return list
}

// Region is memory of the budget. It has one owner, who releases it.
type Region struct {
	name   string
	budget *Budget
	data   []byte // nil for a charge
	locked bool
}

// Wipe clears all regions in place and refuses new ones from then on. It is for memory whose
// owner hangs: regions stay mapped and charged until they are released, and anybody who still
// reads them reads zeros. Code that fills regions checks Wiped after each wait, so that nothing
// is written into them later.
func (b *Budget) Wipe() {
	b.wiped.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.items {
		clear(r.data)
		runtime.KeepAlive(r.data)
	}
}

// WipeRegion clears one region in place, as Wipe does all of them; the budget stays usable. It
// does nothing for nil or a released region.
func (b *Budget) WipeRegion(r *Region) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, held := b.items[r]; held {
		clear(r.data)
		runtime.KeepAlive(r.data)
	}
}

// Wiped reports whether the budget was wiped.
func (b *Budget) Wiped() bool { return b.wiped.Load() }

// reserve takes n bytes from the budget for r or refuses.
func (b *Budget) reserve(r *Region, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Wiped() {
		return fmt.Errorf("%s: %w", r.name, ErrWiped)
	}
	if n < 0 || n > b.limit-b.used {
		return &DoesNotFit{For: r.name, Need: n, Available: b.limit - b.used, Limit: b.limit}
	}
	b.used += n
	b.peak = max(b.peak, b.used)
	b.items[r] = n
	return nil
}

// Charge accounts for n bytes that live elsewhere.
func (b *Budget) Charge(name string, n int64) (*Region, error) {
	r := &Region{name: name, budget: b}
	if err := b.reserve(r, n); err != nil {
		return nil, err
	}
	return r, nil
}

// Map maps n zeroed bytes, aligned to a page, or to 2 MiB from that size on. It charges n
// rounded up to whole pages, because the kernel gives a region no more memory than its pages.
func (b *Budget) Map(name string, n int64) (*Region, error) {
	if n <= 0 {
		return nil, fmt.Errorf("arena: %s: invalid region size of %d bytes", name, n)
	}
	size := Cost(n)
	r := &Region{name: name, budget: b}
	if err := b.reserve(r, size); err != nil {
		return nil, err
	}
	data, err := mapAligned(size)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		r.giveBack()
		return nil, fmt.Errorf("arena: %s: map %d bytes: %w", name, size, err)
	}
	b.mu.Lock()
	r.data = data[:n:n] // zeros: it does not matter whether a Wipe came before
	b.mu.Unlock()
	if r.locked, err = settle(data); err != nil {
		return nil, fmt.Errorf("arena: %s: fill %d bytes: %w", name, size, errors.Join(err, r.Release()))
	}
	return r, nil
}

// Bytes is the region's memory; nil for a charge, after Release, and on nil.
func (r *Region) Bytes() []byte {
	if r == nil {
		return nil
	}
	return r.data
}

// Locked reports whether the region is locked into RAM.
func (r *Region) Locked() bool { return r.locked }

// Release wipes the region and gives its memory back. It may be called on nil and more than
// once; nobody may still hold the region's bytes.
func (r *Region) Release() error {
	if r == nil || r.budget == nil {
		return nil
	}
	b := r.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	if r.data != nil {
		clear(r.data)
		runtime.KeepAlive(r.data)
		err = unmap(r.data)
		r.data = nil
	}
	r.giveBack()
	return err
}

// giveBack returns the region's bytes to its budget, whose lock is held.
func (r *Region) giveBack() {
	b := r.budget
	b.used -= b.items[r]
	delete(b.items, r)
	r.budget = nil
}
