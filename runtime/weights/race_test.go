//go:build race

package weights

// raceDetector multiplies memory: limits measured from outside do not hold.
const raceDetector = true
