//go:build !release

package tdx

import (
	"bytes"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/guest/tpmsim"
)

// firmwareLog is a log whose last event ends with zeros.
func firmwareLog(t testing.TB) []byte {
	t.Helper()
	l := tpmsim.NewLog(tpmsim.CCLog)
	if err := (tpmsim.Boot{Loader: []byte("loader"), Kernel: []byte("kernel"), CommandLine: "quiet"}).Write(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Measure(3, tpmsim.EventSeparator, make([]byte, 64), nil); err != nil {
		t.Fatal(err)
	}
	return l.Bytes()
}

// TestErasedMemoryIsNotSent: the events are kept to their last byte, and nothing of the rest of the
// firmware's area; what is no log is left as it is.
func TestErasedMemoryIsNotSent(t *testing.T) {
	log := firmwareLog(t)
	for name, pad := range map[string][]byte{"none": nil, "one byte": {0xff}, "erased": bytes.Repeat([]byte{0xff}, 60000), "zeros": make([]byte, 60000)} {
		if got := written(slices.Concat(log, pad)); !bytes.Equal(got, log) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(log))
		}
	}
	for name, whole := range map[string][]byte{
		"empty": {}, "no header": log[:31], "header alone": log[:32], "cut short": log[:len(log)-1],
		"content behind the padding": slices.Concat(log, bytes.Repeat([]byte{0xff}, 100), []byte{1}),
		"no event":                   slices.Concat(log, []byte("no event at all, but 32 bytes...")),
	} {
		if got := written(whole); !bytes.Equal(got, whole) {
			t.Errorf("%s: %d bytes of %d", name, len(got), len(whole))
		}
	}
}

// TestEventLogOfARealGuestIsCutBehindItsLastEvent: the area has 256 KiB, of which 23 are events.
func TestEventLogOfARealGuestIsCutBehindItsLastEvent(t *testing.T) {
	area := shared(t, "03-v4-gcp-cos113", "ccel.bin")
	log := written(area)
	if len(log) == len(area) || !bytes.HasPrefix(area, log) || !uniform(area[len(log):], 0xff) && !uniform(area[len(log):], 0) {
		t.Errorf("%d of %d bytes are events", len(log), len(area))
	}
}

// FuzzWritten: a log of the host's making is cut where it is uniform, or not at all.
func FuzzWritten(f *testing.F) {
	f.Add(firmwareLog(f))
	f.Add(append(firmwareLog(f), 0xff, 0xff, 0xff, 0xff))
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, log []byte) {
		got := written(log)
		rest := log[len(got):]
		if !bytes.HasPrefix(log, got) || len(rest) > 0 && !uniform(rest, rest[0]) {
			t.Errorf("%d of %d bytes", len(got), len(log))
		}
	})
}
