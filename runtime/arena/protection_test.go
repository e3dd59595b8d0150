package arena

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"unsafe"
)

// mappingOf returns the figures and flags that the kernel shows of the mapping
// that begins at data.
func mappingOf(t *testing.T, data []byte) map[string]string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skipf("no smaps: %v", err)
	}
	start := fmt.Sprintf("%x-", uintptr(unsafe.Pointer(unsafe.SliceData(data))))
	_, rest, found := strings.Cut(string(smaps), "\n"+start)
	if !found {
		t.Fatalf("no mapping begins at %s", start)
	}
	fields := map[string]string{}
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(line, ":")
		if _, seen := fields[name]; !seen {
			fields[name] = " " + strings.TrimSpace(value) + " "
		}
		if name == "VmFlags" {
			return fields
		}
	}
	return fields
}

// TestRegionsStayOutOfDumpsAndChildren: a core dump or a forked helper must
// not carry plaintext weights away.
func TestRegionsStayOutOfDumpsAndChildren(t *testing.T) {
	for _, n := range []int64{pageSize, 3 << 20} {
		r, err := NewBudget(16<<20).Map("x", n)
		if err != nil {
			t.Fatal(err)
		}
		flags := mappingOf(t, r.Bytes())["VmFlags"]
		for _, want := range []string{" dd ", " dc "} {
			if !strings.Contains(flags, want) {
				t.Errorf("region of %d bytes has flags%s, without%s", n, flags, want)
			}
		}
		if r.Locked() != strings.Contains(flags, " lo ") {
			t.Errorf("locked %v, flags%s", r.Locked(), flags)
		}
		if err := r.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestResidentMemoryIsTheAccount: huge pages must not round a region up past
// what the budget counted, also beside a neighbour.
func TestResidentMemoryIsTheAccount(t *testing.T) {
	b := NewBudget(64 << 20)
	for range 3 {
		r, err := b.Map("x", 5<<20+123)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		// The tail without huge pages is a mapping of its own.
		whole := r.Bytes()[:4<<20]
		tail := r.Bytes()[4<<20:]
		var kib int64
		for _, part := range [][]byte{whole, tail} {
			var n int64
			if _, err := fmt.Sscanf(mappingOf(t, part)["Rss"], " %d kB", &n); err != nil {
				t.Fatal(err)
			}
			kib += n
		}
		if want := Cost(5<<20+123) >> 10; kib != want {
			t.Errorf("%d KiB resident, %d accounted", kib, want)
		}
	}
}

// TestLargeRegionsAskForLargePages: the kernel has been asked for pages of 2 MiB where they fit whole, and not for the rest.
func TestLargeRegionsAskForLargePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skipf("SKIPPED: the kernel has no large pages: %v", err)
	}
	r, err := NewBudget(16<<20).Map("x", 9<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	whole, tail := mappingOf(t, r.Bytes()), mappingOf(t, r.Bytes()[8<<20:])
	if !strings.Contains(whole["VmFlags"], " hg ") || strings.Contains(tail["VmFlags"], " hg ") {
		t.Errorf("the whole part has flags%s, the tail%s", whole["VmFlags"], tail["VmFlags"])
	}
	t.Logf("of 8192 kB,%sin pages of 2 MiB", whole["AnonHugePages"])
}

// TestOverrunFaults: assembly has no bounds checks, so the page behind a region
// must not be a neighbour's.
func TestOverrunFaults(t *testing.T) {
	for _, n := range []int64{pageSize, 2 << 20, 5<<20 + 1} {
		r, err := NewBudget(16<<20).Map("x", n)
		if err != nil {
			t.Fatal(err)
		}
		if !faults(unsafe.Add(unsafe.Pointer(unsafe.SliceData(r.Bytes())), Cost(n))) {
			t.Errorf("behind a region of %d bytes lies readable memory", n)
		}
		p := unsafe.Pointer(unsafe.SliceData(r.Bytes()))
		if err := r.Release(); err != nil {
			t.Fatal(err)
		}
		if !faults(p) {
			t.Error("a released region is still readable")
		}
	}
}

func faults(p unsafe.Pointer) (fault bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { fault = recover() != nil }()
	sink := *(*byte)(p)
	return sink == 1 && false
}

func TestNilRegionIsEmpty(t *testing.T) {
	var r *Region
	if r.Bytes() != nil || r.Float32s() != nil || r.Release() != nil {
		t.Error("a nil region is not empty")
	}
	b := NewBudget(1 << 20)
	m, err := b.Map("x", 8)
	if err != nil {
		t.Fatal(err)
	}
	m.Float32s()[1] = 1
	if len(m.Float32s()) != 2 || m.Bytes()[7] != 0x3f || b.Peak() != pageSize || b.Available() != b.Limit()-pageSize {
		t.Errorf("%v, peak %d, %d left of %d", m.Bytes(), b.Peak(), b.Available(), b.Limit())
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
}
