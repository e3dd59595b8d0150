//go:build amd64 || arm64

package kernels

// scoring computes the scores of some queries, whose elements are step bytes apart, for whole tiles; rows of scores are
// stride bytes apart. summing adds 32 elements of weighted rows to the sums of some queries.
type (
	scoring func(scores *float32, stride int, queries *float32, step int, keys *uint16, size, tiles int)
	summing func(sums *float32, sumStride int, weights *float32, stride int, vals *uint16, valStride, positions int)
)

// columns is the number of elements that a summing takes.
const columns = 32

// attending are the kernels for so many queries, most first.
type attending []struct {
	queries int
	scores  scoring
	sum     summing
}

func (a attending) scores(scores []float32, stride int, queries []float32, n int, keys []uint16, tiles int) {
	size := len(queries) / n
	if size == 0 {
		genericScores(scores, stride, queries, n, keys, tiles)
		return
	}
	for first, k := 0, 0; first < n; {
		if a[k].queries > n-first {
			k++
			continue
		}
		a[k].scores(&scores[first*stride], 4*stride, &queries[first], 4*n, &keys[0], size, tiles)
		first += a[k].queries
	}
}

func (a attending) weightedSum(sums []float32, n, size int, weights []float32, stride int, vals []uint16, positions int) {
	whole := size / columns * columns
	for first, k := 0, 0; first < n && whole > 0; {
		if a[k].queries > n-first {
			k++
			continue
		}
		for c := 0; c < whole; c += columns {
			a[k].sum(&sums[first*size+c], 4*size, &weights[first*stride], 4*stride, &vals[c], 2*size, positions)
		}
		first += a[k].queries
	}
	if whole < size {
		genericSumColumns(sums, n, size, whole, weights, stride, vals, positions)
	}
}
