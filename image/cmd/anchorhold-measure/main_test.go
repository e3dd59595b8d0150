package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/image/measure/firmware/firmwaretest"
	"github.com/anchorhold/anchorhold/image/measure/uki/ukitest"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// run runs a command line and returns what it prints, with the error's text behind.
func run(args ...string) (out string, status int) {
	var b bytes.Buffer
	if err := command.Run(context.Background(), args, &b); err != nil {
		return b.String() + err.Error(), cli.StatusOf(err)
	}
	return b.String(), 0
}

func expect(t *testing.T, status int, says string, args ...string) string {
	t.Helper()
	out, got := run(args...)
	if got != status || !strings.Contains(out, says) {
		t.Errorf("%v: status %d with %q, want %d with %q", args, got, out, status, says)
	}
	return out
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// folder has an image, a description, and a publisher's key.
type folder struct{ dir, platform, uki, key, credential, public string }

func newFolder(t *testing.T) folder {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	f := folder{dir, path("platform.yaml"), path("web-7.efi"), path("publisher.key"), path("publisher.kek"), path("publisher.pub")}
	write(t, f.uki, ukitest.Image(257, ukitest.Usual("quiet")...))
	write(t, path("OVMF.fd"), firmwaretest.AmdSev().Make())
	write(t, f.platform, []byte(`format: 1
name: images/web-7
image: {initrd: plain}
tpm: {bank: sha256}
sev_snp:
  - {firmware: OVMF.fd, vmm: qemu, vcpus: [2], cpus: [EPYC-Milan], guest_features: 0x1, kernel_hashes: true}
  - {firmware: OVMF.fd, vmm: ec2, vcpus: [2], guest_features: 0x1}
clouds: [azure]
`))
	secret, err := keybuf.Random(idfile.MinCredentialBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	if err := errors.Join(os.WriteFile(f.credential, secret.Bytes(), 0o600), idfile.Write(f.key, k, idfile.Unlock{Credential: secret}), idfile.WritePublic(f.public, k.Public())); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f folder) sign(out string, more ...string) []string {
	return append([]string{"--platform", f.platform, "--uki", f.uki, "--key", f.key, "--credential-file", f.credential, "--out", filepath.Join(f.dir, out)}, more...)
}

func TestWhatIsComputedIsSignedAndShown(t *testing.T) {
	f := newFolder(t)
	expect(t, 0, "images/web-7/vtpm/ready\n  kind      vtpm, covers image", "--platform", f.platform, "--uki", f.uki)
	expect(t, 0, "signed    ", f.sign("web-7.values", "--made", "2026-12-01T17:00:00Z")...)
	file := filepath.Join(f.dir, "web-7.values")
	out := expect(t, 0, "verified  images/web-7, of 2026-12-01T17:00:00Z, by publisher", "show", file, "--signer", f.public)
	for _, says := range []string{"input     image.uki web-7.efi, ", "  launch    ", "  (vectors)\n", "NO VALUE of pcr7: ", "NO VALUE of launch: Azure, SEV-SNP", "  instead   ",
		"WARNING: under values that cover the firmware alone any image starts: images/web-7/sev-snp/ec2/2\n"} {
		if !strings.Contains(out, says) {
			t.Errorf("%q is not in %s", says, out)
		}
	}
	var s publication.Statement
	if err := json.Unmarshal([]byte(expect(t, 0, "{", "show", file, "--signer", f.public, "--json")), &s); err != nil || len(s.Values) != 4 {
		t.Errorf("%d values, %v", len(s.Values), err)
	}
	expect(t, cli.StatusFailed, "exists and is never replaced", f.sign("web-7.values")...)
	expect(t, cli.StatusRefused, "published-values-publisher", "show", file, "--signer", newFolder(t).public)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := write(t, filepath.Join(f.dir, "changed"), bytes.Replace(raw, []byte(`"firmware"`), []byte(`"image"`), 1))
	expect(t, cli.StatusRefused, "published-values-invalid", "show", changed, "--signer", f.public)
	expect(t, cli.StatusRefused, `"reason": "published-values-invalid"`, "show", changed, "--signer", f.public, "--json")
}

// TestAGuestsQuoteIsComparedBeforeItIsSigned.
func TestAGuestsQuoteIsComparedBeforeItIsSigned(t *testing.T) {
	f := newFolder(t)
	var s publication.Statement
	if err := json.Unmarshal([]byte(expect(t, 0, "{", "--platform", f.platform, "--uki", f.uki, "--json")), &s); err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(s.Values[1].Registers)
	if err != nil {
		t.Fatal(err)
	}
	good := write(t, filepath.Join(f.dir, "quoted.json"), quoted)
	expect(t, 0, "(boot)", f.sign("booted", "--booted", good)...)
	other := write(t, filepath.Join(f.dir, "other.json"), []byte(`{"pcr4": "00"}`))
	expect(t, cli.StatusRefused, "boot-mismatch: the guest measured otherwise", f.sign("never", "--booted", other)...)
	expect(t, cli.StatusRefused, "no value of kind tdx", f.sign("never", "--booted", good, "--booted-kind", "tdx")...)
	expect(t, cli.StatusFailed, "want a JSON object", f.sign("never", "--booted", f.platform)...)
	expect(t, cli.StatusFailed, "no such file", f.sign("never", "--booted", filepath.Join(f.dir, "none"))...)
	expect(t, cli.StatusFailed, "more than", f.sign("never", "--booted", write(t, filepath.Join(f.dir, "large"), make([]byte, maxBootedText+1)))...)
	if _, err := os.Stat(filepath.Join(f.dir, "never")); err == nil {
		t.Error("a file was signed")
	}
}

func TestWrongCommandLines(t *testing.T) {
	f := newFolder(t)
	for says, args := range map[string][]string{
		"--platform is required":                     {},
		"--key and --out go together":                {"--platform", f.platform, "--key", f.key},
		"--made: got \"today\"":                      {"--platform", f.platform, "--made", "today"},
		`"bogus" is not a command`:                   {"bogus"},
		"--signer is required":                       {"show", f.platform},
		"needs one file that anchorhold-measure":     {"show", "--signer", f.public},
		"unknown flag: --colour":                     {"--colour"},
		"See 'anchorhold-measure show --help'":       {"show"},
		"--platform cannot be empty, if it is given": {"--platform", ""},
	} {
		if out, status := run(args...); status != cli.StatusUsage || !strings.Contains(out, says) && args[len(args)-1] != "" {
			t.Errorf("%v: status %d with %q, want %q", args, status, out, says)
		}
	}
	expect(t, cli.StatusFailed, "no such file", "--platform", filepath.Join(f.dir, "none"))
	expect(t, cli.StatusFailed, "image.uki: open", "--platform", f.platform, "--uki", filepath.Join(f.dir, "none"))
	expect(t, cli.StatusRefused, "platform-invalid", "--platform", f.uki)
	expect(t, cli.StatusRefused, `"reason": "platform-invalid"`, "--platform", f.platform, "--json")
	expect(t, cli.StatusUsage, "not both", f.sign("x", "--passphrase-file", f.platform)...)
	expect(t, cli.StatusFailed, "", "--platform", f.platform, "--uki", f.uki, "--key", f.uki, "--credential-file", f.credential, "--out", filepath.Join(f.dir, "x"))
	expect(t, cli.StatusFailed, "no such file", "show", filepath.Join(f.dir, "none"), "--signer", f.public)
	expect(t, cli.StatusFailed, "--signer: ", "show", f.platform, "--signer", f.platform)
	expect(t, 0, "anchorhold-measure version development", "version")
	expect(t, 0, "Exit status: 0 done", "--help")
}
