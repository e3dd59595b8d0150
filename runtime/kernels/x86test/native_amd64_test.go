package x86test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// encoding is one way to write an operation: zmm1 (or ymm1) the destination, 2 the second register,
// and 3, or memory at rax, the operand.
type encoding struct {
	name      string
	code      []byte
	immediate bool
}

// encodings writes every operation in every form that the interpreter accepts.
func encodings() []encoding {
	var list []encoding
	for k, op := range operations {
		for _, evex := range []bool{false, true} {
			name := op.vex
			if evex {
				name = op.evex
			}
			if name == "" {
				continue
			}
			for _, from := range []string{"register", "memory", "broadcast"} {
				if from == "broadcast" && (!evex || !op.elements) || from == "memory" && op.bytes(64) == 0 ||
					from == "memory" && op.form == shift && !evex || from == "register" && (op.form == store || k.opcode == 0x5a) {
					continue
				}
				list = append(list, encoding{name: fmt.Sprintf("%s from %s, EVEX %t", name, from, evex),
					code: encode(k, op, evex, from), immediate: op.immediate})
			}
		}
	}
	return list
}

// encode makes the bytes up to the immediate: SDM volume 2, sections 2.3.5 and 2.7.1.
func encode(k key, op *operation, evex bool, from string) []byte {
	second, reg, operand := byte(0), byte(1), byte(0xc3) // ModRM.rm = 3
	switch {
	case op.form == three:
		second = 2
	case op.form == shift:
		second, reg = 1, byte(k.extension)
	case op.bytes(64) == 0:
		operand = 0xc0 // eax
	}
	if from != "register" {
		operand = 0x00 // [rax]
	}
	code := []byte{0xc4, 0xe0 | k.space, ^second&15<<3 | 1<<2 | k.pp} // 256 bits
	if evex {
		code = []byte{0x62, 0xf0 | k.space, ^second&15<<3 | 1<<2 | k.pp, 0x48} // 512 bits
		if from == "broadcast" {
			code[3] |= 0x10
		}
	}
	return append(code, k.opcode, operand|reg<<3)
}

// native runs one instruction on this processor. It writes machine code into memory of its own and
// calls it as a function of Go, whose arguments are in RAX and RBX (ABIInternal).
type native struct {
	code []byte
	call func(operand *register, registers *[3]register)
}

func newNative(t *testing.T) *native {
	t.Helper()
	if !cpu.X86.HasAVX512F || !cpu.X86.HasAVX512BW || !cpu.X86.HasAVX512VNNI {
		t.Skip("needs AVX512F, AVX512BW and AVX512_VNNI")
	}
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(code); err != nil {
			t.Error(err)
		}
	})
	n := &native{code: code}
	entry := &struct{ code uintptr }{uintptr(unsafe.Pointer(unsafe.SliceData(code)))}
	*(*unsafe.Pointer)(unsafe.Pointer(&n.call)) = unsafe.Pointer(entry)
	return n
}

// load puts an instruction between loads and stores of zmm1 to zmm3.
func (n *native) load(t *testing.T, instruction []byte) {
	t.Helper()
	if err := unix.Mprotect(n.code, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	var code []byte
	for i := range byte(3) { // vmovdqu32 zmm(i+1),[rbx+64*i]
		code = append(code, 0x62, 0xf1, 0x7e, 0x48, 0x6f, 0x43|(i+1)<<3, i)
	}
	code = append(code, instruction...)
	for i := range byte(3) { // vmovdqu32 [rbx+64*i],zmm(i+1)
		code = append(code, 0x62, 0xf1, 0x7e, 0x48, 0x7f, 0x43|(i+1)<<3, i)
	}
	copy(n.code, append(code, 0xc5, 0xf8, 0x77, 0xc3)) // vzeroupper; ret
	if err := unix.Mprotect(n.code, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		t.Fatal(err)
	}
}

// TestInstructionsComputeWhatTheProcessorDoes runs every operation in every encoding on this
// processor and interpreted, with random and extreme bytes: registers and memory have the same bits,
// NaNs included.
func TestInstructionsComputeWhatTheProcessorDoes(t *testing.T) {
	processor, rng := newNative(t), rand.New(rand.NewPCG(3, 4))
	for _, e := range encodings() {
		rounds, each := 1, 200
		if e.immediate {
			rounds, each = 256, 2
		}
		for immediate := range rounds {
			code := e.code
			if e.immediate {
				code = append(code[:len(code):len(code)], byte(immediate))
			}
			processor.load(t, code)
			program := &Program{name: e.name, code: code, decoded: map[int]*instruction{}}
			for range each {
				compareWithProcessor(t, e.name, processor, program, rng)
			}
		}
	}
}

func compareWithProcessor(t *testing.T, name string, processor *native, program *Program, rng *rand.Rand) {
	t.Helper()
	operand, registers := new(register), &[3]register{randomRegister(rng), randomRegister(rng), randomRegister(rng)}
	*operand = randomRegister(rng)
	if rng.IntN(2) == 0 { // the same values twice make sums of infinities, and of NaNs
		registers[2] = registers[1]
	}
	m, interpreted := Machine{program: program}, *operand
	for i := range registers {
		m.vectors[i+1] = registers[i].vector()
	}
	m.general[0] = uint64(uintptr(unsafe.Pointer(operand)))
	m.Map(m.general[0], interpreted[:], true)
	if err := m.step(); err != nil {
		t.Fatal(err)
	}
	before := *registers
	processor.call(operand, registers)
	if *operand != interpreted {
		t.Fatalf("%s: memory is %x, interpreted %x, from %x", name, *operand, interpreted, before)
	}
	for i := range registers {
		if got, want := m.vectors[i+1], registers[i].vector(); got != want {
			t.Fatalf("%s: register %d is %x, interpreted %x, from %x, memory %x", name, i+1, want, got, before, interpreted)
		}
	}
}
