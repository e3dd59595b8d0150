//go:build !release

package collateral

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/sourcetest"
	"github.com/spf13/cobra"
)

// run runs one command line and returns its output, its progress and its exit status.
func run(t *testing.T, args ...string) (out, progress string, status int) {
	t.Helper()
	root := cli.Program{Commands: func(inv *cli.Invocation) []*cobra.Command { return []*cobra.Command{New(inv)} }}.Root()
	var stdout, stderr bytes.Buffer
	root.SetArgs(append([]string{"collateral"}, args...))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	err := root.ExecuteContext(t.Context())
	if err != nil {
		status = cli.StatusOf(err)
		stderr.WriteString(err.Error())
	}
	return stdout.String(), stderr.String(), status
}

// service is AMD's service in miniature, and the flags that name it.
func service(t *testing.T) (kds *sourcetest.KDS, flags []string) {
	t.Helper()
	kds = sourcetest.NewKDS(t, time.Now().Add(-time.Hour))
	s := httptest.NewServer(kds)
	t.Cleanup(s.Close)
	roots := clitest.Write(t, filepath.Join(t.TempDir(), "roots.pem"), string(kds.RootsPEM()))
	return kds, []string{"--kds", s.URL, "--software-tee-root", roots}
}

func TestFetchGetsAProductAndItsChipsAndRenewsThem(t *testing.T) {
	kds, flags := service(t)
	dir := t.TempDir()
	chips := clitest.Write(t, filepath.Join(t.TempDir(), "chips"), "# two chips\n\nMilan/"+strings.Repeat("ab", 64)+"/000400181d\nTurin/0011223344556677/0102030405\n")
	fetch := func(args ...string) (string, string, int) {
		return run(t, append(append([]string{"fetch", "--dir", dir}, flags...), args...)...)
	}
	out, progress, status := fetch("--product", "Milan", "--chips", chips, "amd-crl/Milan")
	if status != 0 || strings.Count(out, "fetched  ") != 5 || !strings.Contains(out, "amd-crl/Milan, until ") || !strings.Contains(progress, "5 of 5: amd-vcek/Turin/") {
		t.Errorf("status %d\n%s\n%s", status, out, progress)
	}
	before := kds.Served()
	out, _, status = fetch("--json")
	var raw struct {
		Items []struct{ Key, Status string }
		Error *cli.Failure
	}
	if err := json.Unmarshal([]byte(out), &raw); err != nil || status != 0 || len(raw.Items) != 4 || raw.Error != nil {
		t.Errorf("status %d, %d results, %v", status, len(raw.Items), err)
	}
	for url, n := range kds.Served() {
		if strings.Contains(url, "SPL=") != (n == before[url]) {
			t.Errorf("%s was served %d times, before %d", url, n, before[url])
		}
	}
	if out, _, status = run(t, "show", "--dir", dir); status != 0 || !strings.Contains(out, "2 certificates of chips\n") || !strings.Contains(out, "amd-chain/Turin/vcek\n") {
		t.Errorf("status %d\n%s", status, out)
	}
}

func TestFetchTellsRefusalsFromFailures(t *testing.T) {
	kds, flags := service(t)
	dir := t.TempDir()
	fetch := func(args ...string) (string, string, int) {
		return run(t, append(append([]string{"fetch", "--dir", dir}, flags...), args...)...)
	}
	kds.Spoil = func(path string, body []byte) []byte {
		if strings.HasSuffix(path, "/crl") {
			body[len(body)-1] ^= 1
		}
		return body
	}
	out, progress, status := fetch("--product", "Genoa")
	if status != cli.StatusRefused || !strings.Contains(out, "refused  amd-crl/Genoa: collateral-signature") || !strings.Contains(out, "fetched  amd-chain/Genoa/vlek") || !strings.Contains(progress, "1 of 3 items were not stored") {
		t.Errorf("status %d\n%s\n%s", status, out, progress)
	}
	if out, _, status = run(t, "show", "--dir", dir); status != 0 || !strings.Contains(out, "DAMAGED or missing") && !strings.Contains(out, "amd-chain/Genoa/vcek") {
		t.Errorf("status %d\n%s", status, out)
	}
	kds.Hook = func(*http.Request) (int, http.Header) { return http.StatusNotFound, nil }
	out, _, status = fetch("amd-chain/Milan/vcek", "--json")
	var failing struct {
		Items []struct{ Reason string }
		Error *cli.Failure
	}
	if err := json.Unmarshal([]byte(out), &failing); err != nil || status != cli.StatusRefused || len(failing.Items) != 1 || failing.Items[0].Reason != "collateral-unknown" ||
		failing.Error == nil || failing.Error.Reason != "collateral-unknown" || !strings.Contains(failing.Error.Message, "1 of 1 items were not stored") {
		t.Errorf("status %d, %v\n%s", status, err, out)
	}
	if _, _, status = run(t, "fetch", "--dir", dir, "--pccs", "https://pccs.example", "--pcs", "https://pcs.example"); status == 0 {
		t.Error("a PCCS and a PCS together were taken")
	}
	if _, _, status = run(t, "fetch", "--dir", dir, "--chips", filepath.Join(dir, "none")); status != cli.StatusFailed {
		t.Errorf("a missing file of chips: status %d", status)
	}
}

func TestASourceThatIsAwayIsNoRefusal(t *testing.T) {
	for _, c := range []struct {
		results []result
		status  int
	}{
		{nil, 0}, {[]result{{Status: statusStored}, {Status: statusKept}, {Status: statusFetched}}, 0},
		{[]result{failed(keyOf(t, "amd-crl/Milan"), "collateral-unavailable", "x")}, cli.StatusFailed}, {[]result{failed(keyOf(t, "amd-crl/Milan"), "", "x")}, cli.StatusFailed},
		{[]result{failed(keyOf(t, "amd-crl/Milan"), "collateral-unavailable", "x"), failed(keyOf(t, "amd-crl/Genoa"), "collateral-rollback", "y")}, cli.StatusRefused},
	} {
		err := verdict(c.results)
		status := 0
		if err != nil {
			status = cli.StatusOf(err)
		}
		if status != c.status {
			t.Errorf("%v: status %d, want %d", err, status, c.status)
		}
	}
}

func TestShowPrintsDamageAndFailures(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"amd-crl_Milan.item": "damaged", "attempts.json": `{"amd-crl/Milan":{"at":"2026-06-01T12:00:00Z","failures":3,"reason":"collateral-unavailable","error":"no \u001b[31manswer"}}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _, status := run(t, "show", "--dir", dir)
	if status != 0 || !strings.Contains(out, "amd-crl/Milan\n  DAMAGED or missing") || !strings.Contains(out, "FAILED   2026-06-01T12:00:00Z, 3 in a row: no ") || strings.Contains(out, "\x1b") {
		t.Errorf("status %d\n%q", status, out)
	}
}

func keyOf(tb testing.TB, text string) collateral.Key {
	tb.Helper()
	k, err := collateral.ParseKey(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
