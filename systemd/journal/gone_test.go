package journal

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const goneVariable = "ANCHORHOLD_TEST_JOURNAL_GONE"

// TestAJournalThatIsGoneEndsNobody: neither its socket nor the stream that standard error
// leads to has a reader any more. Go would end this process at its first line.
func TestAJournalThatIsGoneEndsNobody(t *testing.T) {
	if os.Getenv(goneVariable) != "" {
		for _, format := range []string{"", "text", "json"} {
			log, err := output(os.Stderr, streamOf(t, os.Stderr), filepath.Join(t.TempDir(), "absent"), "anchorhold-test").Logger("info", format)
			if err != nil {
				t.Fatal(err)
			}
			log.Info("a line that nobody reads")
		}
		os.Stdout.WriteString("alive")
		return
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(pair[1]); err != nil {
		t.Fatal(err)
	}
	stream := os.NewFile(uintptr(pair[0]), "the journal's stream")
	defer stream.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env, cmd.Stderr = append(os.Environ(), goneVariable+"=1"), stream
	out, err := cmd.Output()
	if err != nil || string(out[:min(len(out), 5)]) != "alive" {
		t.Errorf("%v, and it said %q", err, out)
	}
}
