package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestFilesOfATree: what lies in an image is checked there, what is missing may come with a package, and no link leads to
// a file of the machine that builds.
func TestFilesOfATree(t *testing.T) {
	root := t.TempDir()
	etc := filepath.Join(root, "etc/anchorhold")
	if err := os.MkdirAll(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(onThisMachine(t, etc), etc, "/etc/anchorhold")
	stray := filepath.Join(t.TempDir(), "stray.pub")
	if err := os.WriteFile(stray, []byte("no key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"out.pub": stray, "in.pub": "root.pub", "guest.pub": "/etc/anchorhold/root.pub", "away": filepath.Dir(stray), "loop.pub": "loop.pub", "up.pub": "../../../../etc/anchorhold/root.pub"} {
		if err := os.Symlink(to, filepath.Join(etc, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(etc, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "huge"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(etc, "huge"), maxRootsBytes+1); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ from, to, wrong, notice string }{
		"good":                    {},
		"a link inside":           {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/in.pub]", "", ""},
		"a link of the guest":     {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/guest.pub]", "", ""},
		"a link that climbs":      {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/up.pub]", "", ""},
		"a link to itself":        {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/loop.pub]", "broker.root_keys: ", ""},
		"a link that leaves":      {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/out.pub]", "", "broker.root_keys: /etc/anchorhold/out.pub is not below " + root},
		"a directory that leaves": {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/away/stray.pub]", "", "broker.root_keys: /etc/anchorhold/away/stray.pub is a link that leads out of"},
		"no root":                 {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/none.pub]", "", "broker.root_keys: /etc/anchorhold/none.pub is not below " + root},
		"a root of another":       {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/stranger.pub]", "broker.root_keys: ", ""},
		"no model":                {"demo.ahm", "none.ahm", "", "models[0].path: /etc/anchorhold/none.ahm is not below"},
		"half a model":            {"demo.ahm", "cut.ahm", "models[0].path: ", ""},
		"another publisher":       {"publisher: /etc/anchorhold/publisher.pub", "publisher: /etc/anchorhold/stranger.pub", "models[0].publisher: ", ""},
		"no publisher":            {"publisher: /etc/anchorhold/publisher.pub", "publisher: /etc/anchorhold/none.pub", "", "models[0].publisher: /etc/anchorhold/none.pub is not below"},
		"no certificate's":        {"tls_roots: /etc/anchorhold/tls.crt", "tls_roots: /etc/anchorhold/no.crt", "broker.tls_roots: ", ""},
		"a pipe for a root":       {"[/etc/anchorhold/root.pub]", "[/etc/anchorhold/pipe]", "broker.root_keys: /etc/anchorhold/pipe is neither", ""},
		"a pipe of roots":         {"tls_roots: /etc/anchorhold/tls.crt", "tls_roots: /etc/anchorhold/pipe", "broker.tls_roots: /etc/anchorhold/pipe is neither", ""},
		"a pipe for a model":      {"demo.ahm", "pipe", "models[0].path: /etc/anchorhold/pipe is neither", ""},
		"roots without end":       {"tls_roots: /etc/anchorhold/tls.crt", "tls_roots: /etc/anchorhold/huge", "broker.tls_roots: " + filepath.Join(etc, "huge") + " is larger than", ""},
		"a path that climbs":      {"tls_roots: /etc/anchorhold/tls.crt", "tls_roots: /../../../../etc/anchorhold/tls.crt", "", ""},
		"places are not seen":     {"/etc/anchorhold/state", "/nowhere/at/all/state", "", ""},
	} {
		if c.from != "" && !strings.Contains(text, c.from) {
			t.Fatalf("%s: %q is not in\n%s", name, c.from, text)
		}
		changed := text
		if c.from != "" {
			changed = strings.ReplaceAll(text, c.from, c.to)
		}
		cfg, findings, err := Parse([]byte(changed))
		if err != nil || len(findings.Errors) > 0 {
			t.Fatalf("%s: %v, %v", name, err, findings.Errors)
		}
		got := cfg.CheckTree(root)
		has := func(list []string, want string) bool {
			return want == "" && len(list) == 0 || want != "" && slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, want) })
		}
		if !has(got.Errors, c.wrong) || !has(got.Notices, c.notice) {
			t.Errorf("%s: errors %q, notices %q, want %q and %q", name, got.Errors, got.Notices, c.wrong, c.notice)
		}
	}
	if got := (Config{Broker: Broker{TLSRoots: "/x"}}).CheckTree(filepath.Join(root, "none")); len(got.Errors) == 0 {
		t.Error("a tree that is not there was checked")
	}
}
