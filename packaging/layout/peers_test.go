package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPeersHaveToBeThereInCI has .ci/obligatory look at directories of peers. Without it a run of CI that could install
// nothing compared nothing with anybody, and passed.
func TestPeersHaveToBeThereInCI(t *testing.T) {
	script, err := filepath.Abs("../../.ci/obligatory")
	if err != nil {
		t.Fatal(err)
	}
	dir, tools := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// expect is what it says on a machine; nothing if it succeeds.
	expect := func(machine, want string) {
		t.Helper()
		write(filepath.Join(tools, "uname"), "#!/bin/sh\necho "+machine+"\n")
		cmd := exec.Command(script, dir)
		cmd.Env = []string{"PATH=" + tools + ":" + os.Getenv("PATH")}
		if out, err := cmd.CombinedOutput(); (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("on %s: %v, want %q:\n%s", machine, err, want, out)
		}
	}
	expect("riscv64", "")
	expect("x86_64", "no llamacpp clients clients-js gguf tokenizers templates minilm in")
	for _, name := range []string{"llamacpp/llamacpp-1", "clients/clients-1", "clients-js/clients-1", "gguf/gguf-1", "tokenizers/sentencepiece-1", "templates/llama-cpp-python-1", "minilm/model.safetensors"} {
		write(filepath.Join(dir, name), "")
	}
	expect("aarch64", "llama.cpp's library is not where")
	write(filepath.Join(dir, "llamacpp/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libllama.so"), "")
	expect("x86_64", "OpenAI's client for Python cannot be used")
	write(filepath.Join(dir, "clients/bin/python"), "#!/bin/sh\nexit 0\n")
	expect("x86_64", "")
}
