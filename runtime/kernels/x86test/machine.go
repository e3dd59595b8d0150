package x86test

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxSteps ends what does not end by itself.
const maxSteps = 1 << 22

// Numbers of general registers.
const (
	rsp = 4
	rbp = 5
)

// Where the stack is, and what the caller left in registers that a function must keep.
const (
	stackAddress  = 0x7f00_0000_0000
	returnAddress = 0x00c0_ffee_0000
	framePointer  = stackAddress + 0x1000
)

// Machine is a processor with the memory that a test maps. The zero value is ready.
type Machine struct {
	general [16]uint64
	vectors [32]vector
	// zero is the only flag that kernels read.
	zero    bool
	memory  []region
	program *Program
	next    int // offset of the next instruction
	done    bool
}

type region struct {
	address  uint64
	bytes    []byte
	writable bool
}

// Map makes memory readable and, if it is writable, writable at an address. Regions do not
// grow together: no instruction may reach over the end of one.
func (m *Machine) Map(address uint64, memory []byte, writable bool) {
	m.memory = append(m.memory, region{address, memory, writable})
}

// Call runs a function with arguments of 8 bytes each, as ABI0 passes them, and returns when
// it does. Other registers begin with values that are neither zero nor addresses of mapped memory.
func (m *Machine) Call(p *Program, arguments ...uint64) error {
	stack := binary.LittleEndian.AppendUint64(nil, returnAddress)
	for _, a := range arguments {
		stack = binary.LittleEndian.AppendUint64(stack, a)
	}
	mapped := len(m.memory)
	m.Map(stackAddress, stack, false)
	defer func() { m.memory = m.memory[:mapped] }()
	for i := range m.general {
		m.general[i] = 0xdead_0000_0000_0000 + uint64(i)
	}
	for i := range m.vectors {
		m.vectors[i] = filled(0xffa5a500 + uint32(i)) // a NaN as float32
	}
	m.general[rsp], m.general[rbp] = stackAddress, framePointer
	m.program, m.next, m.done = p, 0, false
	for range maxSteps {
		if err := m.step(); err != nil || m.done {
			return err
		}
	}
	return fmt.Errorf("%s did not return after %d instructions", p.name, maxSteps)
}

func filled(with uint32) (v vector) {
	for i := range v {
		v[i] = with
	}
	return v
}

func (m *Machine) step() error {
	pc := m.next
	in, err := m.program.at(pc)
	if err != nil {
		return err
	}
	m.next += in.length
	if in.scalar != nil {
		err = in.scalar(m, in)
	} else {
		err = m.compute(in)
	}
	if err != nil {
		return fmt.Errorf("%s+%#x: %s: %w", m.program.name, pc, in.name, err)
	}
	return nil
}

// compute runs an operation on vectors.
func (m *Machine) compute(in *instruction) error {
	op := in.vector
	if op.form == store {
		var d, none vector
		op.do(&d, &none, &m.vectors[in.reg], 0)
		return m.store(in, d)
	}
	b, err := m.load(in)
	if err != nil {
		return err
	}
	to := in.reg
	if op.form == shift {
		to = in.second
	}
	d := m.vectors[to]
	op.do(&d, &m.vectors[in.second], &b, byte(in.immediate))
	clear(d[in.width/4:]) // both encodings clear the rest of the register
	m.vectors[to] = d
	return nil
}

// load reads the operand of an operation.
func (m *Machine) load(in *instruction) (v vector, err error) {
	n := in.vector.bytes(in.width)
	switch {
	case n == 0 && in.operand.memory:
		return v, errUnknown
	case n == 0: // a general register
		return filled(uint32(m.general[in.operand.register&15])), nil
	case !in.operand.memory:
		return m.vectors[in.operand.register], nil
	case in.broadcast:
		n = 4
	}
	from, err := m.reach(in, n, false)
	if err != nil {
		return v, err
	}
	for i := range n / 4 {
		v[i] = binary.LittleEndian.Uint32(from[4*i:])
	}
	if in.broadcast {
		v = filled(v[0])
	}
	return v, nil
}

func (m *Machine) store(in *instruction, v vector) error {
	n := in.vector.bytes(in.width)
	to, err := m.reach(in, n, true)
	if err != nil {
		return err
	}
	for i := range n / 4 {
		binary.LittleEndian.PutUint32(to[4*i:], v[i])
	}
	return nil
}

// address is where an operand lies.
func (m *Machine) address(o *operand) uint64 {
	at := uint64(int64(o.displacement))
	if o.base >= 0 {
		at += m.general[o.base]
	}
	if o.index >= 0 {
		at += m.general[o.index] * uint64(o.scale)
	}
	return at
}

// reach returns the n bytes of memory at an operand, if all of them are in one region.
func (m *Machine) reach(in *instruction, n int, write bool) ([]byte, error) {
	if in.operand.base == relative {
		if write {
			return nil, errors.New("store to a constant")
		}
		return m.program.constant(m.next+in.operand.displacement, n), nil
	}
	at := m.address(&in.operand)
	for _, r := range m.memory {
		if offset := at - r.address; at >= r.address && offset <= uint64(len(r.bytes)) && uint64(n) <= uint64(len(r.bytes))-offset {
			if write && !r.writable {
				return nil, fmt.Errorf("store of %d bytes to %#x, which is read-only", n, at)
			}
			return r.bytes[offset:][:n], nil
		}
	}
	return nil, fmt.Errorf("access to %d bytes at %#x, outside the arguments", n, at)
}

func moveImmediate(m *Machine, in *instruction) error {
	m.general[in.reg] = uint64(uint32(in.immediate))
	return nil
}

func moveLoad(m *Machine, in *instruction) error {
	if !in.operand.memory {
		m.general[in.reg] = m.general[in.operand.register]
		return nil
	}
	from, err := m.reach(in, 8, false)
	if err != nil {
		return err
	}
	m.general[in.reg] = binary.LittleEndian.Uint64(from)
	return nil
}

func moveRegister(m *Machine, in *instruction) error {
	m.general[in.operand.register] = m.general[in.reg]
	return nil
}

func loadAddress(m *Machine, in *instruction) error {
	m.general[in.reg] = m.address(&in.operand)
	return nil
}

func addImmediate(m *Machine, in *instruction) error {
	return m.result(in, m.general[in.operand.register]+uint64(in.immediate))
}

func shiftLeft(m *Machine, in *instruction) error {
	return m.result(in, m.general[in.operand.register]<<(in.immediate&63))
}

func decrement(m *Machine, in *instruction) error {
	return m.result(in, m.general[in.operand.register]-1)
}

// result keeps a result and its flag.
func (m *Machine) result(in *instruction, v uint64) error {
	m.general[in.operand.register], m.zero = v, v == 0
	return nil
}

func testImmediate(m *Machine, in *instruction) error {
	m.zero = m.general[in.operand.register]&uint64(in.immediate) == 0
	return nil
}

// branch is JZ, or JNZ with reg 1.
func branch(m *Machine, in *instruction) error {
	if m.zero == (in.reg == 0) {
		return jump(m, in)
	}
	return nil
}

func jump(m *Machine, in *instruction) error {
	m.next += int(in.immediate)
	return nil
}

// prefetch does nothing, and never faults.
func prefetch(*Machine, *instruction) error { return nil }

// zeroUpper clears all but 128 bits of the 16 registers that older code shares.
func zeroUpper(m *Machine, _ *instruction) error {
	for i := range 16 {
		clear(m.vectors[i][4:])
	}
	return nil
}

// ret ends the call and checks what the caller relies on.
func ret(m *Machine, _ *instruction) error {
	if m.general[rsp] != stackAddress || m.general[rbp] != framePointer {
		return errors.New("returns with another stack or frame pointer")
	}
	for i := range 16 {
		if [12]uint32(m.vectors[i][4:]) != [12]uint32{} {
			return errors.New("returns without VZEROUPPER, which makes the code after it slow")
		}
	}
	m.done = true
	return nil
}
