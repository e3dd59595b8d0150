package initrd

import (
	"encoding/hex"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons of the command line.
const (
	// ReasonRootHash: there is not exactly one root hash of 64 lower-case hexadecimal digits.
	ReasonRootHash refusal.Reason = "root-hash-missing"
	// ReasonOption: an option would change what is started, or is one of this program's that it does not know.
	ReasonOption refusal.Reason = "boot-option-refused"
	// ReasonCredentials: systemd would take credentials from the host.
	ReasonCredentials refusal.Reason = "host-credentials-allowed"
)

const (
	maxCommandLine = 4096 // of the kernel, which says COMMAND_LINE_SIZE
	rootHashOption = "roothash"
	// noCredentials keeps systemd from reading credentials out of what the hypervisor hands over and of the command line. It is
	// required: without it whoever starts the machine sets passwords, units and files in it.
	noCredentials = "systemd.import_credentials=no"
)

// refusedOptions are those by which someone who adds to the command line would choose what runs. The kernel's own
// are left alone: what the publisher wrote is measured, and what a host adds is measured in PCR 12. So are those by which
// this program is not started at all, such as rdinit= of a file that is not there. Dashes are underscores here.
func refusedOptions() []string {
	return []string{"init", "rdinit", "root", "rootfstype", "rootflags", "usr", "resume", "single", "s", "S", "1", "2", "3", "4", "5", "_b", "b", "emergency", "rescue", "_s", "__", "fsck.mode", "fstab", "modules_load"}
}

// refusedPrefixes are the families of such options, and this program's own, of which there are none but the root hash.
func refusedPrefixes() []string {
	return []string{"systemd.", "rd.", "luks", "udev.", "mount.", "ip=", "nameserver=", "ifname=", "anchorhold", rootHashOption}
}

// CommandLine is what this program takes from the kernel's.
type CommandLine struct {
	// RootHash is that of dm-verity.
	RootHash [32]byte
}

// ParseCommandLine reads the kernel's command line. It must have one root hash, no option that changes what is started, and
// must keep systemd from importing credentials.
func ParseCommandLine(text string) (c CommandLine, err error) {
	text = strings.TrimSuffix(text, "\n")
	if len(text) > maxCommandLine {
		return c, refusal.New(ReasonOption, "the command line has %d bytes, want at most %d", len(text), maxCommandLine)
	}
	// The kernel, systemd and this program tell words apart differently where there are quotes, or spaces other than the one of
	// ASCII: to the kernel a byte 0xa0 is one, to systemd a vertical tab is none.
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune("\"'\\", r) }); i >= 0 {
		return c, refusal.New(ReasonOption, "the command line has quotes, backslashes, or bytes that are not visible ASCII, from byte %d on", i)
	}
	hashes, kept := 0, false
	for _, word := range strings.Fields(text) {
		value, isHash := strings.CutPrefix(word, rootHashOption+"=")
		switch {
		case isHash:
			hashes++
			if len(value) != 2*len(c.RootHash) || strings.ToLower(value) != value {
				return c, refusal.New(ReasonRootHash, "roothash=%s: want 64 lower-case hexadecimal digits", value)
			}
			if _, err := hex.Decode(c.RootHash[:], []byte(value)); err != nil {
				return c, refusal.New(ReasonRootHash, "roothash=%s: %w", value, err)
			}
		case word == noCredentials:
			kept = true
		case refused(word):
			return c, refusal.New(ReasonOption, "%s: it is not for the command line of this image", word)
		}
	}
	switch {
	case hashes != 1:
		return c, refusal.New(ReasonRootHash, "the command line has %d root hashes, want one: roothash=", hashes)
	case !kept:
		return c, refusal.New(ReasonCredentials, "the command line lacks %s", noCredentials)
	}
	return c, nil
}

// refused says whether a word is an option that is refused.
func refused(word string) bool {
	word = strings.ReplaceAll(word, "-", "_") // which are the same to the kernel and to systemd
	name, _, _ := strings.Cut(word, "=")
	for _, option := range refusedOptions() {
		if name == option {
			return true
		}
	}
	for _, prefix := range refusedPrefixes() {
		if strings.HasPrefix(word, prefix) {
			return true
		}
	}
	return false
}
