package rlwe

import "math"

// NoiseSD is the standard deviation of the noise in the sum of so many
// contributions: e + e1*s + e_key*u + ... for each, errors of variance 12, secrets
// of variance 2/3.
func NoiseSD(contributions int) float64 {
	const variance = errorCoins / 4
	return math.Sqrt(float64(contributions) * variance * (1 + 2*N*2.0/3))
}
