package main

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/packaging/canary"
	"github.com/anchorhold/anchorhold/packaging/emulator"
	"github.com/anchorhold/anchorhold/packaging/softpolicy"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// The host of the guest has the broker and an aggregator, as machines outside.

// Addresses as the guest sees them; QEMU hands each connection to a relay.
const (
	outside           = "10.0.2.100"
	outsideBroker     = outside + ":8443"
	outsideAggregator = outside + ":8444"
	outsideAudit      = outside + ":9000"
)

// random returns bytes of the run.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

// words is a text that nothing else has.
func words(n int) string { return base32.StdEncoding.EncodeToString(random(n)) }

// vectorLength is how many values a participant sends.
const vectorLength = 1000

// randomVector is a gradient within the round's norm.
func randomVector() (values []float32, bytes []byte) {
	r := random(4 * vectorLength)
	for i := range vectorLength {
		v := (float32(binary.LittleEndian.Uint32(r[4*i:]))/math.MaxUint32 - 0.5) / 50
		values = append(values, v)
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
	}
	return values, bytes
}

// canaryModel is a language model with weights of this run, whose answers are printable: the other tokens score
// nothing, and these score much.
func canaryModel() ([]byte, []float32, error) {
	const row = 4 * gguftest.Width
	m := gguftest.New(binary.LittleEndian.Uint64(random(8)))
	m.Set("general.name", auditedModel)
	m.Set("llama.context_length", uint32(1024))
	// An output of its own: with the embedding's, a token is its own likeliest successor.
	m.Matrix("output.weight", len(m.Tensor("token_embd.weight").Data)/row, gguftest.Width)
	output := m.Tensor("output.weight").Data
	for token := range len(output) / row {
		for i := range gguftest.Width {
			at := output[token*row+4*i:]
			v := 6 * math.Float32frombits(binary.LittleEndian.Uint32(at))
			if token < '0' || token > 'z' {
				v = 0
			}
			binary.LittleEndian.PutUint32(at, math.Float32bits(v))
		}
	}
	var weights []float32
	for v := m.Tensor("blk.0.attn_norm.weight").Data; len(v) > 0; v = v[4:] {
		weights = append(weights, math.Float32frombits(binary.LittleEndian.Uint32(v)))
	}
	text, err := m.Bytes()
	return text, weights, err
}

// at is a file of the broker's host.
func (x *auditor) at(elements ...string) string {
	return x.work.Path(append([]string{"broker-host"}, elements...)...)
}

// makeCanaries makes what the audit looks for, as far as the host makes it.
func (x *auditor) makeCanaries(ctx context.Context) error {
	halves := x.path(halvesDir)
	if err := errors.Join(os.MkdirAll(halves, 0o700), os.MkdirAll(x.at("credentials"), 0o700)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"keygen", "credential", "--out", x.at("credentials", "broker.kek")},
		{"keygen", "broker", "--state", x.at("state"), "--root", x.at("root.key"), "--host", outside, "--credential-file", x.at("credentials", "broker.kek")},
		{"keygen", "credential", "--out", x.at("publisher.credential")},
		{"keygen", "publisher", "--out", x.at("publisher.key"), "--credential-file", x.at("publisher.credential")},
		{"keygen", "model", "--out", x.at("model.key")},
		{"keygen", "queue", "--out", x.at("member.key")},
		{"keygen", "tls", "--out", x.at("aggregator"), "--host", outside},
	} {
		if _, err := x.tool(ctx, args...); err != nil {
			return err
		}
	}
	model, weights, err := canaryModel()
	if err != nil {
		return err
	}
	if err := os.WriteFile(x.at("model.gguf"), model, 0o600); err != nil {
		return err
	}
	if _, err := x.tool(ctx, "seal", x.at("model.gguf"), "--out", x.at("model.ahm"), "--key", x.at("model.key"), "--publisher", x.at("publisher.key"),
		"--credential-file", x.at("publisher.credential"), "--name", auditedModel, "--model-version", "1"); err != nil {
		return err
	}
	values, vector := randomVector()
	prompt := words(75) // whatever else it said would be in this program, and on the disk
	x.pad = random(64)
	errs := []error{halve(halves, "prompt", []byte(prompt), random(len(prompt))), halve(halves, "gradient", vector, random(len(vector))),
		os.WriteFile(filepath.Join(halves, "pad"), x.pad, 0o600)}
	canaries := []canary.Canary{canary.Floats(assetWeights, weights), canary.Text(assetPrompt, prompt), canary.Floats(assetGradient, values[:128])}
	for name, file := range map[string]string{assetModelKey: x.at("model.key"), assetKEK: x.at("credentials", "broker.kek"), assetMemberKey: x.at("member.key")} {
		key, err := os.ReadFile(file)
		errs = append(errs, err)
		canaries = append(canaries, canary.Bytes(name, key))
	}
	x.controls = map[string]string{}
	for _, c := range controls {
		x.controls[c.name] = words(30)
		errs = append(errs, halve(halves, c.name, []byte(x.controls[c.name]), random(48)))
		canaries = append(canaries, canary.Canary{Name: c.name, Forms: []canary.Form{{Name: "raw", Text: []byte(x.controls[c.name])}}})
	}
	ofServices, err := x.makeServiceSecrets(ctx, halves)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	x.index, err = canary.New(append(canaries, ofServices...)...)
	return err
}

// furnish writes what the guest's agent needs.
func (x *auditor) furnish(ctx context.Context) error {
	etc := x.path("etc/anchorhold")
	if err := errors.Join(os.MkdirAll(etc, 0o755), os.MkdirAll(x.path("var/lib/anchorhold"), 0o755), os.MkdirAll(x.path(coresDir), 0o755)); err != nil {
		return err
	}
	if _, err := emulator.Command(ctx, filepath.Join(x.bin, "anchorhold-agent"), "software-tee", "--state", x.path("var/lib/anchorhold/agent"), "--roots", x.at("software-tee.pem")); err != nil {
		return err
	}
	for from, to := range map[string]string{x.at("root.key.pub"): "root.key.pub", x.at("publisher.key.pub"): "publisher.key.pub", x.at("state", "tls.crt"): "tls.crt", x.at("aggregator.crt"): "aggregator.crt"} {
		if err := copyFile(from, filepath.Join(etc, to), 0o644); err != nil {
			return err
		}
	}
	if err := copyFile(x.at("model.ahm"), x.path("var/lib/anchorhold/model.ahm"), 0o644); err != nil {
		return err
	}
	if _, err := emulator.Command(ctx, "chroot", x.root, "chown", "-R", "anchorhold-agent:anchorhold-agent", "/var/lib/anchorhold/agent"); err != nil {
		return err
	}
	var errs []error
	for name, text := range map[string]string{
		"etc/anchorhold/agent.yaml":                         fmt.Sprintf(auditedAgent, outsideBroker, measurement, outsideAggregator),
		"etc/systemd/network/80-audit.network":              "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\n",
		"etc/systemd/system/" + agentUnit + ".d/audit.conf": "[Service]\nRestart=no\nLimitCORE=infinity\n",
		"etc/systemd/system/" + holderUnit:                  auditedHolder,
		"etc/anchorhold/volumes.yaml":                       auditedVolumes,
		"etc/systemd/system/audited.service":                fmt.Sprintf(auditedUnit, patienceVariable, x.patience()),
		"etc/sysctl.d/80-audit.conf":                        "kernel.core_pattern=" + coresDir + "/%e.%p\nfs.suid_dumpable=0\n",
	} {
		errs = append(errs, os.MkdirAll(filepath.Dir(x.path(name)), 0o755), os.WriteFile(x.path(name), []byte(text), 0o644))
	}
	own, err := os.Executable()
	errs = append(errs, err, copyFile(own, x.path("usr/local/sbin/boottest"), 0o755), copyFile(own, x.work.Path("boottest"), 0o755))
	_, err = emulator.Command(ctx, "chroot", x.root, "systemctl", "enable", "systemd-networkd.service", "audited.service", "anchorhold-credentials.socket")
	return errors.Join(append(errs, err)...)
}

const auditedAgent = `compute:
  tee: {provider: software, attestation_ttl_seconds: 300, memory_limit_mb: 128}
broker: {address: %q, tls_roots: /etc/anchorhold/tls.crt, root_keys: [/etc/anchorhold/root.key.pub], minimum_epoch: 1}
guest: {image_id: boot-image, state_dir: /var/lib/anchorhold/agent, software_measurement: %q}
models:
  - {name: ` + auditedModel + `, path: /var/lib/anchorhold/model.ahm, resource: models/canary, publisher: /etc/anchorhold/publisher.key.pub, minimum_version: 1}
federation: {aggregators: [%q], tls_roots: /etc/anchorhold/aggregator.crt, membership: members/boot}
workers: {socket: /run/anchorhold/worker.sock}
socket: {path: /run/anchorhold/agent.sock}
` + auditedServices

const auditedUnit = `[Unit]
Description=Audit of where plaintext is
After=systemd-networkd.service
[Install]
WantedBy=multi-user.target
[Service]
Type=exec
# What answers during the search would have half of the processor.
Nice=-10
Environment=%s=%.2f
ExecStart=/usr/local/sbin/boottest -part audited ` + outsideAudit + `
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
ExecStopPost=/usr/bin/systemctl --no-block poweroff
`

// auditedPolicy is policyFile with its end.
func auditedPolicy(version int, until time.Time) string {
	return fmt.Sprintf(`format: 2
id: boot
version: %d
not_before: "2020-01-01T00:00:00Z"
not_after: %q
attestation_ttl_seconds: 300
allow_software_tee: true
require:
  kinds: [sev-snp]
  reference_values: [boot/*]
`+softpolicy.RequireSNP+`  image_ids: [boot-image]
  memory_limit: {min_mib: 32, max_mib: 128}
rules:
  - resources: [models/*, members/*]
    roles: [serve, contribute]
  - resources: [secrets/*, volumes/*]
waive:
`+softpolicy.WaiveSNP+`  - {check: agent-build, reason: the image decides which agent runs}
  - {check: tenant, reason: there are no tenants}
`, version, until.UTC().Format(time.RFC3339))
}

// service is a daemon on the broker's host.
type service struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // after done
}

// serve starts a daemon that ends with the context, with its log in a file.
func (x *auditor) serve(ctx context.Context, name string, env ...string) (*service, error) {
	log, err := os.Create(x.at(name + ".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &service{cmd: exec.CommandContext(ctx, filepath.Join(x.bin, "anchorhold-"+name), "run", "--config", x.at(name+".yaml")), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Env = log, log, append(os.Environ(), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.err = s.cmd.Wait(); close(s.done) }()
	return s, nil
}

// until waits for a daemon to be able to do something.
func (x *auditor) until(ctx context.Context, s *service, name string, able func() error) error {
	for end := time.Now().Add(30 * time.Second); ; {
		err := able()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			err = errors.Join(err, s.err)
		default:
			if time.Now().Before(end) {
				if err := pause(ctx, 100*time.Millisecond); err != nil {
					return err
				}
				continue
			}
		}
		log, _ := os.ReadFile(x.at(name + ".log")) // what there is of it
		return fmt.Errorf("%s: %w\n%s", name, err, lastLines(string(log), 10))
	}
}

// freePort asks the kernel for a port on loopback.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// operate runs an operator's command at the broker.
func (x *auditor) operate(ctx context.Context, args ...string) ([]byte, error) {
	return x.tool(ctx, append(args, "--broker", x.at("operator.sock"))...)
}

// startOutside starts broker and aggregator, and opens the round whose key is looked for.
func (x *auditor) startOutside(ctx context.Context) (err error) {
	if x.brokerAddress, err = freePort(); err != nil {
		return err
	}
	if x.aggregatorAddress, err = freePort(); err != nil {
		return err
	}
	files := map[string]string{
		"broker.yaml": fmt.Sprintf("state_dir: %s\nlisten: %s\nunlock: {credential: broker.kek}\noperator: {socket: %s}\nsoftware_tee_root: %s\nrounds:\n  privacy: {max_epsilon: 20, delta: 0.00001, minimum_cohort: 2, without_noise: nothing is decrypted here, allow_software_tee: true}\n",
			x.at("state"), x.brokerAddress, x.at("operator.sock"), x.at("software-tee.pem")),
		"aggregator.yaml": fmt.Sprintf("state_dir: %s\nlisten: %s\ntls_certificate: %s\ntls_key: %s\nroot_keys: [%s]\nadmin_socket: %s\n",
			x.at("aggregator"), x.aggregatorAddress, x.at("aggregator.crt"), x.at("aggregator.key"), x.at("root.key.pub"), x.at("admin.sock")),
		"policy.yaml": auditedPolicy(1, time.Now().AddDate(1, 0, 0)),
		"values.yaml": fmt.Sprintf("format: 1\nreference_values:\n  - {id: boot/image, measurement: %q, software: true, description: %q}\n", measurement, x.controls[controlState]),
	}
	for name, text := range files {
		if err := os.WriteFile(x.at(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if x.broker, err = x.serve(ctx, "broker", "CREDENTIALS_DIRECTORY="+x.at("credentials"), "CONTROL="+x.controls[controlBrokerStart], "GODEBUG=clobberfree=1"); err != nil {
		return err
	}
	if err := x.until(ctx, x.broker, "broker", func() error { _, err := x.operate(ctx, "epoch", "list"); return err }); err != nil {
		return err
	}
	if x.aggregator, err = x.serve(ctx, "aggregator"); err != nil {
		return err
	}
	if err := x.until(ctx, x.aggregator, "aggregator", func() error { _, err := os.Stat(x.at("admin.sock")); return err }); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"secret", "put", "models/canary", "--file", x.at("model.key"), "--model", x.at("model.ahm")},
		{"secret", "put", "members/boot", "--file", x.at("member.key")},
		{"policy", "values", "import", x.at("values.yaml")}, {"policy", "import", x.at("policy.yaml")},
	} {
		if _, err := x.operate(ctx, args...); err != nil {
			return err
		}
	}
	if err := x.storeServiceSecrets(ctx); err != nil {
		return err
	}
	out, err := x.operate(ctx, "fed", "round", "open", "--json", "--model", "boot", "--length", fmt.Sprint(vectorLength), "--clip-l2", "1", "--minimum", "2", "--maximum", "4",
		"--mechanism", "none", "--contributors", "everyone", "--decryptors", "everyone", "--aggregator", x.at("admin.sock"))
	if err != nil {
		return err
	}
	var round struct {
		Round string `json:"round"`
	}
	if err := json.Unmarshal(out, &round); err != nil {
		return err
	}
	x.round = round.Round
	return x.readRoundKey(ctx)
}

// readRoundKey opens a copy of the broker's store for the key that the broker drew.
func (x *auditor) readRoundKey(ctx context.Context) error {
	credential, err := os.ReadFile(x.at("credentials", "broker.kek"))
	if err != nil {
		return err
	}
	held, err := keybuf.Take(credential)
	if err != nil {
		return err
	}
	defer held.Wipe()
	kek, err := keystore.CredentialKEK(held)
	if err != nil {
		return err
	}
	defer kek.Wipe()
	copied := x.at("copy-of-the-store") // the broker has locked its own
	if err := copyFile(statedir.Layout(x.at("state")).Keystore(), copied, 0o600); err != nil {
		return err
	}
	store, err := keystore.Open(copied, kek)
	if err != nil {
		return err
	}
	defer store.Close()
	infos, _, err := store.List(ctx, "")
	if err != nil {
		return err
	}
	for _, info := range infos {
		if !strings.Contains(info.Description, "federated round") {
			continue
		}
		key, _, err := store.Get(ctx, info.Name, info.Version)
		if err != nil {
			return err
		}
		defer key.Wipe()
		return key.Use(func(secret []byte) error { return x.index.Add(canary.Bytes(assetRoundKey, secret)) })
	}
	return errors.New("the broker's store has no key of a round")
}
