// Package workertest builds the worker as it ships, for tests that run real ones.
//
// The worker is built once in each test process that asks for it, and not at all in the
// others. A package that calls [Binary] ends its TestMain with [Main], which removes it.
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

// build builds without cgo: the worker's filter lets nothing else through.
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

// Binary is the worker's path.
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
