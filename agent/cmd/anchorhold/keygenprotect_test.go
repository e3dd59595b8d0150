package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// TestAnOlderRootKeyIsPutUnderASecretOfItsOwn: the key is the same, opens with the new secret
// alone, and a failure leaves the file as it was.
func TestAnOlderRootKeyIsPutUnderASecretOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	broker := clitest.Write(t, path("broker.kek"), strings.Repeat("b", 32))
	own := clitest.Write(t, path("root.kek"), strings.Repeat("r", 32))
	letter := clitest.Write(t, path("letter"), "x")
	unlock := func(text string) idfile.Unlock {
		secret, err := keybuf.Take([]byte(strings.Repeat(text, 32)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(secret.Wipe)
		return idfile.Unlock{Credential: secret}
	}
	key, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	root := path("root.key")
	if err := idfile.Write(root, key, unlock("b")); err != nil {
		t.Fatal(err)
	}
	opens := func(text string) bool {
		k, err := idfile.Read(root, unlock(text))
		if err != nil {
			return false
		}
		defer k.Wipe()
		return k.Public().ID() == key.Public().ID()
	}
	protect := []string{"keygen", "protect", "--root", root, "--credential-file", broker}
	expectRun(t, cli.StatusUsage, "from now on", protect...)
	expectRun(t, cli.StatusUsage, "is the same as the broker's", append(protect, "--root-credential-file", broker)...)
	expectRun(t, cli.StatusUsage, "too easy to guess", append(protect, "--root-passphrase-file", letter)...)
	expectRun(t, cli.StatusFailed, "root.key", "keygen", "protect", "--root", root, "--credential-file", own, "--root-credential-file", broker)
	link := path("link.key")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	expectRun(t, cli.StatusFailed, "not a link", "keygen", "protect", "--root", link, "--credential-file", broker, "--root-credential-file", own)
	if !opens("b") || opens("r") {
		t.Fatal("what failed has changed the file")
	}
	expectRun(t, 0, "destroy copies", append(protect, "--root-credential-file", own)...)
	if opens("b") || !opens("r") {
		t.Error("it is not under its own secret alone")
	}
	info, err := os.Stat(root)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	left, err := filepath.Glob(path(".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
