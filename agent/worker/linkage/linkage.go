// Package linkage tells whether a program is linked statically.
//
// A worker's unit lets it execute no file but its own (NoExecPaths=/). A worker that was
// built with cgo therefore ends before its first instruction, because its loader is another
// file. All that the kernel says then is 203/EXEC in the journal of a unit that is already
// gone; this package finds out before. It reads the program's headers under limits and
// trusts nothing in them. Settings and "anchorhold doctor" call it.
package linkage

import (
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
// of its 64-bit class, and the most program headers that are read. Package debug/elf
// brings decompressors and debuggers' tables, which no part of an agent needs.
const (
	headerBytes  = 64
	programBytes = 56
	maxPrograms  = 1024
)

// What is read of both headers: e_ident begins with magic, class (64 bits) and data
// (little-endian); of the type of a program header (p_type) one names a loader.
const (
	identBegin      = "\x7fELF"
	class64         = 2
	dataLittle      = 1
	offsetOfHeaders = 32 // e_phoff
	sizeOfHeaders   = 54 // e_phentsize
	countOfHeaders  = 56 // e_phnum
	programLoader   = 3  // PT_INTERP
)

// Static returns nil if the program at path is linked statically, and ErrDynamic if
// its headers name a loader (PT_INTERP). Other errors are of a file that is not
// there, cannot be read, or is not a 64-bit little-endian ELF program, the only kind
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
	h := make([]byte, headerBytes)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, headerBytes), h); err != nil {
		return fmt.Errorf("is not an ELF program: %w", err)
	}
	little := binary.LittleEndian
	if string(h[:4]) != identBegin || h[4] != class64 || h[5] != dataLittle || little.Uint16(h[sizeOfHeaders:]) != programBytes {
		return errors.New("is not a 64-bit little-endian ELF program")
	}
	count := int64(little.Uint16(h[countOfHeaders:]))
	if count == 0 || count > maxPrograms {
		return fmt.Errorf("has %d program headers; the number must be from 1 to %d", count, maxPrograms)
	}
	programs := make([]byte, count*programBytes)
	if _, err := io.ReadFull(io.NewSectionReader(r, int64(little.Uint64(h[offsetOfHeaders:])), count*programBytes), programs); err != nil {
		return fmt.Errorf("has program headers that cannot be read: %w", err)
	}
	for at := 0; at < len(programs); at += programBytes {
		if little.Uint32(programs[at:]) == programLoader {
			return ErrDynamic
		}
	}
	return nil
}
