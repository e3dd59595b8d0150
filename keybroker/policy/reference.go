package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/systemd/config"
)

const (
	maxReferenceBytes  = 4 << 20
	maxReferenceValues = 65536
	measurementBytes   = 48
)

// ReferenceValue is the expected measurements of one image, or of one firmware.
type ReferenceValue struct {
	// ID names the value; policies refer to it.
	ID string `yaml:"id" json:"id"`
	// Kind is the kind of evidence that it is for; empty means "sev-snp".
	Kind string `yaml:"kind" json:"kind,omitempty"`
	// Measurement is SEV-SNP's launch digest in hexadecimal (48 bytes), in files also behind
	// "sha384:", as `anchorhold evidence` prints it. It is short for the register "launch".
	Measurement string `yaml:"measurement" json:"measurement,omitempty"`
	// Registers are the expected values by name, in hexadecimal: "launch"; "mrtd", "rtmr0" to "rtmr3";
	// "pcr0" to "pcr23". Evidence matches if each of them has its value; others may have any.
	Registers map[string]string `yaml:"registers" json:"registers,omitempty"`
	// Covers says what the values identify: "image", or "firmware" alone, under which any image
	// starts. Empty is not known, and judged like "firmware" by warnings.
	Covers string `yaml:"covers" json:"covers,omitempty"`
	// Source says where the values come from: a build, a publisher, a machine that was looked at.
	Source string `yaml:"source" json:"source,omitempty"`
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
//	format: 2
//	reference_values:
//	  - {id: images/agent-7, measurement: 0123..., product: Genoa, covers: image, source: the build of May 4}
//	  - {id: images/agent-8, kind: tdx, registers: {mrtd: 0123..., rtmr1: 4567..., rtmr2: 89ab...}, covers: image}
//
// Files of format 1, which have measurements of SEV-SNP alone, are read as well.
func ParseReferenceValues(data []byte) ([]ReferenceValue, error) {
	if len(data) > maxReferenceBytes {
		return nil, invalid("reference values: got %d bytes, want at most %d", len(data), maxReferenceBytes)
	}
	var f referenceFile
	if err := config.Decode(data, &f); err != nil {
		return nil, fmt.Errorf("%w: reference values: %w", ErrInvalid, err)
	}
	if f.Format != 1 && f.Format != 2 {
		return nil, invalid("reference values: format: got %d, want 2", f.Format)
	}
	if len(f.Values) == 0 || len(f.Values) > maxReferenceValues {
		return nil, invalid("reference values: got %d, want 1 to %d", len(f.Values), maxReferenceValues)
	}
	seen := map[string]bool{}
	for i := range f.Values {
		f.Values[i].Measurement = strings.TrimPrefix(f.Values[i].Measurement, "sha384:")
	}
	for _, v := range f.Values {
		if f.Format == 1 && (v.Kind != "" || v.Registers != nil || v.Covers != "" || v.Source != "") {
			return nil, invalid("reference value %s: kind, registers, covers and source need format 2", v.ID)
		}
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
	switch {
	case !v.kind().Known():
		return invalid("reference value %s: kind %q is unknown", v.ID, v.Kind)
	case v.Covers != "" && v.Covers != string(evidence.CoversFirmware) && v.Covers != string(evidence.CoversImage):
		return invalid("reference value %s: covers: got %q, want %q or %q", v.ID, v.Covers, evidence.CoversImage, evidence.CoversFirmware)
	case v.Product != "" && !isKnownProduct(v.Product):
		return invalid("reference value %s: product %q is unknown (known: %s)", v.ID, v.Product, strings.Join(knownProducts(), ", "))
	case len(v.Description) > maxTextBytes || len(v.Source) > maxTextBytes:
		return invalid("reference value %s: description and source have at most %d bytes", v.ID, maxTextBytes)
	case v.Measurement != "" && (v.kind() != evidence.KindSNP || v.Registers != nil):
		return invalid("reference value %s: measurement is sev-snp's; give registers for other kinds, and not both", v.ID)
	case v.Measurement == "" && (len(v.Registers) == 0 || len(v.Registers) > evidence.MaxRegisters):
		return invalid("reference value %s: got no measurement and %d registers", v.ID, len(v.Registers))
	case v.Measurement != "":
		return v.checkRegister("measurement", v.Measurement, measurementBytes)
	case !v.anchored():
		return invalid("reference value %s: evidence of kind %s proves nothing without %s: software that the values do not name can extend the other registers as it likes",
			v.ID, v.kind(), strings.Join(anchors(v.kind()), " or "))
	}
	for _, name := range sortedKeys(v.Registers) {
		bytes := registerBytes(v.kind(), name)
		if bytes == nil {
			return invalid("reference value %s: evidence of kind %s has no register %q", v.ID, v.kind(), name)
		}
		if err := v.checkRegister(name, v.Registers[name], bytes...); err != nil {
			return err
		}
	}
	return nil
}

// anchors are the registers of a kind one of which a value must name. Under a processor's report that is
// what the processor measured at launch: other firmware than the expected extends RTMRs, and other software in
// the paravisor's place states whatever PCRs it likes. Of a TPM alone it is a register that the firmware extends
// before it starts anything: what it started can extend the others, and resets PCR 16 and 23.
func anchors(kind evidence.Kind) []string {
	switch {
	case ofSNP.covers(kind):
		return []string{evidence.RegisterLaunch}
	case ofTDX.covers(kind):
		return []string{"mrtd"}
	}
	return []string{"pcr0", "pcr4", "pcr7"}
}

func (v ReferenceValue) anchored() bool {
	return slices.ContainsFunc(anchors(v.kind()), func(name string) bool { return v.Registers[name] != "" })
}

// registerBytes are the sizes that a register of this name may have; nil if there is none.
func registerBytes(kind evidence.Kind, name string) []int {
	number, isPCR := strings.CutPrefix(name, "pcr")
	n, err := strconv.Atoi(number)
	switch {
	case name == evidence.RegisterLaunch && ofSNP.covers(kind),
		ofTDX.covers(kind) && slices.Contains([]string{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"}, name):
		return []int{measurementBytes}
	case ofAnyTPM.covers(kind) && isPCR && err == nil && n >= 0 && n <= maxPCR && number == strconv.Itoa(n):
		return []int{32, 48}
	}
	return nil
}

func (v ReferenceValue) checkRegister(name, value string, bytes ...int) error {
	b, err := hex.DecodeString(value)
	switch {
	case err != nil || !slices.Contains(bytes, len(b)):
		return invalid("reference value %s: %s: got %d characters, want %d hexadecimal digits", v.ID, name, len(value), 2*bytes[0])
	case allZero(b) && !mayStayZero(name):
		return invalid("reference value %s: a measurement of zeros names nothing", v.ID)
	}
	return nil
}

// mayStayZero says whether zeros are what a register holds after an ordinary boot: nothing extends RTMR3 on most
// systems, and systemd's stub extends PCRs 12 and 13 only where somebody adds to the image's command line,
// credentials or extensions, which a value may forbid. None of them is an anchor.
func mayStayZero(register string) bool {
	return register == "rtmr3" || register == "pcr12" || register == "pcr13"
}

func (v ReferenceValue) kind() evidence.Kind {
	if v.Kind == "" {
		return evidence.KindSNP
	}
	return evidence.Kind(v.Kind)
}

// registers are the values by name, of a checked value.
func (v ReferenceValue) registers() map[string]string {
	if v.Measurement != "" {
		return map[string]string{evidence.RegisterLaunch: strings.ToLower(v.Measurement)}
	}
	out := make(map[string]string, len(v.Registers))
	for name, value := range v.Registers {
		out[name] = strings.ToLower(value)
	}
	return out
}
