//go:build !race

package ckks

const pooled = true
