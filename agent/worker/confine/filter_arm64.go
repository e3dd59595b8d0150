package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture whose call numbers the filter knows.
const auditArch = unix.AUDIT_ARCH_AARCH64

// foreignNumbers is empty: there is one set of numbers.
var foreignNumbers = [...]unix.SockFilter{}
