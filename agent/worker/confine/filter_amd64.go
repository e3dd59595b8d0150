package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture whose call numbers the filter knows.
const auditArch = unix.AUDIT_ARCH_X86_64

// foreignNumbers kills whoever uses the x32 numbers, and fork in its old forms.
var foreignNumbers = [...]unix.SockFilter{
	{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jt: 2, Jf: 0, K: 0x40000000},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, Jf: 0, K: unix.SYS_FORK},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: unix.SYS_VFORK},
	{Code: unix.BPF_RET | unix.BPF_K, K: answerKill},
}
