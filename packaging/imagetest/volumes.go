package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Files of the disks of volumes.
const (
	stateDisk   = stateVolume + ".disk"
	scratchDisk = scratchVolume + ".disk"
	olderDisk   = stateVolume + ".older" // as it was after the first boot with it
	forgedDisk  = forgedVolume + ".disk"
)

// makeDisk makes an empty disk for a volume.
func (h *host) makeDisk(name string) error {
	f, err := os.Create(h.work.Path(name))
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(volumeBytes), f.Close())
}

// withVolumes is the measured image with its disks.
func (h *host) withVolumes(name string, more ...string) machine {
	return machine{name: name, tpm: firstTPM, disk: h.disk(), volumes: map[string]string{stateVolume: stateDisk, scratchVolume: scratchDisk}, more: more}
}

// laterBoots is what -only has to match for those with the volume.
const laterBoots = "later boots with the volume"

// tryVolumes boots the measured image, once with an empty disk and then with what the boots before left there, or a host did. Each
// machine ends as in a power cut.
func (h *host) tryVolumes(ctx context.Context) error {
	steps := []step{
		{"measured boot: keys are released, the volume is made and the classifier answers:", h.measuredBoot},
		{"power cut between the volume's generation and the broker's:", h.cutBoot},
		{"next boot, with generation 3 and the agent's state of the first:", h.nextBoot},
		{"the volume's disk as it was before, and a header of the host's: refused", h.refusedVolumes},
		{"after anchorhold volume reset, that disk is opened:", h.resetBoot},
	}
	if !h.only.MatchString(laterBoots) {
		steps = steps[:1]
	}
	return h.follow(ctx, steps) // each needs what those before it left
}

// cutBoot turns the machine off while the broker has not heard of the generation that the volume has.
func (h *host) cutBoot(ctx context.Context) (string, error) {
	if err := copyFile(h.work.Path(stateDisk), h.work.Path(olderDisk)); err != nil {
		return "", err
	}
	m := h.withVolumes("cut")
	m.cut = true
	b, err := h.boot(ctx, m, func(f finding, _ *boot) bool { return f.What == foundVolumes })
	if err != nil {
		return "", err
	}
	if !b.wasCut {
		return "", fmt.Errorf("the volume was opened or refused without the broker\n%s", b.lines(40))
	}
	return b.cost(), h.generation(ctx, 1)
}

// nextBoot opens the volume after the power cut: generation 2 is in it, and no broker ever confirmed it.
func (h *host) nextBoot(ctx context.Context) (string, error) {
	b, err := h.boot(ctx, h.withVolumes("next"), func(f finding, _ *boot) bool { return f.What == foundAnswer || f.What == foundForged })
	if err != nil {
		return "", err
	}
	h.usual = b
	if err := errors.Join(b.opened([]string{"broker-epoch"}), b.answered(), h.generation(ctx, 3)); err != nil {
		return "", err
	}
	proof, err := b.data(foundKept)
	if err == nil && !bytes.Equal(proof, h.proof) {
		err = fmt.Errorf("the proof of the first boot's answer was %s and is %s", h.proof, proof)
	}
	return b.cost(), err
}

// refusedVolumes is the host that puts the older disk back, and writes a header that says that nothing is encrypted.
func (h *host) refusedVolumes(ctx context.Context) (string, error) {
	older, err := os.ReadFile(h.work.Path(olderDisk))
	if err != nil {
		return "", err
	}
	forged, err := nullCipher(older)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(h.work.Path(forgedDisk), forged, 0o600); err != nil {
		return "", err
	}
	m := h.withVolumes("older")
	m.volumes = map[string]string{stateVolume: olderDisk, forgedVolume: forgedDisk, scratchVolume: scratchDisk}
	b, err := h.boot(ctx, m, func(f finding, _ *boot) bool { return f.What == foundForged || f.What == foundLive })
	if err != nil {
		return "", err
	}
	if _, live := b.last(foundLive); live {
		return "", errors.New("the agent runs on the older volume")
	}
	if f, _ := b.last(foundForged); f.Error == "" {
		return "", errors.New("the volume without a cipher was opened")
	}
	var reasons []string
	for advice, reason := range map[string]string{"anchorhold volume reset volumes/" + stateVolume: "volume-rolled-back", "volume open failed volume=" + forgedVolume: "luks-cipher"} {
		line := lineWith(b.said(), advice)
		if !strings.Contains(line, reason) {
			return "", fmt.Errorf("the console does not say %q with %s\n%s", advice, reason, b.lines(40))
		}
		reasons = append(reasons, colours.ReplaceAllString(line, ""))
	}
	return b.cost() + "\n" + strings.Join(reasons, "\n"), h.generation(ctx, 3)
}

// colours are what the service manager writes on a console besides words.
var colours = regexp.MustCompile(`\x1b\[[0-9;:]*m`)

// resetBoot opens the older disk after the operator allowed it.
func (h *host) resetBoot(ctx context.Context) (string, error) {
	if _, err := h.operate(ctx, "volume", "reset", "volumes/"+stateVolume); err != nil {
		return "", err
	}
	m := h.withVolumes("reset")
	m.volumes[stateVolume] = olderDisk
	b, err := h.boot(ctx, m, func(f finding, _ *boot) bool { return f.What == foundVolumes })
	if err != nil {
		return "", err
	}
	return b.cost(), errors.Join(b.opened([]string{"broker-epoch"}), h.generation(ctx, 4))
}

// opened checks that both volumes are mounted, encrypted and authenticated, and what is on them from boots before.
func (b *boot) opened(kept []string) error {
	data, err := b.data(foundVolumes)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, b.lines(40))
	}
	var v volumeFindings
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	for mount, volume := range map[string]string{stateMount: stateVolume, scratchMount: scratchVolume} {
		if v.Mounts[mount] != "/dev/mapper/anchorhold-"+volume {
			return fmt.Errorf("%s has %q, want the volume %s", mount, v.Mounts[mount], volume)
		}
		line := lineWith(v.Tables, "anchorhold-"+volume+":")
		if !strings.Contains(line, " crypt ") || !strings.Contains(line, "integrity:") {
			return fmt.Errorf("the volume %s is not encrypted with authentication: %s", volume, v.Tables)
		}
	}
	if len(v.Left) > 0 {
		return fmt.Errorf("the volume for one boot has %q of an earlier one", v.Left)
	}
	for _, want := range kept {
		if !strings.Contains(strings.Join(v.Kept, "\n"), want) {
			return fmt.Errorf("the agent's state has %q of earlier boots, want %s", v.Kept, want)
		}
	}
	if kept == nil && len(v.Kept) > 0 {
		return fmt.Errorf("the agent's state of a new volume has %q of earlier boots", v.Kept)
	}
	return nil
}

// generation checks which one the broker confirmed last.
func (h *host) generation(ctx context.Context, want uint64) error {
	out, err := h.operate(ctx, "volume", "list")
	if err == nil && !strings.Contains(string(out), fmt.Sprintf("volumes/%s\n  generation %d,", stateVolume, want)) {
		err = fmt.Errorf("the broker does not list generation %d: %s", want, out)
	}
	return err
}

// nullCipher is a copy of a LUKS2 volume whose header says, in both copies and with right checksums, that its sectors are not encrypted.
// Any key would open it.
func nullCipher(volume []byte) ([]byte, error) {
	const sizeAt, sumAt, sumBytes, least = 8, 448, 64, 4096 // as cryptsetup's LUKS2 On-Disk Format Specification has them
	forged := bytes.Clone(volume)
	size := binary.BigEndian.Uint64(forged[sizeAt:])
	if size < least || size > uint64(len(forged)/2) {
		return nil, fmt.Errorf("the volume has no LUKS2 header: its size would be %d", size)
	}
	for i := range uint64(2) {
		header := forged[i*size : (i+1)*size]
		segments := bytes.Index(header, []byte(`"segments"`))
		cipher, null := []byte("aes-xts-plain64"), []byte("cipher_null-ecb")
		at := bytes.Index(header[max(segments, 0):], cipher)
		if segments < 0 || at < 0 {
			return nil, fmt.Errorf("copy %d of the header has no segment with %s", i+1, cipher)
		}
		copy(header[segments+at:], null)
		clear(header[sumAt : sumAt+sumBytes])
		sum := sha256.Sum256(header)
		copy(header[sumAt:], sum[:])
	}
	return forged, nil
}
