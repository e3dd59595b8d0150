package confine

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter's answers (linux/seccomp.h).
const (
	answerKill  = 0x80000000 // the whole process, with SIGSYS
	answerErrno = 0x00050000 // with the number in the low bits
	answerAllow = 0x7fff0000
)

// Offsets in the data that the filter judges (struct seccomp_data). Every
// argument that it looks at is an int or a flag word of 32 bits; both
// architectures are little-endian, so the low half comes first.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// free are the calls that a Go program makes with nothing but its memory, its
// threads and the descriptors that it has: none opens, connects, starts or
// names anything.
var free = [...]uintptr{
	// descriptors at hand
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
	unix.SYS_LSEEK, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC,
	unix.SYS_FDATASYNC, unix.SYS_FADVISE64, unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_COPY_FILE_RANGE,
	unix.SYS_RECVMSG,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
	// memory
	unix.SYS_BRK, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE,
	unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MUNLOCK, unix.SYS_MEMFD_SECRET,
	// threads and time
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME,
	unix.SYS_GETTIMEOFDAY, unix.SYS_RESTART_SYSCALL, unix.SYS_GETRANDOM,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	// signals to itself
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
}

// deadly are the calls that no code of ours makes: whoever makes one has taken
// the process over. Every other call that is not free fails with EPERM.
var deadly = [...]uintptr{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PIDFD_GETFD, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
}

// namespaces are the flags of clone that make one, and those that trace.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_PTRACE

// program is a filter under construction. Each rule ends in an answer, so no
// jump is longer than its own rule.
type program []unix.SockFilter

// filter returns the program for this architecture and this process.
func filter(pid int) program {
	p := program{load(offArch), jump(unix.BPF_JEQ, auditArch, 1, 0), answer(answerKill), load(offNumber)}
	p = append(p, foreignNumbers[:]...)
	for _, nr := range free {
		p.when(nr, answer(answerAllow))
	}
	for _, nr := range deadly {
		p.when(nr, answer(answerKill))
	}
	// Threads yes, processes and namespaces no. clone3 hides its flags behind a
	// pointer; without it, C libraries fall back to clone.
	p.whenMasked(unix.SYS_CLONE, 0, unix.CLONE_THREAD|namespaces, unix.CLONE_THREAD)
	p.when(unix.SYS_CLONE3, answer(answerErrno|uint32(unix.ENOSYS)))
	p.whenMasked(unix.SYS_TGKILL, 0, ^uint32(0), uint32(pid))
	p.whenMasked(unix.SYS_KILL, 0, ^uint32(0), uint32(pid))
	// No code is made at run time. Memory that is shared and anonymous would
	// not count against the bound on private memory.
	p.whenMasked(unix.SYS_MPROTECT, 2, unix.PROT_EXEC, 0)
	p.when(unix.SYS_MMAP,
		load(offArgs+2*8), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: unix.PROT_EXEC}, jump(unix.BPF_JEQ, 0, 0, 4),
		load(offArgs+3*8), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: unix.MAP_SHARED | unix.MAP_ANONYMOUS},
		jump(unix.BPF_JEQ, unix.MAP_SHARED|unix.MAP_ANONYMOUS, 1, 0), answer(answerAllow), answer(answerErrno|uint32(unix.EPERM)))
	// The runtime names its mappings; the standard error is replaced once; the
	// task's own bounds of memory and files are lower than the process's.
	p.whenMasked(unix.SYS_PRCTL, 0, ^uint32(0), unix.PR_SET_VMA)
	p.whenMasked(unix.SYS_DUP3, 1, ^uint32(0), 2)
	p.when(unix.SYS_PRLIMIT64,
		load(offArgs), jump(unix.BPF_JEQ, 0, 0, 4),
		load(offArgs+8), jump(unix.BPF_JEQ, unix.RLIMIT_DATA, 1, 0), jump(unix.BPF_JEQ, unix.RLIMIT_FSIZE, 0, 1), answer(answerAllow), answer(answerErrno|uint32(unix.EPERM)))
	commands := [...]uint32{unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_GET_SEALS, unix.F_DUPFD_CLOEXEC}
	fcntl := program{load(offArgs + 8)}
	for _, command := range commands {
		fcntl = append(fcntl, jump(unix.BPF_JEQ, command, 0, 1), answer(answerAllow))
	}
	p.when(unix.SYS_FCNTL, append(fcntl, answer(answerErrno|uint32(unix.EPERM)))...)
	return append(p, answer(answerErrno|uint32(unix.EPERM)))
}

// when answers one call with a body that ends in an answer on every path.
func (p *program) when(nr uintptr, body ...unix.SockFilter) {
	*p = append(append(*p, jump(unix.BPF_JEQ, uint32(nr), 0, uint8(len(body)))), body...)
}

// whenMasked allows one call if an argument under a mask is as wanted.
func (p *program) whenMasked(nr uintptr, arg, mask, want uint32) {
	p.when(nr, load(offArgs+8*arg), unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask},
		jump(unix.BPF_JEQ, want, 0, 1), answer(answerAllow), answer(answerErrno|uint32(unix.EPERM)))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func answer(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

// install puts the filter on every thread of the process, present and future.
// The kernel takes no_new_privs to all of them with it.
func (p program) install() error {
	// The kernel asks the thread that installs the filter for the promise.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	stray, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("install the system call filter: %w", os.NewSyscallError("seccomp", errno))
	}
	if stray != 0 {
		return fmt.Errorf("install the system call filter: thread %d did not accept it", stray)
	}
	return nil
}
