package kernels

// The number of tokens behind whole tiles of 16 from which a tile with rows of zeros is faster than the kernels
// for four tokens and for one (BenchmarkRemainder): with AMX-BF16 and with AMX-INT8.
const (
	leastWide    = 7
	leastPaneled = 10
)

// padded is the number of tokens of whole tiles, if the last one may pay for any type.
func padded(tokens int) int {
	if tokens%wide < leastWide {
		return tokens
	}
	return (tokens + wide - 1) / wide * wide
}

// NewPadded lays activations out as [NewActivations] does, in memory for room tokens. Where kernels of this set take 16 tokens and
// are faster for the last ones in a tile that is not full, it adds rows of zeros up to a whole tile, but no more
// than room: products with these activations then need outputs for room tokens, of which those of zeros mean
// nothing. Results are the same.
func (s *Set) NewPadded(mem []byte, tokens, cols, room int) (Activations, error) {
	rows := padded(tokens)
	if len(s.sixteen) == 0 || rows > room || rows == tokens || tokens < 1 {
		return NewActivations(mem, tokens, cols)
	}
	a, err := NewActivations(mem, rows, cols)
	if err != nil {
		return a, err
	}
	a.tokens = tokens
	n := cols / BlockCols
	clear(a.records[tokens*n:]) // what was there could be numbers that take the processor longer
	tile, row := a.tile(tokens/wide), tokens%wide
	for b := range n {
		block := tile[b*wideBytes:][:wideBytes]
		clear(block[row*128 : wideScales])
		clear(block[wideScales+16*row:])
	}
	return a, nil
}

// rows is the number of tokens with those of zeros.
func (a *Activations) rows() int { return len(a.records) / (a.cols / BlockCols) }

// tiles is the number of tiles of 16 tokens that kernels for them compute, where the last one pays from so many tokens on.
func (a *Activations) tiles(least int) int {
	if a.tokens%wide >= least {
		return a.rows() / wide
	}
	return a.tokens / wide
}
