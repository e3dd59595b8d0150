package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/packaging/emulator"
	"github.com/anchorhold/anchorhold/packaging/packages"
)

// host is the half that builds, measures, boots and judges.
type host struct {
	trees, bin, initrd, classifiers, pattern string
	keep                                     bool
	patience                                 time.Duration
	lanes                                    int

	only     *regexp.Regexp
	began    time.Time
	work     *emulator.Work
	debs     []string
	port     string // of the broker on this machine
	keyName  string // of the TPM's key
	golden   string // the event log of the first boot
	computed map[string]string
	broker   *exec.Cmd
	ended    chan error // the broker's end
	proof    []byte     // of the first answer, as the agent gave it
	usual    *boot      // the last one that a guest has every day
}

func (h *host) say(format string, args ...any) {
	fmt.Printf("[%5.1f s] %s\n", time.Since(h.began).Seconds(), fmt.Sprintf(format, args...))
}

func (h *host) run(ctx context.Context) (err error) {
	h.began = time.Now()
	if os.Getuid() != 0 {
		return errors.New("entering the tools' tree needs root")
	}
	if h.lanes != 1 && h.lanes != 2 {
		return fmt.Errorf("-lanes: got %d, want 1 or 2", h.lanes)
	}
	if h.only, err = regexp.Compile(h.pattern); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if load := emulator.Busy(); load != "" {
		h.say("%s", load)
	}
	if h.work, err = emulator.NewWork(h.trees, h.keep); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.work.Close()) }()
	if h.keep {
		h.say("images and logs stay in %s", h.work.Dir)
	}
	defer func() { err = errors.Join(err, h.stopBroker()) }()
	if err := h.follow(ctx, []step{
		{"keys and sealed classifier", h.makeMaterial}, {"packages", h.makePackages}, {"image", h.makeImage},
		{"first boot, for the firmware's log and the TPM's key:", h.firstBoot}, {"values computed and signed", h.measure}, {"broker, policy and values", h.startBroker},
	}); err != nil {
		return err
	}
	if err := h.copyTPM(changesTPM); err != nil {
		return err
	}
	if err := h.inLanes(ctx, h.tryChanges, h.tryVolumes); err != nil {
		return err
	}
	at := func(what string) float64 { return h.usual.reached[what].Seconds() }
	h.say("processor time from power-on: the unlocking agent answers after %.0f s, the agent with its state on the volume after %.0f s, the classifier after %.0f s",
		at(foundUnlocking), at(foundLive), at(foundAnswer))
	return nil
}

// step is a part of the test. Its detail is printed.
type step struct {
	title string
	do    func(context.Context) (detail string, err error)
}

// follow does one step after the other.
func (h *host) follow(ctx context.Context, steps []step) error {
	for _, s := range steps {
		detail, err := s.do(ctx)
		if err != nil {
			h.say("FAILED   %s %v", s.title, err)
			return fmt.Errorf("%s %w", s.title, err)
		}
		h.say("%s %s", s.title, detail)
	}
	return nil
}

// Directories of TPMs: machines that run beside each other have two.
const (
	firstTPM   = "tpm"
	changesTPM = "tpm-changes"
)

// inLanes runs two series of boots, beside each other if there are two lanes. Both go to their end.
func (h *host) inLanes(ctx context.Context, one, other func(context.Context) error) error {
	if h.lanes == 1 {
		return errors.Join(other(ctx), one(ctx))
	}
	ended := make(chan error, 1)
	go func() { ended <- one(ctx) }()
	err := other(ctx)
	return errors.Join(err, <-ended)
}

// copyTPM makes another TPM with the same seeds, and so with the same key: the broker knows it.
func (h *host) copyTPM(dir string) error {
	return os.CopyFS(h.work.Path(dir), os.DirFS(h.work.Path(firstTPM)))
}

func (h *host) tool(ctx context.Context, args ...string) ([]byte, error) {
	return emulator.Command(ctx, filepath.Join(h.bin, "anchorhold"), args...)
}

// files is the directory of what is added to an image.
func (h *host) files(elements ...string) string {
	return h.work.Path(append([]string{"files"}, elements...)...)
}

func (h *host) makeMaterial(ctx context.Context) (string, error) {
	if err := errors.Join(os.MkdirAll(h.files(modelsDir), 0o755), os.Mkdir(h.work.Path("keys"), 0o700), os.Mkdir(h.work.Path("credentials"), 0o700)); err != nil {
		return "", err
	}
	data := func(name string) string { return filepath.Join(h.classifiers, name) }
	name, _, _ := strings.Cut(brokerAddress, ":")
	for _, args := range [][]string{
		{"keygen", "credential", "--out", h.work.Path("credentials/broker.kek")},
		{"keygen", "broker", "--state", h.work.Path("broker"), "--root", h.key("root.key"), "--host", name, "--credential-file", h.work.Path("credentials/broker.kek")},
		{"keygen", "credential", "--out", h.key("publisher.kek")},
		{"keygen", "publisher", "--out", h.key("publisher.key"), "--credential-file", h.key("publisher.kek")},
		{"keygen", "model", "--out", h.key("digits.key")},
		{"keygen", "credential", "--out", h.key("var.key")}, // any random bytes will do
		{"seal", data("digits.onnx"), "--calibration", data("digits.calibration.npy"), "--out", h.files(modelsDir, "digits.ahm"), "--key", h.key("digits.key"),
			"--publisher", h.key("publisher.key"), "--credential-file", h.key("publisher.kek"), "--name", "digits", "--model-version", "1"},
		{"proof", "setup", h.files(modelsDir, "digits.ahm"), "--key", h.key("digits.key"), "--publisher", h.key("publisher.key.pub"), "--out", h.files(proofKeys)},
		{"keygen", "queue", "--out", h.key("queue.key")},
	} {
		if _, err := h.tool(ctx, args...); err != nil {
			return "", err
		}
	}
	return "", h.makeFiles()
}

func (h *host) key(name string) string { return h.work.Path("keys", name) }

const modelsDir = "usr/lib/anchorhold/models"

// makeFiles makes what is added to the image.
func (h *host) makeFiles() error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	if err := copyFile(own, h.work.Path("imagetest")); err != nil { // the emulator starts it, too, for the guest's connections
		return err
	}
	const etc, units = "etc/anchorhold", "etc/systemd/system"
	unlocking, agent, state := units+"/anchorhold-agent-unlock.service.d", units+"/anchorhold-agent.service.d", units+"/"+volumeUnit(stateVolume)+".d"
	for to, from := range map[string]string{
		etc + "/root.key.pub": h.key("root.key.pub"), etc + "/publisher.key.pub": h.key("publisher.key.pub"), etc + "/tls.crt": h.work.Path("broker/tls.crt"),
		agent + "/tpm.conf": "systemd/anchorhold-agent.service.d/tpm.conf.example", unlocking + "/tpm.conf": "systemd/anchorhold-agent.service.d/tpm.conf.example",
		agent + "/volume.conf": "systemd/anchorhold-agent.service.d/volume.conf.example", state + "/state.conf": "systemd/anchorhold-volume@.service.d/state.conf.example",
		"usr/lib/anchorhold-imagetest/imagetest": own,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(h.files(to)), 0o755), copyFile(from, h.files(to))); err != nil {
			return err
		}
	}
	for to, text := range map[string]string{
		etc + "/agent.yaml": agentConfig, etc + "/agent-unlock.yaml": unlockConfig, etc + "/volumes.yaml": volumesConfig,
		units + "/imagetest.service": reportUnit, "etc/udev/rules.d/60-imagetest.rules": reportRule,
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(h.files(to)), 0o755), os.WriteFile(h.files(to), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	wants := h.files(units, "multi-user.target.wants")
	return errors.Join(os.Mkdir(wants, 0o755), os.Symlink("/etc/systemd/system/imagetest.service", filepath.Join(wants, "imagetest.service")),
		os.Symlink("/usr/lib/systemd/system/anchorhold-volume@.service", filepath.Join(wants, volumeUnit(scratchVolume))))
}

// copyFile copies contents and mode.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// imageTime is the one time of the images.
var imageTime = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func (h *host) makePackages(ctx context.Context) (string, error) {
	dir := h.work.Path("packages")
	names, err := packages.FromTree(ctx, ".", h.bin, dir, "v0.0.1", imageTime)
	for _, name := range names {
		if strings.HasPrefix(name, "anchorhold-common_") || strings.HasPrefix(name, "anchorhold-agent_") {
			h.debs = append(h.debs, filepath.Join(dir, name))
		}
	}
	return "", err
}

// build makes an image of the files below a directory.
func (h *host) build(ctx context.Context, files, out string) error {
	args := []string{"--name", imageName, "--base", filepath.Join(h.trees, "image.tar"), "--files", files, "--initrd", h.initrd, "--tools", h.work.Tree(), "--out", out,
		"--option", "no_timer_check"} // on a busy host the emulated timer fails the kernel's test of it, which is a panic
	for _, deb := range h.debs {
		args = append(args, "--package", deb)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, "anchorhold-image"), args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", imageTime.Unix()))
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("anchorhold-image: %w\n%s", err, said)
	}
	return nil
}

func (h *host) makeImage(ctx context.Context) (string, error) {
	began := time.Now()
	if err := h.build(ctx, h.files(), h.work.Path("image")); err != nil {
		return "", err
	}
	info, err := os.Stat(h.disk())
	if err != nil {
		return "", err
	}
	if info.Size() > 250<<20 {
		return "", fmt.Errorf("the disk has %d bytes, want at most 250 MiB", info.Size())
	}
	return fmt.Sprintf("%.0f MiB in %.0f s", float64(info.Size())/(1<<20), time.Since(began).Seconds()), nil
}

func (h *host) disk() string { return h.work.Path("image", imageName+".raw") }

// firstBoot is one of the image on this firmware and this TPM, before the broker exists.
func (h *host) firstBoot(ctx context.Context) (string, error) {
	if err := h.work.MakeTPM(ctx, firstTPM); err != nil {
		return "", err
	}
	found, err := h.boot(ctx, machine{name: "first", tpm: firstTPM, disk: h.disk()}, func(f finding, _ *boot) bool { return f.What == foundUnlocking })
	if err != nil {
		return "", err
	}
	log, err := found.data(foundLog)
	if err != nil {
		return "", err
	}
	named := regexp.MustCompile(`the name of the attestation key is ([0-9a-f]+)`).FindStringSubmatch(found.said())
	if named == nil {
		return "", fmt.Errorf("the agent names no key\n%s", found.lines(40))
	}
	h.keyName = named[1]
	h.golden = h.work.Path("golden.log")
	return found.cost(), os.WriteFile(h.golden, log, 0o644)
}

// measure computes the values and signs them as the publisher, before the boot that they are for.
func (h *host) measure(ctx context.Context) (string, error) {
	text := platformFile(h.work.Path("image", imageName+".efi"), h.disk(), h.golden)
	if err := os.WriteFile(h.work.Path("platform.yaml"), []byte(text), 0o644); err != nil {
		return "", err
	}
	out, err := emulator.Command(ctx, filepath.Join(h.bin, "anchorhold-measure"), "--platform", h.work.Path("platform.yaml"), "--key", h.work.Path("keys/publisher.key"),
		"--credential-file", h.work.Path("keys/publisher.kek"), "--out", h.work.Path("values"), "--json")
	if err != nil {
		return "", err
	}
	var statement struct {
		Values []struct {
			ID        string            `json:"id"`
			Registers map[string]string `json:"registers"`
		} `json:"values"`
	}
	if err := json.Unmarshal(out, &statement); err != nil {
		return "", err
	}
	for _, v := range statement.Values {
		if v.ID == valuesName+"/vtpm/ready" {
			h.computed = v.Registers
		}
	}
	if len(h.computed) != 4 {
		return "", fmt.Errorf("got %d registers of the end of a boot, want pcr4, pcr7, pcr11 and pcr12:\n%s", len(h.computed), out)
	}
	return "", nil
}

func (h *host) startBroker(ctx context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	h.port = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	operator := h.work.Path("operator.sock")
	if err := errors.Join(os.WriteFile(h.work.Path("broker.yaml"), []byte(brokerConfig(h.work.Path("broker"), h.port, operator, h.keyName)), 0o600),
		os.WriteFile(h.work.Path("policy.yaml"), []byte(policyFile), 0o644)); err != nil {
		return "", err
	}
	log, err := os.Create(h.work.Path("broker.log"))
	if err != nil {
		return "", err
	}
	defer log.Close() // the broker has its own
	h.broker = exec.Command(filepath.Join(h.bin, "anchorhold-broker"), "run", "--config", h.work.Path("broker.yaml"))
	h.broker.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+h.work.Path("credentials"))
	h.broker.Stdout, h.broker.Stderr, h.broker.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := h.broker.Start(); err != nil {
		return "", err
	}
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.broker.Wait() }()
	if err := h.awaitBroker(ctx, operator); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"secret", "put", "volumes/" + stateVolume, "--file", h.key("var.key")},
		{"secret", "put", "agents/queue", "--file", h.key("queue.key")},
		{"secret", "put", "models/digits", "--file", h.work.Path("keys/digits.key"), "--model", h.files("usr/lib/anchorhold/models/digits.ahm")},
		{"policy", "values", "import", h.work.Path("values"), "--signer", h.work.Path("keys/publisher.key.pub")},
		{"policy", "import", h.work.Path("policy.yaml")},
	} {
		if _, err := h.operate(ctx, args...); err != nil {
			return "", err
		}
	}
	return "on " + h.port, nil
}

// operate runs a command of an operator of the broker.
func (h *host) operate(ctx context.Context, args ...string) ([]byte, error) {
	return h.tool(ctx, append(args, "--broker="+h.work.Path("operator.sock"))...)
}

func (h *host) awaitBroker(ctx context.Context, operator string) error {
	for {
		if _, err := os.Stat(operator); err == nil {
			return nil
		}
		select {
		case err := <-h.ended:
			h.ended <- err
			log, _ := os.ReadFile(h.work.Path("broker.log")) // what there is
			return fmt.Errorf("the broker ended: %w\n%s", err, log)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (h *host) stopBroker() error {
	if h.broker == nil || h.broker.Process == nil {
		return nil
	}
	if err := h.broker.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-h.ended
	return nil
}
