package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// place is where a build happens: everything that is around it and must not be seen in it.
type place struct {
	dir      string
	cache    string // GOCACHE
	modules  string // GOMODCACHE
	umask    int
	zone     string
	locale   string
	inherits []string // the environment, without what Go and locales read
	goEnv    map[string]string
}

// passed are the settings of Go that say how modules are fetched. go.sum says what they must
// be, so these may differ from machine to machine.
var passed = []string{"GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOVCS", "GOAUTH"}

// newPlace makes the directories that both places have.
func newPlace(dir string) (place, error) {
	p := place{dir: dir}
	out, err := exec.Command("go", "env", "-json").Output()
	if err != nil {
		return place{}, fmt.Errorf("go env: %w", err)
	}
	if err := json.Unmarshal(out, &p.goEnv); err != nil {
		return place{}, fmt.Errorf("go env: %w", err)
	}
	p.cache, p.modules = p.goEnv["GOCACHE"], p.goEnv["GOMODCACHE"]
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "GO") && !strings.HasPrefix(name, "CGO_") && !strings.HasPrefix(name, "LC_") &&
			!slices.Contains([]string{"LANG", "LANGUAGE", "TZ", "TMPDIR", "HOME", "PWD", "OLDPWD", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SOURCE_DATE_EPOCH"}, name) {
			p.inherits = append(p.inherits, v)
		}
	}
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return place{}, err
		}
	}
	return p, nil
}

// firstPlace builds with the caches of the machine.
func firstPlace(dir string) (place, error) {
	p, err := newPlace(dir)
	p.umask, p.zone, p.locale = 0o022, "UTC", "C"
	return p, err
}

// secondPlace shares with the first nothing but the modules' bytes, which go.sum names: even
// these have another path.
func secondPlace(dir string) (place, error) {
	p, err := newPlace(dir)
	if err != nil {
		return place{}, err
	}
	linked := filepath.Join(dir, "modules")
	if err := os.Symlink(p.modules, linked); err != nil {
		return place{}, err
	}
	p.cache, p.modules = filepath.Join(dir, "cache"), linked
	p.umask, p.zone, p.locale = 0o077, "Pacific/Kiritimati", "tr_TR.UTF-8"
	return p, nil
}

func (p place) cacheState() string {
	if _, err := os.Stat(p.cache); err != nil {
		return "an empty build cache"
	}
	return "the machine's build cache"
}

// enter sets the umask, which belongs to the whole process, and returns what sets it back.
func (p place) enter() (restore func()) {
	before := syscall.Umask(p.umask)
	return func() { syscall.Umask(before) }
}

// environment is all that a build sees. Everything that changes what the compiler writes is
// set here; nothing of it comes from the machine.
func (p place) environment(toolchain string, t target) []string {
	env := append(slices.Clone(p.inherits),
		"HOME="+filepath.Join(p.dir, "home"), "TMPDIR="+filepath.Join(p.dir, "tmp"), "TZ="+p.zone, "LANG="+p.locale, "LC_ALL="+p.locale,
		"GOCACHE="+p.cache, "GOMODCACHE="+p.modules, "GOTOOLCHAIN="+toolchain, "GOENV=off", "GOWORK=off", "GOFLAGS=", "GOEXPERIMENT=",
		"GOFIPS140=off", "GOTELEMETRY=off", "CGO_ENABLED=0", "GOOS="+t.system, "GOARCH="+t.architecture, "GOAMD64=v1", "GOARM64=v8.0")
	for _, name := range passed {
		if v := p.goEnv[name]; v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// command prepares a command of Go in a tree.
func (p place) command(ctx context.Context, tree, toolchain string, t target, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = tree, append(p.environment(toolchain, t), "PWD="+tree)
	return cmd
}
