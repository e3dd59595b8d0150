package release

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/filelist"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/spf13/cobra"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

func commands(inv *cli.Invocation) []*cobra.Command { return []*cobra.Command{New(inv)} }

// built is a directory as `make release` leaves it for another machine to sign: two files and
// their sums.
func built(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	clitest.Write(t, filepath.Join(dir, "a.tar.gz"), "A")
	clitest.Write(t, filepath.Join(dir, "b.tar.gz"), "B")
	l, err := filelist.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, filepath.Join(dir, filelist.SumsName), string(l.Sums()))
	return dir
}

// keyFile makes a publisher's key and what opens it.
func keyFile(t *testing.T, level identity.Level) (key, credential string) {
	t.Helper()
	secret, err := keybuf.Random(idfile.MinCredentialBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	dir := t.TempDir()
	key, credential = filepath.Join(dir, "publisher.key"), filepath.Join(dir, "credential")
	if err := errors.Join(os.WriteFile(credential, secret.Bytes(), 0o600), idfile.Write(key, k, idfile.Unlock{Credential: secret})); err != nil {
		t.Fatal(err)
	}
	return key, credential
}

// signed is a directory with a signed release.
func signed(t *testing.T) (dir, public string) {
	t.Helper()
	dir = built(t)
	key, credential := keyFile(t, identity.LevelEpoch)
	expect(t, 0, "signed     v0.2.0, 2 files", "release", "sign", "--key", key, "--credential-file", credential, "--tag", "v0.2.0", "--commit", commit, dir)
	return dir, filepath.Join(dir, "publisher.pub")
}

func expect(t *testing.T, status int, says string, args ...string) {
	t.Helper()
	clitest.Expect(t, commands, status, says, args...)
}

func TestWhatWasSignedVerifies(t *testing.T) {
	dir, public := signed(t)
	expect(t, 0, "verified\nversion    v0.2.0\ncommit     "+commit, "release", "verify", "--publisher", public, dir)
	expect(t, 0, `"a.tar.gz",`, "release", "verify", "--json", "--publisher", public, dir)
	list := filepath.Join(dir, filelist.NoteName)
	elsewhere := clitest.Write(t, filepath.Join(t.TempDir(), "a.tar.gz"), "A")
	expect(t, 0, "file       a.tar.gz\n", "release", "verify", "--publisher", public, "--list", list, elsewhere)
	text, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, 0, "verified", "release", "verify", "--publisher", strings.TrimSpace(string(text)), dir)
}

// TestWhatDoesNotHoldIsRefused: each directory has one fault.
func TestWhatDoesNotHoldIsRefused(t *testing.T) {
	_, stranger := signed(t)
	for what, c := range map[string]struct {
		change func(dir string) error
		reason string
	}{
		"changed":       {func(dir string) error { return os.WriteFile(filepath.Join(dir, "a.tar.gz"), []byte("X"), 0o600) }, "release-file-mismatch"},
		"missing":       {func(dir string) error { return os.Remove(filepath.Join(dir, "a.tar.gz")) }, "release-file-mismatch"},
		"more":          {func(dir string) error { return os.WriteFile(filepath.Join(dir, "c.tar.gz"), nil, 0o600) }, "release-file-unlisted"},
		"another list":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, filelist.NoteName), nil, 0o600) }, "release-list-invalid"},
		"another's key": {nil, "release-publisher-mismatch"},
	} {
		dir, public := signed(t)
		if c.change == nil {
			public = stranger
		} else if err := c.change(dir); err != nil {
			t.Fatal(err)
		}
		t.Log(what)
		expect(t, cli.StatusRefused, c.reason, "release", "verify", "--publisher", public, dir)
		expect(t, cli.StatusRefused, c.reason, "release", "verify", "--json", "--publisher", public, dir)
	}
	dir, public := signed(t)
	expect(t, cli.StatusRefused, "release-file-unlisted", "release", "verify", "--publisher", public, "--list", filepath.Join(dir, filelist.NoteName), clitest.Write(t, filepath.Join(t.TempDir(), "c"), ""))
	expect(t, cli.StatusFailed, "no such file", "release", "verify", "--publisher", public, t.TempDir())
}

func TestWrongCommandLines(t *testing.T) {
	dir, public := signed(t)
	key, credential := keyFile(t, identity.LevelEpoch)
	for says, args := range map[string][]string{
		"--publisher is required":                 {"verify", dir},
		"needs a directory":                       {"verify", "--publisher", public},
		"name the files":                          {"verify", "--publisher", public, "--list", "x"},
		"--key, --tag and --commit are required":  {"sign", dir},
		"--tag and --commit are required":         {"sign", "--key", key, "--credential-file", credential, dir},
		"release sign needs a directory":          {"sign", "--key", key},
		"release needs a command":                 {},
		"--publisher is required: the publisher'": {"vkey"},
	} {
		expect(t, cli.StatusUsage, says, append([]string{"release"}, args...)...)
	}
}

// TestOnlyWhatWasBuiltIsSigned: what changed between the build and the signature is found, and
// no file is replaced.
func TestOnlyWhatWasBuiltIsSigned(t *testing.T) {
	key, credential := keyFile(t, identity.LevelEpoch)
	sign := func(dir string, args ...string) []string {
		return append([]string{"release", "sign", "--key", key, "--credential-file", credential, "--tag", "v0.2.0", "--commit", commit, dir}, args...)
	}
	dir := built(t)
	clitest.Write(t, filepath.Join(dir, "a.tar.gz"), "X")
	expect(t, cli.StatusRefused, "release-file-mismatch", sign(dir)...)
	dir = built(t)
	clitest.Write(t, filepath.Join(dir, "c.tar.gz"), "C")
	expect(t, cli.StatusRefused, "release-file-mismatch", sign(dir)...)
	dir = built(t)
	if err := os.Remove(filepath.Join(dir, filelist.SumsName)); err != nil {
		t.Fatal(err)
	}
	expect(t, cli.StatusFailed, filelist.SumsName, sign(dir)...)
	for _, name := range []string{filelist.NoteName, "publisher.pub"} {
		dir = built(t)
		clitest.Write(t, filepath.Join(dir, name), "here first")
		expect(t, cli.StatusFailed, name+" exists and is never replaced", sign(dir)...)
	}
	expect(t, cli.StatusRefused, "release-list-invalid", "release", "sign", "--key", key, "--credential-file", credential, "--tag", "v 1", "--commit", commit, built(t))
	root, opens := keyFile(t, identity.LevelRoot)
	expect(t, cli.StatusFailed, "ML-DSA-65", "release", "sign", "--key", root, "--credential-file", opens, "--tag", "v1", "--commit", commit, built(t))
	expect(t, cli.StatusFailed, "", "release", "sign", "--key", key, "--credential-file", opens, "--tag", "v1", "--commit", commit, built(t))
}

// TestOtherProgramsVerifyTheList uses nothing of ours to verify but the printed key.
func TestOtherProgramsVerifyTheList(t *testing.T) {
	dir, public := signed(t)
	out, status, err := clitest.Run(t, commands, nil, "release", "vkey", "--json", "--publisher", public)
	var key struct{ VKey string }
	if jsonErr := json.Unmarshal([]byte(out), &key); err != nil || status != 0 || jsonErr != nil {
		t.Fatalf("%d %q %v %v", status, out, err, jsonErr)
	}
	verifier, err := note.NewVerifier(key.VKey)
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(dir, filelist.NoteName))
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(list, note.VerifierList(verifier))
	if err != nil || !strings.Contains(n.Text, "\nv0.2.0\n"+commit+"\n") {
		t.Errorf("%v: %+v", err, n)
	}
}
