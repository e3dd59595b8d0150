//go:build !release

package workertest

import (
	"maps"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/fedwork"
	"github.com/anchorhold/anchorhold/agent/prove/provework"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// Runner runs every class of task that a worker knows.
func Runner(t testing.TB) worker.Runner {
	t.Helper()
	if longtest.All() {
		return worker.Exec{Path: Binary(t)}
	}
	all := fedwork.Handlers()
	maps.Copy(all, provework.Handlers())
	return worker.Within{Handlers: all}
}
