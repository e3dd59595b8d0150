// Package doctor is the command that examines a machine and says what it lacks. It changes
// nothing.
package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/worker/linkage"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/clock"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/spf13/cobra"
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// finding is one line of doctor: what was looked at, what it means, what to do.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"` // "ok", "note" or "lacking"
	Found   string `json:"found"`
	Advice  string `json:"advice,omitempty"`
}

// New is the command "doctor".
func New(inv *cli.Invocation) *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine lacks for agent or broker, and what to do",
		Long: `Looks at the TEE devices, kernel features, limits, processor and credentials
of this machine. Changes nothing and needs no privilege. Exit status 3 when the
machine lacks something that a production agent needs.`,
		Example: "  anchorhold doctor\n  anchorhold doctor --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			findings := examine(root)
			err := inv.Print(c.OutOrStdout(), findings, func(w io.Writer) {
				for _, f := range findings {
					fmt.Fprintf(w, "%-8s %-22s %s\n", f.Verdict, f.Check, f.Found)
					if f.Advice != "" {
						fmt.Fprintf(w, "%31s %s\n", "->", f.Advice)
					}
				}
			})
			if err == nil && slices.ContainsFunc(findings, func(f finding) bool { return f.Verdict == "lacking" }) {
				err = fmt.Errorf("%w: this machine lacks what a production agent needs (see above)", cli.ErrRefused)
			}
			return err
		},
	}
	c.Flags().StringVar(&root, "root", "/", "examine the tree below this directory instead (for images)")
	return c
}

func examine(root string) []finding {
	return []finding{
		examineTEE(root), examineClock(root), examineLockLimit(), examineKeyMemory(), examineHugePages(root), examineSwap(root),
		examineCPU(), examineCgroup(root), examineCredentials(), examineWorker(root),
	}
}

func examineTEE(root string) finding {
	f := finding{Check: "TEE evidence"}
	tsm := filepath.Join(root, "sys/kernel/config/tsm/report")
	entries, err := os.ReadDir(tsm)
	switch {
	case err == nil:
		f.Verdict, f.Found = "ok", fmt.Sprintf("configfs-tsm at %s (%d entries)", tsm, len(entries))
	case exists(filepath.Join(root, "dev/sev-guest")):
		f.Verdict, f.Found = "lacking", "/dev/sev-guest exists, configfs-tsm does not"
		f.Advice = "load the module tsm (Linux 6.7 or later) and mount configfs: modprobe sev-guest tsm; mount -t configfs configfs /sys/kernel/config"
	case exists(filepath.Join(root, "dev/tdx_guest")):
		f.Verdict, f.Found = "lacking", "an Intel TDX guest; this version collects SEV-SNP evidence only"
		f.Advice = "use an AMD SEV-SNP guest"
	default:
		f.Verdict, f.Found = "lacking", "no /dev/sev-guest, no configfs-tsm: this is not a confidential VM, or its modules are not loaded"
		f.Advice = "start the VM with SEV-SNP; for development use the software TEE (make demo)"
	}
	return f
}

// examineClock says what a lease's end is worth here. It is a note and never
// lacking: the broker's own clock decides about renewals.
func examineClock(root string) finding {
	f := finding{Check: "clock", Verdict: "note"}
	switch source := clock.Source(root); {
	case source.HostProof():
		f.Verdict, f.Found = "ok", source.String()+": the host can neither slow nor stop the clock that leases are counted on"
	case source == evidence.ClockUnknown:
		f.Found = "the kernel does not say what it counts time with"
		f.Advice = "a guest with such a clock is refused where a policy asks for a clock source"
	default:
		f.Found = source.String() + ": the host can slow the clock that leases are counted on"
		f.Advice = "it cannot renew a lease by that, only keep one going inside the guest; Secure TSC (Linux 6.14 or later in the guest) prevents it, see docs/operations.md"
	}
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func examineLockLimit() finding {
	f := finding{Check: "lockable memory"}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		f.Verdict, f.Found = "note", err.Error()
		return f
	}
	if limit.Cur == unix.RLIM_INFINITY {
		f.Verdict, f.Found = "ok", "unlimited"
		return f
	}
	f.Verdict, f.Found = "note", fmt.Sprintf("%d KiB for this shell", limit.Cur>>10)
	f.Advice = "the unit file sets LimitMEMLOCK=infinity; elsewhere weights that do not fit the limit stay unlocked, with a warning"
	return f
}

func examineKeyMemory() finding {
	f := finding{Check: "key memory"}
	b, err := keybuf.New(32)
	if err != nil {
		f.Verdict, f.Found = "lacking", err.Error()
		f.Advice = "raise the limit of lockable memory (ulimit -l)"
		return f
	}
	defer b.Wipe()
	f.Verdict, f.Found = "ok", b.Protection().String()
	return f
}

func examineHugePages(root string) finding {
	f := finding{Check: "huge pages"}
	data, err := os.ReadFile(filepath.Join(root, "sys/kernel/mm/transparent_hugepage/enabled"))
	switch {
	case err != nil:
		f.Verdict, f.Found = "note", "the kernel has no transparent huge pages"
		f.Advice = "decoding is up to a third slower without 2 MiB pages"
	case strings.Contains(string(data), "[never]"):
		f.Verdict, f.Found = "note", "transparent huge pages are off"
		f.Advice = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; decoding is up to a third slower without"
	default:
		f.Verdict, f.Found = "ok", strings.TrimSpace(string(data))
	}
	return f
}

func examineSwap(root string) finding {
	data, err := os.ReadFile(filepath.Join(root, "proc/swaps"))
	if err == nil && strings.Count(string(data), "\n") > 1 {
		return finding{Check: "swap", Verdict: "note", Found: "swap is on", Advice: "the unit file sets MemorySwapMax=0 for the agent; a guest without swap is safer still"}
	}
	return finding{Check: "swap", Verdict: "ok", Found: "off"}
}

func examineCPU() finding {
	f := finding{Check: "processor", Verdict: "ok"}
	switch {
	case runtime.GOARCH != "amd64":
		f.Verdict, f.Found, f.Advice = "note", runtime.GOARCH+": plain Go kernels", "expect a fraction of the speed of x86-64 with AVX2"
	case cpu.X86.HasAVX512VNNI && cpu.X86.HasAVX512BW:
		f.Found = "AVX-512 with VNNI: the fastest kernels"
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		f.Found = "AVX2 kernels"
	default:
		f.Verdict, f.Found, f.Advice = "note", "no AVX2: plain Go kernels", "expect a small fraction of the usual speed"
	}
	if runtime.GOARCH == "amd64" && !cpu.X86.HasAES {
		f.Verdict, f.Advice = "note", "no AES instructions: opening sealed weights will be slow"
	}
	return f
}

func examineCgroup(root string) finding {
	if exists(filepath.Join(root, "sys/fs/cgroup/cgroup.controllers")) {
		return finding{Check: "control groups", Verdict: "ok", Found: "version 2: systemd can enforce MemoryMax"}
	}
	return finding{Check: "control groups", Verdict: "note", Found: "version 1", Advice: "the unit's MemoryMax needs version 2 (systemd.unified_cgroup_hierarchy=1); the agent keeps its own budget in any case"}
}

// examineWorker looks at the program that the workers' unit starts, or the agent where its
// configuration names one.
func examineWorker(root string) finding {
	f := finding{Check: "worker"}
	program := settings.WorkersUnit
	cfg, _, err := settings.Read(filepath.Join(root, "etc/anchorhold/agent.yaml"))
	if err == nil && cfg.Workers.Path != "" {
		program = cfg.Workers.Path
	}
	switch err := linkage.Static(filepath.Join(root, program)); {
	case err == nil:
		f.Verdict, f.Found = "ok", program+" is linked statically"
	case errors.Is(err, fs.ErrNotExist):
		f.Verdict, f.Found, f.Advice = "note", "there is no "+program, "agents that make proofs or take part in federated rounds need it"
	case errors.Is(err, linkage.ErrDynamic):
		f.Verdict, f.Found = "lacking", err.Error()
		f.Advice = "anchorhold-worker@.service starts no such program: it would end with 203/EXEC in the journal and without a word to the agent"
	default:
		f.Verdict, f.Found, f.Advice = "lacking", err.Error(), "install the anchorhold-worker of this build"
	}
	return f
}

func examineCredentials() finding {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return finding{Check: "systemd credentials", Verdict: "note", Found: "none for this process", Advice: "the broker takes its key-encryption key from LoadCredentialEncrypted=; see docs/operations.md"}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return finding{Check: "systemd credentials", Verdict: "note", Found: err.Error()}
	}
	return finding{Check: "systemd credentials", Verdict: "ok", Found: fmt.Sprintf("%d in %s", len(entries), dir)}
}
