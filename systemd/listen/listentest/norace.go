//go:build !race

package listentest

const underRaceDetector = false
