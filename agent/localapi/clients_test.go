package localapi_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// suite is what one client is asked to do.
type suite struct{ language, client, needs string }

func suites() []suite {
	return []suite{
		{"python", "openai", "openai"}, {"python", "langchain", "langchain_openai"}, {"python", "litellm", "litellm"}, {"python", "ollama", "ollama"}, {"python", "llm", "llm"},
		{"js", "openai", "openai"}, {"js", "ai", "ai"}, {"js", "ollama", "ollama"},
	}
}

// TestTheManualNamesEveryClientSuite, and none that there is not.
func TestTheManualNamesEveryClientSuite(t *testing.T) {
	raw, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "<!-- clients -->")
	table, _, ok := strings.Cut(table, "<!-- end of clients -->")
	if !ok {
		t.Fatal("the manual has no table of clients")
	}
	var named, want []string
	for line := range strings.Lines(table) {
		if name, ok := strings.CutPrefix(line, "| `TestStockClients/"); ok {
			name, _, _ = strings.Cut(name, "`")
			named = append(named, name)
		}
	}
	for _, s := range suites() {
		want = append(want, s.language+"_"+s.client)
	}
	if !slices.Equal(named, want) {
		t.Errorf("the manual names %q, the suites are %q", named, want)
	}
}

// TestStockClients drives the API with the clients that people use, unchanged: formats, tools,
// streams, and conversations with calls, over the real engine.
func TestStockClients(t *testing.T) {
	peers := os.Getenv("ANCHORHOLD_PEERS")
	python, modules := filepath.Join(peers, "clients/bin/python"), filepath.Join(peers, "clients-js/node_modules")
	for _, c := range suites() {
		t.Run(c.language+" "+c.client, func(t *testing.T) {
			if peers == "" {
				t.Skip("NOT TESTED against stock clients: set ANCHORHOLD_PEERS to a directory that .ci/peers filled")
			}
			f := start(t, withEngine(randomEngine(t, toolTemplate)))
			vectors, _ := startEmbeddings(t, nil)
			calls := start(t, nil)
			calls.engine.say("<tool_call>\n{\"name\": \"add\", \"argum", "ents\": {\"a\": 1, \"b\": 2}}\n</tool_call>")
			address, embedding, calling := "http://"+overTCP(t, f.socket), "http://"+overTCP(t, vectors.socket), "http://"+overTCP(t, calls.socket)
			var cmd *exec.Cmd
			if c.language == "python" {
				if out, err := exec.CommandContext(t.Context(), python, "-c", "import "+c.needs).CombinedOutput(); err != nil {
					t.Skipf("NOT TESTED against %s: %v %s", c.needs, err, out)
				}
				cmd = exec.CommandContext(t.Context(), python, "testdata/clients.py", address, c.client, embedding, calling)
			} else {
				if _, err := os.Stat(filepath.Join(modules, c.needs)); err != nil {
					t.Skipf("NOT TESTED against %s: %v", c.needs, err)
				}
				node := filepath.Join(peers, "node/node_modules/.bin/node")
				if _, err := os.Stat(node); err != nil {
					node = "node"
				}
				cmd = exec.CommandContext(t.Context(), node, beside(t, modules), address, c.client, embedding, calling)
			}
			// Nothing of the user's own configuration, and no word to anybody else.
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LITELLM_LOCAL_MODEL_COST_MAP=True", "DO_NOT_TRACK=1", "AI_SDK_LOG_WARNINGS=false", "LANGSMITH_TRACING=false"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, f.log)
			}
		})
	}
}

// beside copies the script to where it finds its modules.
func beside(t *testing.T, modules string) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/clients.mjs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "clients.mjs")
	if err := os.WriteFile(script, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return script
}

// overTCP forwards connections to a socket: most clients know addresses alone.
func overTCP(t *testing.T, socket string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket)
			if err != nil {
				client.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					pair[0].Close()
				}()
			}
		}
	}()
	return l.Addr().String()
}
