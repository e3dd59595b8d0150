package x86test

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errUnknown means an encoding that no kernel uses, or should.
var errUnknown = errors.New("unknown instruction")

// errShort means code that ends within an instruction.
var errShort = errors.New("the code ends within an instruction")

// instruction is a decoded instruction. Exactly one of scalar and vector is set.
type instruction struct {
	name   string
	length int
	scalar func(m *Machine, in *instruction) error
	vector *operation
	// width is the length of vectors in bytes.
	width int
	// reg and operand are the register fields; second is VEX.vvvv, 0 where it is not used.
	reg, second int
	operand     operand
	// wide: 64-bit scalars (REX.W). broadcast: one element for all (EVEX.b).
	wide, broadcast bool
	immediate       int64
}

// operand is a register, or memory.
type operand struct {
	memory   bool
	register int
	// base is a register, or one of the constants; index is a register, or none.
	base, index, scale int
	displacement       int
}

const (
	none     = -1
	relative = -2 // to the end of the instruction
)

// prefix holds what REX, VEX and EVEX say. Its bits are those of the registers' numbers, not
// inverted as they are encoded.
type prefix struct {
	evex               bool
	space, pp          byte // opcode map and implied prefix
	w                  bool
	r, x, b, r2        int // 1 or 0; r2 is EVEX.R'
	second             int
	width              int
	broadcast, refused bool // refused: masks, zeroing
}

func decode(code []byte) (*instruction, error) {
	d := decoder{code: code}
	in := d.instruction()
	switch {
	case d.short:
		return nil, errShort
	case in == nil:
		return nil, errUnknown
	}
	in.length = d.at
	return in, nil
}

// decoder reads code once, byte after byte.
type decoder struct {
	code  []byte
	at    int
	short bool
}

func (d *decoder) take(n int) []byte {
	if d.short = d.short || d.at+n > len(d.code); d.short {
		return make([]byte, n)
	}
	d.at += n
	return d.code[d.at-n : d.at]
}

func (d *decoder) byte() byte   { return d.take(1)[0] }
func (d *decoder) int8() int64  { return int64(int8(d.byte())) }
func (d *decoder) int32() int64 { return int64(int32(binary.LittleEndian.Uint32(d.take(4)))) }

// bit is 1 if bit n of v is 0: VEX and EVEX store register bits inverted.
func bit(v byte, n int) int { return int(^v >> n & 1) }

func (d *decoder) instruction() *instruction {
	switch first := d.byte(); first {
	case 0xc5: // VEX, 2 bytes: SDM volume 2, section 2.3.5
		v := d.byte()
		return d.vectorInstruction(prefix{space: 1, r: bit(v, 7), pp: v & 3, second: int(^v >> 3 & 15), width: 16 << (v >> 2 & 1)})
	case 0xc4: // VEX, 3 bytes
		u, v := d.byte(), d.byte()
		return d.vectorInstruction(prefix{space: u & 31, r: bit(u, 7), x: bit(u, 6), b: bit(u, 5),
			w: v>>7 != 0, pp: v & 3, second: int(^v >> 3 & 15), width: 16 << (v >> 2 & 1)})
	case 0x62: // EVEX: section 2.7.1
		u, v, w := d.byte(), d.byte(), d.byte()
		return d.vectorInstruction(prefix{evex: true, space: u & 7, r: bit(u, 7), x: bit(u, 6), b: bit(u, 5), r2: bit(u, 4),
			w: v>>7 != 0, pp: v & 3, second: int(^v>>3&15) | bit(w, 3)<<4, width: 16 << (w >> 5 & 3), broadcast: w>>4&1 != 0,
			refused: u>>3&1 != 0 || v>>2&1 == 0 || w>>7 != 0 || w&7 != 0})
	default:
		p := prefix{}
		if first>>4 == 4 { // REX
			p.w, p.r, p.x, p.b = first>>3&1 != 0, int(first>>2&1), int(first>>1&1), int(first&1)
			first = d.byte()
		}
		return d.scalarInstruction(first, p)
	}
}

// vectorInstruction decodes what follows a VEX or EVEX prefix.
func (d *decoder) vectorInstruction(p prefix) *instruction {
	opcode := d.byte()
	if p.w || p.refused || p.evex && p.width != 64 {
		return nil
	}
	if p.space == 1 && p.pp == 0 && opcode == 0x77 && !p.evex && p.width == 16 {
		return &instruction{name: "VZEROUPPER", scalar: zeroUpper}
	}
	var extension byte
	if d.at < len(d.code) {
		extension = d.code[d.at] >> 3 & 7
	}
	op := operations[key{p.space, p.pp, opcode, none}]
	if op == nil {
		op = operations[key{p.space, p.pp, opcode, int(extension)}]
	}
	if op == nil || p.evex && op.evex == "" || !p.evex && op.vex == "" || p.broadcast && !op.elements {
		return nil
	}
	in := &instruction{name: op.vex, vector: op, width: p.width, second: p.second, broadcast: p.broadcast}
	if p.evex {
		in.name = op.evex
	}
	scale := 1 // EVEX scales displacements of 8 bits: section 2.7.5
	if p.evex {
		if scale = op.bytes(p.width); p.broadcast {
			scale = 4
		}
	}
	d.operands(in, p, scale)
	if p.broadcast && !in.operand.memory || !op.form.uses(p.second) || op.form == store && !in.operand.memory ||
		op.form == shift && !p.evex && in.operand.memory {
		return nil
	}
	if op.immediate {
		in.immediate = int64(d.byte())
	}
	return in
}

// operands reads ModRM, SIB and the displacement.
func (d *decoder) operands(in *instruction, p prefix, scale int) {
	modrm := d.byte()
	mod, rm := modrm>>6, int(modrm&7)
	in.reg = int(modrm>>3&7) | p.r<<3 | p.r2<<4
	if mod == 3 {
		if in.operand.register = rm | p.b<<3; p.evex {
			in.operand.register |= p.x << 4
		}
		return
	}
	in.operand = operand{memory: true, base: rm | p.b<<3, index: none}
	if rm == 4 { // SIB
		sib := d.byte()
		in.operand.base = int(sib&7) | p.b<<3
		in.operand.scale = 1 << (sib >> 6)
		if in.operand.index = int(sib>>3&7) | p.x<<3; in.operand.index == 4 {
			in.operand.index = none
		}
		if sib&7 == 5 && mod == 0 {
			in.operand.base, in.operand.displacement = none, int(d.int32())
			return
		}
	} else if rm == 5 && mod == 0 {
		in.operand.base, in.operand.displacement = relative, int(d.int32())
		return
	}
	switch mod {
	case 1:
		in.operand.displacement = int(d.int8()) * scale
	case 2:
		in.operand.displacement = int(d.int32())
	}
}

// scalarInstruction decodes the instructions of loops and arguments.
func (d *decoder) scalarInstruction(opcode byte, p prefix) *instruction {
	in := &instruction{wide: p.w}
	if opcode >= 0xb8 && opcode <= 0xbf && !p.w { // MOV r32, imm32
		in.name, in.scalar = "MOV", moveImmediate
		in.reg, in.immediate = int(opcode&7)|p.b<<3, d.int32()
		return in
	}
	switch opcode {
	case 0x8b, 0x8d, 0x89, 0x83, 0x81, 0xc1, 0xff, 0xf7:
		d.operands(in, p, 1)
	}
	extension := in.reg & 7
	switch {
	case opcode == 0x8b && p.w:
		in.name, in.scalar = "MOV", moveLoad
	case opcode == 0x89 && p.w && !in.operand.memory:
		in.name, in.scalar = "MOV", moveRegister
	case opcode == 0x8d && p.w && in.operand.memory && in.operand.base != relative:
		in.name, in.scalar = "LEA", loadAddress
	case opcode == 0x83 && p.w && extension == 0 && !in.operand.memory:
		in.name, in.scalar, in.immediate = "ADD", addImmediate, d.int8()
	case opcode == 0x81 && p.w && extension == 0 && !in.operand.memory:
		in.name, in.scalar, in.immediate = "ADD", addImmediate, d.int32()
	case opcode == 0xc1 && p.w && extension == 4 && !in.operand.memory:
		in.name, in.scalar, in.immediate = "SHL", shiftLeft, d.int8()
	case opcode == 0xff && p.w && extension == 1 && !in.operand.memory:
		in.name, in.scalar = "DEC", decrement
	case opcode == 0xf7 && p.w && extension == 0 && !in.operand.memory:
		in.name, in.scalar, in.immediate = "TEST", testImmediate, d.int32()
	case opcode == 0x74 || opcode == 0x75:
		in.name, in.scalar, in.reg, in.immediate = "J", branch, int(opcode&1), d.int8()
	case opcode == 0xeb:
		in.name, in.scalar, in.immediate = "JMP", jump, d.int8()
	case opcode == 0xe9:
		in.name, in.scalar, in.immediate = "JMP", jump, d.int32()
	case opcode == 0xc3:
		in.name, in.scalar = "RET", ret
	case opcode == 0x0f:
		return d.twoByteInstruction(in, p)
	default:
		return nil
	}
	return in
}

func (d *decoder) twoByteInstruction(in *instruction, p prefix) *instruction {
	switch opcode := d.byte(); opcode {
	case 0x84, 0x85:
		in.name, in.scalar, in.reg, in.immediate = "J", branch, int(opcode&1), d.int32()
	case 0x18:
		d.operands(in, p, 1)
		hint := in.reg & 7
		if !in.operand.memory || hint != 1 && hint != 2 {
			return nil
		}
		in.name, in.scalar = fmt.Sprintf("PREFETCHT%d", hint-1), prefetch
	default:
		return nil
	}
	return in
}
