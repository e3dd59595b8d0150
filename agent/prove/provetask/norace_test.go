//go:build !race

package provetask

const underRaceDetector = false
