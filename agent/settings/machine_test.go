package settings

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
)

// onThisMachine is a configuration that has everything it needs below dir.
func onThisMachine(t *testing.T, dir string) string {
	t.Helper()
	certificate, _, err := hybridtls.NewCertificate([]string{"broker"}, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	root, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Wipe()
	public, err := root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tls.crt": certificate, "root.pub": public, "publisher.pub": public, "demo.ahm": []byte("sealed"), "no.crt": public, "two.crt": append(bytes.Clone(certificate), certificate[:99]...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("tls_roots: tls.crt", "tls_roots: "+dir+"/tls.crt", "[root.pub]", "["+dir+"/root.pub]", "/var/lib/anchorhold/agent", dir+"/state",
		"path: demo.ahm", "path: "+dir+"/demo.ahm", "publisher.pub", dir+"/publisher.pub", "/run/anchorhold/agent.sock", dir+"/agent.sock").Replace(whole)
}

// TestWhatAMachineLacksIsNamed: each file and directory that the agent needs, one at a time.
func TestWhatAMachineLacksIsNamed(t *testing.T) {
	dir := t.TempDir()
	text := onThisMachine(t, dir)
	findings := func(text string) Findings {
		t.Helper()
		cfg, f, err := Parse([]byte(text))
		if err != nil || f.Runnable() != nil {
			t.Fatalf("%v, %v in\n%s", err, f.Errors, text)
		}
		f.Add(cfg.CheckMachine())
		return f
	}
	if f := findings(text); len(f.Errors)+len(f.Notices) != 0 {
		t.Fatalf("errors %q, notices %q", f.Errors, f.Notices)
	}
	classifier := fmt.Sprintf("classifiers: [{name: c, path: %s/demo.ahm, resource: models/c, publisher: %s/publisher.pub}]\n", dir, dir)
	for says, change := range map[string][2]string{
		"broker.tls_roots: open ":          {"/tls.crt", "/absent.crt"},
		"no certificate (PEM)":             {"/tls.crt", "/no.crt"},
		"1 of 2 certificates are cut":      {"/tls.crt", "/two.crt"},
		"broker.root_keys: ":               {"/root.pub", "/absent.pub"},
		"broker.root_keys: not":            {"/root.pub", "/tls.crt"},
		"models[0].path: stat ":            {"/demo.ahm", "/absent.ahm"},
		"is no regular file":               {"/demo.ahm", "/keys"},
		"models[0].publisher: ":            {"/publisher.pub", "/absent.pub"},
		"guest.state_dir: the directory ":  {dir + "/state", dir + "/absent/state"},
		"guest.state_dir: ":                {dir + "/state", dir + "/tls.crt"},
		"socket.path: the directory ":      {dir + "/agent.sock", dir + "/absent/agent.sock"},
		"exists and is no socket":          {dir + "/agent.sock", dir + "/tls.crt"},
		"proofs.keys: the directory ":      {"log: {", classifier + "proofs: {keys: " + dir + "/absent}\nlog: {"},
		"workers.path: stat ":              {"log: {", classifier + "proofs: {keys: " + dir + "/keys}\nworkers: {path: " + dir + "/absent}\nlog: {"},
		"federation.tls_roots: ":           {"log: {", "federation: {aggregators: [\"a:1\"], tls_roots: " + dir + "/absent, queue_key: q}\nlog: {"},
		"classifiers[0].publisher: \"none": {"log: {", strings.Replace(classifier, "publisher: "+dir+"/publisher.pub", "publisher: none", 1) + "log: {"},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Fatalf("%q is not in the configuration", change[0])
		}
		says = strings.TrimSuffix(says, "not")
		if f := findings(changed); len(f.Errors) != 1 || !strings.Contains(f.Errors[0], says) {
			t.Errorf("%s: errors %q, notices %q", says, f.Errors, f.Notices)
		}
	}
	for says, changed := range map[string]string{
		"classifiers[0].path: ": strings.Replace(text, "log: {", strings.Replace(classifier, "demo.ahm", "absent.ahm", 1)+"log: {", 1),
		"workers.socket: ":      strings.Replace(text, "log: {", classifier+"proofs: {keys: "+dir+"/keys}\nworkers: {socket: "+dir+"/absent}\nlog: {", 1),
	} {
		if f := findings(changed); len(f.Errors) != 0 || len(f.Notices) != 1 || !strings.Contains(f.Notices[0], says) {
			t.Errorf("%s: errors %q, notices %q", says, f.Errors, f.Notices)
		}
	}
}

// Its linkage is tested where it is read.
func TestAWorkersProgramIsLookedAtWhereOneIsStarted(t *testing.T) {
	const federation = "federation: {aggregators: ['a:1']}\n"
	script := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		federation:                          "",
		"workers: {path: " + script + "}\n": "",
		federation + "workers: {path: " + script + "}\n":            script,
		"proofs: {keys: /k}\nworkers: {path: " + script + ".not}\n": "", // an error of CheckMachine
		"proofs: {keys: /k}\nworkers: {path: " + script + "}\n":     script,
	} {
		cfg, _, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		err = cfg.CheckWorker()
		if (err != nil) != (want != "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "203/EXEC")) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
