package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// treesBench runs .ci/boot-trees with stand-ins for what makes trees and takes minutes.
type treesBench struct {
	t              *testing.T
	bin, dir, made string
}

func newTreesBench(t *testing.T) *treesBench {
	t.Helper()
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("there is no flock: ", err)
	}
	b := &treesBench{t: t, bin: t.TempDir(), dir: filepath.Join(t.TempDir(), "boot")}
	b.made = filepath.Join(b.bin, "made")
	for name, text := range map[string]string{
		"id":         "echo 0",
		"apt-get":    "echo http://mirror",
		"mmdebstrap": `echo x >>"` + b.made + `"; if [ -e "` + b.bin + `/broken" ]; then echo no mirror; exit 1; fi; echo tree >"$5"`,
	} {
		if err := os.WriteFile(filepath.Join(b.bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run runs the script with a change and returns what it printed, and with what it failed.
func (b *treesBench) run(old, by string) (trees, said string, err error) {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", ".ci", "boot-trees"))
	if err != nil {
		b.t.Fatal(err)
	}
	checkout := b.t.TempDir()
	script, list := filepath.Join(checkout, ".ci", "boot-trees"), filepath.Join(checkout, "image", "build", "packages.txt")
	for _, dir := range []string{filepath.Dir(script), filepath.Dir(list)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := os.WriteFile(list, []byte("# the image's\n\nsystemd\nudev\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		b.t.Fatalf("%q is not in the script", old)
	}
	if err := os.WriteFile(script, []byte(strings.Replace(string(text), old, by, 1)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	var complaint strings.Builder
	c := exec.CommandContext(b.t.Context(), "bash", script, b.dir)
	c.Env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"))
	c.Stderr = &complaint
	out, err := c.Output()
	return strings.TrimSpace(string(out)), complaint.String(), err
}

// want expects trees, and how many were made since the beginning.
func (b *treesBench) want(what, trees, said string, err error, made int) {
	b.t.Helper()
	list, _ := os.ReadFile(b.made) // none is made before the first
	_, guest := os.Stat(filepath.Join(trees, "guest.tar"))
	_, tools := os.Stat(filepath.Join(trees, "tools"))
	_, image := os.Stat(filepath.Join(trees, "image.tar"))
	if err != nil || filepath.Dir(trees) != b.dir || guest != nil || tools != nil || image != nil || strings.Count(string(list), "x") != made {
		b.t.Errorf("%s: %q with %q, %v; %v, %v, %v; %d made, want %d", what, trees, said, err, guest, tools, image, strings.Count(string(list), "x"), made)
	}
}

// TestTreesAreMadeOncePerRecipe: others stay as they are while somebody uses them.
func TestTreesAreMadeOncePerRecipe(t *testing.T) {
	b := newTreesBench(t)
	first, said, err := b.run("", "")
	b.want("the first time", first, said, err, 3)
	again, said, err := b.run("# The mirror", "# Another comment, and the mirror")
	b.want("again", again, said, err, 3)
	if again != first {
		t.Errorf("a comment made other trees: %s and %s", first, again)
	}
	other, said, err := b.run("swtpm-tools,", "swtpm-tools,strace,")
	b.want("another list", other, said, err, 6)
	b.want("the first beside it", first, "", nil, 6)
	if err := os.WriteFile(filepath.Join(b.bin, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, said, err := b.run("seabios", "seabios,gdb"); err == nil || out != "" || !strings.Contains(said, "could not be made, see "+b.dir) {
		t.Errorf("a mirror that fails: %q with %q, %v", out, said, err)
	}
	if err := os.Remove(filepath.Join(b.bin, "broken")); err != nil {
		t.Fatal(err)
	}
	third, said, err := b.run("seabios", "seabios,gdb")
	b.want("after a failure", third, said, err, 10)

	// Those that nobody has used for a day go, but not under somebody.
	long := time.Now().Add(-48 * time.Hour)
	for _, trees := range []string{first, other} {
		if err := os.Chtimes(filepath.Join(trees, "lock"), long, long); err != nil {
			t.Fatal(err)
		}
	}
	user := exec.CommandContext(t.Context(), "flock", "-s", filepath.Join(first, "lock"), "cat")
	hold, err := user.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	echo, err := user.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Read(make([]byte, 1)); err != nil { // it has the lock
		t.Fatal(err)
	}
	_, said, err = b.run("seabios", "seabios,gdb")
	b.want("with old ones", third, said, err, 10)
	b.want("old ones in use", first, "", nil, 10)
	if _, err := os.Stat(other); !os.IsNotExist(err) || !strings.Contains(said, first+" is in use") {
		t.Errorf("old ones: %v, %q", err, said)
	}
	if err := hold.Close(); err != nil || user.Wait() != nil {
		t.Error(err)
	}
}

func TestTreesAreMadeByOneAtATime(t *testing.T) {
	b := newTreesBench(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			trees, said, err := b.run("", "")
			if err != nil || !strings.Contains(trees, "trees-") {
				t.Errorf("%q with %q, %v", trees, said, err)
			}
		})
	}
	all.Wait()
	trees, said, err := b.run("", "")
	b.want("four at once", trees, said, err, 3)
}
