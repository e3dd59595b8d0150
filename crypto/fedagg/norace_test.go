//go:build !race

package fedagg

const pooled = true
