package snp

import (
	"bytes"
	"encoding/hex"
	"slices"
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

// milan is a guest of one processor under QEMU.
func milan() Machine {
	return Machine{VMM: QEMU, VCPUs: 1, Signature: Signature(25, 1, 1), Features: 1}
}

func digest(tb testing.TB, raw []byte, m Machine, k *KernelHashes) string {
	tb.Helper()
	d, err := Digest(parse(tb, raw), m, k)
	if err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(d[:])
}

// TestEverythingThatDiffersShows: whatever is changed alone gives another digest, and what is the same to
// the hypervisor the same.
func TestEverythingThatDiffersShows(t *testing.T) {
	good := firmwaretest.AmdSev()
	kernel := HashKernel([]byte("kernel"), []byte("initrd"), "quiet")
	machine := func(change func(*Machine)) Machine {
		m := milan()
		change(&m)
		return m
	}
	image := func(change func(*firmwaretest.Image)) []byte {
		d := firmwaretest.AmdSev()
		change(&d)
		return d.Make()
	}
	changed := good.Make()
	changed[0] ^= 1
	hashed := func(k KernelHashes) string { return digest(t, good.Make(), milan(), &k) }
	seen := map[string]string{}
	for what, d := range map[string]string{
		"plain":             digest(t, good.Make(), milan(), nil),
		"firmware":          digest(t, changed, milan(), nil),
		"two processors":    digest(t, good.Make(), machine(func(m *Machine) { m.VCPUs = 2 }), nil),
		"three processors":  digest(t, good.Make(), machine(func(m *Machine) { m.VCPUs = 3 }), nil),
		"another begin":     digest(t, image(func(d *firmwaretest.Image) { d.Reset++ }), machine(func(m *Machine) { m.VCPUs = 2 }), nil),
		"model":             digest(t, good.Make(), machine(func(m *Machine) { m.Signature++ }), nil),
		"features":          digest(t, good.Make(), machine(func(m *Machine) { m.Features = 0x21 }), nil),
		"EC2":               digest(t, good.Make(), machine(func(m *Machine) { m.VMM, m.Signature = EC2, 0 }), nil),
		"EC2 of old":        digest(t, good.Make(), machine(func(m *Machine) { m.VMM, m.Signature = EC2Before2026, 0 }), nil),
		"GCE":               digest(t, good.Make(), machine(func(m *Machine) { m.VMM, m.Signature = GCE, 0 }), nil),
		"hashes":            hashed(kernel),
		"another kernel":    hashed(HashKernel([]byte("Kernel"), []byte("initrd"), "quiet")),
		"another initrd":    hashed(HashKernel([]byte("kernel"), nil, "quiet")),
		"another line":      hashed(HashKernel([]byte("kernel"), []byte("initrd"), "quiet ")),
		"no line":           hashed(HashKernel([]byte("kernel"), []byte("initrd"), "")),
		"a blank":           hashed(HashKernel([]byte("kernel"), []byte("initrd"), " ")),
		"another place":     digest(t, image(func(d *firmwaretest.Image) { d.Hashes += 16 }), milan(), &kernel),
		"no secrets page":   digest(t, image(func(d *firmwaretest.Image) { d.SEV = slices.Delete(d.SEV, 2, 3) }), milan(), nil),
		"sections in order": digest(t, image(func(d *firmwaretest.Image) { d.SEV[0], d.SEV[1] = d.SEV[1], d.SEV[0] }), milan(), nil),
	} {
		if other := seen[d]; other != "" {
			t.Errorf("%s and %s have the same digest", what, other)
		}
		seen[d] = what
	}
}

func TestWrongMachinesAreRefused(t *testing.T) {
	plain := firmwaretest.AmdSev()
	for what, change := range map[string]func(*Machine){
		"the zero value":     func(m *Machine) { *m = Machine{} },
		"no hypervisor":      func(m *Machine) { m.VMM = "" },
		"another hypervisor": func(m *Machine) { m.VMM = "hyper-v" },
		"no processors":      func(m *Machine) { m.VCPUs = 0 },
		"too many":           func(m *Machine) { m.VCPUs = MaxVCPUs + 1 },
		"no SEV-SNP":         func(m *Machine) { m.Features = 0x20 },
		"no model":           func(m *Machine) { m.Signature = 0 },
		"EC2 with a model":   func(m *Machine) { m.VMM = EC2 },
	} {
		m := milan()
		change(&m)
		d, err := Digest(parse(t, plain.Make()), m, nil)
		if refusaltest.Want(t, what, err, ReasonMachine); d != [DigestBytes]byte{} {
			t.Errorf("%s: a digest beside the error", what)
		}
	}
	m := milan()
	m.VCPUs = MaxVCPUs
	digest(t, plain.Make(), m, nil)
}

// TestKernelHashesNeedAPlace: a digest that silently left the kernel out would cover any image.
func TestKernelHashesNeedAPlace(t *testing.T) {
	k := HashKernel(nil, nil, "")
	for what, change := range map[string]func(*firmwaretest.Image){
		"no table":       func(d *firmwaretest.Image) { d.Hashes = 0 },
		"no section":     func(d *firmwaretest.Image) { d.SEV = slices.Delete(d.SEV, 5, 6) },
		"a table before": func(d *firmwaretest.Image) { d.Hashes = 0x80f000 },
		"a table behind": func(d *firmwaretest.Image) { d.Hashes = 0x811000 },
		"no room":        func(d *firmwaretest.Image) { d.Hashes = 0x810ff0 },
	} {
		d := firmwaretest.AmdSev()
		change(&d)
		_, err := Digest(parse(t, d.Make()), milan(), &k)
		refusaltest.Want(t, what, err, ReasonKernelHashes)
	}
	last := firmwaretest.AmdSev()
	last.Hashes = 0x811000 - 176
	digest(t, last.Make(), milan(), &k)
	noReset := firmwaretest.AmdSev()
	noReset.Reset = 0
	m := milan()
	digest(t, noReset.Make(), m, nil)
	m.VCPUs = 2
	_, err := Digest(parse(t, noReset.Make()), m, nil)
	refusaltest.Want(t, "no address for other processors", err, firmware.ReasonUnsupported)
	_, err = Digest(parse(t, firmwaretest.Image{Bytes: firmware.PageBytes}.Make()), milan(), nil)
	refusaltest.Want(t, "no metadata", err, firmware.ReasonUnsupported)
}

func TestModelsByName(t *testing.T) {
	for name, want := range map[string]uint32{
		"EPYC": 0x800f12, "EPYC-v4": 0x800f12, "EPYC-IBPB": 0x800f12, "EPYC-Rome-v2": 0x830f10,
		"EPYC-Milan": 0xa00f11, "EPYC-Genoa-v2": 0xa10f10, "EPYC-Turin": 0xb00f00,
	} {
		if got, err := Model(name); err != nil || got != want {
			t.Errorf("%s: got %#x, %v, want %#x", name, got, err, want)
		}
	}
	for _, name := range []string{"", "max", "epyc", "EPYC-Milan-v0", "EPYC-Milan-v10", "EPYC-Milan-v", "-v1", "EPYC-Venice"} {
		_, err := Model(name)
		refusaltest.Want(t, name, err, ReasonMachine)
	}
	if len(Models()) != 6 || !slices.IsSorted(Models()) {
		t.Errorf("%v", Models())
	}
}

// TestHashesPage: the table by its bytes.
func TestHashesPage(t *testing.T) {
	page, err := HashKernel([]byte("k"), []byte("i"), "c").page(0xc00)
	if err != nil || len(page) != firmware.PageBytes || bytes.Count(page[:0xc00], []byte{0}) != 0xc00 {
		t.Fatalf("%d bytes, %v", len(page), err)
	}
	if page[0xc10] != 168 || page[0xc12+16] != 50 || !bytes.Equal(page[0xc00+168:], make([]byte, 0x400-168)) {
		t.Errorf("%x", page[0xc00:0xcb0])
	}
}
