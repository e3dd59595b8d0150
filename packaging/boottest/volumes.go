package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// An encrypted volume with generations, on the disk of the volume before it, with the lines of docs/operations.md.

const (
	vaultUnit  = "anchorhold-volume@vault.service"
	vaultMount = "/srv/vault"
	examples   = "/usr/share/doc/anchorhold-agent/examples"
)

const volumesConfig = "volumes:\n  - {name: vault, device: " + dataDisk + ", mount: " + vaultMount + ", key: broker, format_if_empty: true}\n"

// rollBack opens a volume of this guest's twice, and is then the host that puts the older disk back.
func rollBack(*guest) (string, error) {
	const copied = keptInMemory + "/older.raw"
	if err := writeFile("/etc/anchorhold/volumes.yaml", volumesConfig); err != nil {
		return "", err
	}
	if err := shAll("mkdir -p /etc/systemd/system/"+vaultUnit+".d", "cp "+examples+"/volume/agent.conf /etc/systemd/system/"+vaultUnit+".d/agent.conf", "systemctl daemon-reload"); err != nil {
		return "", err
	}
	if err := os.WriteFile(keptInMemory+"/data", []byte("data"), 0o600); err != nil {
		return "", err
	}
	if err := shAll("dd if=" + keptInMemory + "/data of=" + dataDisk + " conv=fsync,notrunc status=none"); err != nil {
		return "", err
	}
	if err := refusedVolume("a disk with something on it", "luks-format"); err != nil {
		return "", err
	}
	if err := shAll("dd if=/dev/zero of=" + dataDisk + " bs=1M count=2 conv=fsync status=none"); err != nil {
		return "", err
	}
	formatted, err := cycleVolume("first")
	if err != nil {
		return "", err
	}
	if err := shAll("dd if=" + dataDisk + " of=" + copied + " bs=1M status=none"); err != nil {
		return "", err
	}
	opened, err := cycleVolume("second")
	if err != nil {
		return "", err
	}
	if err := shAll("dd if=" + copied + " of=" + dataDisk + " bs=1M conv=fsync status=none"); err != nil {
		return "", err
	}
	for range 2 { // as often as it likes
		if err := refusedVolume("an older disk", "volume-rolled-back"); err != nil {
			return "", err
		}
	}
	if _, err := sh("anchorhold volume reset volumes/vault %s", operator); err != nil {
		return "", err
	}
	if _, err := cycleVolume(""); err != nil {
		return "", fmt.Errorf("after the operator's reset: %w", err)
	}
	list, err := sh("anchorhold volume list %s", operator)
	if err != nil || !strings.Contains(list, "volumes/vault\n  generation 3,") {
		return "", fmt.Errorf("the broker lists %q, %v", list, err)
	}
	log, err := sh("anchorhold audit show --kind volume --json %s", operator)
	if n := strings.Count(log, "volumes/vault"); err != nil || n < 4 {
		return "", fmt.Errorf("the audit log has %d records of the volume, want 4: %v", n, err)
	}
	return fmt.Sprintf("formatted and mounted in %.1f s, mounted in %.1f s", formatted.Seconds(), opened.Seconds()), nil
}

// cycleVolume opens the volume, leaves a file in it and closes it.
func cycleVolume(name string) (took time.Duration, err error) {
	began := time.Now()
	if _, err := sh("systemctl start %s", vaultUnit); err != nil {
		return 0, fmt.Errorf("%w\n%s\n%s", err, said(vaultUnit), said(agentUnit))
	}
	took = time.Since(began)
	if name != "" {
		err = os.WriteFile(vaultMount+"/"+name, []byte(name), 0o600)
	}
	if name == "second" {
		_, gone := os.Stat(vaultMount + "/first")
		err = errors.Join(err, gone)
	}
	_, stopped := sh("systemctl stop %s", vaultUnit)
	if _, open := os.Stat("/dev/mapper/anchorhold-vault"); open == nil {
		stopped = errors.Join(stopped, errors.New("the volume is open after its unit was stopped"))
	}
	return took, errors.Join(err, stopped)
}

// refusedVolume starts the volume, which must fail for a reason and leave nothing open.
func refusedVolume(what, reason string) error {
	if _, err := sh("systemctl start %s", vaultUnit); err == nil {
		return fmt.Errorf("%s: the volume was opened", what)
	}
	if text := said(vaultUnit); !regexp.MustCompile(reason).MatchString(text) {
		return fmt.Errorf("%s: the journal does not say %s:\n%s", what, reason, text)
	}
	if _, err := os.Stat("/dev/mapper/anchorhold-vault"); err == nil {
		return fmt.Errorf("%s: the volume is open", what)
	}
	_, err := sh("systemctl reset-failed %s", vaultUnit)
	return err
}
