package vtpm

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// TestSealingSparesTheCounter: a TPM's memory wears out. A process that knows what it sealed last counts just past
// that, and any that does not past all that could have been sealed.
func TestSealingSparesTheCounter(t *testing.T) {
	socket := startTPM(t)
	c, seen := listening(t, socket)
	another := newCollector(t, Options{Device: socket, PCRs: []int{0, 4, 7}})
	counts := 0
	want := func(what string, n int) {
		t.Helper()
		all := 0
		for _, b := range seen() {
			if len(b) >= 10 && binary.BigEndian.Uint16(b) == uint16(tpm2.TPMSTSessions) && binary.BigEndian.Uint32(b[6:]) == uint32(tpm2.TPMCCNVIncrement) {
				all++
			}
		}
		if all-counts != n {
			t.Errorf("%s: counted %d times, want %d", what, all-counts, n)
		}
		counts = all
	}
	used := func(what string, s Sealed) {
		t.Helper()
		_, err := another.Open(t.Context(), s)
		if err == nil {
			t.Errorf("%s: what was sealed before opens", what)
			return
		}
		wantReason(t, err, ReasonCount)
	}
	first := seal(t, c, 2, newSecret(t))
	want("the first of a process", MaxOpens+1)
	second := seal(t, c, MaxOpens, newSecret(t))
	want("the next", 2+1)
	seal(t, c, 1, newSecret(t))
	want("after one that opens often", MaxOpens+1)
	used("the first", first)
	used("the second", second)
	last := seal(t, c, 3, newSecret(t))
	want("after an attempt to open", MaxOpens+1)
	seal(t, another, MaxOpens, newSecret(t))
	used("before another process", last)
	others := seal(t, another, MaxOpens, newSecret(t))
	seal(t, c, 3, newSecret(t))
	want("after another process", MaxOpens+1)
	used("of another process", others)
	last = seal(t, c, 3, newSecret(t))
	want("after one that found out", MaxOpens+1)
	for n, what := range []string{"exhausting", "exhausting again"} {
		if err := c.Exhaust(t.Context(), SealCounter); err != nil {
			t.Fatal(err)
		}
		want(what, []int{3 + 1, 0}[n])
	}
	seal(t, c, 1, newSecret(t))
	want("after that", 1)
	used("exhausted", last)
}

// TestWhatTheBootLoaderStartedIsSealedTo: PCR 4 names GRUB alone, and the kernel and its command line are in 8 and 9.
func TestWhatTheBootLoaderStartedIsSealedTo(t *testing.T) {
	sealer := func(pcrs ...int) *Collector { return newCollector(t, Options{Device: startTPM(t), PCRs: pcrs}) }
	for name, tc := range map[string]struct {
		sealed  []int
		extends []uint32
		refused bool
	}{
		"a unified kernel image":                 {[]int{4, 7, 12}, []uint32{4, 9, 11}, false},
		"GRUB":                                   {[]int{4, 7, 12}, []uint32{4, 8, 9}, true},
		"GRUB, without the kernel":               {[]int{4, 7, 8, 12}, []uint32{4, 8, 9}, true},
		"GRUB, without the command line":         {[]int{4, 7, 9, 12}, []uint32{4, 8, 9}, true},
		"GRUB, with an image, not all":           {[]int{4, 7, 8, 12}, []uint32{4, 8, 9, 11}, true},
		"GRUB, with both":                        {[]int{4, 7, 8, 9, 12}, []uint32{4, 8, 9}, false},
		"GRUB, which starts a unified image":     {[]int{4, 7, 12}, []uint32{4, 8, 9, 11}, true},
		"a kernel that the firmware starts":      {[]int{4, 7, 12}, []uint32{4, 9}, true},
		"a kernel that the firmware starts, too": {[]int{4, 7, 9, 12}, []uint32{4, 9}, false},
	} {
		c := sealer(tc.sealed...)
		device := openSocket(t, c.opt.Device)
		for _, n := range tc.extends {
			extend(t, device, n)
		}
		if err := device.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := c.Seal(t.Context(), SealCounter, 1, newSecret(t))
		if !tc.refused && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if tc.refused {
			t.Log(name)
			wantReason(t, err, ReasonUncovered)
		}
	}
}
