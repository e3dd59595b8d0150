//go:build race

package ckks

// pooled says whether pools keep what they are given: the race detector's build
// drops some of it on purpose.
const pooled = false
