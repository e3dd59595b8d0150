package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/packaging/emulator"
)

// hostOffers is what a host may try besides: credentials for systemd. They change no register of the policy, and have no effect.
func hostOffers() []string {
	return []string{"-smbios", "type=11,value=io.systemd.credential:" + hostCredential + "=from-the-host", "-fw_cfg", "name=opt/io.systemd.credentials/" + hostCredential + ",string=from-the-host"}
}

// measuredBoot is the boot for which the values were computed, and the first that has volumes.
func (h *host) measuredBoot(ctx context.Context) (string, error) {
	if err := errors.Join(h.makeDisk(stateDisk), h.makeDisk(scratchDisk)); err != nil {
		return "", err
	}
	b, err := h.boot(ctx, h.withVolumes("measured", hostOffers()...), func(f finding, _ *boot) bool { return f.What == foundProof || f.What == foundForged })
	if err != nil {
		log, _ := os.ReadFile(h.work.Path("broker.log")) // what there is
		return "", fmt.Errorf("%w\nthe broker's log:\n%s", err, log)
	}
	if err := b.opened(nil); err != nil {
		return "", err
	}
	if err := b.answered(); err != nil {
		return "", err
	}
	if h.proof, err = b.data(foundProof); err != nil {
		return "", err
	}
	if err := h.nothingElse(b); err != nil {
		return "", err
	}
	quoted, err := h.quoted(ctx, b)
	if err != nil {
		return "", err
	}
	if err := h.compare(quoted); err != nil {
		return "", err
	}
	if err := h.confirm(ctx); err != nil {
		return "", err
	}
	h.usual = b
	return b.cost(), nil
}

// answered checks the classifier's answer.
func (b *boot) answered() error {
	answer, err := b.data(foundAnswer)
	if err != nil {
		return err
	}
	_, err = receiptOf(answer)
	return err
}

// nothingElse checks that systemd took nothing from the host, and that nothing listens.
func (h *host) nothingElse(b *boot) error {
	taken, err := b.data(foundHostInput)
	if err != nil {
		return err
	}
	if strings.Contains(string(taken), hostCredential) {
		return fmt.Errorf("systemd took credentials from the host: %s", taken)
	}
	sockets, err := b.data(foundListeners)
	if err != nil {
		return err
	}
	const state, listening = 3, "0A" // columns of /proc/net/tcp
	for line := range strings.Lines(string(sockets)) {
		if fields := strings.Fields(line); len(fields) > state && fields[state] == listening {
			return fmt.Errorf("the guest listens: %s", line)
		}
	}
	return nil
}

// quoted are the registers of the evidence that the agent made in the guest, verified here.
func (h *host) quoted(ctx context.Context, b *boot) (map[string]string, error) {
	raw, err := b.data(foundAttestation)
	if err != nil {
		return nil, err
	}
	var attestation struct {
		ReportData string `json:"report_data"`
		Evidence   []byte `json:"evidence"`
	}
	if err := json.Unmarshal(raw, &attestation); err != nil {
		return nil, err
	}
	file := h.work.Path("evidence.bin")
	if err := os.WriteFile(file, attestation.Evidence, 0o644); err != nil {
		return nil, err
	}
	if _, err := h.tool(ctx, "evidence", "verify", file, "--enrolled-ak", h.keyName, "--registers", h.work.Path("quoted.json")); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(h.work.Path("quoted.json"))
	if err != nil {
		return nil, err
	}
	var quoted map[string]string
	return quoted, json.Unmarshal(text, &quoted)
}

// compare prints the table.
func (h *host) compare(quoted map[string]string) error {
	fmt.Printf("\n%-8s %-64s %-64s %s\n", "register", "computed before the boot", "quoted in it", "equal")
	same := true
	for _, name := range slices.SortedFunc(maps.Keys(h.computed), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) {
		equal := quoted[name] == h.computed[name]
		same = same && equal
		fmt.Printf("%-8s %-64s %-64s %s\n", name, h.computed[name], quoted[name], map[bool]string{true: "yes", false: "NO"}[equal])
	}
	fmt.Println()
	if !same {
		return errors.New("the guest measured otherwise than was computed")
	}
	return nil
}

// confirm has the publisher's program mark the values as seen in a boot.
func (h *host) confirm(ctx context.Context) error {
	out, err := emulator.Command(ctx, filepath.Join(h.bin, "anchorhold-measure"), "--platform", h.work.Path("platform.yaml"), "--booted", h.work.Path("quoted.json"), "--json")
	if err != nil {
		return err
	}
	if !strings.Contains(string(out), `"pcr11": "boot"`) {
		return fmt.Errorf("anchorhold-measure --booted marks nothing: %s", out)
	}
	return nil
}
