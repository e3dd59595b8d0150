//go:build !softtee

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

func call(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var o, c bytes.Buffer
	code = command(t.Context(), args, &o, journal.Plain(&c))
	return code, o.String() + c.String()
}

func TestWrongWordsAreWrongCommandLines(t *testing.T) {
	for _, args := range []string{"", "chck", "check", "check a b", "check --file", "check --config", "check --config a b", "check --root", "check --root a b c", "check --root a --b", "run FILE", "run --what", "localseal", "localseal seal a", "localseal forget", "volume", "volume open", "volume open a b", "volume mount a", "volume open --what a", "volume check", "volume check a b", "version stray", "--version stray", "help stray"} {
		if code, out := call(t, strings.Fields(args)...); code != 2 || out == "" {
			t.Errorf("%q: %d, %q", args, code, out)
		}
	}
	for _, args := range []string{"version", "--version", "help", "--help", "check --help", "check -h", "localseal --help", "localseal forget --help", "volume -h", "volume open --help", "volume check --help"} {
		if code, out := call(t, strings.Fields(args)...); code != 0 || out == "" {
			t.Errorf("%q: %d, %q", args, code, out)
		}
	}
}

// TestCheckRefusesWhatRunRefuses: one after the other, until nothing but the machine's TEE is
// missing; and it finds at once all that run would.
func TestCheckRefusesWhatRunRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	text := `compute: {tee: {provider: software, attestation_ttl_seconds: 600, memory_limit_mb: 128}}
broker: {address: "127.0.0.1:1", tls_roots: ` + dir + `/absent.crt, root_keys: [` + dir + `/absent.pub]}
guest: {image_id: image-7, state_dir: ` + dir + `/absent/state}
models: [{name: demo, path: ` + dir + `/absent.ahm, resource: models/demo, publisher: ` + dir + `/absent.pub}]
socket: {path: ` + dir + `/absent/agent.sock}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := call(t, "check", path)
	if again, same := call(t, "check", "--config", path); again != code || same != out {
		t.Errorf("with --config: status %d:\n%s", again, same)
	}
	for _, says := range []string{"compute.tee.provider: software is refused", "broker.tls_roots: ", "broker.root_keys: ", "guest.state_dir: ", "models[0].path: ", "models[0].publisher: ", "socket.path: "} {
		if !strings.Contains(out, says) {
			t.Errorf("%q is not in\n%s", says, out)
		}
	}
	if code != 2 || strings.Contains(out, "is valid") {
		t.Errorf("status %d:\n%s", code, out)
	}
	if code, out := call(t, "run", "--config", path); code == 0 || !strings.Contains(out, "software is refused") {
		t.Errorf("run: status %d:\n%s", code, out)
	}
	var auto settings.Config
	auto.Compute.TEE.Provider = settings.ProviderAuto
	if _, err := checkHardware(t.Context(), auto); err != nil { // as on every machine that builds
		for provider, says := range map[string]string{
			"amd_sev_snp": "compute.tee.provider: amd_sev_snp: ", "intel_tdx": "compute.tee.provider: intel_tdx: ", "auto": "compute.tee.provider: auto: no TEE was found",
			"vtpm, tpm: {device: " + dir + "/tpm}":  "compute.tee.provider: vtpm: tpm-absent: ",
			"azure, tpm: {device: " + dir + "/tpm}": "compute.tee.provider: azure: azure-absent: ",
		} {
			if err := os.WriteFile(path, []byte(strings.Replace(text, "provider: software", "provider: "+provider, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out := call(t, "check", path); code != 2 || !strings.Contains(out, says) {
				t.Errorf("check without a TEE: status %d:\n%s", code, out)
			}
		}
	}
	two := strings.Replace(text, "models: [", "models: [{name: other, path: /absent, resource: models/other, publisher: /absent, memory_mb: 102}, ", 1)
	if err := os.WriteFile(path, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := call(t, "check", path); code != 2 || !strings.Contains(out, "models-above-limit: compute.tee.memory_limit_mb is 128, and its parts are 1 MiB more: process and requests 27 MiB, model other 102 MiB") {
		t.Errorf("check of parts that are too much: status %d:\n%s", code, out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("check or run made %v, %v", left, err)
	}
}

// TestAnImagesFilesAreCheckedWhereTheyLie: without the machine, and under the paths that the guest will have.
func TestAnImagesFilesAreCheckedWhereTheyLie(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/anchorhold"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, "etc/anchorhold", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const text = `compute: {tee: {provider: vtpm, attestation_ttl_seconds: 600, memory_limit_mb: 128}}
broker: {address: "127.0.0.1:1", tls_roots: /etc/anchorhold/tls.crt, root_keys: [/etc/anchorhold/root.pub]}
guest: {image_id: image-7, state_dir: /var/lib/anchorhold/agent}
models: [{name: demo, path: /usr/lib/anchorhold/models/demo.ahm, resource: models/demo, publisher: /etc/anchorhold/root.pub}]
socket: {path: /run/anchorhold/agent.sock}
`
	write("agent.yaml", text)
	code, out := call(t, "check", "--root", root)
	if code != 0 || !strings.Contains(out, "is valid") || strings.Contains(out, "error: ") || !strings.Contains(out, "notice: broker.tls_roots: /etc/anchorhold/tls.crt is not below "+root) {
		t.Errorf("status %d:\n%s", code, out)
	}
	write("root.pub", "no key")
	if code, out := call(t, "check", "--root", root); code != 2 || !strings.Contains(out, "error: broker.root_keys: ") || !strings.Contains(out, "error: models[0].publisher: ") {
		t.Errorf("a key that is none: status %d:\n%s", code, out)
	}
	write("other.yaml", strings.Replace(text, "image_id", "imageid", 1))
	if code, out := call(t, "check", "--root", root, "/etc/anchorhold/other.yaml"); code != 2 || !strings.Contains(out, "imageid") {
		t.Errorf("a word that is misspelt: status %d:\n%s", code, out)
	}
}

// TestAnImagesConfigurationMayBeALink: as it is in the guest, never to a file of the machine that builds.
func TestAnImagesConfigurationMayBeALink(t *testing.T) {
	root, stray := t.TempDir(), filepath.Join(t.TempDir(), "stray.yaml")
	etc := filepath.Join(root, "etc/anchorhold")
	if err := errors.Join(os.MkdirAll(etc, 0o700), os.WriteFile(stray, []byte("stray: true\n"), 0o600), os.WriteFile(filepath.Join(etc, "wrong.yaml"), []byte("wrong: true\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to, says string
		code     int
	}{
		{"/etc/anchorhold/wrong.yaml", "wrong", 2},
		{"wrong.yaml", "wrong", 2},
		{stray, "notice: the configuration: /etc/anchorhold/agent.yaml is not below " + root, 0},
		{"agent.yaml", "error: the configuration: ", 2},
	} {
		link := filepath.Join(etc, "agent.yaml")
		if err := os.Symlink(c.to, link); err != nil {
			t.Fatal(err)
		}
		if code, out := call(t, "check", "--root", root); code != c.code || !strings.Contains(out, c.says) || strings.Contains(out, "stray: ") || strings.Contains(out, "is valid") {
			t.Errorf("a link to %s: status %d, want %d:\n%s", c.to, code, c.code, out)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/etc/anchorhold/agent.yaml", "../" + stray} {
		if code, out := call(t, "check", "--root", root, path); code != 2 || !strings.Contains(out, "no such file") {
			t.Errorf("%s: status %d:\n%s", path, code, out)
		}
	}
}

// TestVolumesAreCheckedWhereTheImageIsBuilt: without root, without the device, and with every fault at once.
func TestVolumesAreCheckedWhereTheImageIsBuilt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "the volumes.yaml")
	for _, c := range []struct {
		text string
		code int
		says []string
	}{
		{"volumes: [{name: data, device: /dev/disk/by-partlabel/data, mount: /data, key: broker}]\n", 0, []string{"volume data: /dev/disk/by-partlabel/data, key broker\n", path + " is valid\n"}},
		{"volumes: [{name: data, device: data, mount: /, key: tpm}]\n", 2, []string{"error: " + path + ": volumes[0].device: ", `error: volumes[0].mount: "/" is not an absolute path below /`, "error: volumes[0].key: "}},
		{"volumes: [{name: data, device: /dev/vdb, mount: /data, key: broker, fs: xfs}]\n", 2, []string{`unknown key "fs"`}},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := call(t, "volume", "check", path)
		if code != c.code || strings.Contains(out, "is valid") != (code == 0) {
			t.Errorf("status %d:\n%s", code, out)
		}
		for _, says := range c.says {
			if !strings.Contains(out, says) {
				t.Errorf("%q is not in\n%s", says, out)
			}
		}
		// What check refuses is a wrong configuration for open, too, and so is a name that the file lacks.
		if code, out := call(t, "volume", "open", "--config", path, "another"); code != 2 || !strings.Contains(out, path) {
			t.Errorf("open: status %d:\n%s", code, out)
		}
	}
}

// TestForgetSaysWhatWasThere: "destroyed" of nothing reads as if keys had been there.
func TestForgetSaysWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	text := `compute: {tee: {provider: vtpm, attestation_ttl_seconds: 600, memory_limit_mb: 128}}
broker: {address: "127.0.0.1:1", tls_roots: /x/tls.crt, root_keys: [/x/root.pub]}
guest: {image_id: image-7, state_dir: ` + dir + `}
models: [{name: demo, path: /x/demo.ahm, resource: models/demo, publisher: /x/root.pub}]
socket: {path: /run/anchorhold/agent.sock}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := call(t, "localseal", "forget", path); code != 0 || !strings.Contains(out, "nothing was sealed for a restart: there is no "+dir) || strings.Contains(out, "destroyed") || !strings.Contains(out, "local_restart.seal is not set") {
		t.Errorf("status %d: %s", code, out)
	}
	was := restart.Sealed{File: dir + "/keys", At: time.Unix(1_700_000_000, 0)}
	for _, c := range []struct {
		counted bool
		seal    string
		says    string
	}{
		{true, "tpm", "; no copy of such keys opens any more, by the TPM's count"},
		{false, "snp", "; nobody counts under snp: a copy would still open"},
	} {
		if got := forgotten(was, c.counted, c.seal); !strings.HasPrefix(got, "the keys that were sealed for a restart at 2023-11-14T22:13:20Z are destroyed ("+dir+"/keys)") || !strings.HasSuffix(got, c.says) {
			t.Errorf("got %q", got)
		}
	}
}
