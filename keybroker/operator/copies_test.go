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

// operatorVariable has the socket in the process that is the operator of TestAStoredSecretLeavesNoCopy.
const operatorVariable = "OPERATOR_TEST_SOCKET"

// operate runs this test in another process as the operator.
func operate(t *testing.T, stdin io.Reader, socket string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env, cmd.Stdin = append(os.Environ(), operatorVariable+"="+socket), stdin
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
	if !keybuftest.Alone(t, keybuftest.ClobberFree) {
		return
	}
	b := newBench(t, me(), nil)
	secret, err := keybuf.Random(400) // longer than what later requests overwrite
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	operate(t, bytes.NewReader(secret.Bytes()), b.socket)
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
