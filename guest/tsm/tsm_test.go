package tsm_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/tsm"
	"github.com/anchorhold/anchorhold/guest/tsm/tsmtest"
)

var request = tsm.Request{Data: [64]byte{0: 1, 63: 2}, MaxReport: 80, MaxAux: 16}

// echo is a TEE whose report is what was asked for, behind the privilege level.
func echo(inblob []byte, privilege uint) ([]byte, error) {
	return append([]byte{byte(privilege)}, inblob...), nil
}

func open(t *testing.T, tree *tsmtest.Tree, privilege tsm.Privilege) *tsm.Device {
	t.Helper()
	d, err := tsm.Open(tsm.Options{Provider: "some_guest", TEE: "some TEE", Files: tree, Privilege: privilege})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func wantReason(t *testing.T, err error, reason refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != reason {
		t.Errorf("got %v, want %q", err, reason)
	}
}

func TestReportIsTheOneAskedFor(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	tree.Aux = []byte("certificates")
	r, err := open(t, tree, tsm.Privilege{}).Report(t.Context(), request)
	if err != nil || !bytes.Equal(r.Data[1:], request.Data[:]) || string(r.Aux) != "certificates" || tree.Entries() != 0 {
		t.Errorf("%v, %x, %q, %d entries left behind", err, r.Data, r.Aux, tree.Entries())
	}
	if _, set := r.Privilege.Chosen(); set {
		t.Error("a level was chosen that nobody asked for")
	}
}

func TestConfiguredPrivilegeIsWritten(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	tree.Levels = true
	r, err := open(t, tree, tsm.Level(2)).Report(t.Context(), request)
	if err != nil || r.Data[0] != 2 {
		t.Errorf("%v, report of level %x", err, r.Data)
	}
	tree.Floor = 3 // the kernel refuses a level below its own
	_, err = open(t, tree, tsm.Level(2)).Report(t.Context(), request)
	wantReason(t, err, device.ReasonFailed)
	tree.Levels = false // a TEE without levels
	_, err = open(t, tree, tsm.Level(2)).Report(t.Context(), request)
	wantReason(t, err, device.ReasonFailed)
	_, err = tsm.Open(tsm.Options{Provider: "some_guest", Files: tree, Privilege: tsm.Level(4)})
	wantReason(t, err, device.ReasonFailed)
}

// Under an SVSM the report is EINVAL until a level is written (coconut-svsm #418).
func TestGuestBelowAnSVSMAsksForItsFloor(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	tree.Levels, tree.Floor = true, 2
	var steps []string
	tree.Before = func(step, name string) error {
		if step == "write" {
			steps = append(steps, filepath.Base(name))
		}
		return nil
	}
	d := open(t, tree, tsm.Privilege{})
	for range 2 {
		r, err := d.Report(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if level, set := r.Privilege.Chosen(); r.Data[0] != 2 || level != 2 || !set {
			t.Errorf("report of level %d, said to be of %d", r.Data[0], level)
		}
	}
	// The second request knows the floor: the firmware is asked once.
	if want := []string{"inblob", "privlevel", "inblob", "privlevel"}; !slices.Equal(steps, want) {
		t.Errorf("%q", steps)
	}
}

func TestRefusedReportIsNotTakenForAPrivilege(t *testing.T) {
	refused := func([]byte, uint) ([]byte, error) { return nil, unix.EINVAL }
	tree := tsmtest.New("some_guest", refused)
	tree.Levels, tree.Floor = true, 99
	if _, err := open(t, tree, tsm.Privilege{}).Report(t.Context(), request); err == nil || !strings.Contains(err.Error(), "lowest privilege level is 99") {
		t.Errorf("a floor above every level: %v", err)
	}
	for name, floor := range map[string]func(*tsmtest.Tree){
		"no levels":  func(*tsmtest.Tree) {},
		"floor of 0": func(t *tsmtest.Tree) { t.Levels = true },
		"floor of 1": func(t *tsmtest.Tree) { t.Levels, t.Floor = true, 1 },
		"broken floor": func(t *tsmtest.Tree) {
			t.Plain[tsm.DefaultRoot+"/anchorhold-0100000000000000/privlevel_floor"] = []byte("many")
		},
	} {
		tree := tsmtest.New("some_guest", refused)
		floor(tree)
		_, err := open(t, tree, tsm.Privilege{}).Report(t.Context(), request)
		if wantReason(t, err, device.ReasonFailed); tree.Entries() != 0 {
			t.Errorf("%s: %d entries left behind", name, tree.Entries())
		}
	}
}

// Every write counts: with a level, the generation must have grown by two (guest-components #1696).
func TestWritesOfOthersAreNoticedWhateverWasWritten(t *testing.T) {
	for name, c := range map[string]struct {
		privilege tsm.Privilege
		floor     uint
	}{"data alone": {}, "data and level": {privilege: tsm.Level(1)}, "data and the floor": {floor: 1}} {
		for _, overtaken := range []int{0, 1, tsm.Attempts - 1, tsm.Attempts} {
			tree := tsmtest.New("some_guest", echo)
			tree.Levels, tree.Floor = true, c.floor
			left := overtaken
			tree.Before = func(step, file string) error {
				if step == "read" && filepath.Base(file) == "auxblob" && left > 0 {
					left--
					tree.Overtake(file)
				}
				return nil
			}
			_, err := open(t, tree, c.privilege).Report(t.Context(), request)
			if (err != nil) != (overtaken == tsm.Attempts) {
				t.Errorf("%s, overtaken %d times: %v", name, overtaken, err)
			}
		}
	}
}

// What a process that died had written into its entry must not come into our report.
func TestEntryLeftBehindIsMadeAfresh(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	tree.Levels = true
	d := open(t, tree, tsm.Privilege{})
	dir := tsm.DefaultRoot + "/anchorhold-0100000000000000"
	if err := errors.Join(tree.Mkdir(dir), tree.Write(dir+"/privlevel", []byte("3"))); err != nil {
		t.Fatal(err)
	}
	r, err := d.Report(t.Context(), request)
	if err != nil || r.Data[0] != 0 || tree.Entries() != 0 {
		t.Errorf("%v, level %x, %d entries left behind", err, r.Data, tree.Entries())
	}
}

const prepared = tsm.DefaultRoot + "/" + tsm.Prepared

// An agent that is not root cannot write to an entry that it made (fs/configfs/inode.c gives all files
// to root), and is told what to do.
func TestAUserWhoIsNotRootUsesThePreparedEntry(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	tree.Levels, tree.Unprivileged = true, true
	_, err := open(t, tree, tsm.Privilege{}).Report(t.Context(), request)
	if wantReason(t, err, device.ReasonFailed); !strings.Contains(err.Error(), tsm.Prepared) || !errors.Is(err, fs.ErrPermission) || tree.Entries() != 0 {
		t.Errorf("%v, %d entries left behind", err, tree.Entries())
	}
	tree.Prepare(prepared)
	tree.MkdirErr = fs.ErrPermission
	d := open(t, tree, tsm.Level(2))
	for n := range byte(3) {
		again := request
		again.Data[5] = n
		if r, err := d.Report(t.Context(), again); err != nil || r.Data[0] != 2 || !bytes.Equal(r.Data[1:], again.Data[:]) || tree.Entries() != 1 {
			t.Errorf("%v, %x, %d entries", err, r.Data, tree.Entries())
		}
	}
	if err := tree.Remove(prepared); err != nil {
		t.Fatal(err)
	}
	_, err = d.Report(t.Context(), request)
	wantReason(t, err, device.ReasonFailed)
	_, err = tsm.Open(tsm.Options{Provider: "some_guest", Files: tree})
	if wantReason(t, err, device.ReasonAbsent); !strings.Contains(err.Error(), "unit") {
		t.Error(err)
	}
}

// Other processes write to the prepared entry as to any other.
func TestThePreparedEntryIsWatchedForOthers(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	tree.Prepare(prepared)
	d := open(t, tree, tsm.Privilege{})
	left := 1
	tree.Before = func(step, file string) error {
		if step == "read" && filepath.Base(file) == "auxblob" && left > 0 {
			left--
			tree.Overtake(file)
		}
		return nil
	}
	if _, err := d.Report(t.Context(), request); err != nil {
		t.Error(err)
	}
	left = tsm.Attempts
	_, err := d.Report(t.Context(), request)
	wantReason(t, err, device.ReasonFailed)
}

// A kernel whose module is gone, or another TEE's, is no reason to make entries.
func TestThePreparedEntrySaysWhoseItIs(t *testing.T) {
	tree := tsmtest.New("other_guest", echo)
	tree.Prepare(prepared)
	_, err := tsm.Open(tsm.Options{Provider: "some_guest", Files: tree})
	wantReason(t, err, device.ReasonAbsent)
	tree.Before = func(string, string) error { return unix.ENXIO }
	_, err = tsm.Open(tsm.Options{Provider: "some_guest", Files: tree})
	if wantReason(t, err, device.ReasonAbsent); !strings.Contains(err.Error(), "no TEE") {
		t.Error(err)
	}
}

func TestReportsLargerThanTheLimitAreRefused(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	small := request
	small.MaxReport = 64
	_, err := open(t, tree, tsm.Privilege{}).Report(t.Context(), small)
	wantReason(t, err, device.ReasonFailed)
	small.MaxReport = 65
	if _, err := open(t, tree, tsm.Privilege{}).Report(t.Context(), small); err != nil {
		t.Error(err)
	}
	tree.Aux = make([]byte, 17)
	_, err = open(t, tree, tsm.Privilege{}).Report(t.Context(), request)
	wantReason(t, err, device.ReasonFailed)
}

func TestMalformedNumbersAreRefused(t *testing.T) {
	tree := tsmtest.New("some_guest", echo)
	d := open(t, tree, tsm.Privilege{})
	tree.Plain[tsm.DefaultRoot+"/anchorhold-0100000000000000/generation"] = []byte("-1\n")
	_, err := d.Report(t.Context(), request)
	if wantReason(t, err, device.ReasonFailed); tree.Entries() != 0 {
		t.Errorf("%d entries left behind", tree.Entries())
	}
}

func TestAbsentConfigfsIsToldFromAnotherTEE(t *testing.T) {
	tree := tsmtest.New("other_guest", echo)
	_, err := tsm.Open(tsm.Options{Provider: "some_guest", Files: tree})
	if wantReason(t, err, device.ReasonAbsent); errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another TEE is taken for an old kernel: %v", err)
	}
	_, err = tsm.Open(tsm.Options{Provider: "some_guest", Root: filepath.Join(t.TempDir(), "none")}) // the real filesystem
	if wantReason(t, err, device.ReasonAbsent); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// blocked is a device whose report is read from a FIFO that nobody writes to: the system call
// does not come back, whatever the caller's deadline.
type blocked struct {
	*tsmtest.Tree
	fifo  string
	reads atomic.Int32
}

func (b *blocked) Read(name string, limit int64) ([]byte, error) {
	if filepath.Base(name) == "outblob" && b.reads.Add(1) == 1 {
		if _, err := (tsm.System{}).Read(b.fifo, limit); err != nil {
			return nil, err
		}
	}
	return b.Tree.Read(name, limit)
}

func TestReadThatBlocksForEverEndsAtTheDeadline(t *testing.T) {
	b := &blocked{Tree: tsmtest.New("some_guest", echo), fifo: filepath.Join(t.TempDir(), "outblob")}
	if err := unix.Mkfifo(b.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := tsm.Open(tsm.Options{Provider: "some_guest", Files: b})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := d.Report(ctx, request)
		cancel()
		if wantReason(t, err, device.ReasonUnresponsive); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the cause is lost: %v", err)
		}
	}
	if more := runtime.NumGoroutine() - before; b.reads.Load() != 1 || more > 3 {
		t.Errorf("%d calls into the device and %d goroutines for 20 requests", b.reads.Load(), more)
	}
	w, err := os.OpenFile(b.fifo, os.O_WRONLY, 0) // the device answers at last
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Report(t.Context(), request); err != nil || b.Entries() != 0 {
		t.Errorf("a device that answers again: %v, %d entries left behind", err, b.Entries())
	}
}

// The operating system's files, on plain ones.
func TestSystemFiles(t *testing.T) {
	var s tsm.System
	dir := filepath.Join(t.TempDir(), "entry")
	if err := s.Mkdir(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Mkdir(dir); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	file := filepath.Join(dir, "inblob")
	if err := s.Write(file, []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that the kernel does not offer was made: %v", err)
	}
	if _, err := s.Read(file, 9); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(file, []byte("report data")); err != nil {
		t.Error(err)
	}
	if data, err := s.Read(file, 6); err != nil || string(data) != "report" {
		t.Errorf("%q, %v", data, err)
	}
	if err := errors.Join(s.Remove(file), s.Remove(dir)); err != nil {
		t.Error(err)
	}
}
