package snp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/tsm"
)

// derive is the firmware's part in a derived key: of what the request selects, as the ABI says.
func (g *guest) derive(c *call) error {
	le := binary.LittleEndian
	if len(c.request) != 32 || le.Uint32(c.request) != 0 || le.Uint32(c.request[4:]) != 0 {
		return unix.EINVAL
	}
	g.calls = append(g.calls, "key")
	le.PutUint64(c.argument[24:], 0)
	clear(c.response[:])
	tcb := le.Uint64(c.request[24:])
	switch {
	case g.status != 0:
		le.PutUint32(c.response[:], g.status)
	case tcb > g.tcb || le.Uint32(c.request[16:]) < g.floor:
		c.response[0] = 0x16
	default:
		h := sha256.New()
		fields := le.Uint64(c.request[8:])
		h.Write(c.request[8:20]) // which fields, and the level
		if fields&(1<<3) != 0 {
			h.Write([]byte{g.measured})
		}
		if fields&(1<<5) != 0 {
			h.Write(c.request[24:])
		}
		copy(c.response[32:], h.Sum(nil))
	}
	if g.answer != nil {
		g.answer(c.response[:])
	}
	return nil
}

func newDeriver(t *testing.T, g *guest, level tsm.Privilege) *Deriver {
	t.Helper()
	d, err := NewDeriver(Options{guest: g, Privilege: level})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDerivedKeyIsThatOfTheImage and of the TCB that it is for, on every level the same each time.
func TestDerivedKeyIsThatOfTheImage(t *testing.T) {
	g := newGuest()
	g.measured, g.tcb = 1, 9
	d := newDeriver(t, g, tsm.Privilege{})
	derive := func(tcb uint64) []byte {
		t.Helper()
		key, err := d.Derive(t.Context(), tcb)
		if err != nil || len(key) != DerivedKeyBytes {
			t.Fatal(key, err)
		}
		return key
	}
	key := derive(8)
	if !bytes.Equal(derive(8), key) {
		t.Error("a second key is another")
	}
	if bytes.Equal(derive(9), key) {
		t.Error("the TCB is not mixed in")
	}
	g.measured = 2
	if bytes.Equal(derive(8), key) {
		t.Error("the measurement is not mixed in")
	}
	g.answer = func(response []byte) { binary.LittleEndian.PutUint64(response[32+0x1e0:], 7) }
	if tcb, err := d.CommittedTCB(t.Context()); err != nil || tcb != 7 {
		t.Errorf("a committed TCB of %d, %v", tcb, err)
	}
}

func TestDerivedKeyRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*guest)
		want   refusal.Reason
	}{
		"older firmware":  {func(g *guest) { g.tcb = 4 }, ReasonOlderFirmware},
		"another level":   {func(g *guest) { g.floor = 1 }, ReasonOlderFirmware},
		"firmware error":  {func(g *guest) { g.status = 0x27 }, ReasonDevice},
		"an empty answer": {func(g *guest) { g.answer = func(response []byte) { clear(response) } }, ReasonDevice},
		"no report":       {func(g *guest) { g.tcb = 5 }, ""},
	} {
		g := newGuest()
		g.tcb = 5
		tc.change(g)
		_, err := newDeriver(t, g, tsm.Level(0)).Derive(t.Context(), 5)
		if reason, _ := refusal.ReasonOf(err); reason != tc.want {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	g := newGuest()
	g.status = 0x27
	if _, err := newDeriver(t, g, tsm.Privilege{}).CommittedTCB(t.Context()); err == nil {
		t.Error("a TCB without a report")
	}
	for _, absent := range []error{fs.ErrNotExist, fs.ErrPermission} {
		g.absent = absent
		_, err := NewDeriver(Options{guest: g})
		if reason, _ := refusal.ReasonOf(err); reason != ReasonNoTEE || !errors.Is(err, absent) {
			t.Error(err)
		}
	}
}
