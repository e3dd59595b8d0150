package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/image/measure/firmware"
	"github.com/anchorhold/anchorhold/image/measure/firmware/firmwaretest"
)

func parse(tb testing.TB, raw []byte) *firmware.Image {
	tb.Helper()
	m, err := firmware.Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func mrtd(tb testing.TB, raw []byte, order Order) string {
	tb.Helper()
	d, err := MRTD(parse(tb, raw), order)
	if err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(d[:])
}

// TestMRTDByHand: the records of a domain of one measured page and two others, written out.
func TestMRTDByHand(t *testing.T) {
	raw := firmwaretest.Image{Bytes: 4096, TDX: [][6]uint64{{0, 4096, 0xfffff000, 4096, 0, 1}, {0, 0, 0x800000, 8192, 3, 0}, {0, 0, 0x100000, 4096, 4, 2}}}.Make()
	var b bytes.Buffer
	record := func(name string, at uint64) {
		r := make([]byte, 128)
		copy(r, name)
		binary.LittleEndian.PutUint64(r[16:], at)
		b.Write(r)
	}
	record("MEM.PAGE.ADD", 0xfffff000)
	for at := 0; at < 4096; at += 256 {
		record("MR.EXTEND", 0xfffff000+uint64(at))
		b.Write(raw[at : at+256])
	}
	record("MEM.PAGE.ADD", 0x800000)
	record("MEM.PAGE.ADD", 0x801000)
	want := sha512.Sum384(b.Bytes())
	for _, order := range []Order{ByPage, BySection} { // one page is the same in both orders
		if got := mrtd(t, raw, order); got != hex.EncodeToString(want[:]) {
			t.Errorf("%s: got %s, want %x", order, got, want)
		}
	}
}

func TestEverythingThatIsMeasuredShows(t *testing.T) {
	base := firmwaretest.AmdSev()
	seen := map[string]string{mrtd(t, base.Make(), ByPage): "as it is", mrtd(t, base.Make(), BySection): "by section"}
	for what, change := range map[string]func(m *firmwaretest.Image){
		"an address":       func(m *firmwaretest.Image) { m.TDX[2][2] += 4096 },
		"a size":           func(m *firmwaretest.Image) { m.TDX[2][3] += 4096 },
		"the order":        func(m *firmwaretest.Image) { m.TDX[2], m.TDX[3] = m.TDX[3], m.TDX[2] },
		"not measured":     func(m *firmwaretest.Image) { m.TDX[0][5] = 0 },
		"measured as well": func(m *firmwaretest.Image) { m.TDX[1][5] = 1 },
	} {
		m := firmwaretest.AmdSev()
		change(&m)
		d := mrtd(t, m.Make(), ByPage)
		if other := seen[d]; other != "" {
			t.Errorf("%s and %s have the same measurement", what, other)
		}
		seen[d] = what
	}
	later := firmwaretest.AmdSev()
	later.TDX[4][2] += 4096 // added while the guest runs, but the row itself lies in a measured page
	if _, known := seen[mrtd(t, later.Make(), ByPage)]; known {
		t.Error("the metadata are not measured")
	}
	changed := base.Make()
	changed[0] ^= 1 // of a page whose contents are not measured
	if seen[mrtd(t, changed, ByPage)] != "as it is" {
		t.Error("contents count that are not measured")
	}
}

func TestWhatCannotBeBuiltIsRefused(t *testing.T) {
	for _, order := range []Order{"", "two-pass"} {
		_, err := MRTD(parse(t, firmwaretest.AmdSev().Make()), order)
		refusaltest.Want(t, string(order), err, ReasonOrder)
	}
	_, err := MRTD(parse(t, firmwaretest.Image{Bytes: 4096}.Make()), ByPage)
	refusaltest.Want(t, "no metadata", err, firmware.ReasonUnsupported)
}
