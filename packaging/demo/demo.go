package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type options struct {
	bin, cache, model, question string
	kind                        string // of guest; empty is SEV-SNP
	keep                        bool
}

// The agent's limits in the demo, for a model of the size of SmolLM2: its 97 MB fit the first,
// and are streamed under the second.
const (
	memoryLimitMB   = 128
	streamedLimitMB = 48
)

// demo holds what the steps hand on to each other.
type demo struct {
	opt options
	// The agent's limits: the model fits the first, and is streamed under the second.
	memoryMB, streamedMB int

	dir    string // everything the demo writes; removed at the end
	began  time.Time
	broker *daemon
	agent  *daemon

	brokerAddress string
	measured      map[string]string // the registers of the good measurement
	brokerExtra   string            // of its configuration
	policy        string            // instead of demoPolicy
	gguf          string
	modelID       string // of what was sealed first
	receipt       string // file of the answer's receipt
	answer        string
	served        string // where the model's weights are, and its context
}

func newDemo(opt options) *demo {
	d := &demo{opt: opt, began: time.Now(), memoryMB: memoryLimitMB, streamedMB: streamedLimitMB}
	if m := modelNamed(opt.model); m != nil && m.memoryMB != 0 {
		d.memoryMB, d.streamedMB = m.memoryMB, m.streamedMB
	}
	return d
}

// step is one line of the demo.
type step struct {
	title string
	do    func(context.Context) (string, error)
}

func (d *demo) run(ctx context.Context) (err error) {
	fmt.Println("Anchorhold demo: private inference on a real model.")
	fmt.Println("THE SOFTWARE TEE STANDS IN FOR THE HARDWARE HERE: these binaries prove nothing to anyone but this demo.")
	d.dir, err = os.MkdirTemp("", "anchorhold-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil && d.opt.keep {
			d.explainKept()
			return
		}
		err = errors.Join(err, d.cleanUp())
	}()
	return runSteps(ctx, d.began, []step{
		{"model to serve", d.findModel},
		{"development identities", d.makeIdentities},
		{"broker", d.startBroker},
		{"model sealed", d.sealModel},
		{"model key stored at the broker", d.storeKey},
		{"reference values and policy imported", d.importPolicy},
		{"agent attested, key released, model loaded", d.startAgent},
		{"what the broker recorded", d.showEvidence},
		{"chat", d.chat},
		{fmt.Sprintf("the same model streamed in %d MiB", d.streamedMB), d.chatStreamed},
		{"receipt verified with the broker's public identity alone", d.verifyReceipt},
		{"audit log verified", d.verifyAudit},
		{"REFUSAL 1: a guest with another measurement", d.refuseMeasurement},
		{"REFUSAL 2: a model file with one flipped bit", d.refuseFlippedBit},
		{"REFUSAL 3: a client that speaks only classical TLS", d.refuseClassical},
	})
}

// runSteps runs one after the other and tells what each came to.
func runSteps(ctx context.Context, began time.Time, steps []step) error {
	for i, s := range steps {
		t := time.Now()
		note, err := s.do(ctx)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
		fmt.Printf("%2d. %s (%.2f s)\n", i+1, s.title, time.Since(t).Seconds())
		for line := range strings.Lines(note) {
			fmt.Printf("      %s\n", strings.TrimRight(line, "\n"))
		}
	}
	fmt.Printf("Every step did what it says. %.1f s.\n", time.Since(began).Seconds())
	return nil
}

func (d *demo) path(name ...string) string {
	return filepath.Join(append([]string{d.dir}, name...)...)
}

// tool runs the command line `anchorhold`.
func (d *demo) tool(ctx context.Context, args ...string) ([]byte, error) {
	return command(ctx, filepath.Join(d.opt.bin, "anchorhold"), args...)
}

func (d *demo) cleanUp() error {
	var errs []error
	for _, p := range []*daemon{d.agent, d.broker} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

func (d *demo) explainKept() {
	abs, err := filepath.Abs(d.opt.bin)
	if err != nil {
		abs = d.opt.bin
	}
	fmt.Printf(`
Broker (process %d) and agent (process %d) go on running. Talk to the agent:

  curl --unix-socket "%[3]s/agent.sock" http://localhost/v1/chat/completions \
    -H 'Content-Type: application/json' \
    -d '{"model":"demo","messages":[{"role":"user","content":"Hello!"}]}'

  "%[4]s/anchorhold" chat --agent "%[3]s/agent.sock" "Hello!"

  python3 - <<'END'       # pip install openai
  import openai
  try: import httpx
  except ImportError: import httpx2 as httpx    # newer clients bring their own
  http = httpx.Client(transport=httpx.HTTPTransport(uds="%[3]s/agent.sock"))
  client = openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http)
  answer = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello!"}])
  print(answer.choices[0].message.content)
  END

As the broker's operator:

  "%[4]s/anchorhold" audit show --last 5 --broker "%[3]s/operator.sock"

Their logs are "%[5]s" and "%[6]s".
End and remove everything:  kill %[1]d %[2]d && sleep 2 && rm -r "%[3]s"%[7]s
`, d.broker.cmd.Process.Pid, d.agent.cmd.Process.Pid, d.dir, abs, d.broker.log.name, d.agent.log.name, d.agent.group.removal())
}
