//go:build !race

package jobs

const checked = false
