package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPeersHaveToBeThereInCI has .ci/peers find neither pip nor npm. It warned of what the tests then skip, and a run of
// CI without llama.cpp and OpenAI's client passed.
func TestPeersHaveToBeThereInCI(t *testing.T) {
	script, err := filepath.Abs("../../.ci/peers")
	if err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	for _, name := range []string{"bash", "dirname", "env", "grep", "ln", "mkdir", "mktemp", "mv", "realpath", "rm", "touch", "uname"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	// run is what it says of a directory, and whether it succeeds.
	run := func(dir, ci string) (string, bool) {
		cmd := exec.Command(filepath.Join(tools, "bash"), script, dir)
		cmd.Env = []string{"PATH=" + tools, "TMPDIR=" + t.TempDir(), "CI=" + ci}
		out, err := cmd.CombinedOutput()
		return string(out), err == nil
	}
	empty := t.TempDir()
	if out, ok := run(empty, ""); !ok || !strings.Contains(out, "llama.cpp could not be installed") {
		t.Errorf("outside CI it has to warn:\n%s", out)
	}
	if out, ok := run(empty, "true"); ok || !strings.Contains(out, "llama.cpp's library cannot be used") || !strings.Contains(out, "OpenAI's client for Python cannot be used") {
		t.Errorf("in CI it has to fail:\n%s", out)
	}
	// As it is found: a library, and a Python that has the client.
	if err := os.MkdirAll(filepath.Join(empty, "llamacpp/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, ok := run(empty, "true"); ok || strings.Contains(out, "llama.cpp's library cannot be used") {
		t.Errorf("the client alone is missing:\n%s", out)
	}
	python := filepath.Join(empty, "clients/bin/python")
	if err := os.MkdirAll(filepath.Dir(python), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(python, []byte("#!/usr/bin/env bash\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, ok := run(empty, "true"); !ok {
		t.Errorf("nothing is missing:\n%s", out)
	}
}
