package initrd

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"golang.org/x/sys/unix"
)

// ReasonVariable means that the firmware has a variable by which systemd would take options from the host.
const ReasonVariable refusal.Reason = "host-options-set"

const (
	variablesDir = "/sys/firmware/efi/efivars"
	// optionsVariable is a second command line to systemd (SystemdOptions, up to version 257): whoever owns the
	// firmware's variables mounts disks over directories with it, and no PCR has it.
	optionsVariable = "SystemdOptions"
)

// checkVariables refuses to go on if the firmware's variables have options. They stay mounted, under /sys: the kernel has listed
// them by then, so that systemd finds no other ones later.
func checkVariables() error {
	if _, err := os.Stat(variablesDir); errors.Is(err, fs.ErrNotExist) {
		return nil // no UEFI, or none that has variables now
	}
	err := unix.Mount("efivarfs", variablesDir, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // the firmware offers none, which is so for systemd too
	}
	if err != nil {
		return refusal.New(ReasonMount, "%s: %w", variablesDir, err)
	}
	return CheckVariables(os.DirFS(variablesDir))
}

// CheckVariables refuses firmware whose variables, each a file called after its name and its vendor, have options for systemd.
func CheckVariables(variables fs.FS) error {
	files, err := fs.ReadDir(variables, ".")
	if err != nil {
		return refusal.New(ReasonVariable, "list the firmware's variables: %w", err)
	}
	for _, file := range files {
		if name := file.Name(); strings.EqualFold(name[:min(len(name), len(optionsVariable))], optionsVariable) {
			return refusal.New(ReasonVariable, "the firmware's variable %.100q would be options of systemd: delete it", name)
		}
	}
	return nil
}
