// Package doctor has the command that examines a machine and explains what it lacks. It changes
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
	doctorShort = "Check this machine and explain how to fix what is missing"
	doctorLong  = `Examines the TEE devices, kernel features, limits, processor and credentials of this
machine, and whether the units and volumes that the agent's configuration has secrets for
ask for them. Changes nothing and needs no privilege. The exit status is 3 if the machine
lacks something that a production agent needs.`
	doctorExample  = "  anchorhold doctor\n  anchorhold doctor --json"
	doctorLacking  = "%w: this machine lacks what a production agent needs (see above)"
	doctorFlagRoot = "examine the tree below this directory instead (for images)"
)

// The words of the findings: what is looked at, what was found, what to do.
const (
	teeCheck              = "TEE evidence"
	teeFound              = "configfs-tsm at %s (%d entries)"
	teeNoTSM              = "/dev/sev-guest exists, configfs-tsm does not: reports are made by ioctl"
	teeNoTSMAdvice        = "on Linux 6.7 or later: modprobe sev-guest tsm; mount -t configfs configfs /sys/kernel/config. On older kernels put sev-guest.conf in place, which gives the agent the device"
	teeTDX                = "an Intel TDX guest without configfs-tsm, through which quotes are made"
	teeTDXAdvice          = "on Linux 6.7 or later: modprobe tdx_guest tsm; mount -t configfs configfs /sys/kernel/config"
	teeTPM                = "a TPM (/dev/tpmrm0), and no processor's evidence by the kernel: a confidential VM on Azure, or a guest that a TPM alone can prove"
	teeTPMAdvice          = "set compute.tee.provider to azure or vtpm and put tpm.conf in place, which gives the agent the TPM; \"anchorhold-agent check FILE\" says whether it works"
	teeNone               = "no /dev/sev-guest and no configfs-tsm: this is not a confidential VM, or its modules are not loaded"
	teeNoneAdvice         = "start the VM with SEV-SNP or TDX (docs/clouds.md); for development use the software TEE (make demo)"
	clockSafe             = ": the host can neither slow nor stop the clock that times leases"
	clockUnknown          = "the kernel does not name its clock source"
	clockUnknownAdvice    = "a guest with such a clock is refused if a policy requires a clock source"
	clockSlowable         = ": the host can slow the clock that times leases"
	clockSlowableAdvice   = "that cannot renew a lease, only prolong one inside the guest; Secure TSC (Linux 6.14 or later in the guest) prevents it, see docs/operations.md"
	lockCheck             = "lockable memory"
	lockLimited           = "%d KiB for this shell"
	lockLimitedAdvice     = "the unit file sets LimitMEMLOCK=infinity; elsewhere, weights that do not fit within the limit stay unlocked, with a warning"
	keyMemoryCheck        = "key memory"
	keyMemoryAdvice       = "raise the limit of lockable memory (ulimit -l)"
	hugePagesCheck        = "huge pages"
	hugePagesNone         = "the kernel has no transparent huge pages"
	hugePagesNoneAdvice   = "decoding is up to a third slower without 2 MiB pages"
	hugePagesOff          = "transparent huge pages are off"
	hugePagesOffAdvice    = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; decoding is up to a third slower without them"
	swapOn                = "swap is on"
	swapOnAdvice          = "the unit file sets MemorySwapMax=0 for the agent; a guest without swap is safer still"
	cpuOther              = runtime.GOARCH + ": plain Go kernels"
	cpuOtherAdvice        = "expect a fraction of the speed of x86-64 with AVX2"
	cpuAVX512             = "AVX-512 with VNNI: the fastest kernels"
	cpuAVX2               = "AVX2 kernels"
	cpuPlain              = "no AVX2: plain Go kernels"
	cpuPlainAdvice        = "expect a small fraction of the usual speed"
	cpuNoAES              = "no AES instructions: opening sealed weights will be slow"
	cgroupCheck           = "control groups"
	cgroupTwo             = "version 2: systemd can enforce MemoryMax"
	cgroupOne             = "version 1"
	cgroupOneAdvice       = "the unit's MemoryMax needs version 2 (systemd.unified_cgroup_hierarchy=1); the agent keeps its own budget in any case"
	workerStatic          = " is linked statically"
	workerMissing         = "there is no "
	workerMissingAdvice   = "agents that make proofs or take part in federated rounds need it"
	workerDynamicAdvice   = "anchorhold-worker@.service cannot start such a program: it would end with 203/EXEC in the journal, and the agent would learn nothing"
	workerBrokenAdvice    = "install the anchorhold-worker of this build"
	credentialsCheck      = "systemd credentials"
	credentialsNone       = "none for this process"
	credentialsNoneAdvice = "the broker takes its key-encryption key from LoadCredentialEncrypted=; see docs/operations.md"
	credentialsFound      = "%d in %s"
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
	err := inv.Print(cli.List("findings", findings), func(w io.Writer) {
		for _, f := range findings {
			fmt.Fprintf(w, "%-8s %-22s %s\n", f.Verdict, f.Check, f.Found)
			if f.Advice != "" {
				fmt.Fprintf(w, "%31s %s\n", "->", f.Advice)
			}
		}
	})
	if err == nil && slices.ContainsFunc(findings, func(f finding) bool { return f.Verdict == "lacking" }) {
		err = fmt.Errorf(doctorLacking, cli.ErrRefused)
	}
	return err
}

func examine(root string) []finding {
	list := []finding{
		examineTEE(root), examineClock(root), examineLockLimit(), examineKeyMemory(), examineHugePages(root), examineSwap(root),
		examineCPU(), examineCgroup(root), examineCredentials(), examineWorker(root),
	}
	return append(list, examineSecrets(root)...)
}

func examineTEE(root string) finding {
	f := finding{Check: teeCheck}
	tsm := filepath.Join(root, "sys/kernel/config/tsm/report")
	entries, err := os.ReadDir(tsm)
	switch {
	case err == nil:
		f.Verdict, f.Found = "ok", fmt.Sprintf(teeFound, tsm, len(entries))
	case exists(filepath.Join(root, "dev/sev-guest")):
		f.Verdict, f.Found = "note", teeNoTSM
		f.Advice = teeNoTSMAdvice
	case exists(filepath.Join(root, "dev/tdx_guest")):
		f.Verdict, f.Found = "lacking", teeTDX
		f.Advice = teeTDXAdvice
	case exists(filepath.Join(root, "dev/tpmrm0")):
		f.Verdict, f.Found = "note", teeTPM
		f.Advice = teeTPMAdvice
	default:
		f.Verdict, f.Found = "lacking", teeNone
		f.Advice = teeNoneAdvice
	}
	return f
}

// examineClock says what a lease's end is worth here. It is a note and never
// lacking: the broker's own clock decides about renewals.
func examineClock(root string) finding {
	f := finding{Check: "clock", Verdict: "note"}
	switch source := clock.Source(root); {
	case source.HostProof():
		f.Verdict, f.Found = "ok", source.String()+clockSafe
	case source == evidence.ClockUnknown:
		f.Found = clockUnknown
		f.Advice = clockUnknownAdvice
	default:
		f.Found = source.String() + clockSlowable
		f.Advice = clockSlowableAdvice
	}
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func examineLockLimit() finding {
	f := finding{Check: lockCheck}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		f.Verdict, f.Found = "note", err.Error()
		return f
	}
	if limit.Cur == unix.RLIM_INFINITY {
		f.Verdict, f.Found = "ok", "unlimited"
		return f
	}
	f.Verdict, f.Found = "note", fmt.Sprintf(lockLimited, limit.Cur>>10)
	f.Advice = lockLimitedAdvice
	return f
}

func examineKeyMemory() finding {
	f := finding{Check: keyMemoryCheck}
	b, err := keybuf.New(32)
	if err != nil {
		f.Verdict, f.Found = "lacking", err.Error()
		f.Advice = keyMemoryAdvice
		return f
	}
	defer b.Wipe()
	f.Verdict, f.Found = "ok", b.Protection().String()
	return f
}

func examineHugePages(root string) finding {
	f := finding{Check: hugePagesCheck}
	data, err := os.ReadFile(filepath.Join(root, "sys/kernel/mm/transparent_hugepage/enabled"))
	switch {
	case err != nil:
		f.Verdict, f.Found = "note", hugePagesNone
		f.Advice = hugePagesNoneAdvice
	case strings.Contains(string(data), "[never]"):
		f.Verdict, f.Found = "note", hugePagesOff
		f.Advice = hugePagesOffAdvice
	default:
		f.Verdict, f.Found = "ok", strings.TrimSpace(string(data))
	}
	return f
}

func examineSwap(root string) finding {
	data, err := os.ReadFile(filepath.Join(root, "proc/swaps"))
	if err == nil && strings.Count(string(data), "\n") > 1 {
		return finding{Check: "swap", Verdict: "note", Found: swapOn, Advice: swapOnAdvice}
	}
	return finding{Check: "swap", Verdict: "ok", Found: "off"}
}

func examineCPU() finding {
	f := finding{Check: "processor", Verdict: "ok"}
	switch {
	case runtime.GOARCH != "amd64":
		f.Verdict, f.Found, f.Advice = "note", cpuOther, cpuOtherAdvice
	case cpu.X86.HasAVX512VNNI && cpu.X86.HasAVX512BW:
		f.Found = cpuAVX512
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		f.Found = cpuAVX2
	default:
		f.Verdict, f.Found, f.Advice = "note", cpuPlain, cpuPlainAdvice
	}
	if runtime.GOARCH == "amd64" && !cpu.X86.HasAES {
		f.Verdict, f.Advice = "note", cpuNoAES
	}
	return f
}

func examineCgroup(root string) finding {
	if exists(filepath.Join(root, "sys/fs/cgroup/cgroup.controllers")) {
		return finding{Check: cgroupCheck, Verdict: "ok", Found: cgroupTwo}
	}
	return finding{Check: cgroupCheck, Verdict: "note", Found: cgroupOne, Advice: cgroupOneAdvice}
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
		f.Verdict, f.Found = "ok", program+workerStatic
	case errors.Is(err, fs.ErrNotExist):
		f.Verdict, f.Found, f.Advice = "note", workerMissing+program, workerMissingAdvice
	case errors.Is(err, linkage.ErrDynamic):
		f.Verdict, f.Found = "lacking", err.Error()
		f.Advice = workerDynamicAdvice
	default:
		f.Verdict, f.Found, f.Advice = "lacking", err.Error(), workerBrokenAdvice
	}
	return f
}

func examineCredentials() finding {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return finding{Check: credentialsCheck, Verdict: "note", Found: credentialsNone, Advice: credentialsNoneAdvice}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return finding{Check: credentialsCheck, Verdict: "note", Found: err.Error()}
	}
	return finding{Check: credentialsCheck, Verdict: "ok", Found: fmt.Sprintf(credentialsFound, len(entries), dir)}
}
