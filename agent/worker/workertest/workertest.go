// Package workertest has the workers with which tests of the agent's services run their tasks.
//
// [Runner] does them in the test's process, unless all tests are to run: then, and for tests that
// ask for [Binary], it is the worker as it ships, built once in each test process that asks for
// it. A package that calls either ends its TestMain with [Main], which removes what was built.
package workertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// dir is where the binary lies, once there is one.
var dir string

// build builds without cgo: the worker's filter lets nothing else through. Where tests are built with
// cgo, that compiles most of the worker's packages a second time, half a minute of a processor.
var build = sync.OnceValues(func() (string, error) {
	var err error
	if dir, err = os.MkdirTemp("", "anchorhold-worker-"); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "anchorhold-worker")
	cmd := exec.Command("go", "build", "-o", path, "github.com/anchorhold/anchorhold/agent/cmd/anchorhold-worker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
})

// Binary is the worker's path. Tests that need it are left to `make test-all`.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Main runs a package's tests and removes the binary; a TestMain exits with what it returns.
func Main(m *testing.M) int {
	code := m.Run()
	if dir != "" {
		_ = os.RemoveAll(dir) // a leftover in the temporary directory
	}
	return code
}
