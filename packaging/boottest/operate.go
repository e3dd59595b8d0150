package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"time"
)

// What an operator does to a machine that serves, with the lines of docs/operations.md.

const (
	brokerFile     = "/etc/anchorhold/broker.yaml"
	keptDir        = "/var/lib/anchorhold-checkpoints"
	brokerStateDir = "/var/lib/anchorhold/broker"
)

// shAll runs commands one after the other.
func shAll(commands ...string) error {
	for _, c := range commands {
		if _, err := sh("%s", c); err != nil {
			return err
		}
	}
	return nil
}

// withConfig restarts the broker with a change of its configuration.
func withConfig(change func(string) string) error {
	text, err := os.ReadFile(brokerFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(brokerFile, []byte(change(string(text))), 0o644); err != nil {
		return err
	}
	if _, err := sh("systemctl restart %s", brokerUnit); err != nil {
		return fmt.Errorf("%w\n%s", err, said(brokerUnit))
	}
	return nil
}

// rotateCertificate goes from the certificate that is its own root to one under a root.
func rotateCertificate(*guest) (string, error) {
	text, err := os.ReadFile("/etc/anchorhold/agent.yaml")
	if err != nil {
		return "", err
	}
	err = shAll("anchorhold keygen tls-root --out /root/tls-root --days 1825",
		"anchorhold keygen tls --out /root/tls-new --host 127.0.0.1 --days 90 --under /root/tls-root")
	if err != nil {
		return "", err
	}
	var roots []byte
	for _, name := range []string{brokerStateDir + "/tls.crt", "/root/tls-root.crt"} {
		pem, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		roots = append(roots, pem...)
	}
	both := strings.Replace(string(text), "/etc/anchorhold/tls.crt", "/etc/anchorhold/tls-roots.pem", 1)
	if err := errors.Join(os.WriteFile("/etc/anchorhold/tls-roots.pem", roots, 0o644), os.WriteFile("/etc/anchorhold/agent.yaml", []byte(both), 0o644)); err != nil {
		return "", err
	}
	if err := shAll("systemctl reload "+agentUnit, "mv /root/tls-new.key "+brokerStateDir+"/tls.key", "mv /root/tls-new.crt "+brokerStateDir+"/tls.crt"); err != nil {
		return "", err
	}
	// Files that root moved there are root's: the reload says so, and the old certificate is served.
	if _, err := sh("systemctl reload %s", brokerUnit); err == nil || !strings.Contains(said(brokerUnit), "change its owner") {
		return "", fmt.Errorf("a certificate owned by root: %v\n%s", err, said(brokerUnit))
	}
	if err := shAll("systemctl reload "+agentUnit, "chown anchorhold-broker: "+brokerStateDir+"/tls.key "+brokerStateDir+"/tls.crt",
		"systemctl reload "+brokerUnit, "cp /root/tls-root.crt /etc/anchorhold/tls-roots.pem", "systemctl reload "+agentUnit); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s", err, said(brokerUnit), said(agentUnit))
	}
	return steady(0)
}

// keepCheckpoints has the broker serve only with a log that extends one kept elsewhere.
func keepCheckpoints(*guest) (string, error) {
	kept := keptDir + "/monday"
	if _, err := sh("anchorhold audit checkpoint --out %s %s", kept, operator); err != nil {
		return "", err
	}
	if err := withConfig(func(text string) string { return text + "audit: {checkpoints: [" + kept + "]}\n" }); err != nil {
		return "", err
	}
	return sh("anchorhold audit verify --checkpoint %s --root /etc/anchorhold/root.key.pub %s", kept, operator)
}

// clockAhead has the broker write records a month ahead, and go on from the true time.
func clockAhead(*guest) (string, error) {
	const ahead = 30 * 24 * time.Hour
	move := func(d time.Duration) error {
		_, err := sh("date -s @%d", time.Now().Add(d).Unix())
		return err
	}
	if err := move(ahead); err != nil {
		return "", err
	}
	_, reload := sh("systemctl reload %s", agentUnit)
	if err := errors.Join(reload, move(-ahead)); err != nil {
		return "", err
	}
	if err := withConfig(func(text string) string { return text }); err != nil {
		return "", err
	}
	words := said(brokerUnit)
	at := regexp.MustCompile(`set_back=([0-9TZ:.-]+)`).FindStringSubmatch(words)
	if at == nil {
		return "", fmt.Errorf("no message says what to set:\n%s", words)
	}
	if _, err := sh("systemctl reload %s", agentUnit); err == nil {
		return "", errors.New("a guest is attested while the clock is behind")
	}
	if err := withConfig(func(text string) string { return text + "clock: {set_back: " + at[1] + "}\n" }); err != nil {
		return "", err
	}
	if _, err := sh("systemctl reload %s", agentUnit); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s", err, said(brokerUnit), said(agentUnit))
	}
	if err := await(time.Minute, "the classifier", ready); err != nil {
		return "", err
	}
	out, err := sh("anchorhold audit verify --checkpoint %s/monday --root /etc/anchorhold/root.key.pub %s", keptDir, operator)
	if err == nil && !strings.Contains(out, "set back 1 time") {
		err = fmt.Errorf("the verification does not mention the step:\n%s", out)
	}
	return "from " + at[1], err
}

// laterPackages is where the packages are that the guest updates itself with.
const laterPackages = "/root/packages/later"

// updatePackages installs the packages of a later version over those that run.
func updatePackages(*guest) (string, error) {
	before, err := daemons()
	if err != nil {
		return "", err
	}
	if _, err := runFor(4*time.Minute, "sh", "-c", "dpkg -i "+laterPackages+"/*.deb"); err != nil {
		return "", err
	}
	after, err := daemons()
	if err != nil {
		return "", err
	}
	for unit, pid := range before {
		if (pid == after[unit]) != (pid == 0) || pid == 0 && after[unit] != 0 {
			return "", fmt.Errorf("%s was process %d before the update and is %d after it, want another one if it ran, and none if not", unit, pid, after[unit])
		}
	}
	if err := await(time.Minute, "the classifier after the update", ready); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s", err, said(brokerUnit), said(agentUnit))
	}
	_, err = runFor(2*time.Minute, "sh", "-c", "dpkg -i /root/packages/first/anchorhold-broker_*.deb")
	if err == nil || !strings.Contains(err.Error(), "0.0.1 is older than 0.0.2") {
		return "", fmt.Errorf("going back: %v", err)
	}
	last, err := daemons()
	if err == nil && !maps.Equal(last, after) {
		err = fmt.Errorf("a refused package touched the daemons: processes %v before it, %v after it", after, last)
	}
	return fmt.Sprintf("processes %v, then %v", before, after), err
}

// daemons are the main processes by unit; 0 of one that does not run.
func daemons() (map[string]int64, error) {
	pids := map[string]int64{}
	for _, unit := range []string{agentUnit, brokerUnit, "anchorhold-aggregator.service"} {
		var err error
		if pids[unit], err = number(unit, "MainPID"); err != nil {
			return nil, err
		}
	}
	return pids, nil
}
