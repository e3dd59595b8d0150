package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// shape is the kind, the sort of TEE and the names of the registers of a value: two values of one shape are
// of the same evidence only if they are equal.
type shape struct {
	kind     evidence.Kind
	software bool
	names    []string // sorted
	text     string
}

func shapeOf(v ReferenceValue, registers map[string]string) shape {
	s := shape{kind: v.kind(), software: v.Software, names: sortedKeys(registers)}
	s.text = s.tee() + strings.Join(s.names, ",")
	return s
}

// tee names the kind and the sort of TEE.
func (s shape) tee() string { return fmt.Sprintf("%s/%t/", s.kind, s.software) }

// identity names the measurements, whatever the id and the product of a value that has them. It reports
// false if one of the registers is missing.
func (s shape) identity(registers map[string]string) (string, bool) {
	var b strings.Builder
	b.WriteString(s.text)
	for _, name := range s.names {
		value := registers[name]
		if value == "" {
			return "", false
		}
		b.WriteString("/" + value)
	}
	return b.String(), true
}

// catalogue has the reference values of a policy. Requirements that name the same ones share them: a
// policy may have a thousand rules over all of them.
type catalogue struct {
	values []ReferenceValue
	made   map[string]*references
}

// of are the values that patterns name.
func (c *catalogue) of(patterns []string) *references {
	key := strings.Join(patterns, "\n")
	if r := c.made[key]; r != nil {
		return r
	}
	r := newReferences(slices.DeleteFunc(slices.Clone(c.values), func(v ReferenceValue) bool { return !matchesAny(patterns, v.ID) }))
	if c.made == nil {
		c.made = map[string]*references{}
	}
	c.made[key] = r
	return r
}

// references are the reference values that a guest may have. A search costs one step for each shape,
// however many values have registers in common.
type references struct {
	shapes     []shape
	byIdentity map[string][]ReferenceValue // the first of each product
	identities map[string]bool
	count      int
}

func newReferences(values []ReferenceValue) *references {
	r := &references{byIdentity: map[string][]ReferenceValue{}, identities: map[string]bool{}, count: len(values)}
	known := map[string]bool{}
	for _, v := range values {
		registers := v.registers()
		s := shapeOf(v, registers)
		if !known[s.text] {
			known[s.text] = true
			r.shapes = append(r.shapes, s)
		}
		identity, ok := s.identity(registers)
		if !ok {
			continue // no checked value has an empty register
		}
		if same := func(o ReferenceValue) bool { return o.Product == v.Product }; !slices.ContainsFunc(r.byIdentity[identity], same) {
			r.byIdentity[identity] = append(r.byIdentity[identity], v)
		}
		r.identities[identity] = true
	}
	return r
}

// match finds a value whose every register is the claims', among those that suit.
func (r *references) match(c evidence.Claims, suits func(ReferenceValue) bool) (ReferenceValue, bool) {
	have := map[string]string{}
	for _, m := range c.Registers {
		have[m.Name] = m.Value.String()
	}
	for _, s := range r.shapes {
		if s.kind != c.Kind || s.software != c.SoftwareTEE {
			continue
		}
		identity, ok := s.identity(have)
		if !ok {
			continue
		}
		for _, v := range r.byIdentity[identity] {
			if (v.Product == "" || v.Product == string(c.Platform)) && suits(v) {
				return v, true
			}
		}
	}
	return ReferenceValue{}, false
}
