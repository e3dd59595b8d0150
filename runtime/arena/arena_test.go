package arena

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func TestBudgetIsExactAndRefusesWithTheFigure(t *testing.T) {
	b := NewBudget(1 << 20)
	r, err := b.Map("weights", 600<<10)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Map("cache", 500<<10)
	refusal, ok := errors.AsType[*DoesNotFit](err)
	if !ok {
		t.Fatalf("a request over the budget: %v", err)
	}
	if refusal.Need != 500<<10 || refusal.Available != 424<<10 || refusal.Limit != 1<<20 || !strings.Contains(refusal.Error(), "cache needs 0.5 MiB") {
		t.Errorf("refusal %+v: %v", refusal, refusal)
	}
	if b.Used() != 600<<10 {
		t.Errorf("a refused request changed the account: %d used", b.Used())
	}
	if err := r.Release(); err != nil {
		t.Fatal(err)
	}
	if b.Used() != 0 || len(b.Report()) != 0 || r.Bytes() != nil {
		t.Errorf("after release: %d used, %v", b.Used(), b.Report())
	}
	if err := r.Release(); err != nil {
		t.Errorf("second release: %v", err)
	}
}

func TestZeroBudgetAllowsNothing(t *testing.T) {
	for _, limit := range []int64{0, -1} {
		if _, err := NewBudget(limit).Map("x", 1); err == nil {
			t.Errorf("a budget of %d gave memory", limit)
		}
	}
	if _, err := NewBudget(1).Charge("x", -1); err == nil {
		t.Error("a negative charge was accepted")
	}
	if _, err := NewBudget(1<<20).Map("x", 0); err == nil {
		t.Error("an empty region was mapped")
	}
}

func TestLargeRegionsAreAlignedZeroedAndWritable(t *testing.T) {
	b := NewBudget(16 << 20)
	r, err := b.Map("large", 5<<20+1)
	if err != nil {
		t.Fatal(err)
	}
	data := r.Bytes()
	if uintptr(unsafe.Pointer(unsafe.SliceData(data)))%hugePage != 0 || len(data) != 5<<20+1 || b.Used() != 5<<20+pageSize {
		t.Errorf("region of %d bytes at %p, %d accounted", len(data), data, b.Used())
	}
	for i, v := range data {
		if v != 0 {
			t.Fatalf("byte %d is %d", i, v)
		}
		data[i] = 0xA5
	}
	if err := r.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentUseNeverPassesTheLimit(t *testing.T) {
	const limit = 64 * pageSize
	b := NewBudget(limit)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				r, err := b.Map("x", 7*pageSize)
				if b.Used() > limit {
					t.Error("over the limit")
				}
				if err == nil {
					if err := r.Release(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 || b.peak > limit {
		t.Errorf("%d used in the end, peak %d", b.Used(), b.peak)
	}
}

func TestReportNamesTheLargestFirst(t *testing.T) {
	b := NewBudget(1 << 20)
	for name, n := range map[string]int64{"small": 1 << 10, "large": 1 << 18, "middle": 1 << 14} {
		if _, err := b.Charge(name, n); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, item := range b.Report() {
		names = append(names, item.Name)
	}
	if strings.Join(names, " ") != "large middle small" {
		t.Errorf("report: %v", names)
	}
}

// TestWipedBudgetHoldsZerosAndTakesNothingMore: the owner of a region may hang;
// the end of a lease clears the region where it lies.
func TestWipedBudgetHoldsZerosAndTakesNothingMore(t *testing.T) {
	b := NewBudget(1 << 20)
	r, err := b.Map("weights", 5000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Bytes() {
		r.Bytes()[i] = 0xa5
	}
	if b.Wiped() {
		t.Error("wiped before")
	}
	b.Wipe()
	for i, v := range r.Bytes() {
		if v != 0 {
			t.Fatalf("byte %d is %#x", i, v)
		}
	}
	if !b.Wiped() || b.Used() == 0 {
		t.Errorf("wiped %t, %d bytes charged: the region is still mapped", b.Wiped(), b.Used())
	}
	if _, err := b.Map("more", 1); !errors.Is(err, ErrWiped) {
		t.Error(err)
	}
	if _, err := b.Charge("more", 1); !errors.Is(err, ErrWiped) {
		t.Error(err)
	}
	if err := r.Release(); err != nil || b.Used() != 0 {
		t.Errorf("%v, %d bytes", err, b.Used())
	}
}
