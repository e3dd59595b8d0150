package guest

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
)

// TestASecretGoesWhereItIsAskedFor, whole or not at all, and not to a terminal by itself.
func TestASecretGoesWhereItIsAskedFor(t *testing.T) {
	const value = "a\x00secret\n"
	asked := make(chan string, 32)
	agent := clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		w.Header().Set("Anchorhold-Secret-Version", "4")
		switch r.URL.Path {
		case "/v1/secrets/db":
			_, _ = w.Write([]byte(value)) // the client sees what is missing
		case "/v1/secrets/empty":
		case "/v1/secrets/long":
			w.Header().Set("Content-Length", "65537")
		case "/v1/secrets/short":
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("part"))
		case "/v1/secrets/unversioned":
			w.Header().Del("Anchorhold-Secret-Version")
			_, _ = w.Write([]byte(value))
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":{"message":"the configuration does not name user 7 for such a secret","code":"secret-not-allowed"}}`))
		}
	}))
	get := func(o secretGetOptions) cli.Run { return o.run }
	dir := t.TempDir()
	taken, fresh := clitest.Write(t, filepath.Join(dir, "taken"), "old"), filepath.Join(dir, "fresh")
	if out := (clitest.Call{Run: get(secretGetOptions{wait: 1500 * time.Millisecond}), Args: []string{"db"}, Agent: agent}).Expect(t, "to a pipe"); out != value {
		t.Errorf("got %q", out)
	}
	if line := <-asked; line != "/v1/secrets/db?wait=2" {
		t.Errorf("asked %s", line)
	}
	clitest.Call{Run: get(secretGetOptions{out: fresh}), Args: []string{"db"}, Agent: agent, JSON: true, Says: `"version": 4`, Silent: "secret\n"}.Expect(t, "to a file")
	info, err := os.Stat(fresh)
	if text, rerr := os.ReadFile(fresh); err != nil || rerr != nil || info.Mode().Perm() != 0o600 || string(text) != value {
		t.Errorf("%q, %v, %v, %v", text, info, err, rerr)
	}
	before := len(asked)
	clitest.Calls(t, map[string]clitest.Call{
		"a file that exists": {Run: get(secretGetOptions{out: taken}), Args: []string{"db"}, Agent: agent, Status: cli.StatusFailed, Says: "is never replaced"},
		"JSON without one":   {Run: get(secretGetOptions{}), Args: []string{"db"}, Agent: agent, JSON: true, Status: cli.StatusUsage, Says: "--json needs --out FILE"},
		"a long wait":        {Run: get(secretGetOptions{wait: 291 * time.Second}), Args: []string{"db"}, Agent: agent, Status: cli.StatusUsage, Says: "--wait 4m51s is outside"},
		"a negative wait":    {Run: get(secretGetOptions{wait: -1}), Args: []string{"db"}, Agent: agent, Status: cli.StatusUsage},
	})
	if len(asked) != before {
		t.Error("the agent was asked for what cannot be written")
	}
	clitest.Calls(t, map[string]clitest.Call{
		"refused":      {Run: get(secretGetOptions{}), Args: []string{"a/b"}, Agent: agent, Status: cli.StatusRefused, Reason: "secret-not-allowed", Says: "does not name user 7"},
		"empty":        {Run: get(secretGetOptions{}), Args: []string{"empty"}, Agent: agent, Status: cli.StatusFailed, Says: "a secret of 0 bytes"},
		"too long":     {Run: get(secretGetOptions{}), Args: []string{"long"}, Agent: agent, Status: cli.StatusFailed, Says: "a secret of 65537 bytes"},
		"cut short":    {Run: get(secretGetOptions{out: filepath.Join(dir, "short")}), Args: []string{"short"}, Agent: agent, Status: cli.StatusFailed, Says: "ended before the whole secret arrived", Silent: "part"},
		"no version":   {Run: get(secretGetOptions{}), Args: []string{"unversioned"}, Agent: agent, Status: cli.StatusFailed, Says: "named no version", Silent: "secret\n"},
		"a full disk":  {Run: get(secretGetOptions{}), Args: []string{"db"}, Agent: agent, Out: clitest.Full{}, Status: cli.StatusFailed},
		"no agent":     {Run: get(secretGetOptions{}), Args: []string{"db"}, Agent: filepath.Join(dir, "none"), Status: cli.StatusFailed, Reason: "agent-unreachable"},
		"an interrupt": {Run: get(secretGetOptions{}), Args: []string{"db"}, Agent: agent, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
	})
	if _, err := os.Stat(filepath.Join(dir, "short")); err == nil {
		t.Error("a part of a secret was written to a file")
	}
}

// TestASecretIsNotShown on a terminal unless that is asked for.
func TestASecretIsNotShown(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no terminals: ", err)
	}
	defer terminal.Close()
	server := clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Anchorhold-Secret-Version", "4")
		_, _ = w.Write([]byte("shown")) // the client sees what is missing
	}))
	clitest.Call{Run: (&secretGetOptions{}).run, Args: []string{"db"}, Agent: server, Out: terminal, Status: cli.StatusUsage, Says: "standard output is a terminal"}.Expect(t, "a terminal")
	clitest.Call{Run: (&secretGetOptions{force: true}).run, Args: []string{"db"}, Agent: server, Out: terminal}.Expect(t, "with --force")
}
