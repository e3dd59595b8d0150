package initrd

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/image/gpt"
	"github.com/anchorhold/anchorhold/image/gpt/gpttest"
)

const (
	hexHash = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	good    = "roothash=" + hexHash + " systemd.import_credentials=no console=ttyS0 quiet panic=-1 sysctl.kernel.sysrq=0"
)

func hash(tb testing.TB) (h [32]byte) {
	tb.Helper()
	raw, err := hex.DecodeString(hexHash)
	if err != nil || copy(h[:], raw) != len(h) {
		tb.Fatal(err)
	}
	return h
}

func TestCommandLine(t *testing.T) {
	for _, text := range []string{good, good + "\n", "  " + good + " mitigations=auto  lsm=landlock"} {
		if c, err := ParseCommandLine(text); err != nil || c.RootHash != hash(t) {
			t.Errorf("%q: %x, %v", text, c.RootHash, err)
		}
	}
	for text, want := range map[string]refusal.Reason{
		"":                                                  ReasonRootHash,
		"systemd.import_credentials=no quiet":               ReasonRootHash,
		good + " roothash=" + hexHash:                       ReasonRootHash,
		strings.Replace(good, "1f ", "1F ", 1):              ReasonRootHash,
		strings.Replace(good, "1f ", "1 ", 1):               ReasonRootHash,
		strings.Replace(good, "1f ", "1g ", 1):              ReasonRootHash,
		strings.Replace(good, "1f ", "1f00 ", 1):            ReasonRootHash,
		strings.Replace(good, "=no ", "=yes ", 1):           ReasonOption,
		"roothash=" + hexHash:                               ReasonCredentials,
		good + " " + strings.Repeat("x", 4096):              ReasonOption,
		good + ` a="b c"`:                                   ReasonOption,
		good + " a=\\":                                      ReasonOption,
		good + " a\x00b":                                    ReasonOption,
		good + " a\xa0init=/bin/sh":                         ReasonOption, // two words to the kernel
		good + " a\u00a0b":                                  ReasonOption,
		good + "\nquiet":                                    ReasonOption,
		strings.Replace(good, " systemd", " a\vsystemd", 1): ReasonOption, // one word to systemd
		good + " anchorhold.shell":                          ReasonOption,
		good + " roothashsig=/x":                            ReasonOption,
		good + " roothash":                                  ReasonOption,
	} {
		_, err := ParseCommandLine(text)
		refusaltest.Want(t, text, err, want)
	}
	for _, word := range []string{"init=/bin/sh", "rdinit=/bin/sh", "root=/dev/vdb", "rootflags=x", "usr=x", "resume=/dev/vdb", "single", "S", "1", "emergency", "rescue", "-b", "--",
		"systemd.unit=rescue.target", "systemd.debug_shell", "systemd.run=/bin/sh", "systemd.set_credential=a:b", "systemd.import-credentials=no", "rd.break", "luks.key=x", "luks=no", "udev.log_level=debug", "mount.usr=x", "ip=dhcp", "fstab=no", "modules-load=x", "modules_load=x", "-s"} {
		_, err := ParseCommandLine(good + " " + word)
		refusaltest.Want(t, word, err, ReasonOption)
	}
}

func TestVariables(t *testing.T) {
	const vendor = "-8cf2644b-4b0b-428f-9387-6d876050dc67"
	usual := fstest.MapFS{"SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": {}, "StubInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f": {}, "S": {}, "LoaderInfo" + vendor: {}}
	if err := CheckVariables(usual); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"SystemdOptions" + vendor, "SystemdOptions-00000000-0000-0000-0000-000000000000", "systemdoptions" + vendor} {
		usual[name] = &fstest.MapFile{}
		refusaltest.Want(t, name, CheckVariables(usual), ReasonVariable)
		delete(usual, name)
	}
	refusaltest.Want(t, "no directory", CheckVariables(os.DirFS("/nowhere")), ReasonVariable)
}

func FuzzCommandLine(f *testing.F) {
	f.Add(good)
	f.Add(good + " init=/bin/sh")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := ParseCommandLine(text); err != nil {
			return
		}
		for word := range strings.FieldsSeq(text) {
			if strings.HasPrefix(word, "init=") || strings.HasPrefix(word, "systemd.") && word != noCredentials {
				t.Errorf("%q passes", word)
			}
		}
	})
}

// superblock is one as veritysetup writes it.
func superblock() []byte {
	raw := make([]byte, SuperblockBytes)
	copy(raw, "verity\x00\x00")
	le := binary.LittleEndian
	le.PutUint32(raw[8:], 1)
	le.PutUint32(raw[12:], 1)
	copy(raw[32:], "sha256")
	le.PutUint32(raw[64:], 4096)
	le.PutUint32(raw[68:], 4096)
	le.PutUint64(raw[72:], 3)
	le.PutUint16(raw[80:], 32)
	copy(raw[88:], bytes.Repeat([]byte{0xab}, 32))
	return raw
}

func TestSuperblock(t *testing.T) {
	s, err := ParseSuperblock(superblock())
	if err != nil || s.DataBlocks != 3 || s.Sectors() != 24 {
		t.Fatal(s, err)
	}
	want := "1 254:1 254:2 4096 4096 3 1 sha256 " + hexHash + " " + strings.Repeat("ab", 32) + " 2 panic_on_corruption panic_on_error"
	if got := s.Table("254:1", "254:2", hash(t)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for what, change := range map[string]func([]byte) []byte{
		"nothing":           func([]byte) []byte { return nil },
		"half of it":        func(b []byte) []byte { return b[:256] },
		"no mark":           func(b []byte) []byte { b[0] = 'V'; return b },
		"another version":   func(b []byte) []byte { b[8] = 2; return b },
		"another type":      func(b []byte) []byte { b[12] = 0; return b },
		"small blocks":      func(b []byte) []byte { b[65] = 4; return b },
		"small hash blocks": func(b []byte) []byte { b[69] = 4; return b },
		"another algorithm": func(b []byte) []byte { copy(b[32:], "sha1\x00\x00"); return b },
		"a longer name":     func(b []byte) []byte { copy(b[32:], "sha256-generic"); return b },
		"no salt":           func(b []byte) []byte { b[80] = 0; return b },
		"a long salt":       func(b []byte) []byte { b[81] = 1; return b },
		"no blocks":         func(b []byte) []byte { b[72] = 0; return b },
		"too many blocks":   func(b []byte) []byte { b[76] = 1; return b },
	} {
		_, err := ParseSuperblock(change(superblock()))
		refusaltest.Want(t, what, err, ReasonSuperblock)
	}
}

func FuzzSuperblock(f *testing.F) {
	f.Add(superblock())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := ParseSuperblock(raw); err == nil && (s.DataBlocks == 0 || s.Sectors()/8 != s.DataBlocks) {
			t.Errorf("%+v", s)
		}
	})
}

// TestDeviceMapperMessages compares with what the kernel's structs have (struct dm_ioctl, struct dm_target_spec).
func TestDeviceMapperMessages(t *testing.T) {
	type call struct {
		request uint
		message []byte
	}
	var calls []call
	d := Device{Name: "root", Call: func(request uint, message []byte) error {
		calls = append(calls, call{request, bytes.Clone(message)})
		binary.LittleEndian.PutUint64(message[40:], 0xfd00)
		return nil
	}}
	number, err := d.Open("verity", 24, "a table")
	if err != nil || number != 0xfd00 || len(calls) != 3 {
		t.Fatal(number, err, len(calls))
	}
	le := binary.LittleEndian
	for i, want := range []struct {
		request              uint
		size, targets, flags uint32
	}{{0xc138fd03, 312, 0, 0}, {0xc138fd09, 312 + 40 + 8, 1, 1}, {0xc138fd06, 312, 0, 0}} {
		m := calls[i].message
		if calls[i].request != want.request || le.Uint32(m) != 4 || le.Uint32(m[12:]) != want.size || len(m) != int(want.size) || le.Uint32(m[16:]) != 312 ||
			le.Uint32(m[20:]) != want.targets || le.Uint32(m[28:]) != want.flags || string(m[48:53]) != "root\x00" {
			t.Errorf("call %d: %#x %x, want %+v", i, calls[i].request, m, want)
		}
	}
	target := calls[1].message[312:]
	if le.Uint64(target) != 0 || le.Uint64(target[8:]) != 24 || le.Uint32(target[20:]) != 48 || string(target[24:31]) != "verity\x00" || string(target[40:]) != "a table\x00" {
		t.Errorf("%x", target)
	}
	for step := range 3 {
		n := 0
		_, err := Device{Name: "root", Call: func(uint, []byte) error {
			if n++; n > step {
				return errors.New("no")
			}
			return nil
		}}.Open("verity", 24, "a table")
		refusaltest.Want(t, fmt.Sprint("step ", step), err, ReasonVerity)
	}
	_, err = Device{Name: "root", Call: func(uint, []byte) error { return nil }}.Open("verity", 24, "a table")
	refusaltest.Want(t, "no number", err, ReasonVerity)
}

// machine has disks by name, whose partitions the kernel sees as their tables say.
func machine(tb testing.TB, disks map[string][]byte) (Disks, fstest.MapFS) {
	tb.Helper()
	block, byNumber := fstest.MapFS{}, map[string][]byte{}
	put := func(name string, value any) { block[name] = &fstest.MapFile{Data: fmt.Append(nil, value, "\n")} }
	major := 0
	for name, raw := range disks {
		major++
		number := fmt.Sprintf("%d:0", major)
		byNumber[number] = raw
		put(name+"/dev", number)
		put(name+"/size", 8)
		table, err := gpt.Read(bytes.NewReader(raw))
		if err != nil {
			continue
		}
		for _, e := range table.Entries {
			dir := fmt.Sprintf("%s/%s%d", name, name, e.Number)
			put(dir+"/partition", e.Number)
			put(dir+"/dev", fmt.Sprintf("%d:%d", major, e.Number))
			put(dir+"/start", e.First)
			put(dir+"/size", e.Last-e.First+1)
		}
	}
	return Disks{Block: block, Open: func(number string) (io.ReaderAt, func() error, error) {
		raw, ok := byNumber[number]
		if !ok {
			return nil, nil, fs.ErrNotExist
		}
		return bytes.NewReader(raw), func() error { return nil }, nil
	}}, block
}

func rootDisk(tb testing.TB) []byte {
	tb.Helper()
	root, verity := gpt.RootIDs(hash(tb))
	return gpttest.Disk(gpttest.Partition{Type: gpt.TypeRoot, ID: root, First: 2048, Last: 2071}, gpttest.Partition{Type: gpt.TypeRootVerity, ID: verity, First: 4096, Last: 4103})
}

func TestFindRoot(t *testing.T) {
	other := gpttest.Disk(gpttest.Partition{Type: gpt.TypeRoot, ID: [16]byte{9}, First: 2048, Last: 2071}, gpttest.Partition{Type: gpt.TypeRootVerity, ID: [16]byte{9}, First: 4096, Last: 4103})
	d, _ := machine(t, map[string][]byte{"vda": rootDisk(t), "vdb": make([]byte, 4096), "vdc": other, "sr0": nil})
	root, verity, err := d.FindRoot(hash(t))
	if err != nil || root.Sectors != 24 || verity.Sectors != 8 || !strings.HasSuffix(root.Device, ":1") || !strings.HasSuffix(verity.Device, ":3") {
		t.Error(root, verity, err)
	}
}

func TestFindRootRefuses(t *testing.T) {
	rootID, verityID := gpt.RootIDs(hash(t))
	part := func(kind, id gpt.ID) gpttest.Partition {
		return gpttest.Partition{Type: kind, ID: id, First: 2048, Last: 2071}
	}
	for what, c := range map[string]struct {
		disks  map[string][]byte
		change func(fstest.MapFS)
		want   refusal.Reason
	}{
		"no disk":                       {nil, nil, ReasonNoRoot},
		"an empty disk":                 {map[string][]byte{"vda": make([]byte, 4096)}, nil, ReasonNoRoot},
		"a damaged table":               {map[string][]byte{"vda": append(rootDisk(t)[:1030], make([]byte, 3000)...)}, nil, ReasonNoRoot},
		"hashes without a root":         {map[string][]byte{"vda": gpttest.Disk(part(gpt.TypeRootVerity, verityID))}, nil, ReasonNoRoot},
		"a root without hashes":         {map[string][]byte{"vda": gpttest.Disk(part(gpt.TypeRoot, rootID))}, nil, ReasonNoRoot},
		"ids on other types":            {map[string][]byte{"vda": gpttest.Disk(part(gpt.TypeSystem, rootID), part(gpt.TypeSystem, verityID))}, nil, ReasonNoRoot},
		"the ids changed about":         {map[string][]byte{"vda": gpttest.Disk(part(gpt.TypeRoot, verityID), part(gpt.TypeRootVerity, rootID))}, nil, ReasonNoRoot},
		"two of the disk":               {map[string][]byte{"vda": rootDisk(t), "vdb": rootDisk(t)}, nil, ReasonAmbiguous},
		"the kernel sees another end":   {map[string][]byte{"vda": rootDisk(t)}, func(f fstest.MapFS) { f["vda/vda1/size"].Data = []byte("16\n") }, ReasonPartition},
		"the kernel sees another start": {map[string][]byte{"vda": rootDisk(t)}, func(f fstest.MapFS) { f["vda/vda3/start"].Data = []byte("2048\n") }, ReasonPartition},
		"the kernel has no number":      {map[string][]byte{"vda": rootDisk(t)}, func(f fstest.MapFS) { f["vda/vda1/start"].Data = []byte("x") }, ReasonPartition},
		"the kernel lacks it":           {map[string][]byte{"vda": rootDisk(t)}, func(f fstest.MapFS) { f["vda/vda1/partition"].Data = []byte("2\n") }, ReasonPartition},
	} {
		d, block := machine(t, c.disks)
		if c.change != nil {
			c.change(block)
		}
		_, _, err := d.FindRoot(hash(t))
		refusaltest.Want(t, what, err, c.want)
	}
	many := map[string][]byte{}
	for i := range maxDisks + 1 {
		many[fmt.Sprintf("vd%d", i)] = nil
	}
	d, _ := machine(t, many)
	_, _, err := d.FindRoot(hash(t))
	refusaltest.Want(t, "too many disks", err, ReasonAmbiguous)
}
