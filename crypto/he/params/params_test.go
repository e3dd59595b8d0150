package params

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestEverySetIsInsideTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		if seen[s.ID] {
			t.Errorf("%s is there twice", s.ID)
		}
		seen[s.ID] = true
	}
	if _, err := Lookup("sum-2048"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown set: %v", err)
	}
}

// Digests are what rounds name: they never change.
func TestSetsNeverChange(t *testing.T) {
	golden := map[string]string{
		Default:   "d8cda4cf08db311b1cd73773367699498649dca38c5fbac792c84e66f855b1ee",
		Template:  "3cce9097c13b4b0f9148a9f36d3968aae71c1e93665419fd443f4eb567f67ae3",
		Threshold: "963985b97d1e4c7644364037fb9a8347e69466653ae240e5d8e4dca68801af2e",
	}
	for _, s := range All() {
		d := s.Digest()
		if got := hex.EncodeToString(d[:]); got != golden[s.ID] {
			t.Errorf("%s has digest %s\n%s", s.ID, got, s.Text())
		}
	}
}

func TestChecksBite(t *testing.T) {
	lean, err := Lookup(Default)
	if err != nil {
		t.Fatal(err)
	}
	template, err := Lookup(Template)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() Set{
		"27 bits at degree 1024":  func() Set { s := lean; s.LogN = 10; return s },
		"unknown degree":          func() Set { s := lean; s.LogN = 9; return s },
		"small errors":            func() Set { s := lean; s.ErrorVariance = 8; return s },
		"a composite":             func() Set { s := lean; s.Q = []uint64{4096*3*5 + 1 - 4096*15 + 4096*4097*7}; return s },
		"a prime of another ring": func() Set { s := lean; s.Q = []uint64{134217689}; return s },
		"a prime twice":           func() Set { s := template; s.P = s.Q[:1]; return s },
		"no primes":               func() Set { s := lean; s.Q = nil; return s },
		"no encoding":             func() Set { s := lean; s.Encoding = ""; return s },
		"200 bits at degree 4096": func() Set { s := template; s.LogN = 12; return s },
	} {
		s := change()
		err := s.Check()
		if !errors.Is(err, ErrInsecure) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := lean
	s.LogN = 10
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "27.0 bits at ring degree 1024 exceeds the table's limit of 25") {
		t.Errorf("the figure is missing: %v", err)
	}
}

func TestBudgets(t *testing.T) {
	lean, err := Lookup(Default)
	if err != nil {
		t.Fatal(err)
	}
	last := math.Inf(1)
	for _, k := range []int{1, 2, 8, 64, 1024} {
		b, err := lean.Budget(k)
		if err != nil {
			t.Fatal(err)
		}
		if float64(k)*float64(b.Limit)+b.NoiseBound > float64(lean.Q[0])/2 {
			t.Errorf("%d contributions of %d overflow", k, b.Limit)
		}
		if b.NoiseBits >= last {
			t.Errorf("%d contributions leave more than fewer do", k)
		}
		last = b.NoiseBits
	}
	if _, err := lean.Budget(1025); !errors.Is(err, ErrBudget) {
		t.Errorf("too many: %v", err)
	}
	if _, err := lean.Budget(0); !errors.Is(err, ErrBudget) {
		t.Errorf("none: %v", err)
	}
	if _, err := lean.Require(1024, 9); err != nil {
		t.Error(err)
	}
	if _, err := lean.Require(8, 30); !errors.Is(err, ErrBudget) {
		t.Errorf("30 bits: %v", err)
	}
	template, err := Lookup(Template)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := template.Require(1024, 30); err != nil || b.Limit != 1<<20 {
		t.Errorf("template: %+v, %v", b, err)
	}
}

func TestSizes(t *testing.T) {
	for id, want := range map[string]float64{Default: 6.75, Template: 70, Threshold: 60} {
		s, err := Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.BytesPerValue(); got != want {
			t.Errorf("%s takes %g bytes a value", id, got)
		}
	}
}

func TestMatchReadsTheTemplatesForm(t *testing.T) {
	if s, err := Match(16384, []int{60, 40, 40, 60}, 40); err != nil || s.ID != Template {
		t.Errorf("%v, %v", s.ID, err)
	}
	if s, err := Match(2048, []int{27}, 0); err != nil || s.ID != Default {
		t.Errorf("%v, %v", s.ID, err)
	}
	for _, c := range []struct {
		degree int
		bits   []int
		scale  int
	}{{8192, []int{60, 40, 40, 60}, 40}, {16384, []int{60, 40, 60}, 40}, {16384, []int{60, 40, 40, 60}, 30}} {
		if _, err := Match(c.degree, c.bits, c.scale); !errors.Is(err, ErrUnknown) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
