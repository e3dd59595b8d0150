package linkage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// program is an ELF file of headers alone.
func program(change func(*elf.Header64), types ...elf.ProgType) []byte {
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: headerBytes, Ehsize: headerBytes, Phentsize: programBytes, Phnum: uint16(len(types))}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	if change != nil {
		change(&h)
	}
	b, _ := binary.Append(nil, binary.LittleEndian, h) // fixed sizes: it cannot fail
	for _, t := range types {
		b, _ = binary.Append(b, binary.LittleEndian, elf.Prog64{Type: uint32(t)})
	}
	return b
}

func TestOnlyAProgramWithoutALoaderIsStatic(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want string // of the error; empty is none
	}{
		"static":         {program(nil, elf.PT_LOAD, elf.PT_NOTE), ""},
		"static-pie":     {program(nil, elf.PT_LOAD, elf.PT_DYNAMIC), ""},
		"dynamic":        {program(nil, elf.PT_PHDR, elf.PT_INTERP, elf.PT_LOAD), ErrDynamic.Error()},
		"the last of it": {program(nil, append(slices.Repeat([]elf.ProgType{elf.PT_LOAD}, maxPrograms-1), elf.PT_INTERP)...), ErrDynamic.Error()},
		"too many":       {program(nil, slices.Repeat([]elf.ProgType{elf.PT_LOAD}, maxPrograms+1)...), "program headers"},
		"none":           {program(nil), "program headers"},
		"cut off":        {program(nil, elf.PT_LOAD)[:headerBytes+8], "program headers that cannot be read"},
		"out of bounds":  {program(func(h *elf.Header64) { h.Phoff = 1<<63 + 5 }, elf.PT_LOAD), "program headers that cannot be read"},
		"the end":        {program(func(h *elf.Header64) { h.Phoff = 1<<63 - 1 }, elf.PT_LOAD), "program headers that cannot be read"},
		"32 bits":        {program(func(h *elf.Header64) { h.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS32) }, elf.PT_LOAD), "64-bit"},
		"big-endian":     {program(func(h *elf.Header64) { h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB) }, elf.PT_LOAD), "64-bit"},
		"other entries":  {program(func(h *elf.Header64) { h.Phentsize = 64 }, elf.PT_LOAD), "64-bit"},
		"a script":       {[]byte("#!/bin/sh\n" + strings.Repeat("exit\n", 40)), "64-bit"},
		"empty":          {nil, "not an ELF program"},
	} {
		path := filepath.Join(t.TempDir(), "worker")
		if err := os.WriteFile(path, c.file, 0o755); err != nil {
			t.Fatal(err)
		}
		err := Static(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), path+" ") || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if errors.Is(err, ErrDynamic) != (c.want == ErrDynamic.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Static(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for _, name := range []string{"", "pipe"} {
		if err := Static(filepath.Join(dir, name)); err == nil || errors.Is(err, ErrDynamic) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What a C compiler's linker makes, which is what links a worker with cgo.
func TestProgramsOfACompiler(t *testing.T) {
	cc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("SKIPPED: gcc is not installed, so only made headers are read")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "m.c")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]error{"-no-pie": ErrDynamic, "-pie": ErrDynamic, "-static": nil, "-static-pie": nil} {
		path := filepath.Join(dir, "out"+flag)
		if out, err := exec.Command(cc, flag, "-o", path, source).CombinedOutput(); err != nil {
			t.Logf("SKIPPED: gcc %s: %v: %s", flag, err, out)
			continue
		}
		if err := Static(path); !errors.Is(err, want) {
			t.Errorf("gcc %s: %v, want %v", flag, err, want)
		}
	}
}

func FuzzStatic(f *testing.F) {
	f.Add(program(nil, elf.PT_LOAD))
	f.Add(program(nil, elf.PT_LOAD, elf.PT_INTERP))
	f.Add(program(func(h *elf.Header64) { h.Phoff = 1 << 63 }, elf.PT_INTERP))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := static(bytes.NewReader(data))
		// The standard library's reader accepts less: where both read, they agree.
		file, other := elf.NewFile(bytes.NewReader(data))
		if other != nil || err != nil && !errors.Is(err, ErrDynamic) {
			return
		}
		dynamic := slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
		if dynamic != (err != nil) {
			t.Errorf("%v, and the standard library finds a loader: %t", err, dynamic)
		}
	})
}
