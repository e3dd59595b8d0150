package zkproof

import (
	"fmt"
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/frontend"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/crypto/zkproof/gadget"
)

// MaxCoordinates bounds a gradient: with more, sums could touch each other.
const MaxCoordinates = 1 << 16

// Gradient is the circuit of a bound on an update: Coordinates whole numbers of Bits
// bits, so that each is at most 2^(Bits-1) by construction, and the sum of their
// squares at most a public number.
type Gradient struct {
	Coordinates int
	Bits        int // 8 or 16
}

// Check holds the numbers against their limits.
func (c Gradient) Check() error {
	if c.Coordinates < 1 || c.Coordinates > MaxCoordinates || c.Bits != 8 && c.Bits != 16 {
		return fmt.Errorf("zkproof: %d coordinates of %d bits: 1 to %d of 8 or 16", c.Coordinates, c.Bits, MaxCoordinates)
	}
	return nil
}

// Three coordinates share one multiplication: (a + bX + cX^2)*(c + bX + aX^2) has
// a^2+b^2+c^2 in its middle. The products are added before anything is taken apart,
// with X = 2^digitBits: every digit of the sum is below 2^46 in size, for at most
// 2^16 coordinates of 16 bits, and 5 digits stay below the modulus.
const (
	share      = 3
	digitBits  = 48
	digitBytes = digitBits / 8
	slackBytes = 8 // of what is left of the bound
)

// gradientCircuit is the circuit in gnark's form.
type gradientCircuit struct {
	Commitment frontend.Variable `gnark:",public"`
	Norm2      frontend.Variable `gnark:",public"`
	Statement  frontend.Variable `gnark:",public"`
	Salt       frontend.Variable
	Values     [][]frontend.Variable // bytes of each coordinate, 2^(Bits-1) added
	// Ends, Sides and Middle are the digits of the sum of products, from the outside
	// in; 2^47 is added to the first two.
	Ends, Sides, Middle [digitBytes]frontend.Variable
	Slack               [slackBytes]frontend.Variable
	Lookups             [256]frontend.Variable

	spec    Gradient
	without string
}

func newGradientCircuit(spec Gradient) *gradientCircuit {
	c := &gradientCircuit{spec: spec, Values: make([][]frontend.Variable, spec.Coordinates)}
	for i := range c.Values {
		c.Values[i] = make([]frontend.Variable, spec.Bits/8)
	}
	return c
}

// Define is called by gnark's compiler.
func (c *gradientCircuit) Define(api frontend.API) error {
	check := gadget.NewChecker(api, c.without)
	api.Mul(c.Statement, c.Statement)
	raw := make([]frontend.Variable, len(c.Values))
	values := make([]frontend.Variable, len(c.Values))
	for i, v := range c.Values {
		raw[i] = check.Bytes("coordinate", v)
		values[i] = api.Sub(raw[i], gadget.Power(c.spec.Bits-1))
	}
	domain, perElement := statement.DomainGradient, statement.Int16sPerElement
	if c.spec.Bits == 8 {
		domain, perElement = statement.DomainGradient8, statement.BytesPerElement
	}
	packed := gadget.Pack(api, []frontend.Variable{c.Salt}, raw, c.spec.Bits, perElement)
	h, err := gadget.Hash(api, domain, packed)
	if err != nil {
		return err
	}
	check.Equal("gradient-commitment", h, c.Commitment)
	var products []frontend.Variable
	for len(values) > 0 {
		n := min(share, len(values))
		products = append(products, product(api, values[:n]))
		values = values[n:]
	}
	ends := api.Sub(check.Bytes("digit", c.Ends[:]), gadget.Power(digitBits-1))
	sides := api.Sub(check.Bytes("digit", c.Sides[:]), gadget.Power(digitBits-1))
	middle := check.Bytes("digit", c.Middle[:])
	total := gadget.Sum(api, []frontend.Variable{ends, api.Mul(sides, gadget.Power(digitBits)), api.Mul(middle, gadget.Power(2*digitBits)),
		api.Mul(sides, gadget.Power(3*digitBits)), api.Mul(ends, gadget.Power(4*digitBits))})
	check.Equal("squares", gadget.Sum(api, products), total)
	check.Equal("norm", api.Add(middle, check.Bytes("slack", c.Slack[:])), c.Norm2)
	return check.Finish(c.Lookups[:])
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

// GradientAssignment is everything that a proof of a bound is made from.
type GradientAssignment struct {
	Salt statement.Salt
	// Values are the coordinates; of 8 bits they are from -128 to 127.
	Values    []int16
	Norm2     uint64
	Statement fr.Element
}

func (c Gradient) assign(a GradientAssignment) (*gradientCircuit, error) {
	if len(a.Values) != c.Coordinates {
		return nil, fmt.Errorf("%w: %d coordinates, not %d", ErrWitness, len(a.Values), c.Coordinates)
	}
	out := newGradientCircuit(c)
	var used lookups
	var norm uint64
	half := 1 << (c.Bits - 1)
	for i, v := range a.Values {
		if int(v) < -half || int(v) >= half {
			return nil, fmt.Errorf("%w: coordinate %d is %d, which needs more than %d bits", ErrWitness, i, v, c.Bits)
		}
		used.bytes(out.Values[i], uint64(int(v)+half))
		norm += uint64(int64(v) * int64(v))
	}
	if norm > a.Norm2 {
		return nil, fmt.Errorf("%w: the sum of squares is %d, the bound %d", ErrWitness, norm, a.Norm2)
	}
	var ends, sides int64
	at := func(i int) int64 {
		if i < len(a.Values) {
			return int64(a.Values[i])
		}
		return 0
	}
	for i := 0; i < len(a.Values); i += share {
		ends += at(i) * at(i+2)
		sides += at(i+1) * (at(i) + at(i+2))
	}
	used.bytes(out.Ends[:], uint64(ends+1<<(digitBits-1)))
	used.bytes(out.Sides[:], uint64(sides+1<<(digitBits-1)))
	used.bytes(out.Middle[:], norm)
	used.bytes(out.Slack[:], a.Norm2-norm)
	commitment, err := c.Commit(a.Salt, a.Values).Element()
	if err != nil {
		return nil, err
	}
	out.Commitment, out.Norm2, out.Statement = element(commitment), new(big.Int).SetUint64(a.Norm2), element(a.Statement)
	out.Salt = element(a.Salt.Element())
	out.Lookups = used.table()
	return out, nil
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
