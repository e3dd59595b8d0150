package kernels

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// published are the SHA-256 digests of what gguf-py 0.19.0 makes of the rows of rowsOf: float32,
// little-endian, row after row. TestUnpackedRowsEqualGGUFPy compares them anew.
var published = map[Type]string{
	F32:    "1bfbe62970ec3b573e0c65cf06c6b134f63076f5d91aca78cb88194e48ac36c6",
	F16:    "95c1285a60396503a8b86f13ad1d63289a3fdc05b5d0fb34b1aaff260adbea9e",
	BF16:   "e31fe1d784e8a7e3f279fbbfea805d69d453c251c78f022c1920dfdc0d4190ea",
	Q4_0:   "2a745b6b8ecfc804eadb02856e75d39dc2083cab7d3c47a35ebdd0ceeb3cddbf",
	Q4_1:   "e7edf81699a54083ed07ff0514b855ab6a8208d70434c659616ca82d17ba943c",
	Q8_0:   "2fb6e1af34b589d90b3ae4a787d13e5b4dab77e6b327855821cf8e662d169be5",
	Q5_0:   "1c539fea497f3494554e7b81ea22526419848ef1674987580e4b425668200c76",
	Q5_1:   "da0ba8d69f12f5b00d3a6c51413e3b6da1546422823e269ea353eb7758d72a61",
	Q4_K:   "c7fc50e52b728765ca2db4cc7dd27fff9ce140cc0fe7833dde06d1453510c63b",
	Q5_K:   "4dc2b51d57cf1ba9294939ab9b0216f643fb594b4167e703fc69f3de540553f3",
	Q6_K:   "3df368647a9ce13b3aeefc1b93c1d1e6b3733204ed22f1c93a1f5dcb80a626c2",
	IQ4_NL: "0bf473ef18b3d05eb24d4770adf1530981015b4d1b33d19acdf3fd31b26abb6d",
	IQ4_XS: "9c7d4d86505117c25cb4121b10a275bdc1ada721c5e8a08c26f398024310ce8c",
	MXFP4:  "6272e8be75c8ae4ce5bdb670cd1c0d4f6f037054c05f6ea9b3ad884e2c13fa29",
	Q2_K:   "d5cd4da8a82ae76cf6bd41c7221886f69c17b36e1eb292212febdd2e76cca62b",
	Q3_K:   "e3c5cdf1cc36f0dba2085d1d536e15989c974a98f4993d9e109a69727dc1a031",
}

// rowsOf are 16 rows of 512 columns.
func rowsOf(t Type) []byte { return randomRows(rand.New(rand.NewPCG(17, uint64(t))), t, TileRows, 512) }

// unpacked packs and unpacks rowsOf.
func unpacked(t *testing.T, typ Type) []byte {
	t.Helper()
	const cols = 512
	group := pack(t, typ, TileRows, cols, rowsOf(typ))
	out, row := make([]byte, 0, 4*TileRows*cols), make([]float32, cols)
	for r := range TileRows {
		if err := UnpackRow(row, group, typ, r, cols); err != nil {
			t.Fatal(err)
		}
		for _, v := range row {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	}
	return out
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// TestUnpackedRowsAreThePublishedValues: nothing of a weight is lost between GGUF and a tile.
func TestUnpackedRowsAreThePublishedValues(t *testing.T) {
	for _, typ := range allTypes {
		if got := digest(unpacked(t, typ)); got != published[typ] {
			t.Errorf("%s: digest %s, want %s", typ, got, published[typ])
		}
	}
}

// TestUnpackedRowsEqualGGUFPy compares every bit with gguf-py's own dequantization.
func TestUnpackedRowsEqualGGUFPy(t *testing.T) {
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "gguf/bin/python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("NOT COMPARED with gguf-py: set ANCHORHOLD_PEERS to what `make peers` makes:", err)
	}
	args := []string{"testdata/dequantize.py"}
	var in bytes.Buffer
	for _, typ := range allTypes {
		rows := rowsOf(typ)
		args = append(args, fmt.Sprintf("%s=%d", typ, len(rows)))
		in.Write(rows)
	}
	cmd := exec.Command(python, args...)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range allTypes {
		got := unpacked(t, typ)
		if len(out) < len(got) {
			t.Fatalf("%s: gguf-py gave %d bytes, want %d", typ, len(out), len(got))
		}
		for i := 0; i < len(got); i += 4 {
			if a, b := binary.LittleEndian.Uint32(got[i:]), binary.LittleEndian.Uint32(out[i:]); a != b {
				t.Fatalf("%s: value %d is %v, gguf-py has %v", typ, i/4, math.Float32frombits(a), math.Float32frombits(b))
			}
		}
		if sum := digest(out[:len(got)]); sum != published[typ] {
			t.Errorf("%s: gguf-py's digest is %s, recorded is %s", typ, sum, published[typ])
		}
		out = out[len(got):]
	}
}

// TestExponentsOfMXFP4 covers those that float32 holds as subnormal numbers.
func TestExponentsOfMXFP4(t *testing.T) {
	for e := range 255 {
		if got, want := float64(halfPowerOf2(uint8(e))), math.Ldexp(1, e-128); got != want {
			t.Errorf("exponent %d is %g, want %g", e, got, want)
		}
	}
}

// TestTilesAreNeverSmallerThanTheirRows: the sealer reads rows into the room of a chunk.
func TestTilesAreNeverSmallerThanTheirRows(t *testing.T) {
	for _, typ := range allTypes {
		tile, rows := TileBytes(typ, 256), TileRows*RowBytes(typ, 256)
		if tile < rows || tile > rows+rows/25 {
			t.Errorf("%s: 16 rows of 256 columns have %d bytes, their tile has %d", typ, rows, tile)
		}
	}
}

// TestRowsThatAreMissingAreZero in every type: a last group's padding multiplies as zeros.
func TestRowsThatAreMissingAreZero(t *testing.T) {
	rng := rand.New(rand.NewPCG(18, 19))
	for _, typ := range allTypes {
		cols := width(typ, 64)
		group, row := pack(t, typ, 3, cols, randomRows(rng, typ, 3, cols)), make([]float32, cols)
		for r := 3; r < TileRows; r++ {
			if err := UnpackRow(row, group, typ, r, cols); err != nil {
				t.Fatal(err)
			}
			for c, v := range row {
				if v > 0x1p-120 || v < -0x1p-120 {
					t.Fatalf("%s: row %d that is missing has %v in column %d", typ, r, v, c)
				}
			}
		}
	}
}

// TestExtremesAreExact: the largest levels and codes of one sign fit the integers of every kernel.
func TestExtremesAreExact(t *testing.T) {
	for _, typ := range quantTypes {
		cols := width(typ, 64)
		weights := make([]float32, cols)
		for _, filler := range []byte{0x00, 0x7f, 0x80, 0xff} {
			src := bytes.Repeat([]byte{filler}, TileRows*RowBytes(typ, cols))
			tame(src, typ)
			group := pack(t, typ, TileRows, cols, src)
			if err := UnpackRow(weights, group, typ, 0, cols); err != nil {
				t.Fatal(err)
			}
			for _, top := range []float32{largestInput, -largestInput, lowestInput, -lowestInput} {
				act, err := NewActivations(make([]byte, ActivationBytes(5, cols)), 5, cols)
				if err != nil {
					t.Fatal(err)
				}
				x := make([]float32, cols)
				var want, size float64
				for c := range x {
					if x[c] = top; c%BlockCols == 0 {
						x[c] = largestInput // the block's scale is the same for all
					}
					want += float64(x[c]) * float64(weights[c])
					size += math.Abs(float64(weights[c]))
				}
				for i := range 5 {
					act.Quantize(i, x)
				}
				for _, s := range sets() {
					got := make([]float32, 5*TileRows)
					if err := s.MatMul(got, TileRows, group, typ, TileRows, &act, nil); err != nil {
						t.Fatal(err)
					}
					for i, v := range got {
						if math.Abs(float64(v)-want) > 1e-4*size {
							t.Fatalf("%s %s, bytes %#x times %v: output %d is %v, want %v", s.Name(), typ, filler, top, i, v, want)
						}
					}
				}
			}
		}
	}
}
