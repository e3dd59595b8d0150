package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// JOURNAL_STREAM is inherited: only the file that it names is the journal.
func TestOnlyTheNamedStreamIsTheJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	_, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	own := streamOf(t, w)
	dev, ino, _ := strings.Cut(own, ":")
	for stream, want := range map[string]bool{own: true, "": false, streamOf(t, other): false, dev: false, dev + ":": false, ":" + ino: false, own + ":1": false,
		own + " ": false, "+" + own: false, dev + ":-" + ino: false, "x" + own: false, dev + "1:" + ino: false, ino + ":" + dev: ino == dev} {
		if got := isStream(w, stream); got != want {
			t.Errorf("%q: %t, want %t", stream, got, want)
		}
	}
	w.Close()
	if isStream(w, own) {
		t.Error("a closed file is the journal")
	}
}

func TestOutsideSystemdLogsAreText(t *testing.T) {
	var b bytes.Buffer
	o := Plain(&b)
	for format, want := range map[string]string{"": " level=WARN msg=x n=1\n", "text": " level=WARN msg=x n=1\n", "json": `"level":"WARN","msg":"x","n":1}` + "\n"} {
		b.Reset()
		log, err := o.Logger("warn", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hidden")
		log.Warn("x", "n", 1)
		if !strings.HasSuffix(b.String(), want) || strings.Contains(b.String(), "hidden") {
			t.Errorf("format %q: %q", format, b.String())
		}
	}
	b.Reset()
	if _, err := io.WriteString(o, "anchorhold-x: no\n"); err != nil || b.String() != "anchorhold-x: no\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	for _, bad := range [][2]string{{"loud", ""}, {"", "xml"}, {"", "journal"}} {
		if log, err := o.Logger(bad[0], bad[1]); err == nil || log != nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAFormatThatIsSetIsHonouredUnderSystemd(t *testing.T) {
	j := newJournald(t)
	_, stderr := j.logger(t, "")
	o := output(stderr, streamOf(t, stderr), j.path, "x")
	for _, format := range []string{"text", "json"} {
		log, err := o.Logger("", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("written")
	}
	if said := content(t, stderr); !strings.Contains(said, "level=INFO msg=written\n{") || !strings.HasSuffix(said, `"msg":"written"}`+"\n") {
		t.Errorf("standard error has %q", said)
	}
}

func TestLinesWithoutALoggerHaveAPriority(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := output(f, streamOf(t, f), "", "x")
	n, err := fmt.Fprint(o, "anchorhold-x: no such file\n  hint: make one\nwarning: w\nlast")
	if n != 59 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	const errors = "<3>anchorhold-x: no such file\n<3>  hint: make one\n<4>warning: w\n<3>last"
	if said := content(t, f); said != errors {
		t.Errorf("standard error has %q", said)
	}
	var b bytes.Buffer
	if _, err := io.WriteString(prioritized{&b, priorityInfo}, "error: a\nnotice: b\n"); err != nil || b.String() != "<3>error: a\n<6>notice: b\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestAnAbsentJournalLeavesStandardError(t *testing.T) {
	log, stderr := journald{path: filepath.Join(t.TempDir(), "absent")}.logger(t, "")
	log.Error("broker ends", "err", "a\nb")
	log.Warn("w")
	log.Info("i", "n", 1)
	const want = `<3>broker ends err="a\nb"` + "\n<4>w\n<6>i n=1\n"
	if got := content(t, stderr); got != want {
		t.Errorf("standard error has %q, want %q", got, want)
	}
}

func TestAJournalThatCameBackGetsEveryLine(t *testing.T) {
	j := newJournald(t)
	log, stderr := j.logger(t, "")
	log.Info("first")
	one(t, j.receive(t), "MESSAGE", "first")
	j.end(t)
	log.Info("away")
	if got := content(t, stderr); got != "<6>away\n" {
		t.Errorf("standard error has %q", got)
	}
	j = listen(t, j.path)
	log.Info("back")
	one(t, j.receive(t), "MESSAGE", "back")
	// And one that was replaced between two lines.
	j.end(t)
	j = listen(t, j.path)
	log.Info("replaced")
	one(t, j.receive(t), "MESSAGE", "replaced")
	if got := content(t, stderr); got != "<6>away\n" {
		t.Errorf("standard error has %q", got)
	}
}

// A journal that is stopped takes nothing and refuses nothing.
func TestAJournalThatTakesNothingHoldsNobody(t *testing.T) {
	j := newJournald(t)
	log, stderr := j.logger(t, "")
	s := log.Handler().(*handler).socket
	s.wait = 100 * time.Millisecond
	const sent = 1000 // more than any queue takes
	for i := range sent {
		log.Info("line", "n", i)
		if s.lost == 3 {
			break
		}
	}
	if s.lost != 3 {
		t.Fatalf("%d of %d lines were lost to a journal that reads none", s.lost, sent)
	}
	one(t, j.receive(t), "ANCHORHOLD_N", "0")
	log.Info("awake")
	var last map[string][]string
	for last = j.receive(t); last["ANCHORHOLD_N"] != nil; last = j.receive(t) {
		continue
	}
	one(t, last, "MESSAGE", "awake lines_lost=3")
	one(t, last, "ANCHORHOLD_LINES_LOST", "3")
	log.Info("on")
	one(t, j.receive(t), "MESSAGE", "on")
	if said := content(t, stderr); said != "" {
		t.Errorf("standard error has %q", said)
	}
}

// TestJournaldTakesTheFields asks the journal of this machine what it made of a record.
func TestJournaldTakesTheFields(t *testing.T) {
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		t.Skip("SKIPPED: journalctl is not installed, so no record is read back from a journal")
	}
	if _, err := os.Stat(socketPath); err != nil {
		t.Skip("SKIPPED: systemd-journald does not run here, so no record is read back from a journal")
	}
	log, stderr := journald{path: socketPath}.logger(t, "")
	mark := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	log.Error("a test of anchorhold", "mark", mark, "text", "two\nlines")
	if said := content(t, stderr); said != "" {
		t.Fatalf("the journal did not take it: %q", said)
	}
	if out, err := exec.Command(journalctl, "--sync").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this user may not have the journal synced: %v: %s", err, out)
	}
	out, err := exec.Command(journalctl, "--output=json", "--no-pager", "ANCHORHOLD_MARK="+mark).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for name, want := range map[string]string{"PRIORITY": "3", "SYSLOG_IDENTIFIER": "anchorhold-test", "_TRANSPORT": "journal", "ANCHORHOLD_TEXT": "two\nlines",
		"MESSAGE": "a test of anchorhold mark=" + mark + ` text="two\nlines"`} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}
