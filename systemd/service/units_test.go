package service_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/tsm"
)

// maxExposure is ten times the highest exposure that a daemon's unit may score.
const maxExposure = "15"

// maxWorkerExposure is the same for a worker, which needs next to nothing.
const maxWorkerExposure = "3"

// workerUnit runs one task per process: it is no daemon that notifies, reloads
// or has a watchdog.
const workerUnit = "anchorhold-worker@.service"

// volumeUnit opens a volume as root, and ends: it mounts for all, which no mount namespace allows. It has its
// own score, which falls with nothing that it does without.
const volumeUnit = "anchorhold-volume@.service"

// maxVolumeExposure is ten times that score.
const maxVolumeExposure = "50"

// unlockUnit is the agent once more, with another configuration and its state in memory.
const unlockUnit = "anchorhold-agent-unlock.service"

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
	for name, text := range dropIns(t) { // all at once
		if conf, ok := strings.CutSuffix(name, ".example"); ok {
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "anchorhold-agent.service.d"), 0o755),
				os.WriteFile(filepath.Join(dir, "anchorhold-agent.service.d", conf), []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
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
		if name == volumeUnit {
			most = maxVolumeExposure
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
		lines := []string{"LimitCORE=0", "MemorySwapMax=0", "KeyringMode=private", "NoNewPrivileges=yes", "UMask=0077"}
		switch filepath.Base(path) {
		case workerUnit:
			lines = append(lines, "StandardError=null", "CapabilityBoundingSet=")
		case volumeUnit:
			lines = append(lines, "Type=oneshot", "RemainAfterExit=yes")
		default:
			name := strings.TrimSuffix(filepath.Base(path), ".service")
			program := strings.TrimSuffix(name, "-unlock")
			lines = append(lines, "CapabilityBoundingSet=")
			// AF_UNIX: the journal's and the service manager's sockets.
			if !regexp.MustCompile(`(?m)^RestrictAddressFamilies=AF_UNIX `).Match(text) || regexp.MustCompile(`(?m)^Standard(Output|Error)=`).Match(text) {
				t.Errorf("%s keeps its daemon from the journal", filepath.Base(path))
			}
			lines = append(lines, "Type=notify", "WatchdogSignal=SIGKILL", "ExecReload=/usr/bin/"+program+" reload", "RuntimeDirectory="+name)
		}
		for _, line := range lines {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s lacks the line %q", filepath.Base(path), line)
			}
		}
		if filepath.Base(path) != workerUnit && strings.Contains(string(text), "\nPrivateUsers=yes\n") {
			t.Errorf("%s: PrivateUsers hides callers' uids", filepath.Base(path))
		}
		// For Go's runtime alone, in the daemons whose heap has copies of secrets.
		const clobber = "\nEnvironment=GODEBUG=clobberfree=1\n"
		holds := slices.Contains([]string{"anchorhold-agent.service", "anchorhold-agent-unlock.service", "anchorhold-broker.service"}, filepath.Base(path))
		if strings.Contains(string(text), clobber) != holds {
			t.Errorf("%s: its collector overwrites what it frees: %v, want %v", filepath.Base(path), !holds, holds)
		}
		text = []byte(strings.Replace(string(text), clobber, "\n", 1))
		if regexp.MustCompile(`(?m)^(Type=notify-reload|Environment)`).Match(text) {
			t.Errorf("%s: notify-reload needs systemd 253, and Environment is no place for settings", filepath.Base(path))
		}
	}
}

// The agent that has the key of the agent's own volume is narrowed as that one is.
func TestTheUnlockingAgentHasTheSameSandbox(t *testing.T) {
	own := regexp.MustCompile(`^(ExecStart|ExecStartPre|StateDirectory|StateDirectoryMode|WorkingDirectory|RuntimeDirectory)=`)
	service := func(name string) (lines []string) {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(text), "\n[Service]\n")
		section, _, _ = strings.Cut(section, "\n[Install]\n")
		for line := range strings.Lines(section) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !own.MatchString(line) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	agent, unlocking := service("anchorhold-agent.service"), service(unlockUnit)
	if len(agent) < 40 || !slices.Equal(agent, unlocking) {
		t.Errorf("the sandbox of %s is\n%s\nthe agent's is\n%s", unlockUnit, strings.Join(unlocking, "\n"), strings.Join(agent, "\n"))
	}
}

// dropIns are the agent's examples by their names, and its unit under its own.
func dropIns(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"anchorhold-agent.service", "anchorhold-agent.service.d/*.example"} {
		for _, path := range units(t, pattern) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.Base(path)] = string(text)
		}
	}
	return texts
}

// The unit's check opens the devices of the evidence: what is handed over after it keeps the agent from
// its first start. A drop-in that resets the unit's commands, to be first, takes those of another.
func TestDevicesAreHandedOverBeforeTheyAreChecked(t *testing.T) {
	devices := map[string]string{"sev-guest.conf.example": "/dev/sev-guest", "tpm.conf.example": "/dev/tpmrm0"}
	for name, text := range dropIns(t) {
		before := regexp.MustCompile(`(?m)^ExecStartPre=(.*)$`).FindAllStringSubmatch(text, -1)
		if name == "anchorhold-agent.service" {
			if len(before) != 1 || !strings.Contains(before[0][1], "anchorhold-agent check ") {
				t.Errorf("%s runs %q before its start, want its check", name, before)
			}
		} else if len(before) > 0 {
			t.Errorf("%s runs %q after the unit's check", name, before)
		}
		for _, line := range regexp.MustCompile(`(?m)^ExecCondition=(.*)$`).FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(line[1], "-+/") {
				t.Errorf("%s: %q resets, is not root's or keeps the agent from starting", name, line[1])
			}
		}
		var want []string
		if device := devices[name]; device != "" {
			want = []string{"DeviceAllow=" + device + " rw", "BindPaths=-" + device}
			if !regexp.MustCompile(`(?m)^ExecCondition=.*chgrp anchorhold-agent ` + device + ` `).MatchString(text) {
				t.Errorf("%s does not hand over %s", name, device)
			}
		}
		got := regexp.MustCompile(`(?m)^(DeviceAllow|BindPaths)=.*$`).FindAllString(text, -1)
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s opens %q, want %q", name, got, want)
		}
	}
}

// The kernel gives the files of every entry of configfs-tsm to root: the agent's unit makes the one that
// package tsm looks for, and gives it the files that are written.
func TestTheAgentsEntryIsPrepared(t *testing.T) {
	text := dropIns(t)["anchorhold-agent.service"]
	line := regexp.MustCompile(`(?m)^ExecCondition=.*$`).FindString(text)
	for _, want := range []string{"cd " + tsm.DefaultRoot + " ", "rmdir " + tsm.Prepared + " ", "mkdir " + tsm.Prepared + " ", "chown anchorhold-agent inblob", "chown -f anchorhold-agent privlevel"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %q", line, want)
		}
	}
	if !strings.Contains(text, "\nReadWritePaths=-"+filepath.Dir(tsm.DefaultRoot)+"\n") {
		t.Error("the unit may not write below " + tsm.DefaultRoot)
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
