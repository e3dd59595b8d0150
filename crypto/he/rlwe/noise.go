package rlwe

import "math"

// NoiseSD is the standard deviation of the noise in a sum of contributions: e + e1*s + e_key*u +
// ... for each, with errors of variance 12 and secrets of variance 2/3.
func NoiseSD(contributions int) float64 {
	const variance = errorCoins / 4
	return math.Sqrt(float64(contributions) * variance * (1 + 2*N*2.0/3))
}
