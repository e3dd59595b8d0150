package settings

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
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
	other, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wipe()
	stranger, err := other.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	model := sealed(t, root, "demo", 3, 3)
	for name, data := range map[string][]byte{"tls.crt": certificate, "root.pub": public, "publisher.pub": public, "demo.ahm": model, "stranger.pub": stranger,
		"cut.ahm": model[:200], "short.ahm": model[:len(model)-1], "digits.ahm": sealed(t, root, "digits", 1, 2), "no.crt": public, "two.crt": append(bytes.Clone(certificate), certificate[:99]...)} {
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

// sealed returns a file of empty sections, signed.
func sealed(t *testing.T, publisher *identity.Private, name string, version uint64, sections int) []byte {
	t.Helper()
	key, err := keybuf.Take([]byte("a key of thirty-two bytes, as is"))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []chunkseal.Section
	for i := range sections {
		list = append(list, chunkseal.Section{Name: fmt.Sprint("s", i), Kind: chunkseal.KindMetadata, Rows: 1, Cols: 8, Chunks: 1, ChunkBytes: 8, LastBytes: 8})
	}
	w, err := chunkseal.NewWriter(f, key, chunkseal.Manifest{Name: name, Version: version}, list)
	if err != nil {
		t.Fatal(err)
	}
	for range list {
		if err := w.WriteChunk([]byte("12345678")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(func(root []byte) ([]byte, []byte, error) {
		sig, err := publisher.Sign(chunkseal.SignContext, root)
		return publisher.Public().Bytes(), sig, err
	}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSealedFilesAreOpenedByTheCheck: what nobody's key opens is found without one.
func TestSealedFilesAreOpenedByTheCheck(t *testing.T) {
	dir := t.TempDir()
	text := onThisMachine(t, dir)
	classifier := fmt.Sprintf("classifiers: [{name: c, path: %s/digits.ahm, resource: models/digits, publisher: %s/publisher.pub}]\nlog: {", dir, dir)
	for name, c := range map[string]struct{ change, by, finding string }{
		"as it is":           {"", "", ""},
		"a classifier":       {"log: {", classifier, ""},
		"cut":                {"demo.ahm", "cut.ahm", "models[0].path: " + dir + "/cut.ahm: sealed file: not-a-sealed-file: "},
		"a byte short":       {"demo.ahm", "short.ahm", "models[0].path: " + dir + "/short.ahm: sealed file: "},
		"another publisher":  {"publisher.pub", "stranger.pub", "models[0].publisher: " + dir + "/demo.ahm: sealed file: publisher-not-trusted"},
		"an older version":   {"resource: models/demo", "minimum_version: 4, resource: models/demo", "models[0].minimum_version: " + dir + "/demo.ahm: sealed file: version-rolled-back: got version 3 of"},
		"another name":       {"path: ", "sealed_name: demonstration, path: ", "models[0].sealed_name: " + dir + "/demo.ahm: sealed file: model-name"},
		"no language model":  {"demo.ahm", "digits.ahm", "models[0].path: " + dir + "/digits.ahm: sealed file: model-kind: it holds a classifier"},
		"no classifier":      {"log: {", strings.Replace(classifier, "digits.ahm", "demo.ahm", 1), "classifiers[0].path: " + dir + "/demo.ahm: sealed file: model-kind: it holds a language model"},
		"under another name": {"models/demo", "models/other", `notice: models[0].resource: the file holds "demo", but its key is requested as "models/other"`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := text
			if c.change != "" {
				if changed = strings.Replace(text, c.change, c.by, 1); changed == text {
					t.Fatalf("%q is not in\n%s", c.change, text)
				}
			}
			cfg, f, err := Parse([]byte(changed))
			if err != nil || f.Runnable() != nil {
				t.Fatal(err, f.Errors)
			}
			f.Add(cfg.CheckMachine())
			found := f.Errors
			for _, n := range f.Notices {
				found = append(found, "notice: "+n)
			}
			if c.finding == "" && len(found) != 0 || c.finding != "" && (len(found) != 1 || !strings.HasPrefix(found[0], c.finding)) {
				t.Errorf("got %q, want %q", found, c.finding)
			}
		})
	}
}

// TestAStateDirectoryIsTried: that of a file system that takes nothing has permissions like
// any other; and the trial leaves nothing.
func TestAStateDirectoryIsTried(t *testing.T) {
	dir := t.TempDir()
	text := onThisMachine(t, dir)
	for state, says := range map[string]string{dir + "/state": "", dir: "", "/proc/x": "nothing can be created in /proc ("} {
		cfg, f, err := Parse([]byte(strings.Replace(text, dir+"/state", state, 1)))
		if err != nil {
			t.Fatal(err)
		}
		f.Add(cfg.CheckMachine())
		if says == "" && len(f.Errors) != 0 || says != "" && (len(f.Errors) != 1 || !strings.Contains(f.Errors[0], says)) {
			t.Errorf("%s: %q", state, f.Errors)
		}
	}
	if left, err := filepath.Glob(dir + "/.*"); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
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
	classifier := fmt.Sprintf("classifiers: [{name: c, path: %s/digits.ahm, resource: models/digits, publisher: %s/publisher.pub}]\n", dir, dir)
	for says, change := range map[string][2]string{
		"broker.tls_roots: open ":          {"/tls.crt", "/absent.crt"},
		"no PEM certificate found":         {"/tls.crt", "/no.crt"},
		"1 of 2 certificates are cut":      {"/tls.crt", "/two.crt"},
		"broker.root_keys: ":               {"/root.pub", "/absent.pub"},
		"broker.root_keys: not":            {"/root.pub", "/tls.crt"},
		"models[0].path: stat ":            {"/demo.ahm", "/absent.ahm"},
		"is not a regular file":            {"/demo.ahm", "/keys"},
		"models[0].publisher: ":            {"/publisher.pub", "/absent.pub"},
		"guest.state_dir: the directory ":  {dir + "/state", dir + "/absent/state"},
		"guest.state_dir: ":                {dir + "/state", dir + "/tls.crt"},
		"socket.path: the directory ":      {dir + "/agent.sock", dir + "/absent/agent.sock"},
		"exists and is not a socket":       {dir + "/agent.sock", dir + "/tls.crt"},
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
		"classifiers[0].path: ": strings.Replace(text, "log: {", strings.Replace(classifier, "digits.ahm", "absent.ahm", 1)+"log: {", 1),
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
