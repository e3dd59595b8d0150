package circuits

import (
	"math/big"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
)

// attacksOnPools change what pools and LeakyReLU compute.
func attacksOnPools() []attack {
	return []attack{
		{"a value above the largest", "largest-of-them", pools, func(f forger) {
			f.Items[0].Layers[0].Value[3] = shift(f.Items[0].Layers[0].Value[3], 1)
			f.from(1)
		}},
		{"another of the values", "largest", pools, func(f forger) {
			f.rebuildItems(func(in []int8) { in[0], in[2] = 100, 40 }) // two pixels of the first channel
			if f.top(0, 0, 0).Int64() != 100 || f.entering(0, 0, 1).Int64() != 40 {
				panic("the attack knows another order of values")
			}
			f.Items[0].Layers[0].Value[0] = 40
			f.from(1)
		}},
		{"a mean rounded down, with a remainder of 2^24 and more", "remainder", pools, func(f forger) {
			f.rebuildItems(func(in []int8) {
				for k := range in {
					in[k] = 100
				}
			})
			f.setValue(0, 1, 0, add(f.shifted(0, 1, 0), -1), add(f.shifted(0, 1, 0), -1), add(f.remainder(0, 1, 0), 1<<intnet.Shift))
			f.from(2)
		}},
		{"another mean", "rescale", pools, func(f forger) {
			f.Items[0].Layers[1].Value[1] = shift(f.Items[0].Layers[1].Value[1], 1)
			f.from(2)
		}},
		{"another sum of what a pool summed up", "product", sums, func(f forger) {
			f.setSum(0, 1, 1, add(f.sum(0, 1, 1), 1))
			f.scale(0, 1)
			f.from(2)
		}},
		{"the slope above zero, below it", "amount", leaky, func(f forger) {
			// -5000 and a little, times a quarter in place of a 64th.
			a := f.Items[0].Layers[0]
			acc := add(f.sum(0, 0, 2), 0)
			acc.Add(acc, f.bias(0, 2))
			a.Below[2] = 0
			setNumber(a.Amount[2][:], acc)
			f.rescaled(0, 0, 2, acc, f.multiplier(0, 2))
			f.from(1)
		}},
		{"another amount", "zero-amount", leaky, func(f forger) {
			a := f.Items[0].Layers[0]
			acc := f.sum(0, 0, 2)
			acc.Add(acc, f.bias(0, 2))
			a.Below[2] = 0
			setNumber(a.Amount[2][:], big64(7))
			f.rescaled(0, 0, 2, acc, f.multiplier(0, 2))
			f.from(1)
		}},
		{"between both slopes", "zero-side", leaky, func(f forger) {
			// With a side of one half the amount is zero, and the slope the mean of both.
			a := f.Items[0].Layers[0]
			acc := f.sum(0, 0, 2)
			acc.Add(acc, f.bias(0, 2))
			a.Below[2] = inField(1, 2)
			setNumber(a.Amount[2][:], big64(0))
			m := f.multiplier(0, 2)
			m.Add(m, f.negative(0, 2)).Rsh(m, 1)
			f.rescaled(0, 0, 2, acc, m)
			f.from(1)
		}},
	}
}

// attacksOnConvolutions change the sums of those that the second version of architectures has.
func attacksOnConvolutions() []attack {
	return []attack{
		{"another sum in a group", "product", sliding, func(f forger) {
			f.setSum(0, 0, 17, add(f.sum(0, 0, 17), -1))
			f.scale(0, 0)
		}},
		{"sums of two positions in a group exchanged", "product", sliding, func(f forger) {
			s, k := f.Items[0].Layers[0].Sums, 1
			for f.sum(0, 0, k).Cmp(f.sum(0, 0, 0)) == 0 {
				k++
			}
			s[0], s[k] = s[k], s[0]
			f.scale(0, 0)
		}},
		{"another sum of one of many channels", "product", slidingRows, func(f forger) {
			f.setSum(0, 0, 5, add(f.sum(0, 0, 5), 1))
			f.scale(0, 0)
		}},
		{"sums a+2^stride and a-1 of two channels", "sum", slidingRows, func(f forger) {
			_, p := f.geometry(0)
			lowest := &f.Items[0].Layers[0].Sums[0][0]
			f.setSum(0, 0, 2, add(f.sum(0, 0, 2), -1)) // two positions, so the first of the second channel
			*lowest = new(big.Int).Add(number(*lowest), new(big.Int).Lsh(big64(1), uint(p.stride)))
			f.scale(0, 0)
		}},
	}
}

// rescaled witnesses the honest value of an accumulator and a multiplier.
func (f forger) rescaled(item, l, k int, acc, multiplier *big.Int) {
	rounded := new(big.Int).Mul(acc, multiplier)
	rounded.Add(rounded, big.NewInt(1<<(intnet.Shift-1)))
	shifted := new(big.Int).Rsh(rounded, intnet.Shift)
	value := shifted
	if low := big64(-intnet.Top); shifted.Cmp(low) < 0 {
		value = low
	}
	f.setValue(item, l, k, shifted, value, new(big.Int).And(rounded, big.NewInt(1<<intnet.Shift-1)))
}

// rebuildItems begins again, with another input.
func (f forger) rebuildItems(change func(in []int8)) {
	items := victimItems(f.spec)
	change(items[0].Input)
	again := forge(inTable{}, f.spec, victim(f.spec), items)
	*f.inferenceCircuit, *f.honest = *again.inferenceCircuit, *again.honest
}

// The plans that the tests of convolutions are about are those that are chosen.
func TestPlansOfConvolutions(t *testing.T) {
	for name, c := range map[string]struct {
		spec         Inference
		slides, free bool
	}{"first version": {combined, false, false}, "groups": {sliding, true, true}, "few positions": {slidingRows, true, false}} {
		p := c.spec.planOf(c.spec.Architecture.Geometries()[0])
		if p.slides != c.slides || p.free != c.free {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
