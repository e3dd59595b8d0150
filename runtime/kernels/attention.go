package kernels

import "math"

// KeyTile is the number of positions of a tile of keys. Tiles hold one element of all their positions after
// the other, as float16: element d of position p stands at KeyTile*(p/KeyTile*size+d) + p%KeyTile for
// heads of size elements. One vector thus holds an element of many positions, and no sum runs across a vector.
const KeyTile = 32

// MaxQueries is the number of queries that Scores and WeightedSum take at once.
const MaxQueries = 12

// Scores writes the inner products of n queries with all positions of whole tiles: that of query i with
// position p to scores[i*stride+p]. queries has element d of query i at d*n+i. Products are added in the order of
// elements, each rounded once together with the sum (fused).
func (s *Set) Scores(scores []float32, stride int, queries []float32, n int, keys []uint16, tiles int) {
	if n < 1 || tiles < 1 {
		return
	}
	size := len(queries) / n
	queries, keys, scores = queries[:n*size], keys[:tiles*KeyTile*size], scores[:(n-1)*stride+tiles*KeyTile]
	s.vector.scores(scores, stride, queries, n, keys, tiles)
}

// WeightedSum adds rows of vals, size values for each position, to n sums: that of query i stands at
// sums[i*size] and has weights[i*stride+p] for position p. Products are added in the order of positions,
// fused.
func (s *Set) WeightedSum(sums []float32, n, size int, weights []float32, stride int, vals []uint16, positions int) {
	if n < 1 || size < 1 || positions < 1 {
		return
	}
	sums, vals, weights = sums[:n*size], vals[:positions*size], weights[:(n-1)*stride+positions]
	s.vector.weightedSum(sums, n, size, weights, stride, vals, positions)
}

// Exponentials replaces each of x by e to the x less the largest of x, and returns their sum. One value that
// is not a number makes all of them so.
func (s *Set) Exponentials(x []float32) float32 {
	sums := s.vector.expSum(x, s.vector.largest(x))
	return fold(&sums)
}

// Exp replaces each of x by Exp of it.
func (s *Set) Exp(x []float32) { s.vector.expSum(x, 0) }

// Scale multiplies all of x.
func (s *Set) Scale(x []float32, by float32) { s.vector.scale(x, by) }

// Halves converts to float16, to the nearest, ties to even.
func (s *Set) Halves(dst []uint16, x []float32) { s.vector.halves(dst[:len(x)], x) }

// PutKey stores the key of a position in its tile.
func PutKey(keys []uint16, position int, key []uint16) { putKey(keys, position, key) }

func putKey[T any](keys []T, position int, key []T) {
	tile := keys[position/KeyTile*KeyTile*len(key):][position%KeyTile:]
	for d, v := range key {
		tile[d*KeyTile] = v
	}
}

func genericScores(scores []float32, stride int, queries []float32, n int, keys []uint16, tiles int) {
	size := len(queries) / n
	for t := range tiles {
		tile := keys[t*KeyTile*size:][:KeyTile*size]
		var column [KeyTile]float32
		for i := range n {
			clear(scores[i*stride+t*KeyTile:][:KeyTile])
		}
		for d := range size {
			for p := range column {
				column[p] = Float16to32(tile[d*KeyTile+p])
			}
			for i := range n {
				row, q := scores[i*stride+t*KeyTile:][:KeyTile], queries[d*n+i]
				for p, k := range column {
					row[p] = fused(q, k, row[p])
				}
			}
		}
	}
}

func genericWeightedSum(sums []float32, n, size int, weights []float32, stride int, vals []uint16, positions int) {
	genericSumColumns(sums, n, size, 0, weights, stride, vals, positions)
}

// genericSumColumns does so for the elements from one on.
func genericSumColumns(sums []float32, n, size, from int, weights []float32, stride int, vals []uint16, positions int) {
	for p := range positions {
		for d := from; d < size; d++ {
			v := Float16to32(vals[p*size+d])
			for i := range n {
				sums[i*size+d] = fused(weights[i*stride+p], v, sums[i*size+d])
			}
		}
	}
}

func genericHalves(dst []uint16, x []float32) {
	for i, v := range x {
		dst[i] = Float32to16(v)
	}
}

// fused is x*y + z, rounded once. The product is exact in float64, and the sum rounded to 53 bits;
// where that could round differently afterwards, its last bit is made odd if bits were lost ("Emulation of
// FMA and correctly rounded sums: proved algorithms using rounding to odd", Boldo and Melquiond, 2008).
func fused(x, y, z float32) float32 {
	product := float64(x) * float64(y)
	sum := product + float64(z)
	bits := math.Float64bits(sum)
	const tail, half, least = 1<<29 - 1, 1 << 28, 0x381 << 52 // 2^-126
	if bits&tail != half && bits&^(1<<63) >= least {
		return float32(sum)
	}
	part := sum - product
	lost := (product - (sum - part)) + (float64(z) - part)
	if lost != 0 && lost == lost && bits&1 == 0 {
		if (lost > 0) == (sum > 0) {
			bits++
		} else {
			bits--
		}
	}
	return float32(math.Float64frombits(bits))
}
