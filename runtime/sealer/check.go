package sealer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/kernels"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// Checked is the result of Check for a model file.
type Checked struct {
	servable.Report
	Architecture string
	Tensors      int
	Bytes        int64 // of the file
}

// Check reports whether Seal would seal the GGUF file at path, and everything that speaks
// against it. It needs no key and writes nothing. An error means that the file could not be
// read; progress, which may be nil, is called with the amount of tensor data that was checked.
func Check(ctx context.Context, path string, progress func(done, total int64)) (Checked, error) {
	in, size, err := open(path)
	if err != nil {
		return Checked{}, err
	}
	defer in.Close() // read only
	file, report, err := look(in, size)
	if err != nil {
		return Checked{}, err
	}
	c := Checked{Report: report, Bytes: size}
	if file == nil {
		return c, nil
	}
	c.Architecture, _ = file.String("general.architecture")
	c.Tensors = len(file.Tensors)
	findings, err := scan(ctx, in, file, progress)
	c.Findings = append(c.Findings, findings...)
	return c, err
}

// open opens a regular file and returns its size.
func open(path string) (*os.File, int64, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("sealer: %w", err)
	}
	info, err := in.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("sealer: %w", err), in.Close())
	}
	return in, info.Size(), nil
}

const notGGUF = "not a GGUF file, but "

// look reads the header and says what stands against sealing it. The file is nil where
// there is no header to look at.
func look(in io.ReaderAt, size int64) (*gguf.File, servable.Report, error) {
	file, err := gguf.Parse(in, size)
	if failed(err) {
		return nil, servable.Report{}, fmt.Errorf("sealer: %w", err)
	}
	if err != nil {
		detail := err.Error()
		head := make([]byte, len(gguf.Magic))
		n, _ := in.ReadAt(head, 0)
		if _, sealed := chunkseal.Inspect(in, size); sealed == nil {
			detail = "this file is already sealed; `anchorhold inspect` shows it. Check the GGUF file it was made from"
		} else if is := Foreign(in, size); is != "" {
			detail = notGGUF + is
		} else if n == len(head) && string(head) != gguf.Magic {
			detail += "; an ONNX file is recognised by a name that ends in .onnx"
		}
		return nil, servable.Report{Findings: []servable.Finding{{Code: servable.CodeFormat, Name: "file", Detail: detail}}}, nil
	}
	report := servable.Check(file)
	said := map[string]bool{}
	for _, f := range report.Findings {
		said[f.Name] = true
	}
	for _, t := range file.Tensors {
		_, tiled := tileTypes[t.Type]
		known := tiled && (len(t.Dims) > 1 || t.Type == gguf.F32) // else it was named for its type
		if _, err := planTensor(t); err != nil && known && !said[t.Name] {
			report.Findings = append(report.Findings, servable.Finding{Code: servable.CodeTensorShape, Name: t.Name, Detail: err.Error()})
		}
	}
	return file, report, nil
}

// failed tells an error of the disk from one of the file's content.
func failed(err error) bool {
	_, path := errors.AsType[*fs.PathError](err)
	_, number := errors.AsType[syscall.Errno](err)
	return path || number
}

// scanBytes is how much of a tensor is looked at at a time: whole blocks of every type.
const scanBytes = 144 * 5 * 7 * 11 * 17

// scan looks for values that are no finite numbers.
func scan(ctx context.Context, in io.ReaderAt, file *gguf.File, progress func(done, total int64)) (findings []servable.Finding, err error) {
	var done, total int64
	for _, t := range file.Tensors {
		total += t.Size
	}
	buffer := make([]byte, scanBytes)
	defer clear(buffer)
	for _, t := range file.Tensors {
		for at := int64(0); at < t.Size; at += scanBytes {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			part := buffer[:min(scanBytes, t.Size-at)]
			if n, err := in.ReadAt(part, file.DataOffset+t.Offset+at); n < len(part) {
				return nil, fmt.Errorf("sealer: tensor %s: read %d bytes at %d: %w", t.Name, len(part), at, err)
			}
			if finding := finite(t, part); finding != nil {
				findings = append(findings, *finding)
				done += t.Size - at
				break
			}
			if done += int64(len(part)); progress != nil {
				progress(done, total)
			}
		}
	}
	return findings, nil
}

// finite returns a finding if a value or scale of the tensor is infinite or no number.
func finite(t gguf.Tensor, data []byte) *servable.Finding {
	tile, ok := tileTypes[t.Type]
	if !ok || len(t.Dims) == 1 && t.Type != gguf.F32 {
		return nil // refused for its type
	}
	block, offsets, width := tile.Floats()
	for at := 0; at+block <= len(data); at += block {
		for _, o := range offsets {
			if exponentFull(data[at+o:], tile, width) {
				return &servable.Finding{Code: servable.CodeTensorValue, Name: t.Name,
					Detail: "contains an infinite value or one that is not a number (NaN): the file is damaged, or the training diverged"}
			}
		}
		if servable.Positive(t.Name) && !(math.Float32frombits(binary.LittleEndian.Uint32(data[at:])) > 0) {
			return &servable.Finding{Code: servable.CodeTensorValue, Name: t.Name, Detail: "contains a value that is not positive, although frequencies are divided by it"}
		}
	}
	return nil
}

// exponentFull reports whether all bits of a number's exponent are set, which means infinity
// or, for an exponent alone, that the number is none.
func exponentFull(b []byte, t kernels.Type, width int) bool {
	mask := uint16(0x7c00)
	switch {
	case width == 1:
		return b[0] == 0xff
	case width == 4:
		b, mask = b[2:], 0x7f80
	case t == kernels.BF16:
		mask = 0x7f80
	}
	return binary.LittleEndian.Uint16(b)&mask == mask
}
