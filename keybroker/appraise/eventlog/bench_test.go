package eventlog

import (
	"bytes"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"strings"
	"testing"
)

// longLog is a boot with many events; size is each one's data.
func longLog(events, size int) []byte {
	entries := tpmBoot()
	for range events - len(entries) {
		entries = append(entries, entry{index: 8, typ: evIPL, data: "grub_cmd: " + strings.Repeat("x", size) + "\x00", digest: strings.Repeat("x", size)})
	}
	return build(TCG, entries...)
}

func benchmarkVerify(b *testing.B, log []byte, format Format, bank Bank) {
	want, err := Replay(log, format, bank)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(log, format, want); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify200Events(b *testing.B) {
	benchmarkVerify(b, longLog(200, 60), TCG, SHA256)
}

func BenchmarkVerifyLargeLog(b *testing.B) {
	benchmarkVerify(b, longLog(400, 1000), TCG, SHA256)
}

func BenchmarkVerifyRealCCEL(b *testing.B) {
	benchmarkVerify(b, readFile(b, evidencetest.Dir(b), "tdx", "03-v4-gcp-cos113", "ccel.bin"), CCEL, SHA384)
}

// BenchmarkParse is the parser alone.
func BenchmarkParse(b *testing.B) {
	log := longLog(400, 1000)
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := newReader(log, TCG, algSHA256)
		if err != nil {
			b.Fatal(err)
		}
		var e event
		for more := true; more; {
			if more, err = r.next(&e); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRefusedMutant is a log of 16 KiB with one byte changed, at another place each time.
func BenchmarkRefusedMutant(b *testing.B) {
	log := longLog(100, 20)[: 16<<10 : 16<<10]
	log = append(bytes.Clone(log[:len(log):len(log)]), 1)
	b.ReportAllocs()
	want := Registers{8: bytes.Repeat([]byte{1}, 32)}
	at := 0
	for b.Loop() {
		at = (at + 997) % len(log)
		log[at] ^= 0x55
		if _, err := Verify(log, TCG, want); err == nil {
			b.Fatal("accepted")
		}
		log[at] ^= 0x55
	}
}

// What a verification keeps is its claims: the log is not copied.
func TestVerifyingALogAllocatesLittle(t *testing.T) {
	log := longLog(200, 60)
	want, err := Replay(log, TCG, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(20, func() {
		if _, err := Verify(log, TCG, want); err != nil {
			t.Error(err)
		}
	})
	if n > 60 {
		t.Errorf("%.0f allocations", n)
	}
}
