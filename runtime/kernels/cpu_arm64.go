package kernels

import "golang.org/x/sys/cpu"

// sets lists the sets that this processor runs, fastest first. Every arm64 processor that Go runs on has
// Advanced SIMD.
func sets() []*Set {
	list := []*Set{neonSet(), genericSet()}
	if cpu.ARM64.HasASIMDDP {
		list = append([]*Set{dotSet()}, list...)
	}
	return list
}

// dotSet needs FEAT_DotProd besides. Codes have 16 bits, of which it multiplies both halves, so that its sums are as exact.
func dotSet() *Set {
	s := neonSet()
	s.name = "dotprod"
	s.one = map[Type]kernel[record]{Q4_0: oneQ40Dot, Q4_1: oneQ41Dot, Q5_0: oneQ50Dot, Q5_1: oneQ51Dot, Q8_0: oneQ80Dot, Q2_K: oneQ2KDot, Q3_K: oneQ3KDot, Q4_K: oneQ4KDot, Q5_K: oneQ5KDot, Q6_K: oneQ6KDot, IQ4_NL: oneIQ4NLDot, IQ4_XS: oneIQ4XSDot, MXFP4: oneMXFP4Dot}
	s.four = map[Type]batched[record]{}
	for t, two := range map[Type]batched[record]{Q4_0: twoQ40Dot, Q4_1: twoQ41Dot, Q5_0: twoQ50Dot, Q5_1: twoQ51Dot, Q8_0: twoQ80Dot, Q2_K: twoQ2KDot, Q3_K: twoQ3KDot, Q4_K: twoQ4KDot, Q5_K: twoQ5KDot, Q6_K: twoQ6KDot, IQ4_NL: twoIQ4NLDot, IQ4_XS: twoIQ4XSDot, MXFP4: twoMXFP4Dot} {
		s.four[t] = inPairs(t, two)
	}
	return s
}

// neonSet needs no more than Armv8.0-A.
func neonSet() *Set {
	v := genericVector // for what has no assembly
	v.dot, v.quantize, v.halves, v.scale = dotWithNEON, quantizeWithNEON, halvesWithNEON, scaleWithNEON
	v.largest, v.notBelow, v.expSum, v.siluMul = largestWithNEON, notBelowWithNEON, expSumWithNEON, siluMulWithNEON
	v.scores, v.weightedSum = attendNEON.scores, attendNEON.weightedSum
	return &Set{
		name:   "neon",
		vector: v,
		one: map[Type]kernel[record]{Q4_0: oneQ40NEON, Q4_1: oneQ41NEON, Q5_0: oneQ50NEON, Q5_1: oneQ51NEON, Q8_0: oneQ80NEON,
			Q2_K: oneQ2KNEON, Q3_K: oneQ3KNEON, Q4_K: oneQ4KNEON, Q5_K: oneQ5KNEON, Q6_K: oneQ6KNEON,
			IQ4_NL: oneIQ4NLNEON, IQ4_XS: oneIQ4XSNEON, MXFP4: oneMXFP4NEON},
		four: map[Type]batched[record]{Q4_0: fourQ40NEON, Q4_1: fourQ41NEON, Q5_0: fourQ50NEON, Q5_1: fourQ51NEON, Q8_0: fourQ80NEON,
			Q2_K: fourQ2KNEON, Q3_K: fourQ3KNEON, Q4_K: fourQ4KNEON, Q5_K: fourQ5KNEON, Q6_K: fourQ6KNEON,
			IQ4_NL: fourIQ4NLNEON, IQ4_XS: fourIQ4XSNEON, MXFP4: fourMXFP4NEON},
		oneFloat:  map[Type]kernel[float32]{F32: oneF32NEON, F16: oneF16NEON, BF16: oneBF16NEON},
		fourFloat: map[Type]batched[float32]{F32: fourF32NEON, F16: fourF16NEON, BF16: fourBF16NEON},
	}
}
