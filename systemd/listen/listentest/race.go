//go:build race

package listentest

const underRaceDetector = true
