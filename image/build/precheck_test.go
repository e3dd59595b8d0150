package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// debOf makes a package with dpkg's own program; script is its agent's, if it has one.
func debOf(t *testing.T, name, architecture, script string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(path string, mode os.FileMode, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("DEBIAN/control", 0o644, fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: %s\nMaintainer: Nobody <nobody@example.org>\nDescription: a test\n", name, architecture))
	if script != "" {
		put(agentProgram, 0o755, script)
		put("usr/share/"+strings.Repeat("x", 50), 0o644, strings.Repeat("behind the program ", 100_000))
	}
	deb := filepath.Join(t.TempDir(), name+".deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return deb
}

func needsDpkg(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("needs dpkg-deb: ", err)
	}
}

// TestPackagesAreCheckedFirst: dpkg would say it after minutes, in the middle of much else, or never.
func TestPackagesAreCheckedFirst(t *testing.T) {
	needsDpkg(t)
	common, agent, more := debOf(t, commonPackage, "all", ""), debOf(t, agentPackage, Architecture, "#!/bin/sh\n"), debOf(t, "nginx", Architecture, "")
	foreign := debOf(t, agentPackage, "arm64", "#!/bin/sh\n")
	none := filepath.Join(t.TempDir(), "none.deb")
	if err := os.WriteFile(none, []byte("no package\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		packages []string
		says     string
	}{
		"good":                 {[]string{common, agent}, ""},
		"more":                 {[]string{more, agent, common}, ""},
		"none at all":          {nil, "package: anchorhold-common is missing: the image would have no agent"},
		"no agent":             {[]string{common, more}, "package: anchorhold-agent is missing: the image would have no agent"},
		"without its depends":  {[]string{agent}, "package: anchorhold-common is missing"},
		"another architecture": {[]string{common, foreign}, "package: " + foreign + " is for arm64, and images are for amd64"},
		"no package":           {[]string{common, agent, none}, "package: " + none},
		"one twice":            {[]string{common, agent, agent}, "are both anchorhold-agent"},
	} {
		got, err := (&Image{Packages: c.packages}).checkPackages(t.Context())
		if c.says == "" && (err != nil || got != agent) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.says)
		}
	}
}

// TestTheAgentOfTheImageReadsItsFiles: the guest would say the same at its first boot.
func TestTheAgentOfTheImageReadsItsFiles(t *testing.T) {
	needsDpkg(t)
	// What the agent itself says is tested with the agent; this one refuses the file that says so.
	agent := debOf(t, agentPackage, Architecture, "#!/bin/sh\necho \"asked: $*\"\nfor file; do :; done\n[ \"$1\" = check ] && file=\"$3$file\"\n! grep -q wrong \"$file\"\n")
	withoutProgram := debOf(t, agentPackage, Architecture, "")
	var said strings.Builder
	check := func(agent string, files map[string]string) error {
		dir := t.TempDir()
		for name, text := range files {
			path := filepath.Join(dir, "etc/anchorhold", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		said.Reset()
		return (&Image{Files: dir, Tools: Tools{When: when}, Say: func(f string, args ...any) { fmt.Fprintf(&said, f+"\n", args...) }}).checkConfigurations(t.Context(), agent)
	}
	if err := check(agent, map[string]string{"agent.yaml": "good", "agent-unlock.yaml": "good", "volumes.yaml": "good"}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"asked: check --root ", " /etc/anchorhold/agent.yaml\n", " /etc/anchorhold/agent-unlock.yaml\n", "asked: volume check /"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not in %s", want, said.String())
		}
	}
	for _, name := range []string{"agent.yaml", "agent-unlock.yaml", "volumes.yaml"} {
		if err := check(agent, map[string]string{"agent.yaml": "good", name: "wrong"}); err == nil || !strings.Contains(err.Error(), name+" is refused by the agent") || !strings.Contains(err.Error(), "asked: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check(agent, nil); err != nil || !strings.Contains(said.String(), "there is no etc/anchorhold/agent.yaml") {
		t.Errorf("no configuration: %v, %s", err, said.String())
	}
	if err := check(withoutProgram, map[string]string{"agent.yaml": "good"}); err == nil || !strings.Contains(err.Error(), "it has no program /usr/bin/anchorhold-agent") {
		t.Errorf("no program: %v", err)
	}
}
