package firmware

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/image/measure/firmware/firmwaretest"
)

func parse(tb testing.TB, raw []byte) *Image {
	tb.Helper()
	m, err := Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestNamesAreThoseOfTheFormat(t *testing.T) {
	for name, want := range map[guid]guid{footerGUID: firmwaretest.Footer, resetGUID: firmwaretest.Reset, hashesGUID: firmwaretest.Hashes, metadataGUID: firmwaretest.Metadata, tdvfGUID: firmwaretest.TDVF} {
		if name != want {
			t.Errorf("got %x, want %x", name, want)
		}
	}
}

func TestAnImageSaysHowItIsLaunched(t *testing.T) {
	description := firmwaretest.AmdSev()
	raw := description.Make()
	m := parse(t, raw)
	sev, err := m.SEV()
	if err != nil || len(sev) != len(description.SEV) || sev[5] != (Section{0x810000, 0x1000, SectionKernelHashes}) {
		t.Errorf("SEV: %+v, %v", sev, err)
	}
	tdx, err := m.TDX()
	if err != nil || len(tdx) != 5 || !tdx[0].Measured || !bytes.Equal(tdx[0].Data, raw[PageBytes:]) || !tdx[4].Augmented || tdx[2].Bytes != 2*PageBytes {
		t.Errorf("TDX: %d sections, %v", len(tdx), err)
	}
	reset, err := m.APReset()
	hashes, err2 := m.HashesTable()
	if err != nil || err2 != nil || reset != 0x80b004 || hashes != 0x810c00 || m.Base() != 0xffffc000 {
		t.Errorf("%#x %#x %#x, %v %v", reset, hashes, m.Base(), err, err2)
	}
}

// TestWhatIsNotThereIsSaid: plain images lack entries, and only who needs one is refused.
func TestWhatIsNotThereIsSaid(t *testing.T) {
	m := parse(t, firmwaretest.Image{Bytes: PageBytes}.Make())
	_, sev := m.SEV()
	_, tdx := m.TDX()
	_, reset := m.APReset()
	_, hashes := m.HashesTable()
	for what, err := range map[string]error{"SEV": sev, "TDX": tdx, "reset": reset, "hashes": hashes} {
		refusaltest.Want(t, what, err, ReasonUnsupported)
	}
	zero := parse(t, firmwaretest.Image{Bytes: PageBytes, More: []firmwaretest.Entry{{Name: firmwaretest.Hashes, Data: make([]byte, 8)}}}.Make())
	_, err := zero.HashesTable()
	refusaltest.Want(t, "a table at 0, as in Debian's builds", err, ReasonUnsupported)
}

func TestImagesThatAreNoneAreRefused(t *testing.T) {
	good := firmwaretest.AmdSev().Make()
	tableAt := len(good) - 32
	edit := func(at int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[at:], b)
		return out
	}
	e := func(name byte, data int) firmwaretest.Entry {
		return firmwaretest.Entry{Name: [16]byte{name}, Data: make([]byte, data)}
	}
	many := firmwaretest.Image{Bytes: PageBytes}
	for i := range maxEntries + 1 {
		many.More = append(many.More, e(byte(i+1), 0))
	}
	most := many
	most.More = many.More[:maxEntries]
	if _, err := Parse(most.Make()); err != nil {
		t.Errorf("%d entries: %v", maxEntries, err)
	}
	for what, c := range map[string]struct {
		raw  []byte
		want refusal.Reason
	}{
		"empty":              {nil, ReasonMalformed},
		"half a page":        {good[:PageBytes/2], ReasonMalformed},
		"above the limit":    {make([]byte, MaxBytes+PageBytes), ReasonLimit},
		"no table":           {make([]byte, PageBytes), ReasonUnsupported},
		"a table below":      {edit(tableAt-18, 0xff, 0xff), ReasonMalformed},
		"a table of 17":      {edit(tableAt-18, 17, 0), ReasonMalformed},
		"an entry of 17":     {edit(tableAt-36, 17, 0), ReasonMalformed},
		"an entry too large": {edit(tableAt-36, 0xff, 0x0f), ReasonMalformed},
		"a rest of a head":   {edit(tableAt-18, 18+5, 0), ReasonMalformed},
		"an entry twice":     {firmwaretest.Image{Bytes: PageBytes, More: []firmwaretest.Entry{e(1, 0), e(1, 0)}}.Make(), ReasonMalformed},
		"too many entries":   {many.Make(), ReasonMalformed},
	} {
		_, err := Parse(c.raw)
		refusaltest.Want(t, what, err, c.want)
	}
}

// TestMetadataAreChecked: each has one fault, in bytes before the end of the image.
func TestMetadataAreChecked(t *testing.T) {
	const sev, tdx = 0x600, 0xa00
	le := binary.LittleEndian.AppendUint32
	for what, c := range map[string]struct {
		behind int
		bytes  []byte
		want   refusal.Reason
	}{
		"SEV's signature":        {sev, []byte("BSEV"), ReasonMalformed},
		"SEV's version":          {sev - 8, le(nil, 2), ReasonUnsupported},
		"SEV's size":             {sev - 4, le(nil, 99), ReasonMalformed},
		"SEV's count":            {sev - 12, le(nil, maxSections+1), ReasonMalformed},
		"SEV: an odd address":    {sev - 16, le(nil, 0x800001), ReasonMalformed},
		"SEV: an odd size":       {sev - 20, le(nil, 0x9001), ReasonMalformed},
		"SEV: no size":           {sev - 20, le(nil, 0), ReasonMalformed},
		"SEV: above 4 GiB":       {sev - 16, le(le(nil, 0xfffff000), 0x2000), ReasonMalformed},
		"SEV: too much":          {sev - 20, le(nil, MaxSectionBytes), ReasonLimit},
		"SEV: two secrets pages": {sev - 16 - 24 - 4, le(nil, 0x2000), ReasonMalformed},
		"SEV: an unknown type":   {sev - 24, le(nil, 7), ReasonUnsupported},
		"TDX's signature":        {tdx, []byte("TDVE"), ReasonMalformed},
		"TDX's version":          {tdx - 8, le(nil, 2), ReasonUnsupported},
		"TDX's size":             {tdx - 4, le(nil, 99), ReasonMalformed},
		"TDX: data outside":      {tdx - 16, le(nil, 2*PageBytes), ReasonMalformed},
		"TDX: more data":         {tdx - 16 - 32 - 4, le(nil, 2*PageBytes), ReasonMalformed},
		"TDX: an odd address":    {tdx - 24, le(nil, 0xffffd001), ReasonMalformed},
		"TDX: no memory":         {tdx - 16 - 64 - 16, le(nil, 0), ReasonMalformed},
		"TDX: wraps":             {tdx - 16 - 64 - 8, le(le(nil, 0xfffff000), 0xffffffff), ReasonMalformed},
		"TDX: too much":          {tdx - 16 - 64 - 16, le(nil, MaxSectionBytes), ReasonLimit},
		"TDX: an unknown type":   {tdx - 16 - 24, le(nil, 7), ReasonUnsupported},
		"TDX: an unknown flag":   {tdx - 16 - 28, le(nil, 4), ReasonUnsupported},
		"TDX: measured later":    {tdx - 16 - 28, le(nil, 3), ReasonMalformed},
		"TDX: measured zeros":    {tdx - 16 - 64 - 28, le(nil, 1), ReasonMalformed},
	} {
		raw := firmwaretest.AmdSev().Make()
		copy(raw[len(raw)-c.behind:], c.bytes)
		m := parse(t, raw)
		_, errSEV := m.SEV()
		_, errTDX := m.TDX()
		if c.behind <= sev {
			refusaltest.Want(t, what, errSEV, c.want)
			refusaltest.Want(t, what+", the other", errTDX, "")
		} else {
			refusaltest.Want(t, what, errTDX, c.want)
			refusaltest.Want(t, what+", the other", errSEV, "")
		}
	}
	for what, offset := range map[string]uint32{"before the image": 5 * PageBytes, "at its end": 15} {
		m := parse(t, firmwaretest.Image{Bytes: PageBytes, More: []firmwaretest.Entry{{Name: firmwaretest.Metadata, Data: le(nil, offset)}}}.Make())
		_, err := m.SEV()
		refusaltest.Want(t, what, err, ReasonMalformed)
	}
	short := parse(t, firmwaretest.Image{Bytes: PageBytes, More: []firmwaretest.Entry{{Name: firmwaretest.Metadata, Data: []byte{1}}}}.Make())
	_, err := short.SEV()
	refusaltest.Want(t, "an entry of one byte", err, ReasonMalformed)
}

func FuzzFirmware(f *testing.F) {
	f.Add(firmwaretest.AmdSev().Make())
	f.Add(firmwaretest.Image{Bytes: PageBytes, SEV: [][3]uint32{{0x800000, 0x1000, 1}}, Reset: 1}.Make())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Parse(raw)
		if err != nil {
			return
		}
		sev, errSEV := m.SEV()
		total := uint64(0)
		for _, s := range sev {
			total += uint64(s.Bytes)
		}
		tdx, errTDX := m.TDX()
		for _, s := range tdx {
			if uint64(len(s.Data)) > s.Bytes || s.Address%PageBytes != 0 {
				t.Errorf("%+v", s)
			}
		}
		if total > MaxSectionBytes || errSEV != nil && sev != nil || errTDX != nil && tdx != nil {
			t.Errorf("%d bytes, %v, %v", total, errSEV, errTDX)
		}
		_, _ = m.APReset()     // must not panic
		_, _ = m.HashesTable() // nor this
	})
}
