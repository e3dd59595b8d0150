package classifier

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// sample is a description with every field in use.
func sample() *Description {
	return &Description{
		Architecture: intnet.Architecture{Input: intnet.Shape{C: 2, H: 1, W: 1}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 3, ReLU: true}, {Kind: intnet.Dense, Out: 2}}},
		Quantizer:    Quantizer{[]Feature{{Exponent: -3, Multiplier: 77, Shift: 9, Offset: -5}, {Exponent: 12, Multiplier: -77, Shift: 30, Offset: 1 << 40}}},
		Scale:        Scale{Mantissa: 3 << 30, Exponent: -40},
		Labels:       []string{"gut", "bösartig"},
	}
}

func TestDescriptionsReadBack(t *testing.T) {
	plain, integers := sample(), sample()
	plain.Labels, plain.Quantizer.Features = nil, plain.Quantizer.Features[:1]
	integers.Labels, integers.IntegerLabels = []string{"-1", "7"}, true
	for _, d := range []*Description{sample(), plain, integers} {
		b, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var got Description
		if err := got.UnmarshalBinary(b); err != nil || !reflect.DeepEqual(&got, d) {
			t.Errorf("%+v, %v", got, err)
		}
		for i := range b {
			if err := got.UnmarshalBinary(b[:i]); err == nil {
				t.Fatalf("cut at %d: accepted", i)
			}
		}
		if err := got.UnmarshalBinary(append(b, 0)); err == nil {
			t.Error("a byte more was accepted")
		}
	}
	if d := sample(); d.Label(1) != "bösartig" || d.Classes() != 2 {
		t.Error(d.Label(1))
	}
}

func TestDescriptionsAreRefused(t *testing.T) {
	cases := map[string]func(*Description){
		"architecture": func(d *Description) { d.Architecture.Layers[0].Out = 0 },
		"inputs":       func(d *Description) { d.Architecture.Input = intnet.Shape{C: 4096, H: 17, W: 1} },
		"one class":    func(d *Description) { d.Architecture.Layers[1].Out, d.Labels = 1, nil },
		"convolution last": func(d *Description) {
			d.Architecture.Layers[1] = intnet.Convolution(2, 1, 1, 0, false)
		},
		"pool of largest values last": func(d *Description) {
			d.Architecture.Layers[1] = intnet.Layer{Kind: intnet.MaxPool, Window: intnet.Square(1, 1, 0)}
		},
		"no weights": func(d *Description) {
			d.Architecture.Layers = []intnet.Layer{{Kind: intnet.AveragePool, Window: intnet.Square(1, 1, 0)}}
		},
		"rules":            func(d *Description) { d.Quantizer.Features = append(d.Quantizer.Features, Feature{Shift: 1}) },
		"scale":            func(d *Description) { d.Scale.Mantissa = 1<<31 - 1 },
		"exponent":         func(d *Description) { d.Scale.Exponent = 257 },
		"label missing":    func(d *Description) { d.Labels = d.Labels[:1] },
		"no labels":        func(d *Description) { d.Labels = []string{} },
		"labels of none":   func(d *Description) { d.Labels, d.IntegerLabels = nil, true },
		"label empty":      func(d *Description) { d.Labels[0] = "" },
		"label long":       func(d *Description) { d.Labels[0] = strings.Repeat("x", MaxLabelBytes+1) },
		"label twice":      func(d *Description) { d.Labels[0] = d.Labels[1] },
		"label's bytes":    func(d *Description) { d.Labels[0] = "\xff" },
		"label's newline":  func(d *Description) { d.Labels[0] = "a\nb" },
		"label no integer": func(d *Description) { d.Labels, d.IntegerLabels = []string{"1", "x"}, true },
		"label 007":        func(d *Description) { d.Labels, d.IntegerLabels = []string{"1", "007"}, true },
	}
	for name, change := range cases {
		d := sample()
		change(d)
		if err := d.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := d.MarshalBinary(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestDecoderRefusesWhatTheEncoderDoesNotWrite changes single fields in the bytes.
func TestDecoderRefusesWhatTheEncoderDoesNotWrite(t *testing.T) {
	good, err := sample().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	architecture := len(descriptionMagic) + 4 + int(binary.LittleEndian.Uint32(good[len(descriptionMagic):]))
	labels := architecture + 4 + 2*featureBytes + 8
	cases := map[string]func(b []byte) []byte{
		"magic":              func(b []byte) []byte { b[0]++; return b },
		"architecture":       func(b []byte) []byte { b[len(descriptionMagic)+8]++; return b },
		"architecture long":  func(b []byte) []byte { b[len(descriptionMagic)+3] = 0xff; return b },
		"many rules":         func(b []byte) []byte { b[architecture+3] = 0xff; return b },
		"rules over length":  func(b []byte) []byte { b[architecture] = 200; return b },
		"kind of labels":     func(b []byte) []byte { b[labels] = 3; return b },
		"no labels, but two": func(b []byte) []byte { b[labels] = 0; return b },
		"many labels":        func(b []byte) []byte { b[labels+4] = 0xff; return b },
		"label too long":     func(b []byte) []byte { b[labels+5] = 0xff; return b },
		"too large":          func([]byte) []byte { return make([]byte, MaxDescriptionBytes+1) },
	}
	for name, change := range cases {
		var d Description
		if err := d.UnmarshalBinary(change(bytes.Clone(good))); err == nil || !reflect.DeepEqual(d, Description{}) {
			t.Errorf("%s: %v, %+v", name, err, d)
		}
	}
}

func TestScaleIsTheNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		v := math.Ldexp(0.5+r.Float64()/2, r.IntN(200)-100)
		s, err := NewScale(v)
		if err != nil || math.Abs(s.Float()/v-1) > math.Ldexp(1, -32) {
			t.Fatalf("%g: %+v, %v", v, s, err)
		}
	}
	if s, err := NewScale(math.Nextafter(1, 0)); err != nil || s.Float() != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, v := range []float64{0, -1, math.NaN(), math.Inf(1), 1e-200, 1e200} {
		if s, err := NewScale(v); err == nil {
			t.Errorf("%g: %+v", v, s)
		}
	}
}

// TestQuantizationDigestCoversEveryField: a change of any field changes it, one of the
// labels or the architecture does not.
func TestQuantizationDigestCoversEveryField(t *testing.T) {
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(*Description){
		"nothing":         func(*Description) {},
		"exponent":        func(d *Description) { d.Quantizer.Features[0].Exponent++ },
		"multiplier":      func(d *Description) { d.Quantizer.Features[1].Multiplier++ },
		"shift":           func(d *Description) { d.Quantizer.Features[1].Shift++ },
		"offset":          func(d *Description) { d.Quantizer.Features[0].Offset++ },
		"number of rules": func(d *Description) { d.Quantizer.Features = d.Quantizer.Features[:1] },
		"mantissa":        func(d *Description) { d.Scale.Mantissa++ },
		"scale exponent":  func(d *Description) { d.Scale.Exponent++ },
	} {
		d := sample()
		change(d)
		digest := d.QuantizationDigest()
		if other, twice := seen[digest]; twice {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[digest] = name
	}
	d := sample()
	want := d.QuantizationDigest()
	d.Labels, d.Architecture.Layers[0].Out = nil, 9
	if d.QuantizationDigest() != want {
		t.Error("the digest covers what has digests of its own")
	}
}

// FuzzDescription: what is read is written again byte for byte.
func FuzzDescription(f *testing.F) {
	d := sample()
	b, err := d.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	d.Labels, d.IntegerLabels = []string{"1", "2"}, true
	if b, err = d.MarshalBinary(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Description
		if d.UnmarshalBinary(b) != nil {
			return
		}
		again, err := d.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v: read %x, written %x", err, b, again)
		}
	})
}

// FuzzParameters: bytes are parameters of an architecture, or are refused; what is accepted
// is written again byte for byte, and computes.
func FuzzParameters(f *testing.F) {
	a := sample().Architecture
	f.Add(make([]byte, parametersBytes(a)))
	f.Add(bytes.Repeat([]byte{0x80}, parametersBytes(a)))
	f.Fuzz(func(t *testing.T, b []byte) {
		aligned := make([]int32, len(b)/4+1)
		own := view[int8](bytesOf(aligned), len(b))
		for i, v := range b {
			own[i] = int8(v)
		}
		p, err := viewParameters(bytesOf(aligned)[:len(b)], a)
		if err != nil {
			return
		}
		n := &intnet.Network{Architecture: a, Parameters: p}
		if again := appendParameters(nil, n); !bytes.Equal(again, b) {
			t.Fatalf("read %x, written %x", b, again)
		}
		if _, err := n.Forward([]int8{-128, 127}); err != nil {
			t.Fatal(err)
		}
	})
}
