package gadget

import (
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
)

// rankOne writes constraints l*r = o of a rank-one system as they are given. gnark's own
// calls exchange the factors so that the one with fewer terms is on the right, and write
// a product that is asserted as two constraints. On the right every wire costs a point
// of G2, three times one of G1, and a number of the field's size 30 times a byte: the
// inverses of the range checks belong on the left.
type rankOne struct {
	api     frontend.API
	build   frontend.Compiler
	plain   constraint.BlueprintID
	inverse constraint.BlueprintID
}

// newRankOne is nil where the builder makes no rank-one system.
func newRankOne(api frontend.API) *rankOne {
	build, ok := api.(frontend.Compiler)
	if _, plonk := api.(frontend.PlonkAPI); !ok || plonk {
		return nil
	}
	return &rankOne{api: api, build: build, plain: build.AddBlueprint(&constraint.BlueprintGenericR1C{}),
		inverse: build.AddBlueprint(&constraint.BlueprintBatchInverse[constraint.U64]{})}
}

// terms of an expression. Added to zero, a constant is a multiple of the wire that is
// one, as constraints want it.
func (s *rankOne) terms(v frontend.Variable) constraint.LinearExpression {
	list, ok := s.build.ToCanonicalVariable(s.api.Add(v, 0)).(constraint.LinearExpression)
	if !ok {
		panic("gadget: the library's expressions have an unexpected form") // seen by whoever compiles a circuit
	}
	return list
}

// equal asserts l*r == o with one constraint.
func (s *rankOne) equal(l, r, o frontend.Variable) {
	var data []uint32
	(&constraint.BlueprintGenericR1C{}).CompressR1C(&constraint.R1C{L: s.terms(l), R: s.terms(r), O: s.terms(o)}, &data)
	s.build.AddInstruction(s.plain, data)
}

// invert returns 1/v of each number, which is on the left of its constraint.
func (s *rankOne) invert(v []frontend.Variable) []frontend.Variable {
	if len(v) == 0 {
		return nil
	}
	data := []uint32{0, uint32(len(v))}
	for _, x := range v {
		list := s.terms(x)
		data = append(data, uint32(len(list)))
		for _, t := range list {
			data = append(data, uint32(t.CoeffID()), uint32(t.WireID()))
		}
	}
	data[0] = uint32(len(data))
	out := make([]frontend.Variable, len(v))
	for i, wire := range s.build.AddInstruction(s.inverse, data) {
		out[i] = s.build.InternalVariable(wire)
	}
	for i, x := range v {
		s.equal(out[i], x, 1)
	}
	return out
}
