package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// filesOf are the files of a log by name, without its lock.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func sameFiles(a, b map[string]string) bool {
	for name, content := range a {
		if b[name] != content {
			return false
		}
	}
	return len(a) == len(b)
}

// A log of the first version is put away as it is, and the new one begins by naming it;
// wherever a crash came, the next call finishes.
func TestBeginAnew(t *testing.T) {
	fixture := filepath.Join("testdata", "v1")
	k := newSigner(t)
	for name, crash := range map[string]func(dir string) error{
		"no crash":                   func(string) error { return nil },
		"while the new one was made": func(dir string) error { return os.Mkdir(dir+nextSuffix, 0o700) },
		"after the old was put away": func(dir string) error { return os.Rename(dir, dir+formerSuffix) },
		"then, with half of a new one": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+formerSuffix), os.Mkdir(dir+nextSuffix, 0o700))
		},
	} {
		dir := copyLog(t, fixture)
		if err := crash(dir); err != nil {
			t.Fatal(err)
		}
		former, err := BeginAnew(t.Context(), dir, k, Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if former.Directory != dir+formerSuffix || !sameFiles(filesOf(t, fixture), filesOf(t, former.Directory)) {
			t.Errorf("%s: the old log is not as it was: %+v", name, former)
		}
		if _, err := Verify(former.Directory, k.Public()); reasonOf(err) != ReasonCheckpointVersion {
			t.Errorf("%s: the old log: %v", name, err)
		}
		if report, err := Verify(dir, k.Public()); err != nil || report.Records != 1 {
			t.Errorf("%s: the new log: %+v, %v", name, report, err)
		}
		if err := Iterate(dir, func(e Entry) bool {
			for _, want := range []string{"with 3 records", former.Chain.String(), former.Checkpoint.String()} {
				if !strings.Contains(e.Record.Detail, want) || e.Record.Resource != "log"+formerSuffix {
					t.Errorf("%s: %+v does not name %s", name, e.Record, want)
				}
			}
			return true
		}); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir + nextSuffix); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was left: %v", name, err)
		}
		if _, err := BeginAnew(t.Context(), dir, k, Options{}); reasonOf(err) != ReasonCurrent {
			t.Errorf("%s: begun twice: %v", name, err)
		}
	}
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// Each refusal alone, and nothing is moved.
func TestBeginAnewRefuses(t *testing.T) {
	v1, v2 := filepath.Join("testdata", "v1"), filepath.Join("testdata", "v2", "audit")
	k := newSigner(t)
	for name, tc := range map[string]struct {
		from    string
		prepare func(t *testing.T, dir string)
		now     time.Time
		want    func(error) bool
	}{
		"this version": {from: v2, want: func(err error) bool { return reasonOf(err) == ReasonCurrent }},
		"a log that is open": {from: v1, want: func(err error) bool { return errors.Is(err, ErrInUse) }, prepare: func(t *testing.T, dir string) {
			l := &Log{dir: dir, opts: Options{}.withDefaults()}
			if err := l.acquire(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(l.release)
		}},
		"one that was put away before": {from: v1, want: func(err error) bool { return strings.Contains(err.Error(), "is there already") }, prepare: func(t *testing.T, dir string) {
			if err := os.Mkdir(dir+formerSuffix, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		"a record that was changed": {from: v1, want: func(err error) bool { return errors.Is(err, ErrTampered) }, prepare: func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "log-0000000000000000.seg"), func(b []byte) []byte { return flipped(b, len(b)/2) })
		}},
		"a checkpoint that was changed": {from: v1, want: func(err error) bool { return errors.Is(err, ErrTampered) }, prepare: func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "checkpoints-0000000000000000.seg"), func(b []byte) []byte { return flipped(b, len(b)/2) })
		}},
		"a clock before the old log's end": {from: v1, now: time.Unix(1, 0), want: func(err error) bool { return strings.Contains(err.Error(), "set the clock") }},
		"no log":                           {from: filepath.Join("testdata", "v2"), want: func(err error) bool { return strings.Contains(err.Error(), "holds no audit log") }},
	} {
		dir := copyLog(t, tc.from)
		if tc.prepare != nil {
			tc.prepare(t, dir)
		}
		o := Options{}
		if !tc.now.IsZero() {
			o.Now = func() time.Time { return tc.now }
		}
		var before map[string]string
		if tc.from != filepath.Join("testdata", "v2") {
			before = filesOf(t, dir)
		}
		if _, err := BeginAnew(t.Context(), dir, k, o); err == nil || !tc.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if before != nil && !sameFiles(before, filesOf(t, dir)) {
			t.Errorf("%s: the log was changed", name)
		}
	}
}

func flipped(b []byte, i int) []byte {
	b[i] ^= 1
	return b
}
