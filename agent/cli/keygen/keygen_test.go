package keygen

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/spf13/cobra"
)

// TestRandomFilesAreNewAndPrivate, and each is another.
func TestRandomFilesAreNewAndPrivate(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	clitest.Calls(t, map[string]clitest.Call{
		"a":         {Run: (&randomFileOptions{size: 32, out: path("a")}).run, Says: "32 random bytes in " + path("a") + "; whoever can read the file has the key\n"},
		"b":         {Run: (&randomFileOptions{size: 16, out: path("b")}).run, JSON: true, Says: `"bytes": 16`},
		"no place":  {Run: (&randomFileOptions{size: 32, out: path("none/c")}).run, Status: cli.StatusFailed, Says: "the directory " + path("none") + " does not exist: create it first, for the user who will use it"},
		"full disk": {Run: (&randomFileOptions{size: 32, out: path("c")}).run, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
	})
	clitest.Call{Run: (&randomFileOptions{size: 32, out: path("a")}).run, Status: cli.StatusFailed, Says: path("a") + " exists and is never replaced"}.Expect(t, "again")
	a, err := os.ReadFile(path("a"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := os.ReadFile(path("c"))
	if err != nil || len(a) != 32 || len(c) != 32 || string(a) == string(c) {
		t.Errorf("%x and %x, %v", a, c, err)
	}
	if info, err := os.Stat(path("a")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestACertificateComesWithItsKeyOrNotAtAll: under a root, or as its own, for 1 to 3650 days.
func TestACertificateComesWithItsKeyOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	hosts := []string{"broker.example.org", "192.0.2.1"}
	clitest.Call{Run: (&tlsRootOptions{out: path("root"), days: 30}).run, Says: path("root") + ".crt (goes into images)"}.Expect(t, "a root")
	clitest.Write(t, path("torn.crt"), "no certificate")
	clitest.Write(t, path("torn.key"), "no key")
	clitest.Calls(t, map[string]clitest.Call{
		"its own root": {Run: (&tlsOptions{out: path("own"), hosts: hosts, days: 10}).run, Says: "images need " + path("own") + ".crt under tls_roots"},
		"under a root": {Run: (&tlsOptions{out: path("under"), hosts: hosts, days: 10, root: path("root")}).run, JSON: true, Says: `"root": "` + path("root") + `.crt"`},
		"no days":      {Run: (&tlsOptions{out: path("x"), hosts: hosts}).run, Status: cli.StatusUsage, Says: "--days 0: a certificate is valid for 1 to 3650 days"},
		"a century":    {Run: (&tlsRootOptions{out: path("x"), days: 36500}).run, Status: cli.StatusUsage, Says: "--days 36500"},
		"a longer one": {Run: (&tlsOptions{out: path("x"), hosts: hosts, days: 60, root: path("root")}).run, Status: cli.StatusFailed, Says: "its root expires"},
		"no root":      {Run: (&tlsOptions{out: path("x"), hosts: hosts, days: 1, root: path("none")}).run, Status: cli.StatusFailed, Says: "--under: "},
		"a torn root":  {Run: (&tlsOptions{out: path("x"), hosts: hosts, days: 1, root: path("torn")}).run, Status: cli.StatusFailed, Says: "--under " + path("torn")},
		"no host":      {Run: (&tlsOptions{out: path("x"), hosts: []string{""}, days: 1}).run, Status: cli.StatusFailed},
		"a taken name": {Run: (&tlsRootOptions{out: path("root"), days: 1}).run, Status: cli.StatusFailed, Says: "is never replaced"},
	})
	for _, name := range []string{"x.crt", "x.key"} {
		if _, err := os.Stat(path(name)); err == nil {
			t.Errorf("%s was left", name)
		}
	}
}

// TestWithoutATerminalNothingIsMade: no passphrase is asked for where nobody can answer.
func TestWithoutATerminalNothingIsMade(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	clitest.Calls(t, map[string]clitest.Call{
		"publisher":       {Run: (&publisherOptions{out: path("p")}).run, Status: cli.StatusUsage, Says: "there is no terminal to prompt for a passphrase"},
		"broker":          {Run: (&brokerOptions{dir: path("state"), rootKey: path("root"), hosts: []string{"h"}, tlsDays: 1}).run, Status: cli.StatusUsage, Says: "--passphrase-file or --credential-file"},
		"protect nothing": {Run: (&protectOptions{path: path("root")}).run, Status: cli.StatusUsage, Says: "say what will protect the key from now on"},
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestSecretsAreReadFromFiles: of text without its line's end, of bytes as they are, within bounds.
func TestSecretsAreReadFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return clitest.Write(t, filepath.Join(dir, name), text) }
	for name, c := range map[string]struct {
		text       bool
		data, want string
	}{"a line": {true, "secret words\r\n", "secret words"}, "bytes": {false, "bytes\n", "bytes\n"}} {
		secret, err := keyfile.ReadSecret(file(name, c.data), c.text)
		if err != nil || string(secret.Bytes()) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		secret.Wipe()
	}
	for _, empty := range []string{"", "\n"} {
		if _, err := keyfile.ReadSecret(file("empty", empty), true); err == nil || !strings.Contains(err.Error(), "is empty") {
			t.Errorf("%q: %v", empty, err)
		}
	}
	if _, err := keyfile.ReadModelKey(file("long", strings.Repeat("k", 33))); err == nil || !strings.Contains(err.Error(), "holds 33 bytes and is not a model key: a model key has 32 bytes") {
		t.Errorf("a long key: %v", err)
	}
	// What protects a key that exists is not judged; what will protect a new one is.
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"both":       {[]string{"--passphrase-file", "a", "--credential-file", "b"}, "not both"},
		"short":      {[]string{"--credential-file", file("short", "abcd")}, "holds 4 bytes; a credential has at least 32 random bytes"},
		"guessable":  {[]string{"--passphrase-file", file("letter", "x\n")}, "the passphrase is too easy to guess: length 1, want at least 15 characters"},
		"not there":  {[]string{"--passphrase-file", filepath.Join(dir, "none")}, "no such file"},
		"a password": {[]string{"--passphrase-file", file("good", strings.Repeat("é", keyfile.MinPassphrase))}, ""},
	} {
		var u keyfile.Unlock
		flags := &cobra.Command{}
		u.Add(flags)
		if err := flags.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		secret, err := u.Choose(t.Context(), io.Discard)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		keyfile.Wipe(secret)
	}
}
