// Package linkage tells whether a program is linked statically.
//
// A worker's unit lets it start no file but its own (NoExecPaths=/), so that a
// worker that was built with cgo ends before its first instruction: its loader is
// another file. The kernel's answer is 203/EXEC in the journal of a unit that is
// gone by then; this package finds out before. It reads the program's headers
// under limits and trusts nothing in them. Settings and `anchorhold doctor` call it.
package linkage

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ErrDynamic means that the program needs a loader and shared libraries.
var ErrDynamic = errors.New("is linked dynamically: build it with CGO_ENABLED=0, as make build does")

// Sizes of what the ELF specification calls the ELF header and a program header,
// of its 64-bit class, and the most program headers that are read.
const (
	headerBytes  = 64
	programBytes = 56
	maxPrograms  = 1024
)

// Static returns nil if the program at path is linked statically, and ErrDynamic if
// its headers name a loader (PT_INTERP). Other errors are of a file that is not
// there, cannot be read, or is no 64-bit little-endian ELF program, the only kind
// that is built here.
func Static(path string) error {
	// O_NONBLOCK: a pipe in the place of a program must not hold anybody.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	if err := static(f); err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	return nil
}

func static(r io.ReaderAt) error {
	var h elf.Header64
	if err := binary.Read(io.NewSectionReader(r, 0, headerBytes), binary.LittleEndian, &h); err != nil {
		return fmt.Errorf("is no ELF program: %w", err)
	}
	if string(h.Ident[:elf.EI_CLASS]) != elf.ELFMAG || elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB || h.Phentsize != programBytes {
		return errors.New("is no 64-bit little-endian ELF program")
	}
	if h.Phnum == 0 || h.Phnum > maxPrograms {
		return fmt.Errorf("has %d program headers; 1 to %d are read", h.Phnum, maxPrograms)
	}
	programs := make([]elf.Prog64, h.Phnum)
	if err := binary.Read(io.NewSectionReader(r, int64(h.Phoff), int64(h.Phnum)*programBytes), binary.LittleEndian, programs); err != nil {
		return fmt.Errorf("has no program headers where it says they are: %w", err)
	}
	for _, p := range programs {
		if elf.ProgType(p.Type) == elf.PT_INTERP {
			return ErrDynamic
		}
	}
	return nil
}
