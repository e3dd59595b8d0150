//go:build !release

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/systemd/listen/listentest"
)

// What the test of the exact limit does.
const (
	exactLimit   = 128 << 20 // of the configuration and of the control group, swap included
	forFiles     = 2 << 20   // that the agent leaves to pages of files, which fill the group
	hostile      = 256
	attackTime   = 30 * time.Second
	requestTime  = 15 // seconds, of the configuration
	honestLeast  = 4  // answers during the attack
	honestAtMost = 40 * time.Second
)

// TestModelAtItsLimitUnderAttack: an agent in a control group whose limit is the configured one, not
// a byte more and no swap, whose weights and cache fill all that the limit leaves. Clients who do
// everything that costs memory do not have it killed, and another user is answered throughout: with resident
// weights, and with four sequences, whose cache leaves room for a part of the weights only.
func TestModelAtItsLimitUnderAttack(t *testing.T) {
	if os.Getenv("ANCHORHOLD_ATTACKS") == "" {
		t.Skip("SKIPPED: `make bench-exhaust` runs the attacks, as make test-all does at its end: without the race detector, whose memory and time are not the server's")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a control group needs root")
	}
	binary, model := buildAgent(t), realModel(t)
	t.Run("resident", func(t *testing.T) { attackAtTheLimit(t, binary, model, "", " mode=resident ") })
	t.Run("streamed", func(t *testing.T) { attackAtTheLimit(t, binary, model, ", sequences: 4", " mode=streamed ") })
}

// attackAtTheLimit is TestModelAtItsLimitUnderAttack for a model with such options, of which the agent logs such a word.
func attackAtTheLimit(t *testing.T, binary, model, options, opened string) {
	dropFile(t, binary)
	group := newGroup(t, exactLimit)
	a := startAgent(t, binary, model, options, group)
	if !strings.Contains(a.opened, opened) {
		t.Errorf("the model opened without%s: the test is of another case than it says: %s", opened, a.opened)
	}
	socket, use := a.socket, group.watch(t)
	attacker, elsewhere, _ := listentest.Parties(t)
	honest := user(t, elsewhere, socket)
	ctx, stop := context.WithTimeout(t.Context(), attackTime)
	defer stop()
	done := make([]atomic.Int64, len(habits()))
	var all sync.WaitGroup
	for i := range hostile {
		kind := i % len(habits())
		all.Go(func() {
			for ctx.Err() == nil {
				c, err := attacker.Dial(ctx, "unix", socket)
				if err != nil {
					continue // its own connections are too many
				}
				_ = c.SetDeadline(time.Now().Add(attackTime))
				end := context.AfterFunc(ctx, func() { _ = c.Close() })
				habits()[kind].do(ctx, c, i)
				end()
				_ = c.Close()
				done[kind].Add(1)
			}
		})
	}
	answers, longest, last := 0, time.Duration(0), time.Now()
	for ctx.Err() == nil {
		if err := honest(t.Context()); err != nil {
			t.Logf("honest: %v", err)
			if !strings.Contains(err.Error(), "request-timeout") && !strings.Contains(err.Error(), "queue-full") {
				t.Error("that is no answer of an agent that is well")
				stop()
			}
			continue
		}
		answers, longest, last = answers+1, max(longest, time.Since(last)), time.Now()
	}
	all.Wait()
	for i := range done {
		t.Logf("%-40s %6d times", habits()[i].name, done[i].Load())
	}
	after := time.Now()
	if err := honest(t.Context()); err != nil {
		t.Errorf("after the attack: %v", err)
	}
	killed, held := group.killed(t), use()
	t.Logf("%d honest answers, the longest after %.1f s; %.1f s after the attack; of %d MiB the most at a time %s; %d killed", answers, longest.Seconds(), time.Since(after).Seconds(), exactLimit>>20, held, killed)
	if answers < honestLeast || longest > honestAtMost {
		t.Errorf("%d honest answers, the longest after %s; want %d and %s", answers, longest, honestLeast, honestAtMost)
	}
	if killed > 0 || held.own > exactLimit-forFiles {
		t.Errorf("%d processes were killed, %d of %d bytes were the agent's own", killed, held.own, exactLimit)
	}
}

// TestLongContextAtTheLimit: at the same limit with resident weights, a cache of 8 bits has room for 960 positions, and a
// prompt of more than 512 tokens is answered.
func TestLongContextAtTheLimit(t *testing.T) {
	longtest.Run(t, "it builds an agent, which seals and opens a real model")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a control group needs root")
	}
	model := realModel(t)
	group := newGroup(t, exactLimit)
	a := startAgent(t, buildAgent(t), model, ", cache: q8, context: 960", group)
	for _, want := range []string{" mode=resident ", " context=960 "} {
		if !strings.Contains(a.opened, want) {
			t.Errorf("the model opened without%s: %s", want, a.opened)
		}
	}
	use := group.watch(t)
	attacker, _, _ := listentest.Parties(t)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return attacker.Dial(ctx, "unix", a.socket) }}}
	body := fmt.Sprintf(`{"model":"tiny","messages":[{"role":"user","content":"%s What is the capital of France?"}],"max_tokens":40,"temperature":0}`, strings.Repeat("Paris is the capital of France. ", 80))
	resp, err := client.Post("http://agent/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Choices []struct {
			Message struct{ Content string }
		}
		Usage struct {
			Prompt int `json:"prompt_tokens"`
			Answer int `json:"completion_tokens"`
		}
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, json.Unmarshal(text, &answer)); err != nil || resp.StatusCode != http.StatusOK || len(answer.Choices) != 1 {
		t.Fatalf("%s: %v: %s", resp.Status, err, text)
	}
	t.Logf("%d tokens are answered with %d: %q", answer.Usage.Prompt, answer.Usage.Answer, answer.Choices[0].Message.Content)
	if answer.Usage.Prompt <= 512 || !strings.Contains(answer.Choices[0].Message.Content, "Paris") {
		t.Errorf("%d tokens, answered with %q; want more than 512 and Paris", answer.Usage.Prompt, answer.Choices[0].Message.Content)
	}
	killed, held := group.killed(t), use()
	t.Logf("of %d MiB the most at a time %s; %d killed", exactLimit>>20, held, killed)
	if killed > 0 || held.own > exactLimit-forFiles {
		t.Errorf("%d processes were killed, %d of %d bytes were the agent's own", killed, held.own, exactLimit)
	}
}

// TestMemoryBesideTheModel: what an agent takes beside weights, cache and scratch memory, its program's pages and its model's
// tokenizer included, once it has answered.
func TestMemoryBesideTheModel(t *testing.T) {
	longtest.Run(t, "it builds an agent, which seals and opens a real model")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a control group needs root")
	}
	a := startAgent(t, buildAgent(t), realModel(t), "", newGroup(t, exactLimit))
	_, elsewhere, _ := listentest.Parties(t)
	if err := user(t, elsewhere, a.socket)(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/smaps", a.id))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var model, own, pages, rss, anonymous int64
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimSpace(value); key {
		case "Rss":
			_, err = fmt.Sscanf(value, "%d kB", &rss)
		case "Anonymous":
			_, err = fmt.Sscanf(value, "%d kB", &anonymous)
		case "VmFlags": // a mapping's last line; "dd", not for core dumps, is what is locked for models and keys
			if strings.Contains(value+" ", "dd ") {
				model += rss
			} else {
				own, pages = own+anonymous, pages+rss-anonymous
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%.1f MiB of the process and %.1f MiB of files beside %.1f MiB of the model", float64(own)/1024, float64(pages)/1024, float64(model)/1024)
	if model < 64<<10 || own > 16<<10 {
		t.Errorf("%d KiB beside %d KiB of the model; want at most 16 MiB", own, model)
	}
}

// realModel is the file of SmolLM2, or of $ANCHORHOLD_MODEL.
func realModel(t *testing.T) string {
	t.Helper()
	model := os.Getenv("ANCHORHOLD_MODEL")
	if cache, err := os.UserCacheDir(); model == "" && err == nil {
		model = filepath.Join(cache, "anchorhold", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(model); err != nil {
		t.Skipf("SKIPPED: the real model is absent: `make model` fetches it (%v)", err)
	}
	return model
}

// habit is what a hostile client does with a connection.
type habit struct {
	name string
	do   func(ctx context.Context, c net.Conn, i int)
}

// habits cost memory or time, each in a way of its own.
func habits() []habit {
	send := func(c net.Conn, path, body string) bool {
		_, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		return err == nil
	}
	chat := func(i int, options string) string {
		return fmt.Sprintf(`{"model":"tiny","messages":[{"role":"user","content":"client %d asks for a long story"}]%s}`, i, options)
	}
	drain := func(c net.Conn) {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
		}
	}
	hold := func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	const text = "/v1/chat/completions"
	return []habit{
		{"streams that are read a byte at a time", func(ctx context.Context, c net.Conn, i int) {
			one := make([]byte, 1)
			for ok := send(c, text, chat(i, `,"stream":true,"max_tokens":2000,"logprobs":true,"top_logprobs":20`)); ok; {
				_, err := c.Read(one)
				ok = err == nil && ctx.Err() == nil
				pauseFor(ctx, 20*time.Millisecond)
			}
		}},
		{"streams that nobody reads", func(ctx context.Context, c net.Conn, i int) {
			if send(c, text, chat(i, `,"stream":true,"max_tokens":2000,"logprobs":true,"top_logprobs":20`)) {
				hold(ctx)
			}
		}},
		{"bodies of a MiB", func(_ context.Context, c net.Conn, i int) {
			if send(c, text, `{"model":"tiny","messages":[{"role":"user","content":"`+strings.Repeat("many words ", 95000)+strconv.Itoa(i)+`"}]}`) {
				drain(c)
			}
		}},
		{"half a request", func(ctx context.Context, c net.Conn, i int) {
			if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: agent\r\nContent-Length: 1000000\r\n\r\n%s", text, chat(i, "")); err == nil {
				hold(ctx)
			}
		}},
		{"streams that are left", func(_ context.Context, c net.Conn, i int) {
			if send(c, text, chat(i, `,"stream":true,"max_tokens":2000`)) {
				_, _ = c.Read(make([]byte, 300))
			}
		}},
		{"grammars and schemas", func(_ context.Context, c net.Conn, i int) {
			options := `,"max_tokens":64,"grammar":"root ::= ` + strings.Repeat("[a-\u00e9] | ", 2000) + `\"a\""`
			if i%2 == 0 {
				options = `,"max_tokens":64,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{` +
					strings.Repeat(`"p`+strconv.Itoa(i)+`":{"type":"array","items":{"anyOf":[{"type":"string","maxLength":2000},{"type":"integer"}]}},`, 40) + `"q":{"type":"null"}}}}}`
			}
			if send(c, text, chat(i, options)) {
				drain(c)
			}
		}},
		{"eight choices with likelihoods", func(_ context.Context, c net.Conn, i int) {
			if send(c, text, chat(i, `,"n":8,"max_tokens":200,"logprobs":true,"top_logprobs":20`)) {
				drain(c)
			}
		}},
		{"texts to be scored", func(_ context.Context, c net.Conn, i int) {
			if send(c, "/v1/completions", `{"model":"tiny","prompt":"`+strings.Repeat("word ", 400)+strconv.Itoa(i)+`","echo":true,"max_tokens":0,"logprobs":5}`) {
				drain(c)
			}
		}},
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// buildAgent builds the agent's own program, as a development build.
func buildAgent(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "softtee", "-ldflags", "-s -w", "-o", binary, "./cmd/anchorhold-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dropFile(t, binary)
	return binary
}

// dropFile has a program's file leave memory: what an agent maps of it is then counted in its group, not where it
// was built or ran before.
func dropFile(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// running is an agent in a control group.
type running struct {
	socket string
	opened string // what it logged of the model that it opened
	id     int    // of its process
}

// startAgent runs the program in a control group, the model with such options in its configuration,
// each after a comma. The broker is in this process.
func startAgent(t *testing.T, binary, model, options string, group *group) running {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short, and its clients are other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f, g := brokertest.New(t), tenuretest.New(t)
	sealed := filepath.Join(dir, "model.ahm")
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.SealFile(t, model, sealed, tenuretest.ModelKey, 1))
	cfg := underBroker(t, g.Config, f, dir)
	tee := filepath.Join(cfg.Guest.StateDir, "software-tee")
	chain, err := os.ReadFile(filepath.Join(brokertest.ChainDir(t), "chain.pem"))
	if err := errors.Join(err, os.MkdirAll(tee, 0o700), os.WriteFile(filepath.Join(tee, "chain.pem"), chain, 0o600), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, fmt.Appendf(nil, `compute: {tee: {provider: software, attestation_ttl_seconds: 600, memory_limit_mb: %d}}
broker: {address: %q, server_name: %q, tls_roots: %q, root_keys: [%q], minimum_epoch: 1}
guest: {image_id: test, state_dir: %q, software_measurement: "sha384:%x"}
models: [{name: tiny, path: %q, resource: %s, publisher: %q, threads: 2%s}]
socket: {path: %q, allowed_users: [%d, %d], queue: 64, request_seconds: %d}
`, exactLimit>>20, cfg.Broker.Address, cfg.Broker.ServerName, cfg.Broker.TLSRoots, cfg.Broker.RootKeys[0], cfg.Guest.StateDir, brokertest.Measurement(),
		sealed, brokertest.Resource, g.Config.Models[0].Publisher, options, cfg.Socket.Path, listentest.AttackerUID, listentest.ElsewhereUID, requestTime))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	// The shell goes into the group and becomes the agent, all of whose memory is then counted.
	cmd := exec.Command("sh", "-c", `echo $$ > "$1/cgroup.procs" && exec "$2" run --config "$3"`, "sh", group.dir, binary, path)
	cmd.Stdout, cmd.Stderr = log, log
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		err := errors.Join(cmd.Process.Signal(os.Interrupt), <-ended)
		if text, _ := os.ReadFile(log.Name()); err != nil || t.Failed() {
			t.Errorf("the agent ended with %v:\n%s", err, text[max(0, len(text)-4000):])
		}
		_ = log.Close()
	})
	waitServing(t, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log.Name())
			ended <- err
			t.Fatalf("the agent ended with %v:\n%s", err, text)
		case <-time.After(50 * time.Millisecond):
		}
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket.Path)
	}}})
	a := running{socket: cfg.Socket.Path, id: cmd.Process.Pid}
	text, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "model opened") {
			a.opened = strings.TrimSpace(line)
			t.Log(a.opened)
		}
	}
	return a
}

// group is a control group for memory, of version 1 or 2.
type group struct {
	dir, killedFile string
}

// newGroup makes one with a limit of memory and without swap.
func newGroup(t *testing.T, limit int64) *group {
	t.Helper()
	name := fmt.Sprintf("anchorhold-limit-%d", os.Getpid())
	var absent error
	for _, v := range []struct {
		parent string
		files  [][2]string
		group  group
	}{
		{"/sys/fs/cgroup", [][2]string{{"memory.max", fmt.Sprint(limit)}, {"memory.swap.max", "0"}}, group{killedFile: "memory.events"}},
		{"/sys/fs/cgroup/memory", [][2]string{{"memory.limit_in_bytes", fmt.Sprint(limit)}, {"memory.memsw.limit_in_bytes", fmt.Sprint(limit)}}, group{killedFile: "memory.oom_control"}},
	} {
		v.group.dir = filepath.Join(v.parent, name)
		why := os.Mkdir(v.group.dir, 0o755)
		if why != nil {
			absent = errors.Join(absent, why)
			continue
		}
		for i, f := range v.files {
			err := control(filepath.Join(v.group.dir, f[0]), f[1])
			if i == 0 { // of a kernel without swap there is no other
				why = err
			}
		}
		if why != nil {
			absent = errors.Join(absent, why, os.Remove(v.group.dir))
			continue
		}
		t.Cleanup(func() {
			for range 50 {
				if os.Remove(v.group.dir) == nil {
					return
				}
				pauseFor(context.Background(), 100*time.Millisecond)
			}
			t.Errorf("the control group %s is still there", v.group.dir)
		})
		return &v.group
	}
	t.Skipf("SKIPPED: no control group can be made here: %v", absent)
	return nil
}

// control writes to a file that must be there: on a plain file system a group would be a directory.
func control(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// held is what a group's processes have in memory: their own pages, and those of files, which the
// kernel may take back.
type held struct{ own, files int64 }

func (h held) String() string {
	return fmt.Sprintf("%.1f MiB of processes and %.1f MiB of files", float64(h.own)/(1<<20), float64(h.files)/(1<<20))
}

// watch looks ten times a second until the function that it returns is called, which tells the most of each.
func (g *group) watch(t *testing.T) func() held {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	most := make(chan held)
	go func() {
		var h held
		for ctx.Err() == nil {
			text, _ := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
			for line := range strings.Lines(string(text)) {
				var key string
				var n int64
				_, _ = fmt.Sscan(line, &key, &n)
				switch key {
				case "rss", "anon":
					h.own = max(h.own, n)
				case "mapped_file", "file_mapped":
					h.files = max(h.files, n)
				}
			}
			pauseFor(ctx, 100*time.Millisecond)
		}
		most <- h
	}()
	return func() held { stop(); return <-most }
}

// killed is how often the kernel ended a process of the group for its memory.
func (g *group) killed(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.killedFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var n int
		if found, _ := fmt.Sscanf(line, "oom_kill %d", &n); found == 1 {
			return n
		}
	}
	return 0
}
