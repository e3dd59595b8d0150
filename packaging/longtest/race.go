//go:build race

package longtest

const underRaceDetector = true
