package servable

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/model"
)

// matrixTypes are the types of matrices that the engine computes with.
var matrixTypes = []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q6_K, gguf.Q5_0, gguf.Q5_1, gguf.Q5_K,
	gguf.Q4_0, gguf.Q4_1, gguf.Q4_K, gguf.IQ4_NL, gguf.IQ4_XS, gguf.MXFP4, gguf.Q3_K, gguf.Q2_K}

// Positive says whether a tensor's values are divisors, which must be positive.
func Positive(name string) bool {
	return name == model.RopeFactorsName || name == model.RopeLongName || name == model.RopeShortName
}

// tensors judges every tensor, and what is missing.
func (c *checker) tensors() {
	var groups groups
	var known map[string]model.Tensor
	if c.params != nil {
		known = c.params.Tensors()
	}
	for _, t := range c.f.Tensors {
		want, ok := known[t.Name]
		switch {
		case c.params != nil && !ok:
			groups.add(CodeTensor, t.Name, "is not used by a "+c.name+" model in this version; ignoring it would change the model")
			continue
		case c.params != nil && !c.fits(t, want):
			groups.add(CodeTensorShape, t.Name, fmt.Sprintf("has shape %v, but the header's keys say %v", t.Dims, c.shape(want)))
		}
		if types := typesOf(t); !slices.Contains(types, t.Type) {
			groups.add(CodeTensorType, t.Name, fmt.Sprintf("has type %s; the engine supports %s (llama-quantize makes such files)", t.Type, names(types)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, ok := c.f.Tensor(name); !ok && !known[name].Optional {
			groups.add(CodeTensorGone, name, "is missing from the file, and a "+c.name+" model needs it")
		}
	}
	c.Findings = append(c.Findings, groups.list...)
}

func typesOf(t gguf.Tensor) []gguf.Type {
	if len(t.Dims) == 1 {
		return matrixTypes[:1] // vectors are added to and multiplied with as they are
	}
	return matrixTypes
}

func names(types []gguf.Type) string {
	list := make([]string, len(types))
	for i, t := range types {
		list[i] = t.String()
	}
	return strings.Join(list, ", ")
}

// shape is what a tensor's dimensions must be, with the vocabulary filled in.
func (c *checker) shape(want model.Tensor) []uint64 {
	dims := make([]uint64, len(want.Dims))
	for i, d := range want.Dims {
		if dims[i] = uint64(d); d == 0 {
			dims[i] = c.tokens()
		}
	}
	return dims
}

func (c *checker) fits(t gguf.Tensor, want model.Tensor) bool {
	return slices.Equal(t.Dims, c.shape(want))
}

// groups puts findings about the same tensor of several blocks together.
type groups struct {
	list []Finding
	at   map[string]int
}

func (g *groups) add(code Code, name, detail string) {
	pattern := name
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		if block, role, ok := strings.Cut(rest, "."); ok {
			if _, err := strconv.Atoi(block); err == nil {
				pattern = "blk.*." + role
			}
		}
	}
	key := string(code) + " " + pattern + " " + detail
	if g.at == nil {
		g.at = map[string]int{}
	}
	if i, ok := g.at[key]; ok {
		g.list[i].Name = pattern
		g.list[i].Count++
		return
	}
	g.at[key] = len(g.list)
	g.list = append(g.list, Finding{Code: code, Name: name, Count: 1, Detail: detail})
}
