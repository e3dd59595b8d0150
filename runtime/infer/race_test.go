//go:build race

package infer

// raceDetector slows the plain Go parts far too much for a real model.
const raceDetector = true
