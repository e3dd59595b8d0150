//go:build race

package provetask

const underRaceDetector = true
