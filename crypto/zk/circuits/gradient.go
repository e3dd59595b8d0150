package circuits

import (
	"fmt"

	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"

	"github.com/anchorhold/anchorhold/crypto/zk/gadget"
	"github.com/anchorhold/anchorhold/crypto/zk/poseidon2"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// MaxCoordinates bounds a gradient: with more, sums could touch each other.
const MaxCoordinates = statement.MaxCoordinates

// Gradient is the circuit of two bounds on an update of Coordinates whole numbers, committed to
// as numbers of Bits bits: one bound on the absolute value of each, and one on the sum of their
// squares.
type Gradient struct {
	Coordinates int
	Bits        int // 8 or 16
}

// MaxLInf is the largest bound on the absolute value of a coordinate.
func (c Gradient) MaxLInf() int { return 1<<(c.Bits-1) - 1 }

// Check compares the numbers with their limits.
func (c Gradient) Check() error {
	if c.Coordinates < 1 || c.Coordinates > MaxCoordinates || c.Bits != 8 && c.Bits != 16 {
		return fmt.Errorf("circuits: got %d coordinates of %d bits, want 1 to %d of 8 or 16 bits", c.Coordinates, c.Bits, MaxCoordinates)
	}
	return nil
}

// A coordinate g with a bound B is witnessed as g+B, from 0 to 2B: of 8 bits as one
// number, of 16 bits as low + 128*high. Each part is looked up in a table that ends at a
// witnessed number, and 128 times the end of the high one and that of the low one make
// 2B. So the bound costs nothing for each coordinate. Tables end at lowTop and highTop at
// most, that is 2B at 254 or 65,534: what is committed to does not leave its bits.
const (
	highUnit = 128
	lowTop   = 2*highUnit - 2
	highTop  = 510
)

// Three coordinates share one multiplication: (a + bX + cX^2)*(c + bX + aX^2) has
// a^2+b^2+c^2 in its middle. The products are added before anything is taken apart, with
// X = 2^digitBits. Its digits are ends, sides, middle, sides, ends; the middle one is the
// bound less what is left of it, so that it needs no check of its own. Two such numbers
// that agree as field elements have the same digits: those of the products are below
// 2^46 in amount, for at most 2^16 coordinates of 16 bits, and those witnessed at most
// 2^47, so that ends differ by less than X and are equal; then sides; then the middle,
// whatever its size. All of it stays below the modulus, because the middle, at X^2, is
// below 2^64 in amount.
const (
	share      = 3
	digitBits  = 48
	digitBytes = digitBits / 8
	slackBytes = 8 // of what is left of the bound
)

// gradientCircuit is the circuit in gnark's form. The order of its public fields is that
// of statement.PublicInputs.
type gradientCircuit struct {
	Commitment frontend.Variable `gnark:",public"`
	LInf       frontend.Variable `gnark:",public"`
	SquaredL2  frontend.Variable `gnark:",public"`
	Statement  frontend.Variable `gnark:",public"`
	Salt       frontend.Variable
	Low, High  []frontend.Variable // the parts of each coordinate
	// Ends and Sides are digits of the sum of products, from the outside in, with 2^47
	// added; Slack is what is left of the bound on squares.
	Ends, Sides [digitBytes]frontend.Variable
	Slack       [slackBytes]frontend.Variable
	Lookups     [gadget.Bytes]frontend.Variable
	// LowSteps and HighSteps are one below a table's end, LowCounts and HighCounts how
	// often each entry is looked up.
	LowSteps, LowCounts, HighSteps, HighCounts []frontend.Variable

	spec Gradient
	skip func(name string) bool // assertions that a test leaves out
}

func newGradientCircuit(spec Gradient) *gradientCircuit {
	c := &gradientCircuit{spec: spec, Low: make([]frontend.Variable, spec.Coordinates)}
	c.LowSteps, c.LowCounts = make([]frontend.Variable, lowTop), make([]frontend.Variable, lowTop+1)
	if spec.Bits == 16 {
		c.High = make([]frontend.Variable, spec.Coordinates)
		c.HighSteps, c.HighCounts = make([]frontend.Variable, highTop), make([]frontend.Variable, highTop+1)
	}
	return c
}

// Define is called by gnark's compiler.
func (c *gradientCircuit) Define(api frontend.API) error {
	check := gadget.NewChecker(api, c.Lookups[:], c.skip)
	check.Bind("statement", c.Statement)
	values := c.bounded(api, check)
	raw := make([]frontend.Variable, len(values))
	for i, v := range values {
		raw[i] = api.Add(v, gadget.Power(c.spec.Bits-1))
	}
	h, err := c.hash(api, raw)
	if err != nil {
		return err
	}
	check.Equal("gradient-commitment", h, c.Commitment)
	var products []frontend.Variable
	for len(values) > 0 {
		n := min(share, len(values))
		products, values = append(products, product(api, values[:n])), values[n:]
	}
	ends := api.Sub(check.Whole("ends", c.Ends[:]), gadget.Power(digitBits-1))
	sides := api.Sub(check.Whole("sides", c.Sides[:]), gadget.Power(digitBits-1))
	middle := api.Sub(c.SquaredL2, check.Whole("slack", c.Slack[:]))
	total := gadget.Sum(api, []frontend.Variable{ends, api.Mul(sides, gadget.Power(digitBits)), api.Mul(middle, gadget.Power(2*digitBits)),
		api.Mul(sides, gadget.Power(3*digitBits)), api.Mul(ends, gadget.Power(4*digitBits))})
	check.Equal("squares", gadget.Sum(api, products), total)
	return check.Finish()
}

// hash is the commitment to coordinates with 2^(Bits-1) added.
func (c *gradientCircuit) hash(api frontend.API, raw []frontend.Variable) (frontend.Variable, error) {
	domain, perElement := statement.DomainGradient, statement.Int16sPerElement
	if c.spec.Bits == 8 {
		domain, perElement = statement.DomainGradient8, statement.BytesPerElement
	}
	return gadget.Hash(api, domain, gadget.Pack(api, []frontend.Variable{c.Salt}, raw, c.spec.Bits, perElement))
}

// bounded are the coordinates, each asserted to be inside the bound.
func (c *gradientCircuit) bounded(api frontend.API, check *gadget.Checker) []frontend.Variable {
	values := make([]frontend.Variable, len(c.Low))
	low, top := check.Steps("low", c.LowSteps, c.LowCounts)
	check.Commit(c.Low...)
	for i, v := range c.Low {
		check.In("low", low, v)
		values[i] = api.Sub(v, c.LInf)
	}
	if c.spec.Bits == 16 {
		high, highest := check.Steps("high", c.HighSteps, c.HighCounts)
		check.Commit(c.High...)
		for i, v := range c.High {
			check.In("high", high, v)
			values[i] = api.Add(values[i], api.Mul(v, highUnit))
		}
		top = api.Add(top, api.Mul(highest, highUnit))
	}
	check.Equal("bound", top, api.Mul(c.LInf, 2))
	return values
}

// product is (a + bX + cX^2)*(c + bX + aX^2); missing coordinates are zero.
func product(api frontend.API, v []frontend.Variable) frontend.Variable {
	var up, down []frontend.Variable
	for i, x := range v {
		up = append(up, api.Mul(x, gadget.Power(digitBits*i)))
		down = append(down, api.Mul(x, gadget.Power(digitBits*(share-1-i))))
	}
	return api.Mul(gadget.Sum(api, up), gadget.Sum(api, down))
}

// GradientAssignment is everything that a proof of bounds is made from.
type GradientAssignment struct {
	Salt   statement.Salt
	Values []int16
	// LInf bounds the absolute value of each coordinate, from 1 to 127 or 32767; SquaredL2
	// bounds the sum of squares.
	LInf      uint32
	SquaredL2 uint64
	// Statement is the digest that the proof is bound to.
	Statement poseidon2.Element
}

// check says which bound does not hold.
func (c Gradient) check(a GradientAssignment) error {
	if err := c.Check(); err != nil {
		return err
	}
	if len(a.Values) != c.Coordinates || a.LInf < 1 || int64(a.LInf) > int64(c.MaxLInf()) {
		return fmt.Errorf("%w: got %d coordinates up to %d, the circuit takes %d up to %d", ErrWitness, len(a.Values), a.LInf, c.Coordinates, c.MaxLInf())
	}
	var squares uint64
	for i, v := range a.Values {
		if int64(v) > int64(a.LInf) || -int64(v) > int64(a.LInf) {
			return fmt.Errorf("%w: coordinate %d exceeds the bound %d", ErrWitness, i, a.LInf)
		}
		squares += uint64(int64(v) * int64(v))
	}
	if squares > a.SquaredL2 {
		return fmt.Errorf("%w: the sum of squares exceeds the bound %d", ErrWitness, a.SquaredL2)
	}
	return nil
}

// assign computes every witness of the circuit, or says which bound does not hold.
func (c Gradient) assign(a GradientAssignment) (*gradientCircuit, error) {
	if err := c.check(a); err != nil {
		return nil, err
	}
	out := newGradientCircuit(c)
	commitment, err := c.Commit(a.Salt, a.Values).Element()
	if err != nil {
		return nil, err
	}
	out.Commitment, out.Salt, out.Statement = element(commitment), element(a.Salt.Element()), element(a.Statement)
	out.LInf, out.SquaredL2 = a.LInf, a.SquaredL2
	out.assignParts(a)
	out.assignSquares(a)
	return out, nil
}

// assignParts splits the coordinates and fills the tables.
func (c *gradientCircuit) assignParts(a GradientAssignment) {
	low, high := 2*int(a.LInf), 0
	if c.spec.Bits == 16 {
		high = max(0, (low-highUnit+1)/highUnit)
		low -= high * highUnit
	}
	lows, highs := make([]int, len(c.LowCounts)), make([]int, len(c.HighCounts))
	for i, v := range a.Values {
		u := int(v) + int(a.LInf)
		if c.spec.Bits == 16 {
			part := min(u/highUnit, high)
			highs[part]++
			c.High[i], u = part, u-part*highUnit
		}
		lows[u]++
		c.Low[i] = u
	}
	fill := func(steps, counts []frontend.Variable, top int, count []int) {
		for i := range steps {
			steps[i] = 0
			if i < top {
				steps[i] = 1
			}
		}
		for i := range counts {
			counts[i] = count[i]
		}
	}
	fill(c.LowSteps, c.LowCounts, low, lows)
	fill(c.HighSteps, c.HighCounts, high, highs)
}

// assignSquares computes the digits of the sum of products.
func (c *gradientCircuit) assignSquares(a GradientAssignment) {
	at := func(i int) int64 {
		if i < len(a.Values) {
			return int64(a.Values[i])
		}
		return 0
	}
	var ends, sides, middle int64
	for i := 0; i < len(a.Values); i += share {
		x := [share]int64{at(i), at(i + 1), at(i + 2)}
		ends += x[0] * x[2]
		sides += x[1] * (x[0] + x[2])
		middle += x[0]*x[0] + x[1]*x[1] + x[2]*x[2]
	}
	var used lookups
	used.bytes(c.Ends[:], uint64(ends+1<<(digitBits-1)))
	used.bytes(c.Sides[:], uint64(sides+1<<(digitBits-1)))
	used.bytes(c.Slack[:], a.SquaredL2-uint64(middle))
	c.Lookups = used.table()
}

// CompileGradient compiles for Groth16.
func CompileGradient(c Gradient) (*Circuit, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return compileCircuit(newGradientCircuit(c), r1cs.NewBuilder)
}

// ProveGradient is ProveInference for bounds on a gradient.
func ProveGradient(c *Circuit, spec Gradient, key groth16.ProvingKey, a GradientAssignment, progress func(Phase)) ([]byte, error) {
	w, err := spec.assign(a)
	if err != nil {
		return nil, err
	}
	return prove(c, key, w, progress)
}

// Commit commits to coordinates as the circuit does.
func (c Gradient) Commit(salt statement.Salt, values []int16) statement.Commitment {
	if c.Bits == 16 {
		return statement.GradientCommitment(salt, values)
	}
	narrow := make([]int8, len(values))
	for i, v := range values {
		narrow[i] = int8(v)
	}
	return statement.GradientCommitment8(salt, narrow)
}
