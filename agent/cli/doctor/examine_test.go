package doctor

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
)

// tree is a directory with files; a name that ends in / is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		clitest.Write(t, path, text)
	}
	return root
}

// TestEachFindingHasItsVerdict: what is in the tree decides, and whatever is not ok has advice.
func TestEachFindingHasItsVerdict(t *testing.T) {
	const clocksource, thp = "sys/devices/system/clocksource/clocksource0/current_clocksource", "sys/kernel/mm/transparent_hugepage/enabled"
	for name, c := range map[string]struct {
		files         map[string]string
		examine       func(root string) finding
		verdict, says string
	}{
		"configfs-tsm":      {map[string]string{"sys/kernel/config/tsm/report/": ""}, examineTEE, "ok", "(0 entries)"},
		"a device alone":    {map[string]string{"dev/sev-guest": ""}, examineTEE, "note", "/dev/sev-guest exists"},
		"a TPM alone":       {map[string]string{"dev/tpmrm0": ""}, examineTEE, "note", "Azure"},
		"TDX":               {map[string]string{"dev/tdx_guest": ""}, examineTEE, "lacking", "Intel TDX"},
		"no TEE":            {nil, examineTEE, "lacking", "this is not a confidential VM"},
		"an unknown clock":  {nil, examineClock, "note", "the kernel does not name its clock source"},
		"the host's clock":  {map[string]string{clocksource: "kvm-clock\n"}, examineClock, "note", "the host can slow the clock"},
		"huge pages":        {map[string]string{thp: "always [madvise] never\n"}, examineHugePages, "ok", "always [madvise] never"},
		"huge pages off":    {map[string]string{thp: "always madvise [never]\n"}, examineHugePages, "note", "transparent huge pages are off"},
		"no huge pages":     {nil, examineHugePages, "note", "the kernel has no transparent huge pages"},
		"swap":              {map[string]string{"proc/swaps": "Filename Type\n/dev/vda2 partition\n"}, examineSwap, "note", "swap is on"},
		"no swap":           {map[string]string{"proc/swaps": "Filename Type\n"}, examineSwap, "ok", "off"},
		"no word of swap":   {nil, examineSwap, "ok", "off"},
		"control groups":    {map[string]string{"sys/fs/cgroup/cgroup.controllers": "memory\n"}, examineCgroup, "ok", "version 2"},
		"old control group": {nil, examineCgroup, "note", "version 1"},
	} {
		f := c.examine(tree(t, c.files))
		if f.Verdict != c.verdict || !strings.Contains(f.Found, c.says) || (f.Advice == "") != (c.verdict == "ok") {
			t.Errorf("%s: %+v, want %s with %q", name, f, c.verdict, c.says)
		}
	}
}

// TestCredentialsOfTheProcessAreCounted, and a process without any is told where they come from.
func TestCredentialsOfTheProcessAreCounted(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if f := examineCredentials(); f.Verdict != "note" || f.Found != "none for this process" || f.Advice == "" {
		t.Errorf("none: %+v", f)
	}
	dir := tree(t, map[string]string{"broker.kek": "k", "other": "o"})
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if f := examineCredentials(); f.Verdict != "ok" || f.Found != "2 in "+dir {
		t.Errorf("two: %+v", f)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "none"))
	if f := examineCredentials(); f.Verdict != "note" || !strings.Contains(f.Found, "no such file") {
		t.Errorf("gone: %+v", f)
	}
}

// TestTheWholeVerdictIsTheExitStatus: all findings are printed, and one that is lacking refuses.
func TestTheWholeVerdictIsTheExitStatus(t *testing.T) {
	good, bad := tree(t, map[string]string{"sys/kernel/config/tsm/report/": ""}), tree(t, nil)
	clitest.Calls(t, map[string]clitest.Call{
		"good":      {Run: (&doctorOptions{root: good}).run, Says: "ok       TEE evidence"},
		"bad":       {Run: (&doctorOptions{root: bad}).run, Status: cli.StatusRefused, Reason: "refused", Says: "this machine lacks what a production agent needs"},
		"advice":    {Run: (&doctorOptions{root: bad}).run, Status: cli.StatusRefused, Says: "-> start the VM with SEV-SNP or TDX (docs/clouds.md)"},
		"full disk": {Run: (&doctorOptions{root: bad}).run, Out: clitest.Full{}, Status: cli.StatusFailed, Says: io.ErrShortWrite.Error()},
	})
	var all struct{ Findings []finding }
	out := clitest.Call{Run: (&doctorOptions{root: good}).run, JSON: true}.Expect(t, "as JSON")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all.Findings) != 11 {
		t.Errorf("%d findings, %v", len(all.Findings), err)
	}
}
