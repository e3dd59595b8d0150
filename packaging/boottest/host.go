package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/packaging/emulator"
	"github.com/anchorhold/anchorhold/packaging/packages"
)

// host is the half that makes the machine and listens to it.
type host struct {
	trees, bin, classifiers, only string
	keep                          bool
	deadline                      time.Duration

	names []string // of the checks to make

	began time.Time
	work  *emulator.Work
	root  string // of the guest's disk, while it is made
}

const broker = "127.0.0.1:8443"

// measurement is what the software TEE in the guest reports.
var measurement = strings.Repeat("a5", 48)

func (h *host) run(ctx context.Context) (err error) {
	if h.names, err = matching(h.only); err != nil {
		return err
	}
	return h.inRoom(ctx, []stage{
		{"root of the guest", h.unpack},
		{"programs under test", h.stamp},
		{"installation", h.install},
		{"keys, sealed classifier and its circuit's keys", h.makeMaterial},
		{"disk", h.makeDisk},
	}, h.boot)
}

// stage is a part of making a machine.
type stage struct {
	title string
	run   func(context.Context) error
}

// inRoom makes a machine in a work directory of its own, and does with it what it was made for.
func (h *host) inRoom(ctx context.Context, stages []stage, then func(context.Context) error) (err error) {
	h.began = time.Now()
	if os.Getuid() != 0 {
		return errors.New("making the guest's disk and tree needs root")
	}
	if load := emulator.Busy(); load != "" {
		h.say("%s", load)
	}
	if h.work, err = emulator.NewWork(h.trees, h.keep); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.work.Close()) }()
	if h.keep {
		fmt.Println("disk and logs stay in", h.work.Dir)
	}
	h.root = h.work.Path("root")
	for _, s := range stages {
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		h.say("%s", s.title)
	}
	return then(ctx)
}

// patience is how many times as long as on an idle machine everything may take.
func (h *host) patience() float64 { return max(1, float64(h.deadline)/float64(deadline)) }

func (h *host) say(format string, args ...any) {
	fmt.Printf("[%5.1f s] %s\n", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...))
}

func (h *host) unpack(ctx context.Context) error {
	if err := os.Mkdir(h.root, 0o755); err != nil {
		return err
	}
	if _, err := emulator.Command(ctx, "tar", "-xf", filepath.Join(h.trees, "guest.tar"), "-C", h.root); err != nil {
		return err
	}
	// A small initrd: unpacking Debian's whole one takes an emulated processor half a minute.
	for name, text := range map[string]string{
		"etc/initramfs-tools/conf.d/boottest": "MODULES=list\n",
		"etc/initramfs-tools/modules":         "virtio_pci\nvirtio_blk\next4\n",
		"etc/hostname":                        "guest\n",
	} {
		if err := os.WriteFile(h.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if _, err := emulator.Command(ctx, "chroot", h.root, "update-initramfs", "-u"); err != nil {
		return err
	}
	for from, to := range map[string]string{"vmlinuz-*": "vmlinuz", "initrd.img-*": "initrd"} {
		found, err := filepath.Glob(h.path("boot", from))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("%s in the guest's /boot: got %q, want one (%v)", from, found, err)
		}
		if err := os.Rename(found[0], h.work.Path(to)); err != nil {
			return err
		}
	}
	return nil
}

// stamp says which binaries on which Debian, made when: a transcript shows what it is of.
func (h *host) stamp(ctx context.Context) error {
	version, err := emulator.Command(ctx, filepath.Join(h.bin, "anchorhold-agent"), "version")
	if err != nil {
		return err
	}
	debian, err := os.ReadFile(h.path("etc", "debian_version"))
	if err != nil {
		return err
	}
	tree, err := os.Stat(filepath.Join(h.trees, "guest.tar"))
	if err != nil {
		return err
	}
	h.say("%s, on Debian %s as of %s", strings.TrimSpace(string(version)), strings.TrimSpace(string(debian)), tree.ModTime().UTC().Format(time.DateOnly))
	return nil
}

// path is a file of the guest.
func (h *host) path(elements ...string) string {
	return filepath.Join(append([]string{h.root}, elements...)...)
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// install installs the packages of one version, as an administrator would, and leaves those of a
// later one for the guest, which updates itself.
func (h *host) install(ctx context.Context) error {
	first, err := h.packages(ctx, "v0.0.1", "root/packages/first")
	if err != nil {
		return err
	}
	if _, err := h.packages(ctx, "v0.0.2", laterPackages[1:]); err != nil {
		return err
	}
	if _, err := emulator.Command(ctx, "chroot", append([]string{h.root, "dpkg", "-i"}, first...)...); err != nil {
		return err
	}
	const dropIn = "anchorhold-broker.service.d/checkpoint.conf"
	if err := copyFile(h.path("usr/share/doc/anchorhold-broker/examples/checkpoint.conf"), h.path("etc/systemd/system", dropIn), 0o644); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	if err := copyFile(own, h.path("usr/local/sbin/boottest"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(h.path("etc/systemd/system/boottest.service"), []byte(fmt.Sprintf(checksUnit, patienceVariable, h.patience(), unitWord(h.only))), 0o644); err != nil {
		return err
	}
	for _, user := range []string{"alice", "bob", "mallory"} {
		if _, err := emulator.Command(ctx, "chroot", h.root, "useradd", "--create-home", user); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"usermod", "-aG", "anchorhold", "alice"}, {"usermod", "-aG", "anchorhold", "bob"}, {"systemctl", "disable", "nginx.service"}} {
		if _, err := emulator.Command(ctx, "chroot", append([]string{h.root}, args...)...); err != nil {
			return err
		}
	}
	return errors.Join(err, os.Symlink("../boottest.service", h.path("etc/systemd/system/multi-user.target.wants/boottest.service")))
}

// packages makes the packages of the programs under test below a directory of the guest, and returns
// the deb files as the guest names them.
func (h *host) packages(ctx context.Context, version, dir string) (debs []string, err error) {
	names, err := packages.FromTree(ctx, ".", h.bin, h.path(dir), version, h.began)
	for _, name := range names {
		debs = append(debs, filepath.Join("/", dir, name))
	}
	return debs, err
}

// checksUnit runs the checks once the machine is up and turns it off afterwards.
const checksUnit = `[Unit]
Description=Checks of the boot test
After=multi-user.target
[Service]
Type=exec
Environment=%s=%.2f
ExecStart=/usr/local/sbin/boottest -inside %s
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
ExecStopPost=/usr/bin/systemctl --no-block poweroff
`

func (h *host) tool(ctx context.Context, args ...string) ([]byte, error) {
	return emulator.Command(ctx, filepath.Join(h.bin, "anchorhold"), args...)
}

// makeMaterial makes on the host what is slow to make on an emulated processor; the guest
// stores the key, imports the policy and seals the credential to its TPM itself.
func (h *host) makeMaterial(ctx context.Context) error {
	etc, lib := h.path("etc/anchorhold"), h.path("var/lib/anchorhold")
	for _, dir := range []string{etc, lib, h.path("root/keys")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	secret := func(name string) string { return h.path("root/keys", name) }
	data := func(name string) string { return filepath.Join(h.classifiers, name) }
	for _, args := range [][]string{
		{"keygen", "credential", "--out", secret("broker.kek")},
		{"keygen", "broker", "--state", filepath.Join(lib, "broker"), "--root", secret("root.key"), "--host", "127.0.0.1", "--credential-file", secret("broker.kek")},
		{"keygen", "credential", "--out", secret("publisher.credential")},
		{"keygen", "publisher", "--out", secret("publisher.key"), "--credential-file", secret("publisher.credential")},
		{"keygen", "model", "--out", secret("digits.key")},
		{"keygen", "queue", "--out", secret("member.key")},
		{"keygen", "tls", "--out", filepath.Join(etc, "aggregator"), "--host", "127.0.0.1"},
		{"seal", data("digits.onnx"), "--calibration", data("digits.calibration.npy"), "--out", filepath.Join(lib, "digits.ahm"), "--key", secret("digits.key"),
			"--publisher", secret("publisher.key"), "--credential-file", secret("publisher.credential"), "--name", "digits", "--model-version", "1"},
		{"proof", "setup", filepath.Join(lib, "digits.ahm"), "--key", secret("digits.key"), "--publisher", secret("publisher.key.pub"), "--out", filepath.Join(lib, "keys")},
	} {
		if _, err := h.tool(ctx, args...); err != nil {
			return err
		}
	}
	if _, err := emulator.Command(ctx, filepath.Join(h.bin, "anchorhold-agent"), "software-tee", "--state", filepath.Join(lib, "agent"), "--roots", filepath.Join(etc, "software-tee.pem")); err != nil {
		return err
	}
	for _, name := range []string{"root.key.pub", "publisher.key.pub"} {
		if err := copyFile(secret(name), filepath.Join(etc, name), 0o644); err != nil {
			return err
		}
	}
	if err := copyFile(filepath.Join(lib, "broker", "tls.crt"), filepath.Join(etc, "tls.crt"), 0o644); err != nil {
		return err
	}
	for name, text := range map[string]string{"broker.yaml": brokerConfig, "aggregator.yaml": aggregatorConfig, "agent.yaml": fmt.Sprintf(agentConfig, measurement), "policy.yaml": policyFile,
		"values.yaml": fmt.Sprintf("format: 1\nreference_values:\n  - {id: boot/image, measurement: %q, software: true, description: the booted guest}\n", measurement)} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(h.path(keptDir), 0o755); err != nil {
		return err
	}
	for path, owner := range map[string]string{"/var/lib/anchorhold/broker": "anchorhold-broker", keptDir: "anchorhold-broker", "/var/lib/anchorhold/agent": "anchorhold-agent", "/etc/anchorhold/aggregator.key": "anchorhold-aggregator"} {
		if _, err := emulator.Command(ctx, "chroot", h.root, "chown", "-R", owner+":"+owner, path); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) makeDisk(ctx context.Context) error {
	out, err := emulator.Command(ctx, "du", "-sm", h.root)
	if err != nil {
		return err
	}
	var mib int
	if _, err := fmt.Sscan(string(out), &mib); err != nil {
		return err
	}
	if err := h.makeVolume(ctx); err != nil {
		return err
	}
	if _, err := h.work.Tool(ctx, "mkfs.ext4", "-q", "-O", "^has_journal", "-d", h.work.Inside("root"), h.work.Inside("disk.raw"), fmt.Sprintf("%dM", mib+1536)); err != nil {
		return err
	}
	return os.RemoveAll(h.root)
}

// makeVolume makes the disk that the guest encrypts, and the file system that it puts there.
func (h *host) makeVolume(ctx context.Context) error {
	data, disk := h.work.Path("data"), h.work.Path("data.raw")
	if err := errors.Join(os.Mkdir(data, 0o755), os.WriteFile(filepath.Join(data, "hello"), []byte("hello from the volume"), 0o644)); err != nil {
		return err
	}
	if _, err := h.work.Tool(ctx, "mkfs.ext4", "-q", "-O", "^has_journal", "-d", h.work.Inside("data"), h.work.Inside("root/root/data.ext4"), "4M"); err != nil {
		return err
	}
	f, err := os.Create(disk)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(64<<20), f.Close())
}

// boot runs the machine until it is off, and judges what it said. QEMU's exit status says
// nothing: a panic ends it with 0, too.
func (h *host) boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.deadline, fmt.Errorf("the guest did not finish within %s (-deadline, or DEADLINE= for make)", h.deadline))
	defer cancel()
	if err := h.work.MakeTPM(ctx, "tpm"); err != nil {
		return err
	}
	machine, err := h.work.Start(ctx, "tpm", append(h.machine(""), "-m", "2048", "-netdev", "user,id=n0,restrict=on",
		"-drive", "if=none,id=d1,format=raw,file="+h.work.Inside("data.raw"), "-device", "virtio-blk-pci,drive=d1")...)
	if err != nil {
		return err
	}
	h.say("booting Debian 13 (emulated, one processor, TPM 2.0)")
	heard := &transcript{say: h.say, left: h.names}
	var ended error
	for running := true; running; {
		select {
		case ended = <-machine.Done():
			running = false
		case <-time.After(200 * time.Millisecond):
		}
		if err := heard.read(h.work.Path("checks.log")); err != nil {
			if running {
				machine.Stop()
			}
			return err
		}
	}
	if err := heard.verdict(); err != nil {
		console, _ := os.ReadFile(h.work.Path("console.log")) // what there is of it
		if load := emulator.Busy(); load != "" {
			err = errors.Join(err, errors.New(load))
		}
		return fmt.Errorf("%w\nthe end of the console log:\n%s", errors.Join(err, ended, context.Cause(ctx)), lastLines(string(console), 30))
	}
	h.say("all %d checks held", heard.held)
	return nil
}

// machine is QEMU's arguments for a guest of this test, but for its memory and network.
func (h *host) machine(kernelArguments string) []string {
	return []string{"-L", "/usr/share/seabios", "-machine", "q35,accel=tcg",
		// no_timer_check: on a busy host the emulated timer fails the kernel's test of it, which is a panic.
		"-kernel", h.work.Inside("vmlinuz"), "-initrd", h.work.Inside("initrd"), "-append", strings.TrimSpace("root=/dev/vda rw console=ttyS0 quiet panic=-1 no_timer_check " + kernelArguments),
		"-serial", "file:" + h.work.Inside("console.log"), "-serial", "file:" + h.work.Inside("checks.log"),
		"-drive", "if=none,id=d0,format=raw,file=" + h.work.Inside("disk.raw"), "-device", "virtio-blk-pci,drive=d0"}
}

// unitWord is a word of a unit's ExecStart= that stays what it is (systemd.service(5)).
func unitWord(s string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(fmt.Sprintf("%q", s))
}
