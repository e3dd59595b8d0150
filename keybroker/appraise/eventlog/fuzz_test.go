package eventlog

import (
	"bytes"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// FuzzLog: no log panics, every refusal has a reason, and what is accepted was replayed.
func FuzzLog(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add(header(0, algSHA256), false)
	f.Add(build(TCG, tpmBoot()...), false)
	f.Add(append(build(CCEL, ccBoot()...), bytes.Repeat([]byte{0xff}, 64)...), true)
	f.Add(build(TCG, entry{index: 0, typ: evNoAction, data: localitySignature + "\x03"}, secureBoot(7, "")), false)
	f.Fuzz(func(t *testing.T, log []byte, cc bool) {
		format := TCG
		if cc {
			format = CCEL
		}
		values, err := Replay(log, format, SHA384)
		if err != nil {
			if _, ok := refusal.ReasonOf(err); !ok {
				t.Fatalf("no reason: %v", err)
			}
			return
		}
		c, err := Verify(log, format, values)
		if err != nil {
			if _, ok := refusal.ReasonOf(err); !ok {
				t.Fatalf("no reason: %v", err)
			}
			return
		}
		if c.Events > MaxEvents || len(c.Boot) > evidence.MaxBootEvents || len(c.Registers) != len(values) {
			t.Errorf("%d events, %d started, %d registers of %d", c.Events, len(c.Boot), len(c.Registers), len(values))
		}
		for n := range values {
			values[n][0] ^= 1
			if _, err := Verify(log, format, values); err == nil {
				t.Errorf("register %d does not count", n)
			}
			values[n][0] ^= 1
		}
	})
}
