package rlwe

import "math/bits"

// Arithmetic modulo q = Modulus in Montgomery form with R = 2^32, on signed
// 32-bit words (Seiler 2018). A product with a constant w is taken with two
// precomputed words: w*R mod q, centred, and that times q^-1 mod 2^32.

// root is a primitive 2N-th root of unity: 3^((q-1)/2N).
const root = 51394918

// qInverse is q^-1 mod 2^32, as a signed word.
const qInverse = 1543544833

// factor is a constant to multiply with: v = w*R mod q centred, vq = v*q^-1 mod 2^32.
type factor struct{ v, vq int32 }

// factorOf prepares the constant w, 0 <= w < q.
func factorOf(w uint32) factor {
	v := int64(uint64(w) << 32 % Modulus)
	if v > Modulus/2 {
		v -= Modulus
	}
	return factor{int32(v), int32(uint32(v) * qInverse)}
}

// mul returns a*w mod q for any word a, with an absolute value below q.
func (f factor) mul(a int32) int32 {
	m := a * f.vq
	return int32((int64(a)*int64(f.v))>>32) - int32((int64(m)*Modulus)>>32)
}

// canonical maps (-q, q) to [0, q).
func canonical(a int32) uint32 { return uint32(a + Modulus&(a>>31)) }

func mulMod(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % Modulus) }

func powMod(a uint32, e int) uint32 {
	r := uint32(1)
	for ; e > 0; e >>= 1 {
		if e&1 == 1 {
			r = mulMod(r, a)
		}
		a = mulMod(a, a)
	}
	return r
}

// ring holds the constants of the transform in the order of their use.
type ring struct {
	forward [N - 1]factor // layer by layer, halving the distance
	inverse [N - 1]factor // layer by layer, doubling it
	scale   factor        // N^-1
	one     factor        // 1: the product is the residue in (-q, q)
	vector  bool          // the processor has AVX2
}

// newRing computes the constants; a few microseconds.
func newRing() *ring {
	r := &ring{one: factorOf(1), scale: factorOf(powMod(N, Modulus-2)), vector: hasAVX2()}
	k := 0
	for m := 1; m < N; m *= 2 {
		for i := range m {
			r.forward[k] = factorOf(powMod(root, reversed(m+i)))
			k++
		}
	}
	k = 0
	for h := N / 2; h >= 1; h /= 2 {
		for i := range h {
			r.inverse[k] = factorOf(powMod(root, 2*N-reversed(h+i)))
			k++
		}
	}
	return r
}

func reversed(k int) int { return int(bits.Reverse32(uint32(k)) >> (32 - LogN)) }

// A lattice of BlockValues words holds eight polynomials: word row*Lanes+lane.

// ntt transforms in place. Words must be below q/2 in absolute value; they come
// back below 9q, for each of the eleven layers adds less than 0.75 q.
func (r *ring) ntt(x []int32) {
	_ = x[BlockValues-1]
	if r.vector {
		nttAVX2(&x[0], &r.forward[0])
		return
	}
	k := 0
	for t := N / 2; t >= 1; t /= 2 {
		for start := 0; start < N; start += 2 * t {
			w := r.forward[k]
			k++
			low, high := x[start*Lanes:(start+t)*Lanes], x[(start+t)*Lanes:(start+2*t)*Lanes]
			for j, u := range low {
				v := w.mul(high[j])
				low[j], high[j] = u+v, u-v
			}
		}
	}
}

// intt transforms back in place, without the factor 1/N. Words must be in
// [0, q) and come back so.
func (r *ring) intt(x []int32) {
	_ = x[BlockValues-1]
	if r.vector {
		inttAVX2(&x[0], &r.inverse[0])
		return
	}
	k := 0
	for t := 1; t < N; t *= 2 {
		for start := 0; start < N; start += 2 * t {
			w := r.inverse[k]
			k++
			low, high := x[start*Lanes:(start+t)*Lanes], x[(start+t)*Lanes:(start+2*t)*Lanes]
			for j, u := range low {
				v := high[j]
				low[j], high[j] = int32(min(uint32(u+v), uint32(u+v-Modulus))), int32(canonical(w.mul(u-v)))
			}
		}
	}
}
