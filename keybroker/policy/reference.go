package policy

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/systemd/config"
)

const (
	maxReferenceBytes  = 4 << 20
	maxReferenceValues = 65536
	measurementBytes   = 48
)

// ReferenceValue is one expected launch measurement.
type ReferenceValue struct {
	// ID names the value; policies refer to it.
	ID string `yaml:"id" json:"id"`
	// Measurement is the launch digest in hexadecimal (48 bytes), in files also behind
	// "sha384:", as `anchorhold evidence` prints it.
	Measurement string `yaml:"measurement" json:"measurement"`
	// Product is the product line that it holds for; empty means every one.
	Product string `yaml:"product" json:"product,omitempty"`
	// Software marks a measurement of the software TEE. It never matches
	// hardware evidence, and no other value matches the software TEE's.
	Software bool `yaml:"software" json:"software,omitempty"`
	// Description is for people.
	Description string `yaml:"description" json:"description,omitempty"`
}

// referenceFile is the file format, YAML or JSON.
type referenceFile struct {
	Format int              `yaml:"format"`
	Values []ReferenceValue `yaml:"reference_values"`
}

// ParseReferenceValues reads a file of reference values:
//
//	format: 1
//	reference_values:
//	  - {id: images/agent-7, measurement: 0123..., product: Genoa, description: ...}
func ParseReferenceValues(data []byte) ([]ReferenceValue, error) {
	if len(data) > maxReferenceBytes {
		return nil, invalid("reference values: got %d bytes, want at most %d", len(data), maxReferenceBytes)
	}
	var f referenceFile
	if err := config.Decode(data, &f); err != nil {
		return nil, fmt.Errorf("%w: reference values: %w", ErrInvalid, err)
	}
	if f.Format != 1 {
		return nil, invalid("reference values: format: got %d, want 1", f.Format)
	}
	if len(f.Values) == 0 || len(f.Values) > maxReferenceValues {
		return nil, invalid("reference values: got %d, want 1 to %d", len(f.Values), maxReferenceValues)
	}
	seen := map[string]bool{}
	for i := range f.Values {
		f.Values[i].Measurement = strings.TrimPrefix(f.Values[i].Measurement, "sha384:")
	}
	for _, v := range f.Values {
		if err := v.check(); err != nil {
			return nil, err
		}
		if seen[v.ID] {
			return nil, invalid("reference value %q is named twice", v.ID)
		}
		seen[v.ID] = true
	}
	return f.Values, nil
}

// Merge adds values to those that are there. A value of the same id replaces
// the old one.
func Merge(have, add []ReferenceValue) []ReferenceValue {
	place := map[string]int{}
	out := make([]ReferenceValue, 0, len(have)+len(add))
	for _, v := range append(append([]ReferenceValue(nil), have...), add...) {
		if i, ok := place[v.ID]; ok {
			out[i] = v
			continue
		}
		place[v.ID] = len(out)
		out = append(out, v)
	}
	return out
}

func (v ReferenceValue) check() error {
	if err := checkID(v.ID); err != nil {
		return invalid("reference value: %v", err)
	}
	b, err := hex.DecodeString(v.Measurement)
	switch {
	case err != nil || len(b) != measurementBytes:
		return invalid("reference value %s: measurement: got %d characters, want %d hexadecimal digits", v.ID, len(v.Measurement), 2*measurementBytes)
	case allZero(b):
		return invalid("reference value %s: a measurement of zeros names nothing", v.ID)
	case v.Product != "" && !isKnownProduct(v.Product):
		return invalid("reference value %s: product %q is unknown (known: %s)", v.ID, v.Product, strings.Join(knownProducts(), ", "))
	case len(v.Description) > maxTextBytes:
		return invalid("reference value %s: description: got %d bytes, want at most %d", v.ID, len(v.Description), maxTextBytes)
	}
	return nil
}

// key is the value's measurement and whether it is of the software TEE: two
// values of one measurement, one of each sort, do not hide each other.
func (v ReferenceValue) key() string {
	b, _ := hex.DecodeString(v.Measurement) // checked when it was read
	return measurementKey(b, v.Software, v.Product)
}

func measurementKey(measurement []byte, software bool, product string) string {
	return fmt.Sprintf("%x/%t/%s", measurement, software, product)
}
