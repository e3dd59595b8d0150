//go:build race

package model

// raceDetector slows the plain Go parts far too much for a real model.
const raceDetector = true
