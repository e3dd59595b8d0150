package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ExplainAccess says why a file cannot be read or written that is where it should be: what
// root puts in its place stays root's, and the unit hides or protects what is not the broker's.
func ExplainAccess(err error) error {
	at, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return err
	}
	switch {
	case errors.Is(at, syscall.EROFS):
		return fmt.Errorf("%w: the service may write only to its unit's ReadWritePaths= (see anchorhold-broker.service.d/checkpoint.conf.example)", err)
	case !errors.Is(at, fs.ErrPermission):
		return err
	}
	st, serr := os.Stat(at.Path)
	if errors.Is(serr, fs.ErrPermission) {
		return fmt.Errorf("%w: uid %d may not enter a directory on the path; the unit hides /mnt, /media and /srv (see anchorhold-broker.service.d/checkpoint.conf.example)", err, os.Geteuid())
	}
	if serr != nil {
		return err
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: the file belongs to uid %d, but this process runs as uid %d: change its owner", err, owner.Uid, os.Geteuid())
	}
	return err
}
