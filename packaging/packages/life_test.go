package packages

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// realPrograms is a release of this machine's architecture with its programs and pages.
func realPrograms(t *testing.T) Release {
	t.Helper()
	bin := t.TempDir()
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-tags", "release,nethttpomithttp2", "-o", bin + "/"}
	for _, name := range programs {
		folder := "agent"
		if name == "anchorhold-broker" || name == "anchorhold-aggregator" {
			folder = "keybroker"
		}
		if name == "anchorhold-image" || name == "anchorhold-initrd" || name == "anchorhold-measure" {
			folder = "image"
		}
		args = append(args, "./"+folder+"/cmd/"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := Release{Version: "v1.2.3", When: when, Arch: runtime.GOARCH, Files: treeFiles(t), Nfpm: nfpm(t)}
	for _, name := range programs {
		data, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			t.Fatal(err)
		}
		r.Files["bin/"+name] = data
	}
	pages, err := HelpPages(t.Context(), bin, r.Version)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range pages {
		r.Files[name] = data
	}
	return r
}

// TestLintianFindsNothing but what the overrides of the packages name with a reason.
func TestLintianFindsNothing(t *testing.T) {
	longtest.Run(t, "it builds every program")
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("lintian is not installed")
	}
	r := realPrograms(t)
	for _, page := range []string{"man/anchorhold-audit-verify.1", "man/anchorhold-agent.8", "completions/anchorhold.zsh"} {
		if len(r.Files[page]) < 400 {
			t.Errorf("%s has %d bytes", page, len(r.Files[page]))
		}
	}
	dir := t.TempDir()
	for name := range made(t, r, dir, "deb") {
		checkWithLintian(t, filepath.Join(dir, name))
	}
}

func checkWithLintian(t *testing.T, file string) {
	t.Helper()
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "unused-override") {
		t.Errorf("lintian %s: %v\n%s", filepath.Base(file), err, out)
	}
}

// debian is a Debian 13 in a directory.
type debian struct {
	t    *testing.T
	root string
}

// newDebian unpacks the tree that $ANCHORHOLD_DEBIAN names (.ci/boot-trees makes it).
func newDebian(t *testing.T) *debian {
	t.Helper()
	tree := os.Getenv("ANCHORHOLD_DEBIAN")
	if tree == "" || os.Getuid() != 0 {
		t.Skip("installing packages needs root and a Debian 13 in $ANCHORHOLD_DEBIAN: make packages")
	}
	d := &debian{t, t.TempDir()}
	if out, err := exec.Command("tar", "-xf", tree, "-C", d.root, "--exclude=./boot/*", "--exclude=./usr/lib/modules/*", "--exclude=./dev/*").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return d
}

// sh runs a command of a shell in it, and returns what it said.
func (d *debian) sh(command string) (string, error) {
	cmd := exec.Command("chroot", d.root, "/bin/sh", "-ec", command)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a command that has to succeed and to say a word.
func (d *debian) must(command, word string) {
	d.t.Helper()
	if out, err := d.sh(command); err != nil || !strings.Contains(out, word) {
		d.t.Fatalf("%s: %v, want %q in\n%s", command, err, word, out)
	}
}

// refused runs a command that has to fail and to say why.
func (d *debian) refused(command, word string) {
	d.t.Helper()
	if out, err := d.sh(command); err == nil || !strings.Contains(out, word) {
		d.t.Fatalf("%s: %v, want %q in\n%s", command, err, word, out)
	}
}

// stock copies the packages of a version into it, and returns them by package.
func (d *debian) stock(r Release, version string) map[string]string {
	d.t.Helper()
	dir := filepath.Join(d.root, "packages", version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	r.Version = version
	debs := map[string]string{}
	for name := range made(d.t, r, dir, "deb") {
		p, _, _ := strings.Cut(name, "_")
		debs[p] = "/packages/" + version + "/" + name
	}
	return debs
}

// TestLifeOfThePackages installs, updates, is refused to go back, removes, installs again and
// purges, and looks at the state after each.
func TestLifeOfThePackages(t *testing.T) {
	longtest.Run(t, "it installs packages in a Debian 13")
	d := newDebian(t)
	r := standIns(t, "")
	r.Arch, r.Nfpm = runtime.GOARCH, nfpm(t)
	first, second := d.stock(r, "v1.2.3"), d.stock(r, "v1.10.0-rc.1")
	install := func(debs map[string]string, names ...string) string {
		command := "dpkg -i"
		for _, n := range names {
			command += " " + debs[n]
		}
		return command
	}
	daemons := []string{"anchorhold-agent", "anchorhold-broker", "anchorhold-aggregator"}
	everything := append([]string{common, "anchorhold-tools"}, daemons...)

	d.refused(install(first, "anchorhold-broker"), "depends on anchorhold-common")
	d.must("dpkg --purge anchorhold-broker", "")
	d.must(install(first, everything...), "")
	d.must("dpkg --audit; dpkg --verify", "")
	d.must("id anchorhold-agent; id anchorhold-broker; id anchorhold-aggregator", "(anchorhold)")
	if out, err := d.sh("systemctl is-enabled anchorhold-agent.service anchorhold-agent.socket anchorhold-credentials.socket anchorhold-worker.socket anchorhold-broker.service anchorhold-aggregator.service"); err == nil || strings.Count(out, "disabled") != 6 {
		t.Errorf("after the installation: %v\n%s", err, out)
	}
	d.must("udevadm verify --no-summary /usr/lib/udev/rules.d/70-anchorhold-agent.rules", "")
	d.must("grep -rhoE '^Documentation=file:.*' /usr/lib/systemd/system/anchorhold* | sort -u | cut -d: -f2 | xargs ls", "/usr/share/doc/anchorhold/operations.md")

	for _, name := range daemons {
		state := strings.TrimPrefix(name, "anchorhold-")
		d.must(fmt.Sprintf("install -d -m 0700 -o %s /var/lib/anchorhold/%s; echo secret >/var/lib/anchorhold/%s/keys; systemctl enable %s.service 2>&1", name, state, state, name), "")
	}
	d.must("echo kept >/var/lib/anchorhold/model.ahm; mkdir -p /etc/anchorhold; echo mine >/etc/anchorhold/broker.yaml", "")
	kept := func(when, version string) {
		t.Helper()
		for _, name := range daemons {
			state := strings.TrimPrefix(name, "anchorhold-")
			d.must(fmt.Sprintf("cat /var/lib/anchorhold/%s/keys; stat -c '%%U %%a' /var/lib/anchorhold/%s", state, state), "secret\n"+name+" 700\n")
			if version != "" {
				d.must("cat /var/lib/anchorhold/"+state+".version", version+"\n")
			}
		}
	}
	kept("installed", "1.2.3")
	d.must(install(second, everything...), "")
	kept("updated", "1.10.0~rc.1")
	d.must("systemctl is-enabled anchorhold-broker.service", "enabled")

	// Back: by whatever way.
	for _, name := range daemons {
		d.refused(install(first, common, name), "1.2.3 is older than 1.10.0~rc.1")
		d.must(install(second, common, name), "")
	}
	d.must("dpkg --remove "+strings.Join(daemons, " "), "stays")
	kept("removed", "1.10.0~rc.1")
	d.refused("systemctl is-enabled anchorhold-broker.service", "")
	d.refused("ls /usr/bin/anchorhold-broker /etc/systemd/system/multi-user.target.wants/anchorhold-broker.service", "")
	d.refused(install(first, common, "anchorhold-broker"), "1.2.3 is older than 1.10.0~rc.1")
	d.must(install(second, append([]string{common}, daemons...)...), "")
	kept("installed again", "1.10.0~rc.1")
	d.must("rm /var/lib/anchorhold/aggregator.version; dpkg -i "+first[common]+" "+first["anchorhold-aggregator"]+" || true; cat /var/lib/anchorhold/aggregator.version", "1.2.3")
	d.must(install(second, common, "anchorhold-aggregator"), "")

	for name, lost := range map[string]string{"anchorhold-agent": "the highest epoch", "anchorhold-broker": "every model key", "anchorhold-aggregator": "the uploads of rounds"} {
		d.must("dpkg --purge "+name, lost)
	}
	d.must("dpkg --purge anchorhold-tools "+common, "")
	d.must("ls -A /var/lib/anchorhold; cat /etc/anchorhold/broker.yaml", "model.ahm\nmine\n")
	if out, err := d.sh("find /usr /etc/systemd -name '*anchorhold*'"); err != nil || out != "" {
		t.Errorf("left after the purge: %v\n%s", err, out)
	}
}

// TestLifeOfTheRPMs has this machine's rpm install them into the same Debian, without what they
// depend on by name: the scripts run there with rpm's arguments.
func TestLifeOfTheRPMs(t *testing.T) {
	longtest.Run(t, "it installs packages in a Debian 13")
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is not installed")
	}
	d := newDebian(t)
	r := standIns(t, "")
	r.Arch, r.Nfpm = runtime.GOARCH, nfpm(t)
	files := map[string]string{}
	for _, version := range []string{"v1.2.3", "v1.10.0"} {
		dir := t.TempDir()
		r.Version = version
		for name := range made(t, r, dir, "rpm") {
			if strings.HasPrefix(name, common+"-") || strings.HasPrefix(name, "anchorhold-broker-") {
				files[version] += " " + filepath.Join(dir, name)
			}
		}
	}
	rpm := func(words, want string, good bool) {
		t.Helper()
		out, err := exec.Command("sh", "-c", "rpm --root "+d.root+" --nodeps "+words).CombinedOutput()
		if (err == nil) != good || !strings.Contains(string(out), want) {
			t.Fatalf("rpm %s: %v, want %q in\n%s", words, err, want, out)
		}
	}
	rpm("-i"+files["v1.2.3"], "", true)
	d.must("id anchorhold-broker; cat /var/lib/anchorhold/broker.version", "1.2.3\n")
	d.must("install -d -m 0700 -o anchorhold-broker /var/lib/anchorhold/broker; echo secret >/var/lib/anchorhold/broker/keys; systemctl enable anchorhold-broker.service", "")
	rpm("-U"+files["v1.10.0"], "", true)
	d.must("cat /var/lib/anchorhold/broker.version /var/lib/anchorhold/broker/keys", "1.10.0\nsecret\n")
	d.must("systemctl is-enabled anchorhold-broker.service", "enabled\n")
	rpm("-U --oldpackage"+files["v1.2.3"], "1.2.3 is older than 1.10.0", false)
	rpm("-e anchorhold-broker", "stays", true)
	d.must("cat /var/lib/anchorhold/broker.version /var/lib/anchorhold/broker/keys", "1.10.0\nsecret\n")
	d.refused("ls /usr/bin/anchorhold-broker /etc/systemd/system/multi-user.target.wants/anchorhold-broker.service", "")
	rpm("-U --oldpackage --replacepkgs"+files["v1.2.3"], "1.2.3 is older than 1.10.0", false)
	rpm("-U --replacepkgs"+files["v1.10.0"], "", true)
}

// TestPackagesOfTheRelease looks at the packages that make release has made, where it has.
func TestPackagesOfTheRelease(t *testing.T) {
	longtest.Run(t, "it reads a release")
	dir := os.Getenv("ANCHORHOLD_PACKAGES")
	if dir == "" {
		t.Skip("no release in $ANCHORHOLD_PACKAGES: make packages")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".deb" || ext == ".rpm" {
			got = append(got, e.Name())
		}
	}
	if want := 2 * (2*(len(all)-1) + 1); len(got) != want { // one of them fits every architecture
		t.Errorf("got %d packages, want %d: %s", len(got), want, strings.Join(got, " "))
	}
	_, missing := exec.LookPath("lintian")
	for _, name := range slices.Sorted(slices.Values(got)) {
		if filepath.Ext(name) == ".deb" && missing == nil {
			checkWithLintian(t, filepath.Join(dir, name))
		}
	}
	if missing != nil && !errors.Is(missing, exec.ErrNotFound) {
		t.Error(missing)
	}
}
