package x86test

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"unsafe"
)

// Program is the machine code of one function.
type Program struct {
	name string
	// start is the first byte in this process, from which constants are addressed.
	start   unsafe.Pointer
	code    []byte
	decoded map[int]*instruction
}

// Load finds the machine code of the assembly function that f names. A function value points to
// a wrapper, which the compiler made to turn register arguments into those of assembly on the
// stack: the code is what the wrapper calls.
func Load(f any) (*Program, error) {
	wrapper := reflect.ValueOf(f).UnsafePointer()
	code := body(wrapper)
	name := runtime.FuncForPC(uintptr(wrapper)).Name()
	for i := 0; i+5 <= len(code); i++ {
		if code[i] != 0xe8 { // CALL
			continue
		}
		start := unsafe.Add(wrapper, i+5+int(int32(binary.LittleEndian.Uint32(code[i+1:]))))
		callee := runtime.FuncForPC(uintptr(start))
		if callee == nil || callee.Entry() != uintptr(start) || callee.Name() != name {
			continue
		}
		if file, _ := callee.FileLine(callee.Entry()); strings.HasSuffix(file, ".s") {
			return &Program{name: name, start: start, code: body(start), decoded: map[int]*instruction{}}, nil
		}
	}
	return nil, fmt.Errorf("%s is no function in assembly", name)
}

// body is all code of the function that begins at start.
func body(start unsafe.Pointer) []byte {
	f, n := runtime.FuncForPC(uintptr(start)), 0
	for f != nil {
		if at := runtime.FuncForPC(uintptr(start) + uintptr(n)); at == nil || at.Entry() != f.Entry() {
			break
		}
		n++
	}
	return unsafe.Slice((*byte)(start), n)
}

// constant reads what an instruction addresses relative to itself: read-only data of the
// program, where the linker put it. Only here, memory is not bounded: a load behind the end of
// a constant gives its neighbour's bytes, as on a processor.
func (p *Program) constant(offset, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(p.start, offset)), n)
}

// at returns the instruction at an offset.
func (p *Program) at(pc int) (*instruction, error) {
	if in := p.decoded[pc]; in != nil {
		return in, nil
	}
	if pc < 0 || pc >= len(p.code) {
		return nil, fmt.Errorf("%s+%#x is outside the function", p.name, pc)
	}
	in, err := decode(p.code[pc:])
	if err != nil {
		return nil, fmt.Errorf("%s+%#x: % x: %w", p.name, pc, p.code[pc:min(pc+12, len(p.code))], err)
	}
	p.decoded[pc] = in
	return in, nil
}
