package quantize

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/layers"
)

// Limits of a file of rows.
const (
	MaxRows      = 1 << 20
	MaxValues    = 32 << 20
	maxFileBytes = 512 << 20
	maxLineBytes = 1 << 20
)

// Rows are inputs of a model: Values has them one after another, Width values each.
type Rows struct {
	Width  int
	Values []float64
}

// Len is the number of rows.
func (r *Rows) Len() int { return len(r.Values) / r.Width }

// Row returns row i, not a copy.
func (r *Rows) Row(i int) []float64 { return r.Values[i*r.Width : (i+1)*r.Width] }

// npyMagic begins NumPy's files.
const npyMagic = "\x93NUMPY"

// ReadRows reads the rows of a file: NumPy's .npy with float32 or float64 values in C order, the
// first dimension being the rows, or text with comma-separated decimal numbers, one row per
// line, where a first line of names is skipped. Values must be finite.
func ReadRows(path string) (*Rows, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	rows, err := parseRows(b)
	if err != nil {
		return nil, fmt.Errorf("quantize: %s: %w", path, err)
	}
	return rows, nil
}

func parseRows(b []byte) (*Rows, error) {
	if !bytes.HasPrefix(b, []byte(npyMagic)) {
		return parseText(b)
	}
	descr, shape, data, err := parseNPY(b)
	if err != nil {
		return nil, err
	}
	width, size := 1, 0
	for _, d := range shape[1:] {
		width *= d
	}
	switch descr {
	case "<f4":
		size = 4
	case "<f8":
		size = 8
	default:
		return nil, fmt.Errorf("got values of type %q; want little-endian float32 or float64", descr)
	}
	n := shape[0] * width
	if n == 0 || len(data) != n*size {
		return nil, fmt.Errorf("%d bytes of data do not match %d rows of %d values", len(data), shape[0], width)
	}
	r := &Rows{Width: width, Values: make([]float64, n)}
	for i := range r.Values {
		if size == 4 {
			r.Values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
		} else {
			r.Values[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
		}
		if v := r.Values[i]; v-v != 0 {
			return nil, fmt.Errorf("row %d: a value is not a finite number", i/width)
		}
	}
	return r, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(b) > maxFileBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFileBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("quantize: %w", err)
	}
	return b, nil
}

// The header of .npy as NumPy writes it: a Python dictionary with its keys sorted.
var npyHeader = regexp.MustCompile(`^\{'descr': '([<>|=][a-z][0-9]+)', 'fortran_order': (False|True), 'shape': \(([0-9, ]*)\), \} *\n$`)

// parseNPY reads the header of a .npy file of version 1, 2 or 3 and returns the values' type,
// the shape, of at least one dimension, and the data.
func parseNPY(b []byte) (descr string, shape []int, data []byte, err error) {
	if len(b) < 12 || b[7] != 0 {
		return "", nil, nil, errors.New("not a .npy file of a supported version")
	}
	size, at := int(binary.LittleEndian.Uint16(b[8:])), 10
	switch b[6] {
	case 1:
	case 2, 3:
		size, at = int(binary.LittleEndian.Uint32(b[8:])), 12
	default:
		return "", nil, nil, fmt.Errorf(".npy version %d is not supported", b[6])
	}
	if size > 1<<16 || size > len(b)-at {
		return "", nil, nil, errors.New("the header is cut short")
	}
	m := npyHeader.FindSubmatch(b[at : at+size])
	if m == nil {
		return "", nil, nil, errors.New("the header is not that of an array of numbers, as numpy.save writes it")
	}
	if string(m[2]) != "False" {
		return "", nil, nil, errors.New("the array is in Fortran order; save numpy.ascontiguousarray(array)")
	}
	n := 1
	for part := range strings.SplitSeq(strings.TrimSuffix(string(m[3]), ","), ",") {
		d, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || d < 1 || d > MaxValues || n > MaxValues/d || len(shape) == 8 {
			return "", nil, nil, fmt.Errorf("shape (%s) is out of range", m[3])
		}
		n *= d
		shape = append(shape, d)
	}
	return string(m[1]), shape, b[at+size:], nil
}

// parseText reads comma-separated values.
func parseText(b []byte) (*Rows, error) {
	r := &Rows{}
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\ufeff")))) // spreadsheets begin UTF-8 with it
	lines.Buffer(make([]byte, 4096), maxLineBytes)
	for line := 1; lines.Scan(); line++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		before := len(r.Values)
		err := r.appendLine(lines.Text())
		if err != nil && line == 1 && isNames(lines.Text()) {
			r.Values = r.Values[:0]
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if r.Width == 0 {
			r.Width = len(r.Values)
		}
		if len(r.Values)-before != r.Width || len(r.Values) > MaxValues {
			return nil, fmt.Errorf("line %d: got %d values, the lines before have %d (at most %d in all)", line, len(r.Values)-before, r.Width, MaxValues)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if r.Width == 0 {
		return nil, errors.New("no rows")
	}
	return r, nil
}

func (r *Rows) appendLine(line string) error {
	for cell := range strings.SplitSeq(line, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(cell), 64)
		if err != nil || v-v != 0 {
			return fmt.Errorf("%q is not a finite decimal number", cell)
		}
		r.Values = append(r.Values, v)
	}
	return nil
}

// isNames reports a line without a single number.
func isNames(line string) bool {
	for cell := range strings.SplitSeq(line, ",") {
		if _, err := strconv.ParseFloat(strings.TrimSpace(cell), 64); err == nil {
			return false
		}
	}
	return true
}

// ReadAnswers reads the correct class of each row, as the number of the network's output, from a
// one-dimensional .npy file of int64, or from text with one class per line. Text contains
// labels; .npy contains labels if those are integers. Otherwise, and if the network has no
// labels, a class is the number of its output.
func ReadAnswers(path string, n *layers.Network) ([]int, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	list, err := parseAnswers(b)
	if err != nil {
		return nil, fmt.Errorf("quantize: %s: %w", path, err)
	}
	byLabel := n.Labels != nil && (n.IntegerLabels || !bytes.HasPrefix(b, []byte(npyMagic)))
	index := map[string]int{}
	for i := range n.Layers[len(n.Layers)-1].Out {
		if byLabel {
			index[n.Labels[i]] = i
		} else {
			index[strconv.Itoa(i)] = i
		}
	}
	out := make([]int, len(list))
	for i, name := range list {
		at, ok := index[name]
		if !ok {
			return nil, fmt.Errorf("quantize: %s: answer %d: %q is not a class of the model", path, i+1, name)
		}
		out[i] = at
	}
	return out, nil
}

func parseAnswers(b []byte) ([]string, error) {
	if !bytes.HasPrefix(b, []byte(npyMagic)) {
		list := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
		if len(list) > MaxRows {
			return nil, fmt.Errorf("more than %d rows", MaxRows)
		}
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return list, nil
	}
	descr, shape, data, err := parseNPY(b)
	if err != nil {
		return nil, err
	}
	if descr != "<i8" || len(shape) != 1 || len(data) != 8*shape[0] || shape[0] > MaxRows {
		return nil, errors.New("want one dimension of int64")
	}
	list := make([]string, shape[0])
	for i := range list {
		list[i] = strconv.FormatInt(int64(binary.LittleEndian.Uint64(data[8*i:])), 10)
	}
	return list, nil
}
