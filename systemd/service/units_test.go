package service_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxExposure is ten times the highest exposure that a daemon's unit may score.
const maxExposure = "15"

// maxWorkerExposure is the same for a worker, which needs next to nothing.
const maxWorkerExposure = "3"

// workerUnit runs one task per process: it is no daemon that notifies, reloads
// or has a watchdog.
const workerUnit = "anchorhold-worker@.service"

func units(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("..", pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no unit file matches %s: %v", pattern, err)
	}
	return found
}

func systemdAnalyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: systemd-analyze is not installed, so the unit files are not checked")
	}
	return path
}

// unitCopies copies every unit into one directory, with binaries that exist.
func unitCopies(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	binary := regexp.MustCompile(`(?m)^(Exec\w+=)/usr/bin/anchorhold-\w+`)
	for _, pattern := range []string{"*.service", "*.socket", "*.slice"} {
		for _, path := range units(t, pattern) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Base(path)
			if err := os.WriteFile(filepath.Join(dir, name), binary.ReplaceAll(text, []byte("${1}/bin/true")), 0o644); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
	}
	return dir, names
}

func TestUnitsVerifyWithoutAWord(t *testing.T) {
	analyze := systemdAnalyze(t)
	dir, names := unitCopies(t)
	for _, name := range names {
		cmd := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, name))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, err := cmd.CombinedOutput()
		if err != nil || len(strings.TrimSpace(string(out))) != 0 {
			t.Errorf("verify %s: %v\n%s", name, err, out)
		}
	}
}

func TestServicesStayUnderTheExposureLimit(t *testing.T) {
	analyze := systemdAnalyze(t)
	dir, names := unitCopies(t)
	for _, name := range names {
		if filepath.Ext(name) != ".service" {
			continue
		}
		most := maxExposure
		if name == workerUnit {
			most = maxWorkerExposure
		}
		cmd := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+most, filepath.Join(dir, name))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("exposure of %s is above %s/10: %v\n%s", name, most, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
}

// A page that `systemctl help` opens must be there after the documented installation.
func TestUnitsNamePagesThatAreInstalled(t *testing.T) {
	const installed = "/usr/share/doc/anchorhold/"
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manual), "| `docs/*.md` | `"+installed+"`") {
		t.Errorf("docs/operations.md does not say that docs/*.md go to %s", installed)
	}
	for _, pattern := range []string{"*.service", "*.socket", "*.slice"} {
		for _, path := range units(t, pattern) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages := regexp.MustCompile(`(?m)^Documentation=(.*)$`).FindAllStringSubmatch(string(text), -1)
			if len(pages) == 0 {
				t.Errorf("%s names no page", filepath.Base(path))
			}
			for _, page := range pages {
				name, ok := strings.CutPrefix(page[1], "file:"+installed)
				if _, err := os.Stat(filepath.Join("..", "..", "docs", name)); !ok || err != nil || filepath.Ext(name) != ".md" {
					t.Errorf("%s names %s, which is not installed", filepath.Base(path), page[1])
				}
			}
		}
	}
}

// Each line stands for an incident: a core dump with keys, keys in swap, a
// session keyring shared with other services, callers all seen as nobody.
func TestServicesKeepSecretsIn(t *testing.T) {
	for _, path := range units(t, "*.service") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^MemoryMax=[0-9]+M$`).Match(text) {
			t.Errorf("%s has no MemoryMax, under which its listeners are attacked in tests", filepath.Base(path))
		}
		lines := []string{"LimitCORE=0", "MemorySwapMax=0", "KeyringMode=private", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "UMask=0077"}
		if filepath.Base(path) == workerUnit {
			lines = append(lines, "StandardError=null")
		} else {
			name := strings.TrimSuffix(filepath.Base(path), ".service")
			// AF_UNIX: the journal's and the service manager's sockets.
			if !regexp.MustCompile(`(?m)^RestrictAddressFamilies=AF_UNIX `).Match(text) || regexp.MustCompile(`(?m)^Standard(Output|Error)=`).Match(text) {
				t.Errorf("%s keeps its daemon from the journal", filepath.Base(path))
			}
			lines = append(lines, "Type=notify", "WatchdogSignal=SIGKILL", "ExecReload=/usr/bin/"+name+" reload", "RuntimeDirectory="+name)
		}
		for _, line := range lines {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s lacks the line %q", filepath.Base(path), line)
			}
		}
		if filepath.Base(path) != workerUnit && strings.Contains(string(text), "\nPrivateUsers=yes\n") {
			t.Errorf("%s: PrivateUsers hides callers' uids", filepath.Base(path))
		}
		if regexp.MustCompile(`(?m)^(Type=notify-reload|Environment)`).Match(text) {
			t.Errorf("%s: notify-reload needs systemd 253, and Environment is no place for settings", filepath.Base(path))
		}
	}
}

// The unit's check looks at the TPM: a drop-in that hands the device over after it would keep the agent
// from its first start. Nothing but the one device is handed over.
func TestTheTPMIsHandedOverBeforeItIsChecked(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "anchorhold-agent.service.d", "tpm.conf.example"))
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile(filepath.Join("..", "anchorhold-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, line := range regexp.MustCompile(`(?m)^ExecStartPre=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, line[1])
	}
	check := regexp.MustCompile(`(?m)^ExecStartPre=(.*)$`).FindSubmatch(unit)
	if check == nil || len(commands) != 4 || commands[0] != "" || commands[3] != string(check[1]) {
		t.Errorf("the drop-in runs %q, and the unit's own check is %q", commands, check)
	}
	if allowed := regexp.MustCompile(`(?m)^DeviceAllow=.*$`).FindAllString(string(text), -1); len(allowed) != 1 || allowed[0] != "DeviceAllow=/dev/tpmrm0 rw" {
		t.Errorf("devices: %q", allowed)
	}
}

// Each line stands for a way out of a worker, or for a way to harm the agent
// from inside one.
func TestWorkersAreApartFromTheAgent(t *testing.T) {
	for name, lines := range map[string][]string{
		workerUnit: {"ExecStart=/usr/bin/anchorhold-worker serve", "PrivateNetwork=yes", "RestrictAddressFamilies=none", "IPAddressDeny=any",
			"DynamicUser=yes", "PrivateUsers=yes", "ProtectSystem=strict", "NoExecPaths=/", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes",
			"Slice=anchorhold-worker.slice", "MemoryMax=1152M", "LimitFSIZE=64G", "OOMScoreAdjust=1000", "CPUSchedulingPolicy=idle", "RuntimeMaxSec=65min", "CollectMode=inactive-or-failed"},
		"anchorhold-worker.socket": {"ListenSequentialPacket=/run/anchorhold/worker.sock", "Accept=yes", "SocketUser=anchorhold-agent", "SocketMode=0600",
			"MaxConnections=4", "TriggerLimitIntervalSec=0"},
		"anchorhold-worker.slice": {"CPUWeight=1", "MemoryMax=2G", "MemorySwapMax=0", "TasksMax=256"},
	} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s lacks the line %q", name, line)
			}
		}
	}
}

// A broker that was down for five starts on a full disk stayed down when there was room again.
func TestWhatOthersDependOnIsTriedForEver(t *testing.T) {
	for _, name := range []string{"broker", "aggregator"} {
		text, err := os.ReadFile(filepath.Join("..", "anchorhold-"+name+".service"))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"StartLimitIntervalSec=0", "Restart=on-failure"} {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s lacks the line %q", name, line)
			}
		}
	}
}

// A unit that requires a mount is not started once the mount failed, and Restart= does not
// count: the broker stayed away where another machine's disk was away when it booted.
func TestABrokerIsStartedWithoutAMount(t *testing.T) {
	units, err := filepath.Glob(filepath.Join("..", "anchorhold-broker.service*"))
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob(filepath.Join("..", "anchorhold-broker.service.d", "*"))
	if err != nil || len(examples) == 0 {
		t.Fatal("no drop-in of the broker", err)
	}
	required := regexp.MustCompile(`(?m)^(Requires|Requisite|BindsTo|RequiresMountsFor)=.*$`)
	for _, name := range append(units, examples...) {
		if st, err := os.Stat(name); err == nil && st.IsDir() {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if line := required.Find(text); line != nil {
			t.Errorf("%s has %s", filepath.Base(name), line)
		}
	}
}

// A broker that was configured as the page said did not start: its unit hides the place.
func TestPagesNameNoFileThatUnitsHide(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join("..", "anchorhold-broker.service"))
	if err != nil {
		t.Fatal(err)
	}
	hidden := regexp.MustCompile(`(?m)^InaccessiblePaths=(.*)$`).FindSubmatch(unit)
	if hidden == nil {
		t.Fatal("the unit hides nothing")
	}
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for path := range strings.FieldsSeq(string(hidden[1])) {
			if dir := strings.TrimPrefix(path, "-") + "/"; regexp.MustCompile(`(^|[^\w/.])` + dir).Match(text) {
				t.Errorf("%s names a file below %s", filepath.Base(page), dir)
			}
		}
	}
}
