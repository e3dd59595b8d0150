// Package vtpmtest starts the software TPM swtpm for tests of what talks to a TPM.
package vtpmtest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Start starts a TPM that ends with the test, and returns its unix socket.
func Start(tb testing.TB) string {
	tb.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		tb.Skip("swtpm is not installed; `apt-get install swtpm` has this test run")
	}
	dir, err := os.MkdirTemp("", "tpm") // the path of a socket is short
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) }) // best effort
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+filepath.Join(dir, "c"),
		"--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			tb.Error(err)
		}
		cmd.Wait() //nolint:errcheck // it was killed
	})
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for range 2000 {
		if conn, err := net.Dial("unix", socket); err == nil { // its file is there before it listens
			if err := conn.Close(); err != nil {
				tb.Fatal(err)
			}
			return socket
		}
		<-ticks.C
	}
	tb.Fatal("swtpm does not start")
	return ""
}
