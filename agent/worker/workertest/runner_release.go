//go:build release

package workertest

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/worker"
)

// Runner is the worker as it ships: a build for release has no other.
func Runner(t testing.TB) worker.Runner {
	t.Helper()
	return worker.Exec{Path: Binary(t)}
}
