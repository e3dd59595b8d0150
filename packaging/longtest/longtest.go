// Package longtest marks the tests that run only in `make test-all`. Each takes many seconds of
// processor time, and together they would make a newcomer's first `go test ./...` a long wait.
//
// Mark a test only if other tests of its package still show that the property holds in the usual
// case. CI runs all of them, and `make test` names each one that it leaves out.
package longtest

import (
	"os"
	"testing"
)

// Variable is the environment variable that makes marked tests run. The Makefile and the scripts
// of CI set it.
const Variable = "ANCHORHOLD_TEST_ALL"

// All reports whether marked tests run.
func All() bool { return os.Getenv(Variable) != "" }

// Run skips the calling test unless all tests should run. takes says what is long about it.
func Run(t testing.TB, takes string) {
	t.Helper()
	if !All() {
		t.Skipf("LEFT OUT: %s; run it with `make test-all` or %s=1", takes, Variable)
	}
}

// Arithmetic is Run for tests that compute in one goroutine for long: see WithoutRace.
func Arithmetic(t testing.TB, takes string) {
	t.Helper()
	Run(t, takes)
	WithoutRace(t, takes)
}

// WithoutRace skips the calling test under the race detector, which makes arithmetic some ten times
// slower and has nothing to see where no goroutines of ours share memory; a program that it watches takes ten
// times as long to start. `make test-all` runs all such tests once more without it (.ci/arithmetic).
func WithoutRace(t testing.TB, takes string) {
	t.Helper()
	if underRaceDetector {
		t.Skipf("WITHOUT THE RACE DETECTOR: %s; .ci/arithmetic runs it", takes)
	}
}
