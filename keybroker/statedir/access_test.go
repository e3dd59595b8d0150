package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFilesOfOthersAreCalledThat: root may read all, so what a daemon of another user meets is
// given as the error that it gets.
func TestFilesOfOthersAreCalledThat(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	others := "/" // root's
	if os.Geteuid() == 0 {
		others = filepath.Join(t.TempDir(), "others")
		if err := errors.Join(os.WriteFile(others, nil, 0o600), os.Chown(others, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		err  error
		more string // behind the error itself
	}{
		"another's file":      {&fs.PathError{Op: "open", Path: others, Err: syscall.EACCES}, fmt.Sprintf(", but this process runs as uid %d: change its owner", os.Geteuid())},
		"a protected one":     {&fs.PathError{Op: "open", Path: own, Err: syscall.EROFS}, ": the service may write only to its unit's ReadWritePaths= (see anchorhold-broker.service.d/checkpoint.conf.example)"},
		"its own":             {&fs.PathError{Op: "open", Path: own, Err: syscall.EACCES}, ""},
		"one that is gone":    {&fs.PathError{Op: "open", Path: own + ".gone", Err: syscall.EACCES}, ""},
		"one that is missing": {&fs.PathError{Op: "open", Path: others, Err: syscall.ENOENT}, ""},
		"no file":             {errors.New("something else"), ""},
	} {
		got := ExplainAccess(fmt.Errorf("read: %w", c.err))
		more, as := strings.CutPrefix(got.Error(), "read: "+c.err.Error())
		if !errors.Is(got, c.err) || !as || !strings.HasSuffix(more, c.more) || c.more == "" && more != "" {
			t.Errorf("%s: got %q, want it to end with %q", name, got, c.more)
		}
	}
}
