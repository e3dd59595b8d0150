// Package doctor is the command that examines a machine and says what it lacks. It changes
// nothing.
package doctor

import (
	"context"
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

// The words of "doctor".
const (
	doctorUse   = "doctor"
	doctorShort = "Tell what this machine lacks for agent or broker, and what to do"
	doctorLong  = `Looks at the TEE devices, kernel features, limits, processor and credentials
of this machine. Changes nothing and needs no privilege. Exit status 3 when the
machine lacks something that a production agent needs.`
	doctorExample          = "  anchorhold doctor\n  anchorhold doctor --json"
	doctorMachineLacksWhat = "%w: this machine lacks what a production agent needs (see above)"
	doctorFlagRoot         = "examine the tree below this directory instead (for images)"
)

// The words of lists, results and errors.
const (
	examineTEETeeEvidence                 = "TEE evidence"
	examineTEEConfigfsTsmEntries          = "configfs-tsm at %s (%d entries)"
	examineTEEDevSevGuest                 = "/dev/sev-guest exists, configfs-tsm does not"
	examineTEELoadModuleTsm               = "load the module tsm (Linux 6.7 or later) and mount configfs: modprobe sev-guest tsm; mount -t configfs configfs /sys/kernel/config"
	examineTEEIntelTdxGuest               = "an Intel TDX guest; this version collects SEV-SNP evidence only"
	examineTEEUseAmdSev                   = "use an AMD SEV-SNP guest"
	examineTEENoDevSev                    = "no /dev/sev-guest, no configfs-tsm: this is not a confidential VM, or its modules are not loaded"
	examineTEEStartVmSev                  = "start the VM with SEV-SNP; for development use the software TEE (make demo)"
	examineClockHostCanNeither            = ": the host can neither slow nor stop the clock that leases are counted on"
	examineClockKernelDoesNot             = "the kernel does not say what it counts time with"
	examineClockGuestSuchClock            = "a guest with such a clock is refused where a policy asks for a clock source"
	examineClockHostCanSlow               = ": the host can slow the clock that leases are counted on"
	examineClockCannotRenewLease          = "it cannot renew a lease by that, only keep one going inside the guest; Secure TSC (Linux 6.14 or later in the guest) prevents it, see docs/operations.md"
	examineLockLimitLockableMemory        = "lockable memory"
	examineLockLimitKibShell              = "%d KiB for this shell"
	examineLockLimitUnitFileSets          = "the unit file sets LimitMEMLOCK=infinity; elsewhere weights that do not fit the limit stay unlocked, with a warning"
	examineKeyMemoryKeyMemory             = "key memory"
	examineKeyMemoryRaiseLimitLockable    = "raise the limit of lockable memory (ulimit -l)"
	examineHugePagesHugePages             = "huge pages"
	examineHugePagesKernelNoTransparent   = "the kernel has no transparent huge pages"
	examineHugePagesDecodingUpThird       = "decoding is up to a third slower without 2 MiB pages"
	examineHugePagesTransparentHugePages  = "transparent huge pages are off"
	examineHugePagesEchoMadviseSys        = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; decoding is up to a third slower without"
	examineSwapSwap                       = "swap is on"
	examineSwapUnitFileSets               = "the unit file sets MemorySwapMax=0 for the agent; a guest without swap is safer still"
	examineCPUAmd64PlainGo                = runtime.GOARCH + ": plain Go kernels"
	examineCPUExpectFractionSpeed         = "expect a fraction of the speed of x86-64 with AVX2"
	examineCPUAvx512Vnni                  = "AVX-512 with VNNI: the fastest kernels"
	examineCPUAvx2Kernels                 = "AVX2 kernels"
	examineCPUNoAvx2Plain                 = "no AVX2: plain Go kernels"
	examineCPUExpectSmallFraction         = "expect a small fraction of the usual speed"
	examineCPUNoAesInstructions           = "no AES instructions: opening sealed weights will be slow"
	examineCgroupControlGroups            = "control groups"
	examineCgroupVersionSystemdCan        = "version 2: systemd can enforce MemoryMax"
	examineCgroupControlGroups2           = "control groups"
	examineCgroupVersion                  = "version 1"
	examineCgroupUnitMemorymaxNeeds       = "the unit's MemoryMax needs version 2 (systemd.unified_cgroup_hierarchy=1); the agent keeps its own budget in any case"
	examineWorkerLinkedStatically         = " is linked statically"
	examineWorkerThereNo                  = "there is no "
	examineWorkerAgentsMakeProofs         = "agents that make proofs or take part in federated rounds need it"
	examineWorkerAnchorholdWorkerService  = "anchorhold-worker@.service starts no such program: it would end with 203/EXEC in the journal and without a word to the agent"
	examineWorkerInstallAnchorholdWorker  = "install the anchorhold-worker of this build"
	examineCredentialsSystemdCredentials  = "systemd credentials"
	examineCredentialsNoneProcess         = "none for this process"
	examineCredentialsBrokerTakesIts      = "the broker takes its key-encryption key from LoadCredentialEncrypted=; see docs/operations.md"
	examineCredentialsSystemdCredentials2 = "systemd credentials"
	examineCredentialsSystemdCredentials3 = "systemd credentials"
	examineCredentials2                   = "%d in %s"
)

// finding is one line of doctor: what was looked at, what it means, what to do.
type finding struct {
	Check   string `json:"check"`
	Verdict string `json:"verdict"` // "ok", "note" or "lacking"
	Found   string `json:"found"`
	Advice  string `json:"advice,omitempty"`
}

// doctorOptions are the flags of "doctor".
type doctorOptions struct {
	root string // --root
}

// New is the command "doctor".
func New(inv *cli.Invocation) *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use:     doctorUse,
		Short:   doctorShort,
		Long:    doctorLong,
		Example: doctorExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.root, "root", "/", doctorFlagRoot)
	return c
}

func (o *doctorOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	findings := examine(o.root)
	err := inv.Print(findings, func(w io.Writer) {
		for _, f := range findings {
			fmt.Fprintf(w, "%-8s %-22s %s\n", f.Verdict, f.Check, f.Found)
			if f.Advice != "" {
				fmt.Fprintf(w, "%31s %s\n", "->", f.Advice)
			}
		}
	})
	if err == nil && slices.ContainsFunc(findings, func(f finding) bool { return f.Verdict == "lacking" }) {
		err = fmt.Errorf(doctorMachineLacksWhat, cli.ErrRefused)
	}
	return err
}

func examine(root string) []finding {
	return []finding{
		examineTEE(root), examineClock(root), examineLockLimit(), examineKeyMemory(), examineHugePages(root), examineSwap(root),
		examineCPU(), examineCgroup(root), examineCredentials(), examineWorker(root),
	}
}

func examineTEE(root string) finding {
	f := finding{Check: examineTEETeeEvidence}
	tsm := filepath.Join(root, "sys/kernel/config/tsm/report")
	entries, err := os.ReadDir(tsm)
	switch {
	case err == nil:
		f.Verdict, f.Found = "ok", fmt.Sprintf(examineTEEConfigfsTsmEntries, tsm, len(entries))
	case exists(filepath.Join(root, "dev/sev-guest")):
		f.Verdict, f.Found = "lacking", examineTEEDevSevGuest
		f.Advice = examineTEELoadModuleTsm
	case exists(filepath.Join(root, "dev/tdx_guest")):
		f.Verdict, f.Found = "lacking", examineTEEIntelTdxGuest
		f.Advice = examineTEEUseAmdSev
	default:
		f.Verdict, f.Found = "lacking", examineTEENoDevSev
		f.Advice = examineTEEStartVmSev
	}
	return f
}

// examineClock says what a lease's end is worth here. It is a note and never
// lacking: the broker's own clock decides about renewals.
func examineClock(root string) finding {
	f := finding{Check: "clock", Verdict: "note"}
	switch source := clock.Source(root); {
	case source.HostProof():
		f.Verdict, f.Found = "ok", source.String()+examineClockHostCanNeither
	case source == evidence.ClockUnknown:
		f.Found = examineClockKernelDoesNot
		f.Advice = examineClockGuestSuchClock
	default:
		f.Found = source.String() + examineClockHostCanSlow
		f.Advice = examineClockCannotRenewLease
	}
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func examineLockLimit() finding {
	f := finding{Check: examineLockLimitLockableMemory}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		f.Verdict, f.Found = "note", err.Error()
		return f
	}
	if limit.Cur == unix.RLIM_INFINITY {
		f.Verdict, f.Found = "ok", "unlimited"
		return f
	}
	f.Verdict, f.Found = "note", fmt.Sprintf(examineLockLimitKibShell, limit.Cur>>10)
	f.Advice = examineLockLimitUnitFileSets
	return f
}

func examineKeyMemory() finding {
	f := finding{Check: examineKeyMemoryKeyMemory}
	b, err := keybuf.New(32)
	if err != nil {
		f.Verdict, f.Found = "lacking", err.Error()
		f.Advice = examineKeyMemoryRaiseLimitLockable
		return f
	}
	defer b.Wipe()
	f.Verdict, f.Found = "ok", b.Protection().String()
	return f
}

func examineHugePages(root string) finding {
	f := finding{Check: examineHugePagesHugePages}
	data, err := os.ReadFile(filepath.Join(root, "sys/kernel/mm/transparent_hugepage/enabled"))
	switch {
	case err != nil:
		f.Verdict, f.Found = "note", examineHugePagesKernelNoTransparent
		f.Advice = examineHugePagesDecodingUpThird
	case strings.Contains(string(data), "[never]"):
		f.Verdict, f.Found = "note", examineHugePagesTransparentHugePages
		f.Advice = examineHugePagesEchoMadviseSys
	default:
		f.Verdict, f.Found = "ok", strings.TrimSpace(string(data))
	}
	return f
}

func examineSwap(root string) finding {
	data, err := os.ReadFile(filepath.Join(root, "proc/swaps"))
	if err == nil && strings.Count(string(data), "\n") > 1 {
		return finding{Check: "swap", Verdict: "note", Found: examineSwapSwap, Advice: examineSwapUnitFileSets}
	}
	return finding{Check: "swap", Verdict: "ok", Found: "off"}
}

func examineCPU() finding {
	f := finding{Check: "processor", Verdict: "ok"}
	switch {
	case runtime.GOARCH != "amd64":
		f.Verdict, f.Found, f.Advice = "note", examineCPUAmd64PlainGo, examineCPUExpectFractionSpeed
	case cpu.X86.HasAVX512VNNI && cpu.X86.HasAVX512BW:
		f.Found = examineCPUAvx512Vnni
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		f.Found = examineCPUAvx2Kernels
	default:
		f.Verdict, f.Found, f.Advice = "note", examineCPUNoAvx2Plain, examineCPUExpectSmallFraction
	}
	if runtime.GOARCH == "amd64" && !cpu.X86.HasAES {
		f.Verdict, f.Advice = "note", examineCPUNoAesInstructions
	}
	return f
}

func examineCgroup(root string) finding {
	if exists(filepath.Join(root, "sys/fs/cgroup/cgroup.controllers")) {
		return finding{Check: examineCgroupControlGroups, Verdict: "ok", Found: examineCgroupVersionSystemdCan}
	}
	return finding{Check: examineCgroupControlGroups2, Verdict: "note", Found: examineCgroupVersion, Advice: examineCgroupUnitMemorymaxNeeds}
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
		f.Verdict, f.Found = "ok", program+examineWorkerLinkedStatically
	case errors.Is(err, fs.ErrNotExist):
		f.Verdict, f.Found, f.Advice = "note", examineWorkerThereNo+program, examineWorkerAgentsMakeProofs
	case errors.Is(err, linkage.ErrDynamic):
		f.Verdict, f.Found = "lacking", err.Error()
		f.Advice = examineWorkerAnchorholdWorkerService
	default:
		f.Verdict, f.Found, f.Advice = "lacking", err.Error(), examineWorkerInstallAnchorholdWorker
	}
	return f
}

func examineCredentials() finding {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return finding{Check: examineCredentialsSystemdCredentials, Verdict: "note", Found: examineCredentialsNoneProcess, Advice: examineCredentialsBrokerTakesIts}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return finding{Check: examineCredentialsSystemdCredentials2, Verdict: "note", Found: err.Error()}
	}
	return finding{Check: examineCredentialsSystemdCredentials3, Verdict: "ok", Found: fmt.Sprintf(examineCredentials2, len(entries), dir)}
}
