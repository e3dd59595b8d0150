package volume

import (
	"os"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonCrypttab means that crypttab would not have the volume opened by its validated header.
const ReasonCrypttab refusal.Reason = "volume-crypttab"

// checkCrypttab requires that crypttab(5) opens a volume by its validated header. Without that option systemd-cryptsetup
// reads the header of the device, with the key that the agent hands out because a valid header is there: whatever the
// host writes into it by then, the null cipher too.
func checkCrypttab(path, volume, header string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return refusal.New(ReasonCrypttab, "%w", err)
	}
	found := false
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || fields[0] != volume {
			continue
		}
		if found = true; len(fields) != 4 {
			return refusal.New(ReasonCrypttab, "%s: %s has %d fields, want 4, the last with header=%s", path, volume, len(fields), header)
		}
		headers := 0
		for option := range strings.SplitSeq(fields[3], ",") {
			if strings.HasPrefix(option, "header=") {
				headers++
			}
			// Other types have headers of their own, or none.
			if name, _, _ := strings.Cut(option, "="); slices.Contains([]string{"plain", "tcrypt", "bitlk"}, name) || strings.HasPrefix(name, "tcrypt-") {
				return refusal.New(ReasonCrypttab, "%s: %s has the option %s, want a volume of LUKS", path, volume, option)
			}
		}
		if headers != 1 || !slices.Contains(strings.Split(fields[3], ","), "header="+header) || strings.Contains(fields[3], `\`) {
			return refusal.New(ReasonCrypttab, "%s: %s lacks the option header=%s, has another, or a backslash", path, volume, header)
		}
	}
	if !found {
		return refusal.New(ReasonCrypttab, "%s has no volume %s", path, volume)
	}
	return nil
}
