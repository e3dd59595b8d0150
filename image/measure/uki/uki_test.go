package uki

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/image/measure/uki/ukitest"
)

func authenticode(tb testing.TB, raw []byte) string {
	tb.Helper()
	f, err := Parse(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return hex.EncodeToString(f.Authenticode(sha256.New()))
}

// peers is what `make peers` unpacked of Debian's packages.
func peers(tb testing.TB, elem ...string) string {
	tb.Helper()
	path := filepath.Join(append([]string{os.Getenv("ANCHORHOLD_PEERS"), "measure", "debian"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		tb.Skip("NOT COMPARED with files of Debian: set ANCHORHOLD_PEERS to what `make peers` makes:", err)
	}
	return path
}

const (
	checksumOffset    = 0x98 + 64
	certificateOffset = 0x98 + 144
)

// TestAuthenticodeLeavesOutThreeThings: the checksum, the entry of certificates, and these.
func TestAuthenticodeLeavesOutThreeThings(t *testing.T) {
	plain := ukitest.File{Sections: []ukitest.Section{{Name: ".b", Data: []byte("two")}, {Name: ".a", Data: []byte("one")}, {Name: ".bss", More: 100}}, Tail: []byte("tail")}
	raw := plain.Make()
	want := authenticode(t, raw)
	signed := plain
	signed.Certificates = []byte("certificates")
	if got := authenticode(t, signed.Make()); got != want {
		t.Errorf("signed: got %s, want %s", got, want)
	}
	for at := range raw {
		changed := bytes.Clone(raw)
		changed[at] ^= 1
		f, err := Parse(changed)
		ignored := at >= checksumOffset && at < checksumOffset+4 || at >= certificateOffset && at < certificateOffset+8
		if err == nil && (hex.EncodeToString(f.Authenticode(sha256.New())) == want) != ignored {
			t.Errorf("byte %#x counts: %t", at, ignored)
		}
		if err != nil && at >= 0x200 {
			t.Errorf("byte %#x of the contents: %v", at, err)
		}
	}
}

// TestAuthenticodeOfSignedPrograms: each of these carries the digest that its signer computed, in
// SpcIndirectDataContent.
func TestAuthenticodeOfSignedPrograms(t *testing.T) {
	// AlgorithmIdentifier of SHA-256 and the head of an octet string of 32 bytes.
	mark, err := hex.DecodeString("300d0609608648016503040201050004" + "20")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, pattern := range []string{"usr/lib/shim/*.signed", "usr/lib/grub/x86_64-efi-signed/*.signed", "boot/vmlinuz-*"} {
		files, err := filepath.Glob(peers(t, filepath.Dir(pattern)) + "/" + filepath.Base(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Parse(raw)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			_, after, found := bytes.Cut(raw[len(raw)-f.signed:], mark)
			if got := f.Authenticode(sha256.New()); !found || !bytes.Equal(got, after[:sha256.Size]) {
				t.Errorf("%s: got %x, want %x (%t)", name, got, after[:min(len(after), sha256.Size)], found)
			}
			compared++
		}
	}
	if compared < 6 {
		t.Errorf("only %d programs were compared", compared)
	}
}

func TestImagesAreRead(t *testing.T) {
	all := append(ukitest.Usual("quiet"), ukitest.Section{Name: ".uname", Data: []byte("6.12")}, ukitest.Section{Name: ".pcrsig", Data: []byte("{}")},
		ukitest.Section{Name: ".sbat", Data: []byte("sbat,1")}, ukitest.Section{Name: ".splash"}, ukitest.Section{Name: ".pcrpkey", Data: []byte("key")})
	for stub, want := range map[int][]string{
		252: {".linux", ".osrel", ".cmdline", ".initrd", ".pcrpkey"},
		255: {".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"},
		257: {".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"},
		258: {".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"},
	} {
		u, err := Open(ukitest.Image(stub, all...))
		if err != nil {
			t.Errorf("%d: %v", stub, err)
			continue
		}
		var got []string
		for _, p := range u.Parts() {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) || string(u.Parts()[2].Data) != "quiet" {
			t.Errorf("stub %d: got %v, want %v", stub, got, want)
		}
		digests, known := u.Programs(sha256.New)
		if known != (stub < 258) || known && (len(digests) != 2 || bytes.Equal(digests[0], digests[1])) {
			t.Errorf("stub %d: %x, %t", stub, digests, known)
		}
		if known && hex.EncodeToString(digests[1]) != authenticode(t, ukitest.Kernel("6.12")) {
			t.Errorf("stub %d: the kernel is %x", stub, digests[1])
		}
	}
	ucode := append(ukitest.Usual(""), ukitest.Section{Name: ".ucode", Data: []byte("u")})
	if u, err := Open(ukitest.Image(256, ucode...)); err != nil || u.Parts()[3].Name != ".ucode" { // an empty command line is not measured
		t.Errorf("microcode: %+v, %v", u, err)
	}
}

// TestSectionsAsInMemory: cut to their size there, or filled with zeros.
func TestSectionsAsInMemory(t *testing.T) {
	f, err := Parse(ukitest.File{Sections: []ukitest.Section{{Name: ".exact", Data: []byte("abc")}, {Name: ".longer", Data: []byte("abc"), More: 600}, {Name: ".less", Data: []byte("abc"), More: -1}, {Name: ".zero", More: 5}, {Name: ".eightby"}}}.Make())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{".exact": "abc", ".longer": "abc" + string(make([]byte, 600)), ".less": "ab", ".zero": string(make([]byte, 5)), ".eightby": ""} {
		if got, ok, err := f.Section(name); string(got) != want || !ok || err != nil {
			t.Errorf("%s: got %q, %t, %v", name, got, ok, err)
		}
	}
	if _, ok, err := f.Section(".none"); ok || err != nil {
		t.Errorf("a section that is not there: %t, %v", ok, err)
	}
}

func TestImagesThatCannotBeMeasuredAreRefused(t *testing.T) {
	usual := ukitest.Usual("quiet")
	with := func(name string) []byte {
		return ukitest.Image(257, append(slices.Clone(usual), ukitest.Section{Name: name, Data: []byte("x")})...)
	}
	notKernel := slices.Clone(usual)
	notKernel[3].Data = []byte("no PE file, but long enough to be read as one, which is 64 bytes..")
	for what, c := range map[string]struct {
		raw  []byte
		want refusal.Reason
	}{
		"profiles":            {with(".profile"), ReasonUnsupported},
		"device trees":        {with(".dtbauto"), ReasonUnsupported},
		"hardware ids":        {with(".hwids"), ReasonUnsupported},
		"firmware":            {with(".efifw"), ReasonUnsupported},
		"a part twice":        {with(".cmdline"), ReasonUnsupported},
		"no mark":             {ukitest.File{Sections: usual}.Make(), ReasonUnsupported},
		"two marks":           {with(".sdmagic"), ReasonUnsupported},
		"no kernel":           {ukitest.Image(257, usual[:3]...), ReasonUnsupported},
		"an empty kernel":     {ukitest.Image(257, append(slices.Clone(usual[:3]), ukitest.Section{Name: ".linux"})...), ReasonUnsupported},
		"no program":          {ukitest.Image(257, notKernel...), ReasonMalformed},
		"an old stub":         {ukitest.Image(251, usual...), ReasonUnsupported},
		"a stub between":      {ukitest.Image(254, usual...), ReasonUnsupported},
		"a stub of tomorrow":  {ukitest.Image(259, usual...), ReasonUnsupported},
		"microcode, too old":  {ukitest.Image(252, append(slices.Clone(usual), ukitest.Section{Name: ".ucode", Data: []byte("u")})...), ReasonUnsupported},
		"microcode with 255":  {ukitest.Image(255, append(slices.Clone(usual), ukitest.Section{Name: ".ucode", Data: []byte("u")})...), ReasonUnsupported},
		"no file":             {nil, ReasonMalformed},
		"a kernel of its own": {ukitest.Kernel("6.12"), ReasonUnsupported},
	} {
		_, err := Open(c.raw)
		refusaltest.Want(t, what, err, c.want)
	}
}

// TestHeadersAreChecked: each file has one fault.
func TestHeadersAreChecked(t *testing.T) {
	good := ukitest.File{Sections: []ukitest.Section{{Name: ".a", Data: []byte("one")}}, Certificates: []byte("12345678")}.Make()
	const optional, section = 0x98, 0x98 + 240
	le := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	for what, c := range map[string]struct {
		at    int
		bytes []byte
		want  refusal.Reason
	}{
		"no DOS header":              {0, []byte("ZM"), ReasonMalformed},
		"a PE header outside":        {0x3c, le(0xfffffff0), ReasonMalformed},
		"no PE signature":            {0x80, []byte("NE"), ReasonMalformed},
		"PE32":                       {optional, []byte{0x0b, 0x01}, ReasonUnsupported},
		"a short optional header":    {0x94, []byte{8, 0}, ReasonMalformed},
		"a long optional header":     {0x94, []byte{0xff, 0xff}, ReasonMalformed},
		"17 directories":             {optional + 108, le(17), ReasonMalformed},
		"too few bytes for them":     {0x94, []byte{112 + 127, 0}, ReasonMalformed},
		"headers above the file":     {optional + 60, le(1 << 20), ReasonMalformed},
		"headers below their end":    {optional + 60, le(0x100), ReasonMalformed},
		"no sections":                {0x86, []byte{0, 0}, ReasonMalformed},
		"97 sections":                {0x86, []byte{97, 0}, ReasonMalformed},
		"sections outside":           {0x86, []byte{9, 0}, ReasonMalformed},
		"a section outside":          {section + 20, le(0x400), ReasonMalformed},
		"a section in the headers":   {section + 20, le(0x1ff), ReasonMalformed},
		"a section in certificates":  {section + 16, le(513), ReasonMalformed},
		"a huge section in memory":   {section + 8, le(MaxBytes + 1), ReasonLimit},
		"certificates elsewhere":     {optional + 144, le(0x200), ReasonMalformed},
		"certificates of other size": {optional + 148, le(4), ReasonMalformed},
		"certificates in headers":    {optional + 144, append(le(0x1f8), le(0x210)...), ReasonMalformed},
	} {
		raw := bytes.Clone(good)
		copy(raw[c.at:], c.bytes)
		_, err := Parse(raw)
		refusaltest.Want(t, what, err, c.want)
	}
	few := bytes.Clone(good[:len(good)-8])
	copy(few[optional+108:], le(4)) // a file without a directory of certificates
	if _, err := Parse(few); err != nil {
		t.Error(err)
	}
	for cut := range good {
		if _, err := Parse(good[:cut]); err == nil {
			t.Fatalf("cut to %d of %d bytes: accepted", cut, len(good))
		}
	}
}

// TestAnImageByObjcopy: Debian's stub with sections that objcopy added is read back.
func TestAnImageByObjcopy(t *testing.T) {
	stub, dir := peers(t, "usr/lib/systemd/boot/efi/linuxx64.efi.stub"), t.TempDir()
	args, at := []string{}, 0x2000000
	want := map[string]string{".osrel": "ID=x\n", ".cmdline": "quiet \n", ".initrd": "disk", ".linux": string(ukitest.Kernel("o"))}
	for _, name := range []string{".osrel", ".cmdline", ".initrd", ".linux"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(want[name]), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--add-section", name+"="+path, "--change-section-vma", name+"=0x"+hex.EncodeToString(binary.BigEndian.AppendUint32(nil, uint32(at))))
		at += 0x100000
	}
	out := filepath.Join(dir, "uki")
	if text, err := exec.Command("objcopy", append(args, stub, out)...).CombinedOutput(); err != nil {
		t.Skipf("NOT COMPARED: objcopy is absent or fails: %v: %s", err, text)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	u, err := Open(raw)
	if err != nil || u.Stub != 252 || len(u.Parts()) != 4 {
		t.Fatalf("%+v, %v", u, err)
	}
	for _, p := range u.Parts() {
		if string(p.Data) != want[p.Name] {
			t.Errorf("%s: got %d bytes, want %d", p.Name, len(p.Data), len(want[p.Name]))
		}
	}
}

func FuzzUKI(f *testing.F) {
	f.Add(ukitest.Image(257, ukitest.Usual("quiet")...))
	f.Add(ukitest.File{Sections: []ukitest.Section{{Name: ".a", Data: []byte("one"), More: 9}}, Certificates: []byte("c")}.Make())
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := Parse(raw)
		if err != nil {
			return
		}
		p.Authenticode(sha256.New()) // must not panic
		for _, s := range p.sections {
			if s.virtualBytes > 1<<20 {
				return // a section of zeros is as long as its file says
			}
		}
		if u, err := Open(raw); err == nil && len(u.Parts()) == 0 {
			t.Error("an image without parts")
		}
	})
}
