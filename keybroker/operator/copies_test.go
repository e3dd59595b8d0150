//go:build !race

package operator

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
)

// Roles of processes of TestAStoredSecretLeavesNoCopy; the operator's socket is in its variable.
const (
	serverVariable   = "OPERATOR_TEST_SERVER"
	operatorVariable = "OPERATOR_TEST_SOCKET"
)

// again runs this test in another process.
func again(t *testing.T, stdin io.Reader, variables ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env, cmd.Stdin = append(os.Environ(), variables...), stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestAStoredSecretLeavesNoCopy stores one from another process, as an operator does, in a broker that has its unit's
// environment.
func TestAStoredSecretLeavesNoCopy(t *testing.T) {
	if socket := os.Getenv(operatorVariable); socket != "" {
		storeFromInput(t, socket)
		return
	}
	if os.Getenv(serverVariable) == "" {
		again(t, nil, serverVariable+"=1", "GODEBUG=clobberfree=1")
		return
	}
	b := newBench(t, me(), nil)
	secret, err := keybuf.Random(400) // longer than what later requests overwrite
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	again(t, bytes.NewReader(secret.Bytes()), operatorVariable+"="+b.socket)
	// The end of the operator's process ended its connection, which the server notices on its own.
	for waits := true; waits && t.Context().Err() == nil; runtime.Gosched() {
		waits = false
		b.server.secretive.Range(func(any, any) bool { waits = true; return false })
	}
	if found := keybuftest.Copies(t, secret); len(found) > 0 {
		t.Errorf("the secret is in memory %d times: %q", len(found), found)
	}
}

func storeFromInput(t *testing.T, socket string) {
	secret, err := keybuf.New(400)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	if _, err := io.ReadFull(os.Stdin, secret.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(socket).PutSecret(t.Context(), "secrets/a", secret, keystore.Meta{}, PutNext); err != nil {
		t.Fatal(err)
	}
}
