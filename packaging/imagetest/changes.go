package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// change is one place in which an image, or how it is started, differs from what was measured.
type change struct {
	name string
	// make makes the disk of it, and says what the emulator is told besides.
	make func(context.Context, *host, string) (disk string, more []string, err error)
	// reason is what the agent says of its last attempt; empty where the guest must not come that far.
	reason string
	// console is what is on the console; empty for nothing in particular.
	console string
}

// changes are those that must be refused.
var changes = []change{
	{"a byte of the command line in the unified kernel image", changeCommandLine, "measurement-not-allowed", ""},
	{"a byte of the root", changeRoot, "", "verity"},
	{"another program of the agent", changeAgent, "measurement-not-allowed", ""},
	{"another root key of the broker", changeRootKey, "broker-unknown", ""},
	{"a word that the host adds to the command line", addWord, "measurement-not-allowed", ""},
	{"a shell that the host adds to the command line", addShell, "", "boot-option-refused"},
	{"a disk that the host mounts by a variable of the firmware", addVariable, "", "host-options-set"},
}

func (h *host) tryChanges(ctx context.Context) error {
	var errs []error
	for i, c := range changes {
		if !h.only.MatchString(c.name) {
			continue
		}
		detail, err := h.try(ctx, fmt.Sprintf("changed%d", i), c)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			h.say("FAILED   %s\n%v", c.name, err)
			continue
		}
		h.say("refused  %s: %s", c.name, detail)
	}
	return errors.Join(errs...)
}

// try boots a changed image; it must not get the volume's key, and has to say why.
func (h *host) try(ctx context.Context, name string, c change) (string, error) {
	disk, more, err := c.make(ctx, h, name)
	if err != nil {
		return "", err
	}
	defer os.Remove(disk) // the directory goes anyway
	if err := h.makeDisk(name + "." + stateVolume); err != nil {
		return "", err
	}
	m := machine{name: name, tpm: changesTPM, disk: disk, volumes: map[string]string{stateVolume: name + "." + stateVolume}, volatile: true, more: more}
	b, err := h.boot(ctx, m, func(f finding, _ *boot) bool {
		why := refusedFor(f)
		return f.What == foundVolumes || why != "" && why != connectionFailed
	})
	if err != nil {
		return "", err
	}
	if _, open := b.last(foundVolumes); open {
		return "", fmt.Errorf("the guest was not refused\n%s", b.lines(40))
	}
	f, _ := b.last(foundStatus)
	_, live := b.last(foundUnlocking)
	got := refusedFor(f)
	switch {
	case c.reason != "" && !strings.Contains(got, c.reason):
		return "", fmt.Errorf("got the reason %q, want %s\n%s", got, c.reason, b.lines(40))
	case c.reason == "" && live:
		return "", errors.New("the agent came as far as to say that it is there")
	case !strings.Contains(b.said(), c.console):
		return "", fmt.Errorf("the console does not mention %q\n%s", c.console, b.lines(40))
	}
	if c.reason != "" {
		return fmt.Sprintf("%s (%s)", got, b.cost()), nil
	}
	return fmt.Sprintf("off: %s (%s)", lineWith(b.said(), c.console), b.cost()), nil
}

// connectionFailed is the reason of an agent that asks before the network is there. It asks again.
const connectionFailed = "connection-failed"

// refusedFor is why the agent got no lease, of a finding of its status.
func refusedFor(f finding) string {
	var status struct {
		LastRefusal struct {
			Reason string `json:"reason"`
		} `json:"last_refusal"`
	}
	if f.What != foundStatus || json.Unmarshal(f.Data, &status) != nil {
		return ""
	}
	return status.LastRefusal.Reason
}

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// patched is a copy of the disk in which one place is replaced by as many bytes.
func (h *host) patched(name string, old, by []byte) (string, error) {
	raw, err := os.ReadFile(h.disk())
	if err != nil {
		return "", err
	}
	at := bytes.Index(raw, old)
	if at < 0 || len(old) != len(by) {
		return "", fmt.Errorf("the disk has no %q, or its replacement is of another length", old)
	}
	copy(raw[at:], by)
	disk := h.work.Path(name + ".raw")
	return disk, os.WriteFile(disk, raw, 0o644)
}

func changeCommandLine(_ context.Context, h *host, name string) (string, []string, error) {
	disk, err := h.patched(name, []byte("quiet loglevel=4"), []byte("quiet loglevel=3"))
	return disk, nil, err
}

// changeRoot changes a byte of the agent's program, in words that it holds once.
func changeRoot(_ context.Context, h *host, name string) (string, []string, error) {
	words := []byte("the name of the attestation key is ")
	disk, err := h.patched(name, words, append([]byte("T"), words[1:]...))
	return disk, nil, err
}

// rebuilt is the disk of an image with other files.
func (h *host) rebuilt(ctx context.Context, name string, edit func(files string) error) (string, error) {
	files, out := h.work.Path(name+".files"), h.work.Path(name+".image")
	if err := os.CopyFS(files, os.DirFS(h.files())); err != nil {
		return "", err
	}
	if err := edit(files); err != nil {
		return "", err
	}
	return filepath.Join(out, imageName+".raw"), h.build(ctx, files, out)
}

func changeAgent(ctx context.Context, h *host, name string) (string, []string, error) {
	disk, err := h.rebuilt(ctx, name, func(files string) error {
		to := filepath.Join(files, "usr/bin/anchorhold-agent")
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		program, err := os.ReadFile(filepath.Join(h.bin, "anchorhold-agent"))
		if err != nil {
			return err
		}
		return os.WriteFile(to, append(program, 0), 0o755)
	})
	return disk, nil, err
}

func changeRootKey(ctx context.Context, h *host, name string) (string, []string, error) {
	other := h.work.Path("keys/other-root.key")
	if _, err := h.tool(ctx, "keygen", "broker", "--state", h.work.Path("other-broker"), "--root", other, "--host", "127.0.0.1", "--credential-file", h.work.Path("credentials/broker.kek")); err != nil {
		return "", nil, err
	}
	disk, err := h.rebuilt(ctx, name, func(files string) error {
		return copyFile(other+".pub", filepath.Join(files, "etc/anchorhold/root.key.pub"))
	})
	return disk, nil, err
}

// stubWords has systemd-stub add words to the command line, as any host can.
func stubWords(words string) []string {
	return []string{"-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=" + words}
}

func addWord(_ context.Context, h *host, name string) (string, []string, error) {
	disk := h.work.Path(name + ".raw")
	return disk, stubWords("loglevel=5"), copyFile(h.disk(), disk)
}

func addShell(_ context.Context, h *host, name string) (string, []string, error) {
	disk := h.work.Path(name + ".raw")
	return disk, stubWords("init=/bin/sh"), copyFile(h.disk(), disk)
}

// addVariable has the host's disk mounted over the broker's root key, by options for systemd of which no PCR tells.
func addVariable(_ context.Context, h *host, name string) (string, []string, error) {
	disk := h.work.Path(name + ".raw")
	raw, err := os.ReadFile(h.variables())
	if err == nil {
		raw, err = withVariable(raw, "SystemdOptions", "systemd.mount-extra=/dev/vdb:/etc/anchorhold:ext4:ro")
	}
	if err != nil {
		return "", nil, err
	}
	return disk, nil, errors.Join(os.WriteFile(h.work.Path(name+".vars"), raw, 0o600), copyFile(h.disk(), disk))
}
