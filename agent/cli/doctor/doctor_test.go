package doctor

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program is an ELF program of headers alone.
func program(t *testing.T, kind elf.ProgType) []byte {
	t.Helper()
	h := elf.Header64{Phoff: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = binary.Append(b, binary.LittleEndian, elf.Prog64{Type: uint32(kind)}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDoctorLooksAtTheWorkersLinkage(t *testing.T) {
	for name, c := range map[string]struct {
		files         map[string][]byte
		verdict, says string
	}{
		"none":    {nil, "note", "there is no /usr/bin/anchorhold-worker"},
		"static":  {map[string][]byte{"usr/bin/anchorhold-worker": program(t, elf.PT_LOAD)}, "ok", "/usr/bin/anchorhold-worker is linked statically"},
		"dynamic": {map[string][]byte{"usr/bin/anchorhold-worker": program(t, elf.PT_INTERP)}, "lacking", "CGO_ENABLED=0"},
		"script":  {map[string][]byte{"usr/bin/anchorhold-worker": []byte("#!/bin/sh\n")}, "lacking", "not an ELF program"},
		"configured": {map[string][]byte{"usr/bin/anchorhold-worker": program(t, elf.PT_LOAD), "opt/worker": program(t, elf.PT_INTERP),
			"etc/anchorhold/agent.yaml": []byte("workers: {path: /opt/worker}\n")}, "lacking", "/opt/worker is linked dynamically"},
	} {
		root := t.TempDir()
		for path, data := range c.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if f := examineWorker(root); f.Verdict != c.verdict || !strings.Contains(f.Found, c.says) || (f.Advice == "") != (c.verdict == "ok") {
			t.Errorf("%s: %+v, want %s with %q", name, f, c.verdict, c.says)
		}
	}
}
