package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/guest/luks"
)

// What other services of a guest get from its agent, with the lines of docs/operations.md.

const (
	// keptInMemory is where keys are until the broker has them: no disk.
	keptInMemory     = "/run/boottest"
	webAddress       = "127.0.0.1:8445"
	credentialSocket = "/run/anchorhold/credentials.sock"
	dataDisk         = "/dev/vdb"
	dataHeader       = "/run/anchorhold-volumes/data.header"
	dataUnit         = "systemd-cryptsetup@data.service"
	dataMount        = "srv-data.mount"
)

const nginxConfig = `user www-data;
pid /run/nginx.pid;
events {}
http {
  server {
    listen ` + webAddress + ` ssl;
    ssl_certificate /etc/nginx/web.crt;
    ssl_certificate_key /run/credentials/nginx.service/tls.key;
    return 200 "attested";
  }
}
`

const nginxDropIn = `[Unit]
Wants=anchorhold-credentials.socket
After=anchorhold-credentials.socket
[Service]
LoadCredential=tls.key:` + credentialSocket + `
`

// storeSecrets gives the broker a web server's key and a volume's.
func storeSecrets() error {
	if err := os.MkdirAll(keptInMemory, 0o700); err != nil {
		return err
	}
	return shAll("anchorhold keygen tls --out "+keptInMemory+"/web --host 127.0.0.1",
		"anchorhold keygen credential --out "+keptInMemory+"/data.key",
		"anchorhold secret put secrets/web-tls --file "+keptInMemory+"/web.key "+operator,
		"anchorhold secret put volumes/data --file "+keptInMemory+"/data.key "+operator,
		"anchorhold keygen credential --out "+keptInMemory+"/vault.key",
		"anchorhold secret put volumes/vault --file "+keptInMemory+"/vault.key "+operator, "rm "+keptInMemory+"/vault.key")
}

// serveTLS has a plain nginx get its key from the agent, looks for the key in all files, and has the
// operator change it.
func serveTLS(*guest) (string, error) {
	for path, text := range map[string]string{"/etc/nginx/nginx.conf": nginxConfig, "/etc/systemd/system/nginx.service.d/anchorhold.conf": nginxDropIn} {
		if err := writeFile(path, text); err != nil {
			return "", err
		}
	}
	began := time.Now()
	if err := shAll("cp "+keptInMemory+"/web.crt /etc/nginx/web.crt", "systemctl daemon-reload", "systemctl start nginx.service"); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s", err, said("nginx.service"), said(agentUnit))
	}
	started := time.Since(began)
	if err := fetchTLS("/etc/nginx/web.crt"); err != nil {
		return "", err
	}
	began = time.Now()
	if err := inNoFile(keptInMemory+"/web.key", "/etc/nginx/web.crt"); err != nil {
		return "", err
	}
	searched := time.Since(began)
	if err := shAll("anchorhold keygen tls --out "+keptInMemory+"/next --host 127.0.0.1",
		"anchorhold secret put secrets/web-tls --file "+keptInMemory+"/next.key "+operator, "cp "+keptInMemory+"/next.crt /etc/nginx/web.crt",
		"systemctl reload "+agentUnit, "systemctl restart nginx.service"); err != nil {
		return "", fmt.Errorf("after a rotation: %w\n%s\n%s", err, said("nginx.service"), said(agentUnit))
	}
	return fmt.Sprintf("started in %.1f s; all files searched in %.0f s", started.Seconds(), searched.Seconds()), fetchTLS(keptInMemory + "/next.crt")
}

// fetchTLS fetches a page from a server that must show this certificate.
func fetchTLS(certificate string) error {
	pem, err := os.ReadFile(certificate)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: patient(20 * time.Second), Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	r, err := client.Get("https://" + webAddress)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "attested" {
		return fmt.Errorf("nginx answered %s %q (%v)", r.Status, body, err)
	}
	return nil
}

// inNoFile looks for a key in every file of the disk that a service could have written, and for
// something that is there. (make exposure-test looks at the whole disk, from the host.)
func inNoFile(key, certificate string) error {
	line := func(path string) (string, error) {
		text, err := os.ReadFile(path)
		lines := strings.Split(string(text), "\n")
		if err != nil || len(lines) < 4 {
			return "", fmt.Errorf("%s is not what it was: %w", path, err)
		}
		return lines[1], nil
	}
	secret, err := line(key)
	if err != nil {
		return err
	}
	public, err := line(certificate)
	if err != nil {
		return err
	}
	there := false
	for _, dir := range []string{"/etc", "/var", "/root", "/home", "/opt", "/srv", "/tmp", "/media", "/mnt"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // temporary, or not on every system
			} else if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			} else if err != nil {
				return err
			}
			defer f.Close()
			found, err := search(f, []byte(secret), []byte(public))
			if found[0] {
				err = fmt.Errorf("the key is in %s", path)
			}
			there = there || found[1]
			return err
		})
		if err != nil {
			return err
		}
	}
	if !there {
		return errors.New("the search does not find what is there")
	}
	return nil
}

// search says which of two texts are somewhere in what it reads.
func search(r io.Reader, texts ...[]byte) (found [2]bool, err error) {
	const block, most = 1 << 20, 256 // texts are shorter than that
	buffer := make([]byte, most+block)
	for {
		n, err := io.ReadFull(r, buffer[most:])
		for i, text := range texts {
			found[i] = found[i] || bytes.Contains(buffer[:most+n], text)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		} else if err != nil {
			return found, err
		}
		copy(buffer[:most], buffer[block:]) // a text may go across two blocks
	}
}

// strangeUnit starts a unit that the agent's configuration does not name.
func strangeUnit(*guest) (string, error) {
	_, err := runFor(time.Minute, "systemd-run", "--wait", "--collect", "--unit=stranger", "--property=LoadCredential=tls.key:"+credentialSocket, "/bin/true")
	if err == nil || !strings.Contains(err.Error(), "status=243") {
		return "", fmt.Errorf("the unit did not fail with 243/CREDENTIALS: %v", err)
	}
	return "243/CREDENTIALS", refusedFor("stranger.service", "secret-not-allowed")
}

// refusedFor looks for who was refused in the agent's journal, and why.
func refusedFor(who, reason string) error {
	entries, err := journal(agentUnit)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if text := fmt.Sprint(e); strings.Contains(text, "secret refused") && strings.Contains(text, who) && strings.Contains(text, reason) {
			return nil
		}
	}
	return fmt.Errorf("the journal does not say that %s was refused for %s:\n%s", who, reason, said(agentUnit))
}

// crashWhileOneWaits kills the agent under a unit that waits for a lease.
func crashWhileOneWaits(*guest) (string, error) {
	if err := shAll("systemctl stop "+brokerUnit, "systemctl stop "+agentUnit, "systemctl start "+agentUnit); err != nil {
		return "", err
	}
	const read = keptInMemory + "/read"
	if _, err := runFor(time.Minute, "systemd-run", "--no-block", "--collect", "--unit=reader", "--property=Type=oneshot", "--property=LoadCredential=tls.key:"+credentialSocket,
		"/bin/sh", "-c", "cat $CREDENTIALS_DIRECTORY/tls.key >"+read); err != nil {
		return "", err
	}
	if err := await(30*time.Second, "the unit that waits", func() (bool, error) {
		state, err := property("reader.service", "ActiveState")
		return state == "activating", err
	}); err != nil {
		return "", err
	}
	pid, _, err := process(agentUnit)
	if err != nil {
		return "", err
	}
	if err := shAll("systemctl kill --signal=KILL "+agentUnit, "systemctl start "+brokerUnit); err != nil {
		return "", err
	}
	if err := await(time.Minute, "what the unit read", func() (bool, error) {
		got, err := os.ReadFile(read)
		state, perr := property("reader.service", "ActiveState")
		return err == nil && len(got) > 0 && state != "activating", errors.Join(err, perr)
	}); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s", err, said("reader.service"), said(agentUnit))
	}
	got, err := os.ReadFile(read)
	if err != nil {
		return "", err
	}
	want, err := os.ReadFile(keptInMemory + "/next.key")
	if err != nil || !bytes.Equal(got, want) {
		return "", fmt.Errorf("the unit read %d bytes with the digest %x, want %d with %x (%v)", len(got), sha256.Sum256(got), len(want), sha256.Sum256(want), err)
	}
	after, _, err := process(agentUnit)
	if err != nil || after == pid {
		return "", fmt.Errorf("the agent was not killed: process %d, then %d (%v)", pid, after, err)
	}
	// Counts of restarts begin anew.
	if err := shAll("systemctl stop "+agentUnit, "systemctl start "+agentUnit); err != nil {
		return "", err
	}
	return fmt.Sprintf("the unit began under process %d and read %d bytes from %d", pid, len(got), after), await(time.Minute, "the classifier", ready)
}

// scriptGets asks for a secret as users do.
func scriptGets(*guest) (string, error) {
	want, err := os.ReadFile(keptInMemory + "/next.key")
	if err != nil {
		return "", err
	}
	got, err := runFor(time.Minute, "runuser", "-u", "alice", "--", "anchorhold", "secret", "get", "tls.key", "--wait", "30s")
	if err != nil || got != strings.TrimSpace(string(want)) {
		return "", fmt.Errorf("alice got %d bytes, want %d (%v)", len(got), len(want), err)
	}
	for user, says := range map[string]string{"bob": "secret-not-allowed", "root": "secret-not-allowed", "mallory": "may not open"} {
		out, err := runFor(time.Minute, "runuser", "-u", user, "--", "anchorhold", "secret", "get", "tls.key")
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(out, "KEY") {
			return "", fmt.Errorf("%s: got %v, want %q", user, err, says)
		}
	}
	return "alice, who is named; not bob of the group anchorhold, root or mallory", nil
}

const crypttab = "data " + dataDisk + " " + credentialSocket + " luks,header=" + dataHeader + ",_netdev,nofail,headless=true,tries=1\n"

// unlockVolume formats a disk as an administrator would, leaves nothing but its validated header, and
// has systemd unlock and mount it.
func unlockVolume(*guest) (string, error) {
	const format = "cryptsetup luksFormat --batch-mode --type luks2 --cipher aes-xts-plain64 --key-size 512 --integrity hmac-sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "
	const key = keptInMemory + "/data.key"
	if err := shAll(format+dataDisk+" "+key, "cryptsetup open "+dataDisk+" data --key-file "+key, "dd if=/root/data.ext4 of=/dev/mapper/data bs=1M conv=fsync status=none", "cryptsetup close data"); err != nil {
		return "", err
	}
	if err := validate(); err != nil {
		return "", err
	}
	if err := errors.Join(os.Remove(key), writeFile("/etc/crypttab", crypttab), writeFile("/etc/fstab", "/dev/mapper/data /srv/data ext4 _netdev,nofail 0 0\n")); err != nil {
		return "", err
	}
	if _, err := sh("systemctl daemon-reload"); err != nil {
		return "", err
	}
	began := time.Now()
	if _, err := sh("systemctl start %s", dataMount); err != nil {
		return "", fmt.Errorf("%w\n%s\n%s\n%s", err, said(dataUnit), said(dataMount), said(agentUnit))
	}
	if text, err := os.ReadFile("/srv/data/hello"); err != nil || string(text) != "hello from the volume" {
		return "", fmt.Errorf("in the volume: %q, %v", text, err)
	}
	return fmt.Sprintf("unlocked and mounted in %.1f s", time.Since(began).Seconds()), shAll("systemctl stop "+dataMount, "systemctl stop "+dataUnit)
}

// validate does what the initrd or a service of the image does before a volume may be unlocked.
func validate() error {
	disk, err := os.Open(dataDisk)
	if err != nil {
		return err
	}
	defer disk.Close()
	header, err := luks.Read(disk, luks.Options{})
	if err != nil {
		return err
	}
	file, err := header.Detached()
	if err != nil {
		return err
	}
	return writeFile(dataHeader, string(file))
}

// badHeaders tries to unlock the volume without a validated header and with one that is not valid.
func badHeaders(*guest) (string, error) {
	refuse := func(what string) error {
		if _, err := sh("systemctl start %s", dataUnit); err == nil {
			return fmt.Errorf("%s: the volume was unlocked", what)
		}
		if _, err := os.Stat("/dev/mapper/data"); err == nil {
			return fmt.Errorf("%s: there is a plain volume", what)
		}
		_, err := sh("systemctl reset-failed %s", dataUnit)
		return err
	}
	// Whoever owns the disk could write such a header: the data is not encrypted, and any key opens it.
	const bad = keptInMemory + "/bad.header"
	if err := os.WriteFile(keptInMemory+"/any.key", []byte("any"), 0o600); err != nil {
		return "", err
	}
	if err := shAll("truncate -s 16M "+bad, "cryptsetup luksFormat --batch-mode --type luks2 --cipher cipher_null-ecb --key-size 256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --offset 32768 --header "+bad+" "+dataDisk+" "+keptInMemory+"/any.key",
		"cp "+bad+" "+dataHeader); err != nil {
		return "", err
	}
	if err := errors.Join(refuse("the null cipher"), refusedFor("data", "volume-header-invalid: luks-")); err != nil {
		return "", err
	}
	why := regexp.MustCompile(`volume-header-invalid: luks-[a-z-]+`).FindString(said(agentUnit))
	if err := os.Remove(dataHeader); err != nil {
		return "", err
	}
	if err := refuse("no header"); err != nil { // systemd does not even ask
		return "", err
	}
	if err := validate(); err != nil {
		return "", err
	}
	if _, err := sh("systemctl start %s", dataUnit); err != nil {
		return "", fmt.Errorf("with the right header again: %w\n%s", err, said(agentUnit))
	}
	return why + "; and without a header", shAll("systemctl stop " + dataUnit)
}
