package circuits

import (
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// A gradientAttack is one forged bound.
type gradientAttack struct {
	name, assertion string
	spec            Gradient
	change          func(f gradientForger)
}

type gradientForger struct{ *gradientCircuit }

// forgeGradient is the honest witness of some coordinates.
func forgeGradient(t testing.TB, spec Gradient) gradientForger {
	t.Helper()
	values := []int16{100, -20, 3, 99, -100, 0, 7}
	a := gradientAssignment(5, 100, values...)
	if spec.Bits == 16 {
		for i := range values {
			values[i] *= 300
		}
		a = gradientAssignment(5, 30000, values...)
	}
	w, err := spec.assign(a)
	if err != nil {
		t.Fatal(err)
	}
	return gradientForger{w}
}

// parts has coordinate i be v, in as many of its parts as there are.
func (f gradientForger) part(i int, v int64) {
	u := v + number(f.LInf).Int64()
	if f.High != nil {
		high := max(0, min(u, number(f.LInf).Int64()*2)/highUnit-1)
		f.High[i], u = int(high), u-high*highUnit
	}
	f.Low[i] = int(u)
}

func (f gradientForger) value(i int) *big.Int {
	v := new(big.Int).Sub(number(f.Low[i]), number(f.LInf))
	if f.High != nil {
		v.Add(v, new(big.Int).Mul(number(f.High[i]), big64(highUnit)))
	}
	return v
}

// bound states another bound on amounts and leaves the coordinates what they are.
func (f gradientForger) bound(b int64) {
	for i := range f.Low {
		v := f.value(i).Int64()
		u := v + b
		if f.High != nil {
			// Parts that the old tables have.
			high := max(0, min(u/highUnit, u/highUnit-1))
			f.High[i], u = int(high), u-high*highUnit
		}
		f.Low[i] = int(u)
	}
	f.LInf = int(b)
}

// squares computes the digits and the slack anew; the bound becomes the sum of squares.
func (f gradientForger) squares() {
	var ends, sides, middle = new(big.Int), new(big.Int), new(big.Int)
	at := func(i int) *big.Int {
		if i < len(f.Low) {
			return f.value(i)
		}
		return new(big.Int)
	}
	for i := 0; i < len(f.Low); i += share {
		a, b, c := at(i), at(i+1), at(i+2)
		ends.Add(ends, new(big.Int).Mul(a, c))
		sides.Add(sides, new(big.Int).Mul(b, new(big.Int).Add(a, c)))
		for _, x := range []*big.Int{a, b, c} {
			middle.Add(middle, new(big.Int).Mul(x, x))
		}
	}
	setNumber(f.Ends[:], add(ends, 1<<(digitBits-1)))
	setNumber(f.Sides[:], add(sides, 1<<(digitBits-1)))
	f.SquaredL2 = middle
	setNumber(f.Slack[:], new(big.Int))
}

// entries has a table's first entries be some numbers, then its old end.
func entries(steps []frontend.Variable, list ...*big.Int) {
	end := new(big.Int)
	for _, s := range steps {
		end.Add(end, number(s))
	}
	at := new(big.Int)
	for i := range steps {
		next := end
		if i < len(list) {
			next = list[i]
		}
		steps[i] = new(big.Int).Sub(next, at)
		at = next
	}
}

func numbers(v []frontend.Variable) (list []*big.Int) {
	for _, x := range v {
		list = append(list, number(x))
	}
	return list
}

// lower states a sum of squares that is one less, and moves the missing square elsewhere.
func (f gradientForger) lower(digit []frontend.Variable, weight *big.Int) {
	f.SquaredL2 = add(number(f.SquaredL2), -1)
	square := new(big.Int).Lsh(big64(1), 2*digitBits)
	square.Mul(square, new(big.Int).ModInverse(weight, modulus)).Mod(square, modulus)
	digit[0] = new(big.Int).Add(number(digit[0]), square)
}

func digitWeight(a, b uint) *big.Int {
	return new(big.Int).Add(new(big.Int).Lsh(big64(1), a*digitBits), new(big.Int).Lsh(big64(1), b*digitBits))
}

func gradientAttacks() []gradientAttack {
	narrow, wide := Gradient{7, 8}, Gradient{7, 16}
	var list []gradientAttack
	on := func(spec Gradient, name, assertion string, change func(f gradientForger)) {
		list = append(list, gradientAttack{name, assertion, spec, change})
	}
	for _, spec := range []Gradient{narrow, wide} {
		unit := int64(1)
		if spec.Bits == 16 {
			unit = 300
		}
		on(spec, "another coordinate", "gradient-commitment", func(f gradientForger) {
			f.part(2, 2*unit)
			f.squares()
		})
		on(spec, "a smaller bound on amounts, tables of the larger", "bound", func(f gradientForger) {
			f.part(4, 0)
			f.Commitment = f.commit()
			f.squares()
			f.bound(99 * unit)
		})
		on(spec, "a coordinate above the bound", "low", func(f gradientForger) {
			f.part(0, 101*unit)
			f.Commitment = f.commit()
			f.squares()
		})
		on(spec, "a coordinate below the bound", "low", func(f gradientForger) {
			f.part(4, -101*unit)
			f.Commitment = f.commit()
			f.squares()
		})
		on(spec, "packed coordinates g+2^bits and g-1", "low", func(f gradientForger) {
			f.Low[4] = number(f.Low[4]).Int64() + 1<<spec.Bits
			f.Low[5] = number(f.Low[5]).Int64() - 1
			f.squares()
		})
		on(spec, "steps of a table that are no bits", "low-step", func(f gradientForger) {
			f.part(0, 101*unit)
			f.Commitment = f.commit()
			f.squares()
			entries(f.LowSteps, numbers(f.Low)...)
		})
		on(spec, "what is in no table", "low-lookup", func(f gradientForger) {
			f.part(0, 101*unit)
			f.Commitment = f.commit()
			f.squares()
		})
		on(spec, "a smaller bound on squares", "squares", func(f gradientForger) { f.SquaredL2 = add(number(f.SquaredL2), -1) })
		on(spec, "ends that take in a square", "ends", func(f gradientForger) { f.lower(f.Ends[:], digitWeight(0, 4)) })
		on(spec, "sides that take in a square", "sides", func(f gradientForger) { f.lower(f.Sides[:], digitWeight(1, 3)) })
		on(spec, "a slack below zero", "slack", func(f gradientForger) {
			f.SquaredL2 = add(number(f.SquaredL2), -5)
			setNumber(f.Slack[:], big64(-5))
		})
		on(spec, "a slack below zero, looked up nowhere", "lookup", func(f gradientForger) {
			f.SquaredL2 = add(number(f.SquaredL2), -5)
			setNumber(f.Slack[:], big64(-5))
		})
	}
	above := func(f gradientForger) {
		f.part(0, 0)
		f.High[0] = 480 // of 468
		f.Commitment = f.commit()
		f.squares()
	}
	on(wide, "a high part above its table", "high", above)
	on(wide, "the same, looked up nowhere", "high-lookup", above)
	on(wide, "steps of the high table that are no bits", "high-step", func(f gradientForger) {
		above(f)
		entries(f.HighSteps, numbers(f.High)...)
	})
	return list
}

// TestEachAssertionStopsItsForgedBound is TestEachAssertionStopsItsForgery for gradients.
func TestEachAssertionStopsItsForgedBound(t *testing.T) {
	longtest.Arithmetic(t, "it compiles a circuit without each of its assertions")
	names, stopped := map[string]bool{}, map[string]bool{}
	systems := map[Gradient]constraint.ConstraintSystem{}
	for _, a := range gradientAttacks() {
		if systems[a.spec] == nil {
			c := newGradientCircuit(a.spec)
			c.skip = func(name string) bool {
				names[name] = true
				return false
			}
			systems[a.spec] = compileWithout(t, c)
		}
		full := systems[a.spec]
		honest := forgeGradient(t, a.spec)
		if err := solve(t, full, honest.gradientCircuit); err != nil {
			t.Fatalf("%s: before the attack: %v", a.name, err)
		}
		f := forgeGradient(t, a.spec)
		a.change(f)
		f.recount(t)
		if solve(t, full, f.gradientCircuit) == nil {
			t.Errorf("%d bits: %s: accepted", a.spec.Bits, a.name)
		}
		mutant := newGradientCircuit(a.spec)
		mutant.skip = without(a.assertion)
		f.skip = mutant.skip
		f.recount(t)
		if err := solve(t, compileWithout(t, mutant), f.gradientCircuit); err != nil {
			t.Errorf("%d bits: %s: not stopped by %q alone: %v", a.spec.Bits, a.name, a.assertion, err)
		}
		if samePublic(t, f.gradientCircuit, honest.gradientCircuit) {
			t.Errorf("%d bits: %s: the forged statement is the true one", a.spec.Bits, a.name)
		}
		stopped[a.assertion] = true
	}
	stopped["statement"] = true // TestAProofIsBoundToItsStatement
	if want, got := slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(stopped)); !slices.Equal(want, got) {
		t.Errorf("assertions %v\nattacks on %v", want, got)
	}
}

func (f gradientForger) recount(t testing.TB) {
	counts := recount(t, f.gradientCircuit)
	copy(f.Lookups[:], counts[0])
	f.LowCounts = counts[1]
	if f.High != nil {
		f.HighCounts = counts[2]
	}
}

// commit is the hash that the circuit computes of the coordinates as they are.
func (f gradientForger) commit() *big.Int {
	e := &evaluator{}
	var raw []frontend.Variable
	for i := range f.Low {
		raw = append(raw, add(f.value(i), 1<<(f.spec.Bits-1)))
	}
	h, err := f.hash(e, raw)
	if err != nil {
		panic(err)
	}
	return number(h)
}
