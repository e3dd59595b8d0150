package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	agentUnit  = "anchorhold-agent.service"
	brokerUnit = "anchorhold-broker.service"
	unitDir    = "/usr/lib/systemd/system"
)

// checks in the order in which they are made.
var checks = []check{
	{"every unit verifies, and its documentation is there", unitsVerify},
	{"the exposure of each service is within its limit", exposure},
	{"the broker starts with a credential sealed by the TPM", startBroker},
	{"the operator stores the key and imports the policy", setUpBroker},
	{"the agent is attested and serves", startAgent},
	{"root and a group member are served, and a stranger is not", audience},
	{"a worker under its own unit proves an answer", proveAnswer},
	{"a worker under its own unit encrypts a vector, which an aggregator takes", encryptVector},
	{"the journal has levels and one time stamp", journalLevels},
	{"two minutes without a restart", quietMinutes},
	{"reload with a good file", reloadGood},
	{"reload with a bad file is refused, and changes nothing", reloadBad},
	{"a TLS certificate and its root change by reloads", rotateCertificate},
	{"a removed socket or a missing journal causes no outage", slips},
	{"the socket starts the agent", socketActivation},
	{"the watchdog ends a hung agent, and it comes back", watchdog},
	{"MemoryMax is respected", memoryRespected},
	{"a MemoryMax that is too small is named", memoryTooSmall},
	{"nginx serves TLS with a key from the agent, which is in no file", serveTLS},
	{"a unit that is not named fails, and the journal says why", strangeUnit},
	{"a crash of the agent starts no unit with an empty credential", crashWhileOneWaits},
	{"a script gets a secret for its user alone", scriptGets},
	{"an encrypted volume is unlocked and mounted with the agent's key", unlockVolume},
	{"an encrypted volume whose header is not valid stays locked", badHeaders},
	{"a volume that a host rolls back is refused", rollBack},
	{"a checkpoint is kept outside the broker", keepCheckpoints},
	{"a clock that ran ahead is set back once", clockAhead},
	{"an update of the packages restarts what runs, and going back is refused", updatePackages},
}

func unitsVerify(*guest) (string, error) {
	units, err := filepath.Glob(unitDir + "/anchorhold*")
	if err != nil {
		return "", err
	}
	var errs []error
	units = slices.DeleteFunc(units, func(u string) bool { return strings.HasSuffix(u, ".d") })
	words := append([]string{"systemd-analyze", "verify", "--man=no", "--recursive-errors=no"}, units...)
	// It says what is wrong to standard error, and may return 0 all the same.
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
		errs = append(errs, fmt.Errorf("systemd-analyze verify: %s (%v)", out, err))
	}
	for _, u := range units {
		text, err := os.ReadFile(u)
		if err != nil {
			return "", err
		}
		for _, m := range regexp.MustCompile(`(?m)^Documentation=(.*)$`).FindAllStringSubmatch(string(text), -1) {
			for _, page := range strings.Fields(m[1]) {
				file, isFile := strings.CutPrefix(page, "file:")
				if _, err := os.Stat(file); !isFile || err != nil {
					errs = append(errs, fmt.Errorf("%s names %s, which does not exist", filepath.Base(u), page))
				}
			}
		}
	}
	return fmt.Sprintf("%d units", len(units)), errors.Join(errs...)
}

func exposure(*guest) (string, error) {
	var errs []error
	var detail []string
	for unit, most := range map[string]float64{agentUnit: 1.3, brokerUnit: 1.3, "anchorhold-aggregator.service": 1.3, "anchorhold-worker@.service": 0.3, "anchorhold-agent-unlock.service": 1.3, "anchorhold-volume@.service": 5} {
		out, err := sh("systemd-analyze security --no-pager --offline=true %s/%s", unitDir, unit)
		m := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			errs = append(errs, fmt.Errorf("%s: systemd-analyze security shows no level: %q (%v)", unit, out, err))
			continue
		}
		level, err := strconv.ParseFloat(m[1], 64)
		if err != nil || level > most {
			errs = append(errs, fmt.Errorf("%s has an exposure of %s, want at most %.1f", unit, m[1], most))
		}
		detail = append(detail, unit+" "+m[1])
	}
	return strings.Join(detail, ", "), errors.Join(errs...)
}

// writeFile makes a file and its directory.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func startBroker(*guest) (string, error) {
	if err := os.MkdirAll("/etc/credstore.encrypted", 0o700); err != nil {
		return "", err
	}
	if _, err := sh("systemd-creds encrypt --with-key=tpm2 --name=broker.kek /root/keys/broker.kek /etc/credstore.encrypted/broker.kek"); err != nil {
		return "", err
	}
	if err := os.Remove("/root/keys/broker.kek"); err != nil {
		return "", err
	}
	if err := writeFile("/etc/systemd/system/"+brokerUnit+".d/credential.conf", "[Service]\nLoadCredentialEncrypted=broker.kek:/etc/credstore.encrypted/broker.kek\n"); err != nil {
		return "", err
	}
	if _, err := sh("systemctl daemon-reload"); err != nil {
		return "", err
	}
	if _, err := sh("systemctl enable --now %s", brokerUnit); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said(brokerUnit))
	}
	return "", nil
}

const operator = "--broker=/run/anchorhold-broker/operator.sock"

func setUpBroker(*guest) (string, error) {
	if err := storeSecrets(); err != nil {
		return "", err
	}
	for _, c := range []string{
		"anchorhold secret put models/digits --file /root/keys/digits.key --model /var/lib/anchorhold/digits.ahm",
		"anchorhold secret put members/boot --file /root/keys/member.key",
		"anchorhold policy values import /etc/anchorhold/values.yaml",
		"anchorhold policy import /etc/anchorhold/policy.yaml",
		"anchorhold audit checkpoint --out " + keptDir + "/rounds",
	} {
		if _, err := sh("%s %s", c, operator); err != nil {
			return "", err
		}
	}
	return "", nil
}

// ready says whether the classifier is served.
func ready() (bool, error) {
	r, err := ask(http.MethodGet, "/v2/models/digits/ready", nil, 20*time.Second)
	if err == nil && r.Status != http.StatusOK {
		err = fmt.Errorf("%d %s", r.Status, r.Body)
	}
	return err == nil, err
}

func startAgent(g *guest) (string, error) {
	began := time.Now()
	if _, err := sh("systemctl enable --now anchorhold-agent.socket anchorhold-worker.socket %s", agentUnit); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said(agentUnit))
	}
	if err := await(time.Minute, "the classifier", ready); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said(agentUnit))
	}
	g.served = time.Now()
	return fmt.Sprintf("%.1f s from start to the first answer", g.served.Sub(began).Seconds()), nil
}

func audience(*guest) (string, error) {
	var errs []error
	for name, want := range map[string]string{"root": "200", "alice": "200", "mallory": "permission denied"} {
		got, err := askAs(name, "/v2/health/live")
		if !strings.Contains(got, want) {
			errs = append(errs, fmt.Errorf("%s: got %q (%v), want %s", name, got, err, want))
		}
	}
	return "root, alice (in the group anchorhold), mallory (not)", errors.Join(errs...)
}

func proveAnswer(g *guest) (string, error) {
	row := make([]float64, 64)
	for i := range row {
		row[i] = float64(i % 16)
	}
	body, err := json.Marshal(map[string]any{"inputs": []any{map[string]any{"name": "input", "datatype": "FP64", "shape": []int{1, 64}, "data": row}}})
	if err != nil {
		return "", err
	}
	r, err := ask(http.MethodPost, "/v2/models/digits/infer", body, time.Minute)
	if err != nil || r.Status != http.StatusOK {
		return "", fmt.Errorf("the classifier did not answer: %d %s (%v)", r.Status, r.Body, err)
	}
	var answer struct {
		Parameters struct {
			Receipts []string `json:"receipts"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(r.Body, &answer); err != nil || len(answer.Parameters.Receipts) != 1 {
		return "", fmt.Errorf("the answer has no receipt: %s (%v)", r.Body, err)
	}
	g.receipt = answer.Parameters.Receipts[0]
	if err := await(4*time.Minute, "the proof", func() (bool, error) {
		r, err := ask(http.MethodGet, "/v1/proofs/"+g.receipt, nil, 20*time.Second)
		if err == nil && r.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", r.Status, r.Body)
		}
		return err == nil, err
	}); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s", err, said(agentUnit), said("anchorhold-worker@*"))
	}
	return workersStarted()
}

// workersStarted says how many workers the service manager has started so far.
func workersStarted() (string, error) {
	n, err := number("anchorhold-worker.socket", "NAccepted")
	if err == nil && n == 0 {
		err = errors.New("the manager started no worker")
	}
	return fmt.Sprintf("%d workers were started for connections of the agent", n), err
}

// encryptVector opens a round at the broker and has the agent contribute to it.
func encryptVector(*guest) (string, error) {
	if _, err := sh("systemctl enable --now anchorhold-aggregator.service"); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said("anchorhold-aggregator.service"))
	}
	const admin = "/run/anchorhold-aggregator/admin.sock"
	out, err := sh("anchorhold fed round open --json --model boot --length 1000 --clip-l2 1 --minimum 2 --maximum 4 --mechanism none --contributors everyone --decryptors everyone --aggregator %s %s", admin, operator)
	if err != nil {
		return "", err
	}
	var round struct {
		Round string `json:"round"`
	}
	if err := json.Unmarshal([]byte(out), &round); err != nil {
		return "", err
	}
	if err := os.WriteFile("/root/vector.f32", make([]byte, 4*1000), 0o600); err != nil {
		return "", err
	}
	// It waits for the job, and fails with it.
	if _, err := runFor(4*time.Minute, "anchorhold", "fed", "submit", round.Round, "/root/vector.f32", "--wait", "--agent="+apiSocket); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said(agentUnit))
	}
	started, err := workersStarted()
	return fmt.Sprintf("round %s; %s", round.Round, started), err
}

func journalLevels(*guest) (string, error) {
	levels := map[string]int{}
	var errs []error
	for _, unit := range []string{agentUnit, brokerUnit} {
		entries, err := journal(unit)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if e["_SYSTEMD_UNIT"] != unit {
				continue // the manager's own
			}
			levels[e["PRIORITY"]]++
			if strings.HasPrefix(e["MESSAGE"], "time=") || strings.Contains(e["MESSAGE"], "level=") {
				errs = append(errs, fmt.Errorf("%s: %s", unit, e["MESSAGE"]))
			}
		}
	}
	// Both say loudly that the software TEE protects nothing.
	if levels["4"] == 0 || levels["6"] == 0 {
		errs = append(errs, fmt.Errorf("got entries by priority %v, want warnings (4) and information (6)", levels))
	}
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("and %d more", len(errs)-3))
	}
	return fmt.Sprintf("entries by priority: %v", levels), errors.Join(errs...)
}

func quietMinutes(g *guest) (string, error) {
	if g.served.IsZero() {
		return "", errors.New("the agent never served")
	}
	time.Sleep(time.Until(g.served.Add(2 * time.Minute)))
	return steady(0)
}

// steady says whether agent and broker run, after so many restarts of the agent.
func steady(restarts int64) (string, error) {
	for unit, want := range map[string]int64{agentUnit: restarts, brokerUnit: 0} {
		state, err := property(unit, "ActiveState")
		if err != nil {
			return "", err
		}
		n, err := number(unit, "NRestarts")
		if err != nil {
			return "", err
		}
		if state != "active" || n != want {
			return "", fmt.Errorf("%s is %s after %d restarts, want active after %d\n%s", unit, state, n, want, said(unit))
		}
	}
	return "", nil
}

func reloadGood(*guest) (string, error) {
	for _, unit := range []string{agentUnit, brokerUnit} {
		before, err := number(unit, "MainPID")
		if err != nil {
			return "", err
		}
		if _, err := sh("systemctl reload %s", unit); err != nil {
			return "", fmt.Errorf("%w\n%s", err, said(unit))
		}
		after, err := number(unit, "MainPID")
		if err != nil || before != after {
			return "", fmt.Errorf("%s was process %d before the reload and is %d after it (%v)", unit, before, after, err)
		}
	}
	if err := await(30*time.Second, "the classifier after the reload", ready); err != nil {
		return "", err
	}
	return steady(0)
}

func reloadBad(*guest) (string, error) {
	var details []string
	for unit, file := range map[string]string{agentUnit: "/etc/anchorhold/agent.yaml", brokerUnit: "/etc/anchorhold/broker.yaml"} {
		good, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(file, append(good, "no_such_key: 1\n"...), 0o644); err != nil {
			return "", err
		}
		out, reload := sh("systemctl reload %s", unit)
		if err := os.WriteFile(file, good, 0o644); err != nil {
			return "", err
		}
		if reload == nil {
			return "", fmt.Errorf("systemctl reload %s returned 0: %s", unit, out)
		}
		if words := said(unit); !strings.Contains(words, "no_such_key") {
			return "", fmt.Errorf("%s does not say what is wrong:\n%s", unit, words)
		}
		details = append(details, strings.TrimSpace(reload.Error()))
	}
	const file = "/etc/anchorhold/agent.yaml"
	good, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for _, bad := range []struct{ text, want string }{
		{strings.Replace(string(good), "memory_limit_mb: 128", "memory_limit_mb: 4096", 1), "raise MemoryMax= to 4096M"},
		{string(good) + "receipts: {kept: 7}\n", "receipts changed: restart the agent to apply it"},
	} {
		if err := os.WriteFile(file, []byte(bad.text), 0o644); err != nil {
			return "", err
		}
		_, reload := sh("systemctl reload %s", agentUnit)
		if err := os.WriteFile(file, good, 0o644); err != nil {
			return "", err
		}
		if words := said(agentUnit); reload == nil || !strings.Contains(words, bad.want) {
			return "", fmt.Errorf("the reload was not refused with %q (%v):\n%s", bad.want, reload, words)
		}
	}
	if ok, err := ready(); !ok {
		return "", err
	}
	_, err = steady(0)
	return strings.Join(details, "\n"), err
}

// slips does what an administrator does without meaning harm, waits for longer than the watchdog
// does, and undoes it.
func slips(*guest) (string, error) {
	pid, before, err := process(agentUnit)
	if err != nil {
		return "", err
	}
	journals := "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald.service"
	var errs []error
	do := func(format string, args ...any) {
		if _, err := sh(format, args...); err != nil {
			errs = append(errs, err)
		}
	}
	do("rm %s", apiSocket)
	do("systemctl stop %s", journals)
	do("systemctl reload %s", agentUnit) // it says so to a journal that is not there
	time.Sleep(45 * time.Second)
	now, perr := number(agentUnit, "MainPID")
	do("systemctl start %s", journals)
	if err := errors.Join(append(errs, perr)...); err != nil {
		return "", err
	}
	if now != pid {
		return "", fmt.Errorf("the agent was process %d, and is %d\n%s", pid, now, said(agentUnit))
	}
	if r, err := ask(http.MethodGet, "/v2/health/live", nil, 20*time.Second); err == nil {
		return "", fmt.Errorf("a socket that was removed answers %d", r.Status)
	}
	do("systemctl restart anchorhold-agent.socket")
	do("systemctl start %s", agentUnit)
	if err := errors.Join(append(errs, await(time.Minute, "the classifier, behind a new socket", ready))...); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said(agentUnit))
	}
	_, err = steady(before)
	return "the same process after 45 s", err
}

func socketActivation(*guest) (string, error) {
	if _, err := sh("systemctl stop %s", agentUnit); err != nil {
		return "", err
	}
	began := time.Now()
	if got, err := askAs("alice", "/v2/health/live"); !strings.Contains(got, "200") {
		return "", fmt.Errorf("got %q, %v\n%s", got, err, said(agentUnit))
	}
	took := time.Since(began)
	err := await(time.Minute, "the classifier", ready)
	return fmt.Sprintf("first answer %.1f s after the connection", took.Seconds()), err
}

func watchdog(*guest) (string, error) {
	pid, before, err := process(agentUnit)
	if err != nil {
		return "", err
	}
	began := time.Now()
	if err := syscall.Kill(int(pid), syscall.SIGSTOP); err != nil {
		return "", err
	}
	if err := await(90*time.Second, "another process", func() (bool, error) {
		now, err := number(agentUnit, "MainPID")
		return now != pid && now != 0, err
	}); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said(agentUnit))
	}
	took := time.Since(began)
	if err := await(time.Minute, "the classifier", ready); err != nil {
		return "", err
	}
	_, err = steady(before + 1)
	return fmt.Sprintf("ended and started again after %.0f s", took.Seconds()), err
}

func memoryRespected(*guest) (string, error) {
	var detail []string
	for _, unit := range []string{agentUnit, brokerUnit} {
		peak, err := number(unit, "MemoryPeak")
		if err != nil {
			return "", err
		}
		most, err := number(unit, "MemoryMax")
		if err != nil {
			return "", err
		}
		if peak > most {
			return "", fmt.Errorf("%s took %d bytes of %d", unit, peak, most)
		}
		detail = append(detail, fmt.Sprintf("%s: peak %d of %d MiB", unit, peak>>20, most>>20))
	}
	return strings.Join(detail, ", "), nil
}

func memoryTooSmall(*guest) (string, error) {
	dropIn := "/etc/systemd/system/" + agentUnit + ".d/memory.conf"
	if err := writeFile(dropIn, "[Service]\nMemoryMax=96M\n"); err != nil {
		return "", err
	}
	if _, err := sh("systemctl daemon-reload"); err != nil {
		return "", err
	}
	out, restart := sh("systemctl restart %s", agentUnit)
	words := said(agentUnit)
	if restart == nil {
		return "", fmt.Errorf("it starts: %s\n%s", out, words)
	}
	if !strings.Contains(words, "MemoryMax") || !strings.Contains(words, "memory_limit_mb") {
		return "", fmt.Errorf("no message says which limit to raise:\n%s", words)
	}
	if err := os.Remove(dropIn); err != nil {
		return "", err
	}
	for _, c := range []string{"systemctl daemon-reload", "systemctl reset-failed " + agentUnit, "systemctl restart " + agentUnit} {
		if _, err := sh("%s", c); err != nil {
			return "", err
		}
	}
	line := regexp.MustCompile(`(?m)^.*MemoryMax.*$`).FindString(words)
	return line, await(time.Minute, "the classifier", ready)
}
