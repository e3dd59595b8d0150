package publication

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Format is the version of the statement.
const Format = 1

// Limits of a statement.
const (
	// MaxBytes bounds the signed file.
	MaxBytes = 512 << 10
	// MaxValues bounds the reference values, and the gaps.
	MaxValues    = 512
	maxInputs    = 64
	maxTextBytes = 512
	maxNameBytes = 128
	maxLines     = 16 // signature lines; witnesses may have added theirs
)

// Reasons for which a statement is refused.
const (
	// ReasonInvalid: the file is malformed, has content that is not allowed, or is not signed by both halves of the key.
	ReasonInvalid refusal.Reason = "published-values-invalid"
	// ReasonPublisher: the file is by a publisher other than the expected one.
	ReasonPublisher refusal.Reason = "published-values-publisher"
)

// Check says against what a register's value was checked.
type Check string

const (
	// CheckVectors: the code that computed it gives the published values of others, or those of another program,
	// for their inputs; nobody compared this very value with hardware.
	CheckVectors Check = "vectors"
	// CheckBoot: a guest of this image was booted on this platform and quoted this value.
	CheckBoot Check = "boot"
	// CheckFormula: it follows from the specification alone.
	CheckFormula Check = "formula"
	// CheckReplay: it is the end of an event log that the publisher was given, and only as good as that log.
	CheckReplay Check = "replay"
	// CheckNot: it was compared with nothing.
	CheckNot Check = "not"
)

// Checks are all that there are, from the strongest to the weakest.
func Checks() []Check { return []Check{CheckBoot, CheckVectors, CheckFormula, CheckReplay, CheckNot} }

// Statement is what a publisher states of an image.
type Statement struct {
	// Format is the version of this form, 1.
	Format int `json:"format"`
	// Name is the first part of the values' ids.
	Name string `json:"name"`
	// Made is when, in seconds of UTC (RFC 3339).
	Made string `json:"made"`
	// Inputs are the files that the values were computed from, sorted by name.
	Inputs []Input `json:"inputs"`
	// Values are the reference values, each id once.
	Values []Value `json:"values"`
	// Gaps are what has no value.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Input is a file by its digest.
type Input struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Value is a reference value ([policy.ReferenceValue]) with what its registers were checked against.
type Value struct {
	ID        string            `json:"id"`
	Kind      string            `json:"kind"`
	Covers    string            `json:"covers"`
	Platform  string            `json:"platform"`
	Registers map[string]string `json:"registers"`
	Checked   map[string]Check  `json:"checked"`
}

// Gap is something that was not computed.
type Gap struct {
	// Platform is where.
	Platform string `json:"platform"`
	// Kind is the kind of evidence.
	Kind string `json:"kind"`
	// Registers are those without a value.
	Registers []string `json:"registers"`
	// Why they have none.
	Why string `json:"why"`
	// Instead is what a policy can require in their place.
	Instead string `json:"instead"`
}

func invalid(format string, args ...any) error { return refusal.New(ReasonInvalid, format, args...) }

var (
	nameForm   = regexp.MustCompile(`^[0-9a-z][0-9a-z._-]*(/[0-9a-z][0-9a-z._-]*)*$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// text refuses what could not be shown in a line.
func text(what, s string, required bool) error {
	if required && s == "" || len(s) > maxTextBytes || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return invalid("%s: got %q, want a line of printable ASCII of at most %d bytes", what, s, maxTextBytes)
	}
	return nil
}

// ValidName says whether values may be published under a name: what every value's id begins with.
func ValidName(name string) bool { return len(name) <= maxNameBytes && nameForm.MatchString(name) }

// check says what keeps a statement from being signed or believed.
func (s *Statement) check() error {
	made, err := time.Parse(time.RFC3339, s.Made)
	switch {
	case s.Format != Format:
		return invalid("format: got %d, want %d", s.Format, Format)
	case !ValidName(s.Name):
		return invalid("name: got %q, want at most %d of a-z 0-9 . _ - in parts joined by /", s.Name, maxNameBytes)
	case err != nil || made.UTC().Format(time.RFC3339) != s.Made:
		return invalid("made: got %q, want a time of UTC in whole seconds", s.Made)
	case len(s.Inputs) > maxInputs || len(s.Values) > MaxValues || len(s.Gaps) > MaxValues:
		return invalid("got %d inputs, %d values and %d gaps, want at most %d, %d and %d", len(s.Inputs), len(s.Values), len(s.Gaps), maxInputs, MaxValues, MaxValues)
	case len(s.Values)+len(s.Gaps) == 0:
		return invalid("got neither values nor gaps")
	}
	for i, in := range s.Inputs {
		if err := text("input", in.Name, true); err != nil {
			return err
		}
		if !digestForm.MatchString(in.SHA256) || in.Bytes < 0 || i > 0 && s.Inputs[i-1].Name >= in.Name {
			return invalid("input %s: want a SHA-256 in lower case, a size, and the inputs sorted by name, each once", in.Name)
		}
	}
	for _, g := range s.Gaps {
		if err := g.check(); err != nil {
			return err
		}
	}
	return s.checkValues()
}

func (s *Statement) checkValues() error {
	for _, v := range s.Values {
		if !strings.HasPrefix(v.ID, s.Name+"/") {
			return invalid("value %q: its id does not begin with %s/", v.ID, s.Name)
		}
		if err := text("value "+v.ID+": platform", v.Platform, true); err != nil {
			return err
		}
		if v.Covers == "" || v.Kind == "" {
			return invalid("value %s: covers and kind are required", v.ID)
		}
		for name, value := range v.Registers {
			if value != strings.ToLower(value) {
				return invalid("value %s: %s is not in lower case", v.ID, name)
			}
		}
		if !slices.Equal(slices.Sorted(maps.Keys(v.Checked)), slices.Sorted(maps.Keys(v.Registers))) {
			return invalid("value %s: checked names other registers than there are", v.ID)
		}
		for name, c := range v.Checked {
			if !slices.Contains(Checks(), c) {
				return invalid("value %s: %s is checked by %q, want one of %v", v.ID, name, c, Checks())
			}
		}
	}
	if len(s.Values) == 0 {
		return nil
	}
	// The broker's own parser has the last word on values.
	file, err := json.Marshal(map[string]any{"format": 2, "reference_values": s.ReferenceValues("")})
	if err != nil {
		return invalid("%w", err)
	}
	if _, err := policy.ParseReferenceValues(file); err != nil {
		return invalid("%w", err)
	}
	return nil
}

func (g Gap) check() error {
	if !evidence.Kind(g.Kind).Known() || len(g.Registers) == 0 || len(g.Registers) > evidence.MaxRegisters {
		return invalid("gap of %q: got kind %q and %d registers", g.Platform, g.Kind, len(g.Registers))
	}
	for _, s := range slices.Concat([]string{g.Platform, g.Why, g.Instead}, g.Registers) {
		if err := text("gap", s, true); err != nil {
			return err
		}
	}
	return nil
}

// ReferenceValues are the values as the broker imports them; the source is put into each.
func (s *Statement) ReferenceValues(source string) []policy.ReferenceValue {
	var out []policy.ReferenceValue
	for _, v := range s.Values {
		out = append(out, policy.ReferenceValue{ID: v.ID, Kind: v.Kind, Registers: v.Registers, Covers: v.Covers, Source: source, Description: v.description()})
	}
	return out
}

// description names platform and checks, for people who list values.
func (v Value) description() string {
	var checks []string
	for _, name := range slices.Sorted(maps.Keys(v.Checked)) {
		checks = append(checks, fmt.Sprintf("%s: %s", name, v.Checked[name]))
	}
	return fmt.Sprintf("%s; checked: %s", v.Platform, strings.Join(checks, ", "))
}

// marshal is the one form of a statement.
func (s *Statement) marshal() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return nil, invalid("%w", err)
	}
	return b.Bytes(), nil
}

// parse reads the form that marshal writes and no other.
func parse(body []byte) (*Statement, error) {
	s := new(Statement)
	limits := strictjson.Limits{Values: 64 * MaxValues, List: MaxValues}
	if err := strictjson.Decode(body, limits, s); err != nil {
		return nil, invalid("%w", err)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	canonical, err := s.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(canonical, body) {
		return nil, invalid("the statement is not in its canonical form")
	}
	return s, nil
}

func idOf(id [32]byte) string { return hex.EncodeToString(id[:]) }
