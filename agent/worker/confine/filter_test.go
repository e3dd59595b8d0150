package confine

import (
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

const self = 4711

// call is what the kernel shows a filter.
type call struct {
	nr, arch uint32
	args     [6]uint32
}

// judge runs the program as the kernel does, and fails on what the kernel would
// not have installed.
func judge(t *testing.T, p program, c call) uint32 {
	t.Helper()
	var acc uint32
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		yes := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch {
			case in.K == offNumber:
				acc = c.nr
			case in.K == offArch:
				acc = c.arch
			case in.K >= offArgs && in.K < offArgs+6*8 && in.K%8 == 0:
				acc = c.args[(in.K-offArgs)/8]
			default:
				t.Fatalf("instruction %d loads from %d", pc, in.K)
			}
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = acc == in.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			yes = acc >= in.K
		default:
			t.Fatalf("instruction %d is unknown: %+v", pc, in)
		}
		if yes {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the program ends without an answer")
	return 0
}

func own(nr uintptr, args ...uint32) call {
	c := call{nr: uint32(nr), arch: auditArch}
	copy(c.args[:], args)
	return c
}

const denied = answerErrno | uint32(unix.EPERM)

// Whatever is not on the two lists and is not judged by its arguments is denied.
func TestEveryOtherCallIsDenied(t *testing.T) {
	p := filter(self)
	judged := []uintptr{unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_TGKILL, unix.SYS_KILL, unix.SYS_MPROTECT, unix.SYS_MMAP,
		unix.SYS_PRCTL, unix.SYS_DUP3, unix.SYS_PRLIMIT64, unix.SYS_FCNTL}
	for nr := range uintptr(1024) {
		want := uint32(denied)
		switch {
		case slices.Contains(judged, nr):
			continue
		case slices.Contains(free[:], nr):
			want = answerAllow
		case slices.Contains(deadly[:], nr), runtime.GOARCH == "amd64" && (nr == 57 || nr == 58): // fork, vfork
			want = answerKill
		}
		if got := judge(t, p, own(nr)); got != want {
			t.Errorf("call %d: %#x, want %#x", nr, got, want)
		}
	}
}

func TestForeignNumbersAreDeadly(t *testing.T) {
	p := filter(self)
	c := own(unix.SYS_READ)
	c.arch ^= 0x40000000
	if got := judge(t, p, c); got != answerKill {
		t.Errorf("another architecture: %#x", got)
	}
	if runtime.GOARCH == "amd64" {
		if got := judge(t, p, own(0x40000000|unix.SYS_READ)); got != answerKill {
			t.Errorf("an x32 number: %#x", got)
		}
	}
}

func TestArgumentsAreJudged(t *testing.T) {
	const private, shared = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, unix.MAP_SHARED | unix.MAP_ANONYMOUS
	const goThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD
	const data = unix.PROT_READ | unix.PROT_WRITE
	p := filter(self)
	for name, c := range map[string]struct {
		call call
		want uint32
	}{
		"thread":                 {own(unix.SYS_CLONE, goThread), answerAllow},
		"process":                {own(unix.SYS_CLONE, uint32(unix.SIGCHLD)), denied},
		"thread with a network":  {own(unix.SYS_CLONE, goThread|unix.CLONE_NEWNET), denied},
		"thread with a user":     {own(unix.SYS_CLONE, goThread|unix.CLONE_NEWUSER), denied},
		"traced thread":          {own(unix.SYS_CLONE, goThread|unix.CLONE_PTRACE), denied},
		"clone3":                 {own(unix.SYS_CLONE3), answerErrno | uint32(unix.ENOSYS)},
		"signal to itself":       {own(unix.SYS_TGKILL, self, 9, 10), answerAllow},
		"signal to another":      {own(unix.SYS_TGKILL, self+1, 9, 10), denied},
		"kill itself":            {own(unix.SYS_KILL, self, 6), answerAllow},
		"kill another":           {own(unix.SYS_KILL, 1, 6), denied},
		"private memory":         {own(unix.SYS_MMAP, 0, 1, data, private), answerAllow},
		"a mapped file":          {own(unix.SYS_MMAP, 0, 1, data, unix.MAP_SHARED, 5), answerAllow},
		"uncounted memory":       {own(unix.SYS_MMAP, 0, 1, data, shared), denied},
		"validated sharing":      {own(unix.SYS_MMAP, 0, 1, data, unix.MAP_SHARED_VALIDATE|unix.MAP_ANONYMOUS), denied},
		"code":                   {own(unix.SYS_MMAP, 0, 1, unix.PROT_EXEC, private), denied},
		"code of a file":         {own(unix.SYS_MMAP, 0, 1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE, 5), denied},
		"protect":                {own(unix.SYS_MPROTECT, 0, 1, data), answerAllow},
		"make code":              {own(unix.SYS_MPROTECT, 0, 1, unix.PROT_READ|unix.PROT_EXEC), denied},
		"name a mapping":         {own(unix.SYS_PRCTL, unix.PR_SET_VMA), answerAllow},
		"be dumpable":            {own(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1), denied},
		"keep capabilities":      {own(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1), denied},
		"replace standard error": {own(unix.SYS_DUP3, 9, 2), answerAllow},
		"replace another":        {own(unix.SYS_DUP3, 9, 3), denied},
		"own memory bound":       {own(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_DATA), answerAllow},
		"own files' bound":       {own(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_FSIZE), answerAllow},
		"another's files":        {own(unix.SYS_PRLIMIT64, 1, unix.RLIMIT_FSIZE), denied},
		"own other bound":        {own(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE), denied},
		"another's bound":        {own(unix.SYS_PRLIMIT64, 1, unix.RLIMIT_DATA), denied},
		"descriptor flags":       {own(unix.SYS_FCNTL, 3, unix.F_GETFL), answerAllow},
		"duplicate":              {own(unix.SYS_FCNTL, 3, unix.F_DUPFD_CLOEXEC), answerAllow},
		"duplicate over exec":    {own(unix.SYS_FCNTL, 3, unix.F_DUPFD), denied},
		"own its signals":        {own(unix.SYS_FCNTL, 3, unix.F_SETOWN), denied},
		"unseal":                 {own(unix.SYS_FCNTL, 3, unix.F_ADD_SEALS), denied},
	} {
		if got := judge(t, p, c.call); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
}

// The kernel takes at most 4096 instructions, and ours end before a jump of
// eight bits could.
func TestProgramIsShort(t *testing.T) {
	if n := len(filter(self)); n > 400 {
		t.Errorf("%d instructions", n)
	}
}

func TestPrivateLimitCoversTheRuntime(t *testing.T) {
	if got := PrivateLimit(1 << 30); got != 1<<30+untouched {
		t.Errorf("got %d", got)
	}
}

// A limit is lowered, never raised, whatever is asked for.
func TestLimitsOnlySink(t *testing.T) {
	var before, after unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, nil, &before); err != nil {
		t.Fatal(err)
	}
	if err := lower(unix.RLIMIT_CORE, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := lower(unix.RLIMIT_CORE, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_CORE, nil, &after); err != nil {
		t.Fatal(err)
	}
	if want := min(before.Max, 1<<20); after.Cur != want || after.Max != want {
		t.Errorf("limit %+v, want %d", after, want)
	}
}
