package classifier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// Limits of a description.
const (
	MaxInputs           = 1 << 16
	MaxLabelBytes       = 256
	MaxDescriptionBytes = 4 << 20
)

// Description is everything in a classifier but its parameters.
type Description struct {
	Architecture intnet.Architecture
	Quantizer    Quantizer
	Scale        Scale    // of the outputs
	Labels       []string // of the classes, in the order of the outputs; nil if they have none
	// IntegerLabels says that the labels are integers in decimal.
	IntegerLabels bool
}

// Scale is the value of one unit of an output as a score: Mantissa * 2^Exponent, with a mantissa
// of at least 2^31. The softmax of the scores is the probabilities of the classes.
type Scale struct {
	Mantissa uint32
	Exponent int32
}

// NewScale returns the scale nearest to v.
func NewScale(v float64) (Scale, error) {
	fraction, e := math.Frexp(v)
	m := math.RoundToEven(math.Ldexp(fraction, 32))
	if m == 1<<32 {
		m, e = 1<<31, e+1
	}
	if !(m >= 1<<31 && m < 1<<32) {
		return Scale{}, fmt.Errorf("classifier: output scale %g is out of range", v)
	}
	s := Scale{Mantissa: uint32(m), Exponent: int32(e - 32)}
	return s, s.check()
}

// Float is the scale as a number, which is exact.
func (s Scale) Float() float64 { return math.Ldexp(float64(s.Mantissa), int(s.Exponent)) }

func (s Scale) check() error {
	if s.Mantissa < 1<<31 || s.Exponent < -256 || s.Exponent > 256 {
		return fmt.Errorf("classifier: output scale %d * 2^%d is out of range", s.Mantissa, s.Exponent)
	}
	return nil
}

// Classes is the number of outputs. The architecture must have passed its Check.
func (d *Description) Classes() int {
	list := d.Architecture.Geometries()
	return list[len(list)-1].To.Size()
}

// Check reports a description that exceeds the limits or contradicts itself.
func (d *Description) Check() error {
	if err := d.Architecture.Check(); err != nil {
		return err
	}
	if d.Architecture.Input.Size() > MaxInputs {
		return fmt.Errorf("classifier: got %d input values, the limit is %d", d.Architecture.Input.Size(), MaxInputs)
	}
	list := d.Architecture.Geometries()
	last := list[len(list)-1]
	if last.Kind != intnet.Dense && last.Kind != intnet.AveragePool || last.Positions() != 1 || last.Out < 2 {
		return errors.New("classifier: the last layer must be dense, or average each channel, with one output for each of at least two classes")
	}
	if !slices.ContainsFunc(list, func(g intnet.Geometry) bool { return g.Weights() > 0 }) {
		return errors.New("classifier: the network has no weights")
	}
	if err := d.Quantizer.Check(d.Architecture.Input.Size()); err != nil {
		return err
	}
	if err := d.Scale.check(); err != nil {
		return err
	}
	return d.CheckLabels()
}

// CheckLabels reports labels that are not distinct, not one for each class, or not printable
// text of 1 to MaxLabelBytes bytes. The architecture must have passed its Check.
func (d *Description) CheckLabels() error {
	if len(d.Labels) != 0 && len(d.Labels) != d.Classes() || len(d.Labels) == 0 && (d.Labels != nil || d.IntegerLabels) {
		return fmt.Errorf("classifier: got %d labels for %d classes", len(d.Labels), d.Classes())
	}
	seen := map[string]bool{}
	for _, l := range d.Labels {
		if l == "" || len(l) > MaxLabelBytes || !utf8.ValidString(l) || seen[l] {
			return fmt.Errorf("classifier: label %q: labels must be distinct and have 1 to %d bytes of UTF-8", l, MaxLabelBytes)
		}
		for _, ch := range l {
			if !unicode.IsPrint(ch) {
				return fmt.Errorf("classifier: label %q contains a character that cannot be printed", l)
			}
		}
		if v, err := strconv.ParseInt(l, 10, 64); d.IntegerLabels && (err != nil || strconv.FormatInt(v, 10) != l) {
			return fmt.Errorf("classifier: label %q is not a decimal integer", l)
		}
		seen[l] = true
	}
	return nil
}

// Label is the name of a class: its label or, where classes have none, its number.
func (d *Description) Label(class int) string {
	if d.Labels == nil {
		return strconv.Itoa(class)
	}
	return d.Labels[class]
}

// descriptionMagic begins the encoding, quantizationLabel the digest.
const (
	descriptionMagic  = "anchorhold/classifier/1\n"
	quantizationLabel = "anchorhold/classifier/1/quantization"
	featureBytes      = 4 + 4 + 1 + 8
)

// QuantizationDigest identifies the input quantizer and the output scale: the SHA-256 of a label
// and their encoding. Together with the digest of the architecture, the root of the sealed file
// and the commitment to the parameters, it forms the id of a proven model.
func (d *Description) QuantizationDigest() [32]byte {
	return sha256.Sum256(d.appendQuantization([]byte(quantizationLabel)))
}

func (d *Description) appendQuantization(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(d.Quantizer.Features)))
	for _, f := range d.Quantizer.Features {
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Exponent))
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Multiplier))
		b = append(b, f.Shift)
		b = binary.LittleEndian.AppendUint64(b, uint64(f.Offset))
	}
	b = binary.LittleEndian.AppendUint32(b, d.Scale.Mantissa)
	return binary.LittleEndian.AppendUint32(b, uint32(d.Scale.Exponent))
}

// The kinds of labels.
const (
	labelsNone     = 0
	labelsText     = 1
	labelsIntegers = 2
)

// MarshalBinary returns the description's only encoding (docs/sealed-format.md).
func (d *Description) MarshalBinary() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	architecture, err := d.Architecture.MarshalBinary()
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32([]byte(descriptionMagic), uint32(len(architecture)))
	b = d.appendQuantization(append(b, architecture...))
	kind := byte(labelsNone)
	if d.IntegerLabels {
		kind = labelsIntegers
	} else if d.Labels != nil {
		kind = labelsText
	}
	b = binary.LittleEndian.AppendUint32(append(b, kind), uint32(len(d.Labels)))
	for _, l := range d.Labels {
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(l))), l...)
	}
	return b, nil
}

// errDescription is the refusal of bytes that MarshalBinary does not write.
var errDescription = errors.New("classifier: malformed description, or one of another version")

// UnmarshalBinary reads what MarshalBinary writes, and nothing else.
func (d *Description) UnmarshalBinary(data []byte) error {
	if len(data) > MaxDescriptionBytes || len(data) < len(descriptionMagic) || string(data[:len(descriptionMagic)]) != descriptionMagic {
		return errDescription
	}
	c := cursor{b: data[len(descriptionMagic):]}
	var out Description
	architecture := c.take(int(c.uint32()))
	if c.short {
		return errDescription
	}
	if err := out.Architecture.UnmarshalBinary(architecture); err != nil {
		return err
	}
	if n := int(c.uint32()); n > MaxInputs || n*featureBytes > len(c.b) {
		return errDescription
	} else {
		out.Quantizer.Features = make([]Feature, n)
	}
	for i := range out.Quantizer.Features {
		out.Quantizer.Features[i] = Feature{Exponent: int32(c.uint32()), Multiplier: int32(c.uint32()), Shift: c.take(1)[0], Offset: int64(c.uint64())}
	}
	out.Scale = Scale{Mantissa: c.uint32(), Exponent: int32(c.uint32())}
	kind := c.take(1)[0]
	n := int(c.uint32())
	if kind > labelsIntegers || (kind == labelsNone) != (n == 0) || n > len(c.b)/2 {
		return errDescription
	}
	out.IntegerLabels = kind == labelsIntegers
	for range n {
		out.Labels = append(out.Labels, string(c.take(int(c.uint16()))))
	}
	if c.short || len(c.b) != 0 {
		return errDescription
	}
	if err := out.Check(); err != nil {
		return err
	}
	*d = out
	return nil
}

// cursor reads little-endian fields; after the first that is missing, short is set and
// everything reads as zero.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b) {
		c.short, c.b = true, nil
		return make([]byte, min(n, 8))
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint16() uint16 { return binary.LittleEndian.Uint16(c.take(2)) }
func (c *cursor) uint32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) uint64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }
