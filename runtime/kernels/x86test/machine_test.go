package x86test

import (
	"errors"
	"strings"
	"testing"
)

// Bytes of instructions that tests begin or end with.
const (
	vzeroupper = "c5 f8 77 "
	returns    = "c3"
)

// TestRegistersAndAddresses has each register field beyond 15 and each form of address, with
// displacements of 8 bits as EVEX scales them. GNU as 2.40 made the encodings.
func TestRegistersAndAddresses(t *testing.T) {
	const rax, rbx, r9, r10 = 0, 3, 9, 10
	const at = 0x2000
	memory := make([]byte, 512)
	for i := range memory {
		memory[i] = byte(i*7 + i>>8)
	}
	word := func(i int) uint32 {
		return uint32(memory[i]) | uint32(memory[i+1])<<8 | uint32(memory[i+2])<<16 | uint32(memory[i+3])<<24
	}
	for name, tc := range map[string]struct {
		code   string
		to     int
		want   uint32 // the first element
		second uint32
	}{
		"vpaddd zmm17,zmm18,zmm19":                     {"62 a1 6d 40 fe cb", 17, 18 + 19, 18 + 19},
		"vpaddd zmm9,zmm26,zmm11":                      {"62 51 2d 40 fe cb", 9, 26 + 11, 26 + 11},
		"vpaddd zmm31,zmm7,zmm24":                      {"62 01 45 48 fe f8", 31, 7 + 24, 7 + 24},
		"vpbroadcastd zmm1,eax":                        {"62 f2 7d 48 7c c8", 1, at + 0x80, at + 0x80},
		"vpbroadcastd zmm30,r9d":                       {"62 42 7d 48 7c f1", 30, at, at},
		"vmovdqu32 zmm1,[rax]":                         {"62 f1 7e 48 6f 08", 1, word(0x80), word(0x84)},
		"vmovdqu32 zmm1,[rax+0x40]":                    {"62 f1 7e 48 6f 48 01", 1, word(0xc0), word(0xc4)},
		"vmovdqu32 zmm1,[rax-0x80]":                    {"62 f1 7e 48 6f 48 fe", 1, word(0), word(4)},
		"vmovdqu32 zmm1,[rax+0x21]":                    {"62 f1 7e 48 6f 88 21 00 00 00", 1, word(0xa1), word(0xa5)},
		"vmovdqu32 zmm1,[r9+r10*4+0x40]":               {"62 91 7e 48 6f 4c 91 01", 1, word(0x60), word(0x64)},
		"vpaddd zmm1,zmm2,dword ptr [rax+0x1c]{1to16}": {"62 f1 6d 58 fe 48 07", 1, word(0x9c) + 2, word(0x9c) + 2},
		"vpmovzxbd zmm1,[rax+0x10]":                    {"62 f2 7d 48 31 48 01", 1, uint32(memory[0x90]), uint32(memory[0x91])},
		"vcvtph2ps zmm1,[rax+0x20]":                    {"62 f2 7d 48 13 48 01", 1, fromHalf(uint16(word(0xa0))), fromHalf(uint16(word(0xa0) >> 16))},
		"vbroadcasti32x4 zmm1,[rax+0x10]":              {"62 f2 7d 48 5a 48 01", 1, word(0x90), word(0x94)},
		"vpbroadcastd zmm1,[rax+0x4]":                  {"62 f2 7d 48 58 48 01", 1, word(0x84), word(0x84)},
		"vmovups ymm1,[rax+0x20]":                      {"c5 fc 10 48 20", 1, word(0xa0), word(0xa4)},
	} {
		m := Machine{}
		for i := range m.vectors {
			m.vectors[i] = filled(uint32(i))
		}
		m.general[rax], m.general[rbx], m.general[r9], m.general[r10] = at+0x80, 0x20, at, 8
		m.Map(at, memory, false)
		execute(t, &m, tc.code)
		if got := m.vectors[tc.to]; got[0] != tc.want || got[1] != tc.second {
			t.Errorf("%s: %#x, %#x, want %#x, %#x", name, got[0], got[1], tc.want, tc.second)
		}
		if upper := m.vectors[1][8]; name == "vmovups ymm1,[rax+0x20]" && upper != 0 {
			t.Errorf("%s leaves %#x beyond its width", name, upper)
		}
		if name == "vbroadcasti32x4 zmm1,[rax+0x10]" && m.vectors[1][13] != word(0x94) {
			t.Errorf("%s: the last 128 bits differ", name)
		}
	}
}

// TestOtherInstructionsAreRefused: masks, rounding, other widths, other extensions, and
// everything that kernels have no business with.
func TestOtherInstructionsAreRefused(t *testing.T) {
	for name, code := range map[string]string{
		"vpdpbusd zmm1{k1},zmm2,zmm3":         "62 f2 6d 49 50 cb",
		"vpdpbusd zmm1{k1}{z},zmm2,zmm3":      "62 f2 6d c9 50 cb",
		"AVX512VL: vpdpbusd ymm1,ymm2,ymm3":   "62 f2 6d 28 50 cb",
		"AVX_VNNI: vpdpbusd ymm1,ymm2,ymm3":   "c4 e2 6d 50 cb",
		"vaddps zmm1,zmm2,zmm3,{rn-sae}":      "62 f1 6c 18 58 cb",
		"vpandq zmm1,zmm2,zmm3":               "62 f1 ed 48 db cb",
		"AVX512DQ: vxorps zmm1,zmm2,zmm3":     "62 f1 6c 48 57 cb",
		"AVX512_VBMI: vpermb zmm1,zmm2,zmm3":  "62 f2 6d 48 8d cb",
		"vpdpbusds zmm1,zmm2,zmm3":            "62 f2 6d 48 51 cb",
		"vpshufb with a broadcast of 4 bytes": "62 f2 6d 58 00 08",
		"vcvtph2ps with a second register":    "62 f2 6d 48 13 cb",
		"vmovdqu8 zmm1,[rax]":                 "62 f1 7f 48 6f 08",
		"vzeroall":                            "c5 fc 77",
		"vpermq ymm1,ymm2,0x1b":               "c4 e3 fd 00 ca 1b",
		"AVX2 vpsrlw from memory":             "c5 f5 71 10 03",
		"kmovw k1,eax":                        "c5 f8 92 c8",
		"syscall":                             "0f 05",
		"call":                                "e8 00 00 00 00",
		"push rax":                            "50",
		"mov [rax],rbx":                       "48 89 18",
		"mov eax,[rax]":                       "8b 00",
		"add eax,1":                           "83 c0 01",
		"lea rax,[rip+0x100]":                 "48 8d 05 00 01 00 00",
		"prefetchnta [rax]":                   "0f 18 00",
		"jb":                                  "72 00",
		"cmp rax,rbx":                         "48 39 d8",
		"nothing":                             "",
	} {
		p := program(t, code)
		if in, err := decode(p.code); code == "" && !errors.Is(err, errShort) || code != "" && !errors.Is(err, errUnknown) {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
	}
	for name, tc := range manual {
		code := program(t, tc.code).code
		for n := range code {
			if _, err := decode(code[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are an instruction", name, n, len(code))
			}
		}
	}
	var m Machine
	if err := m.Call(program(t, "0f 05"), 0); err == nil || !strings.Contains(err.Error(), "0f 05") {
		t.Errorf("the error does not name the bytes: %v", err)
	}
}

// TestMemoryEndsWhereItIsMapped tries every place around a region, next to which another one lies.
func TestMemoryEndsWhereItIsMapped(t *testing.T) {
	const at, size, load, store, broadcast = 0x1000, 100, "62 f1 7e 48 6f 0a", "62 f1 7c 48 11 0a", "62 f1 6d 58 fe 0a"
	const argument = "48 8b 54 24 08 " // mov rdx,[rsp+8]
	run := func(code string, address uint64, writable bool) error {
		var m Machine
		m.Map(at, make([]byte, size), writable)
		m.Map(at+size, make([]byte, size), writable)
		return m.Call(program(t, argument+code+vzeroupper+returns), address)
	}
	for offset := -70; offset < 170; offset++ {
		address := uint64(at + offset)
		inside := func(n int) bool {
			return offset >= 0 && offset+n <= size || offset >= size && offset+n <= 2*size
		}
		if err := run(load, address, false); (err == nil) != inside(64) {
			t.Errorf("load of 64 bytes at %d: %v", offset, err)
		}
		if err := run(store, address, true); (err == nil) != inside(64) {
			t.Errorf("store of 64 bytes at %d: %v", offset, err)
		}
		if err := run(broadcast, address, false); (err == nil) != inside(4) {
			t.Errorf("broadcast of 4 bytes at %d: %v", offset, err)
		}
		if run(store, address, false) == nil {
			t.Errorf("store to read-only memory at %d", offset)
		}
	}
	for _, address := range []uint64{0, 1<<64 - 1, 1<<64 - 64} {
		if run(load, address, false) == nil {
			t.Errorf("load at %#x", address)
		}
	}
}

func TestWhatAFunctionOwesItsCaller(t *testing.T) {
	const dirty = "c5 fc 10 02 " // vmovups ymm0,[rdx]
	for name, tc := range map[string]struct{ code, want string }{
		"all of it":                  {vzeroupper + returns, ""},
		"upper halves":               {returns, "without VZEROUPPER"},
		"the stack pointer":          {"48 83 c4 08 " + vzeroupper + returns, "stack or frame pointer"}, // add rsp,8
		"the frame pointer":          {"bd 01 00 00 00 " + vzeroupper + returns, "stack or frame pointer"},
		"an end":                     {"eb fe", "did not return"},
		"a return":                   {vzeroupper, "outside the function"},
		"a jump inside the function": {"eb 80", "outside the function"},
		"its registers' addresses":   {dirty + vzeroupper + returns, "outside the arguments"},
	} {
		var m Machine
		err := m.Call(program(t, tc.code))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestLoops counts down from a number with the instructions that kernels count with.
func TestLoops(t *testing.T) {
	for name, code := range map[string]string{
		"jnz":      "48 ff c9 75 fb ",                      // dec rcx; jnz
		"long jnz": "48 ff c9 0f 85 f7 ff ff ff ",          // the same with 32 bits
		"jz":       "48 ff c9 74 02 eb f9 ",                // dec rcx; jz over a jmp
		"test":     "48 ff c9 48 f7 c1 ff ff ff ff 75 f4 ", // and test rcx,-1
		"add":      "48 83 c1 ff 75 fa ",                   // add rcx,-1
		"shl":      "48 ff c9 49 89 c8 49 c1 e0 3c 75 f4 ", // until its lowest 4 bits are 0
	} {
		var m Machine
		if err := m.Call(program(t, "48 8b 4c 24 08 "+code+vzeroupper+returns), 16*3); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if rcx, want := m.general[1], map[bool]uint64{true: 32}[name == "shl"]; rcx != want {
			t.Errorf("%s ends with %d, want %d", name, rcx, want)
		}
	}
}

func TestOnlyAssemblyIsLoaded(t *testing.T) {
	if _, err := Load(TestOnlyAssemblyIsLoaded); err == nil {
		t.Error("a function in Go was loaded")
	}
}
