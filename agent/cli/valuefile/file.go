package valuefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// Limits of a file.
const (
	// MaxFileBytes is above a launch endorsement of every machine size, about 20 KiB.
	MaxFileBytes = 1 << 20
	// MaxValues bounds the reference values of one file.
	MaxValues    = 1024
	maxNotes     = 256
	maxNameBytes = 96 // of the file, in what is written about it
)

// Form is the form of a file.
type Form string

// The forms that are known.
const (
	FormIDBlock     Form = "sev-id-block"
	FormEndorsement Form = "gce-launch-endorsement"
	FormCoRIM       Form = "corim"
)

// Options say whom to believe, and how to call the values.
type Options struct {
	// Trust says under which keys a signature counts.
	Trust Trust
	// Now is when the file's periods and its signer's certificates must be valid.
	Now time.Time
	// ID is the first part of every value's id; empty derives one from the content.
	ID string
	// Covers is what the operator knows the values to identify, "image" or "firmware"; empty leaves
	// what the form itself implies, which nothing else may contradict.
	Covers string
	// Product is the product line of SEV-SNP that the values are for; empty means every one.
	Product string
}

// File is what a file said, verified.
type File struct {
	Form Form `json:"form"`
	// Signer is who signed: a certificate's subject and the digest of the key; empty if nobody.
	Signer string `json:"signer,omitempty"`
	// Signature is the SHA-256 of the signature; empty if the file is unsigned.
	Signature string `json:"signature_sha256,omitempty"`
	// Values are the reference values in the order of the file.
	Values []policy.ReferenceValue `json:"values"`
	// Notes say what the file states and the values do not hold, and how a policy may require it.
	Notes []string `json:"notes"`
}

// note keeps each note once. One more than there may be tells Read to refuse: a note that is left out may be
// the one that names what the values do not enforce.
func (f *File) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(f.Notes) <= maxNotes && !slices.Contains(f.Notes, text) {
		f.Notes = append(f.Notes, text)
	}
}

// add appends a value; covers is what the form implies.
func (f *File) add(v policy.ReferenceValue, o Options, covers evidence.Coverage) error {
	if len(f.Values) == MaxValues {
		return refusal.New(ReasonSize, "got more than %d measurements", MaxValues)
	}
	v.Covers = string(covers)
	switch {
	case covers != "" && o.Covers != "" && o.Covers != string(covers):
		return refusal.New(ReasonUnsupported, "the measurements of this form cover the %s alone, and cannot be called those of %q", covers, o.Covers)
	case o.Covers != "":
		v.Covers = o.Covers
	}
	if v.Kind == string(evidence.KindSNP) {
		v.Product = o.Product
	}
	f.Values = append(f.Values, v)
	return nil
}

// Read recognises, verifies and reads a file. The name is for the values' source alone. A refusal is
// an *refusal.Error.
func Read(name string, raw []byte, o Options) (File, error) {
	f, err := read(raw, o, true)
	if err != nil {
		return File{}, err
	}
	if len(f.Notes) > maxNotes {
		return File{}, refusal.New(ReasonSize, "got more than %d different things to note about the %s", maxNotes, f.Form)
	}
	if len(f.Values) == 0 {
		return File{}, refusal.New(ReasonEmpty, "the %s holds no measurement that guests are judged by%s", f.Form, because(f.Notes))
	}
	source := f.source(name, o.Trust)
	for i := range f.Values {
		f.Values[i].Source = source
	}
	// The broker's own parser has the last word on what is printed.
	if _, err := policy.ParseReferenceValues(f.YAML()); err != nil {
		return File{}, refusal.New(ReasonMalformed, "the %s gives no valid reference values: %w", f.Form, err)
	}
	return f, nil
}

func because(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return ": " + strings.Join(notes[:min(len(notes), 3)], "; ")
}

// read tells the forms apart. Text is decoded once: tools of ID blocks print base64.
func read(raw []byte, o Options, mayBeText bool) (File, error) {
	switch {
	case len(raw) > MaxFileBytes:
		return File{}, refusal.New(ReasonSize, "got more than %d bytes", MaxFileBytes)
	case publication.Is(raw):
		return readPublished(raw, o)
	case isIDBlock(raw):
		return readIDBlock(raw, o)
	case isCoRIM(raw):
		return readCoRIM(raw, o)
	case len(raw) > 0 && raw[0] == '{':
		return File{}, refusal.New(ReasonForm, "it is JSON. Documents of Intel's (TCB information, QE identity) are collateral, with which the broker judges quotes: see 'anchorhold collateral'")
	}
	if decoded, ok := plainText(raw); ok && mayBeText {
		return read(decoded, o, false)
	}
	if isEndorsement(raw) {
		return readEndorsement(raw, o)
	}
	return File{}, refusal.New(ReasonForm, "known are %s, %s, %s and %s", FormPublished, FormCoRIM, FormEndorsement, FormIDBlock)
}

// plainText decodes a file that is base64 or hexadecimal alone.
func plainText(raw []byte) ([]byte, bool) {
	text := bytes.Join(bytes.Fields(raw), nil)
	if len(text) == 0 {
		return nil, false
	}
	if decoded, err := hex.DecodeString(string(text)); err == nil {
		return decoded, true
	}
	decoded, err := base64.StdEncoding.DecodeString(string(text))
	return decoded, err == nil
}

// source names file, signer and signature, for people who look at a value later.
func (f *File) source(name string, t Trust) string {
	name = filepath.Base(name)
	if len(name) > maxNameBytes {
		name = name[:maxNameBytes]
	}
	name = strings.ToValidUTF8(name, "?")
	if f.Signature == "" {
		return fmt.Sprintf("%s %s, UNSIGNED: %s", f.Form, name, t.Unsigned)
	}
	return fmt.Sprintf("%s %s, signed by %s, signature sha256:%s", f.Form, name, f.Signer, f.Signature)
}

func (f *File) signedBy(signer string, signature []byte) {
	digest := sha256.Sum256(signature)
	f.Signer, f.Signature = signer, hex.EncodeToString(digest[:])
}

// YAML is a file of reference values of format 2, with the notes as comments.
func (f *File) YAML() []byte {
	var b bytes.Buffer
	for _, n := range f.Notes {
		fmt.Fprintf(&b, "# %s\n", oneLine(n))
	}
	b.WriteString("format: 2\nreference_values:\n")
	for _, v := range f.Values {
		fmt.Fprintf(&b, "  - id: %s\n", quote(v.ID))
		for _, field := range []struct{ name, value string }{{"kind", v.Kind}, {"product", v.Product}, {"covers", v.Covers}, {"description", v.Description}, {"source", v.Source}} {
			if field.value != "" {
				fmt.Fprintf(&b, "    %s: %s\n", field.name, quote(field.value))
			}
		}
		b.WriteString("    registers:\n")
		for _, name := range registerNames() {
			if value := v.Registers[name]; value != "" {
				fmt.Fprintf(&b, "      %s: %s\n", name, quote(value))
			}
		}
	}
	return b.Bytes()
}

// maxPCR is the last register of a TPM.
const maxPCR = 23

// registerNames are the registers that a value of these forms may have, in the order of a boot.
func registerNames() []string {
	names := []string{evidence.RegisterLaunch, "mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"}
	for n := range maxPCR + 1 {
		names = append(names, fmt.Sprintf("pcr%d", n))
	}
	return names
}

// quote writes a string of YAML: JSON's strings are such.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""` // no string fails
	}
	return string(b)
}

// oneLine keeps a signer's words from leaving the comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// Join puts an ID block and its authentication together, which tools write as two files of base64 or
// bytes. A single file stays as it is.
func Join(files ...[]byte) []byte {
	if len(files) == 1 {
		return files[0]
	}
	var out []byte
	for _, raw := range files {
		if decoded, ok := plainText(raw); ok {
			raw = decoded
		}
		out = append(out, raw...)
	}
	return out
}
