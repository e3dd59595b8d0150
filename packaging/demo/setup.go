package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The measurements that the software TEE reports: of the image that the
// reference values name, and of another.
var (
	goodMeasurement  = strings.Repeat("a5", 48)
	otherMeasurement = strings.Repeat("5a", 48)
)

func (d *demo) findModel(ctx context.Context) (string, error) {
	var err error
	if m := modelNamed(d.opt.model); m != nil {
		if d.gguf, err = fetchModel(ctx, d.opt.cache, m); err != nil {
			return "", err
		}
		return m.title + ", in the cache with the expected SHA-256", nil
	}
	if d.gguf, err = filepath.Abs(d.opt.model); err != nil {
		return "", err
	}
	if _, err := os.Stat(d.gguf); err != nil {
		return "", fmt.Errorf("%w (models that are fetched by name: %s)", err, modelNames())
	}
	return d.gguf, nil
}

func (d *demo) makeIdentities(ctx context.Context) (string, error) {
	if err := os.Mkdir(d.path("credentials"), 0o700); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"keygen", "credential", "--out", d.path("credentials", "broker.kek")},
		{"keygen", "broker", "--state", d.path("broker"), "--root", d.path("root.key"), "--host", "127.0.0.1", "--credential-file", d.path("credentials", "broker.kek")},
		{"keygen", "credential", "--out", d.path("publisher.credential")},
		{"keygen", "publisher", "--out", d.path("publisher.key"), "--credential-file", d.path("publisher.credential")},
		{"keygen", "model", "--out", d.path("model.key")},
	} {
		if _, err := d.tool(ctx, args...); err != nil {
			return "", err
		}
	}
	return "broker root (ML-DSA-87 + Ed25519), epoch and audit keys, publisher (ML-DSA-65 + Ed25519), TLS certificate, model key", nil
}

// freePort asks the kernel for a port on loopback.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (d *demo) startBroker(ctx context.Context) (string, error) {
	var err error
	if d.brokerAddress, err = freePort(); err != nil {
		return "", err
	}
	// The software TEE's chain is made before the agents look for it, so that the
	// broker's development configuration can name its root.
	if err := os.MkdirAll(d.path("tee"), 0o700); err != nil {
		return "", err
	}
	extra, err := d.makeTEE(ctx)
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf(`state_dir: %s
listen: %s
unlock: {credential: broker.kek}
operator: {socket: %s}
%slog: {level: info, format: text}
`, d.path("broker"), d.brokerAddress, d.path("operator.sock"), extra+d.brokerExtra)
	if err := os.WriteFile(d.path("broker.yaml"), []byte(config), 0o600); err != nil {
		return "", err
	}
	if d.broker, err = start(d.dir, "broker", []string{"CREDENTIALS_DIRECTORY=" + d.path("credentials")}, filepath.Join(d.opt.bin, "anchorhold-broker"), "run", "--config", d.path("broker.yaml")); err != nil {
		return "", err
	}
	err = d.broker.waitFor(ctx, "operator socket", 20*time.Second, func() bool {
		_, err := d.tool(ctx, "epoch", "list", "--broker", d.path("operator.sock"))
		return err == nil
	})
	return "on " + d.brokerAddress + ", operators on a unix socket", err
}

func (d *demo) sealModel(ctx context.Context) (string, error) {
	out, err := d.tool(ctx, "seal", d.gguf, "--out", d.path("model.ahm"), "--key", d.path("model.key"), "--publisher", d.path("publisher.key"),
		"--credential-file", d.path("publisher.credential"), "--name", "demo", "--model-version", "1", "--json")
	if err != nil {
		return "", err
	}
	var sealed struct {
		ModelID string  `json:"model_id"`
		Bytes   float64 `json:"bytes"`
		Tensors int     `json:"tensors"`
		Chunks  int     `json:"chunks"`
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(out, &sealed); err != nil {
		return "", err
	}
	d.modelID = sealed.ModelID
	return fmt.Sprintf("%.1f MB, %d tensors in %d encrypted chunks, %.0f MB/s\nmodel id %s", sealed.Bytes/1e6, sealed.Tensors, sealed.Chunks, sealed.Bytes/1e6/sealed.Seconds, sealed.ModelID), nil
}

func (d *demo) storeKey(ctx context.Context) (string, error) {
	out, err := d.tool(ctx, "secret", "put", "models/demo", "--file", d.path("model.key"), "--model-id", d.modelID, "--broker", d.path("operator.sock"))
	return strings.TrimSpace(string(out)) + ", sealed at rest", err
}

func (d *demo) importPolicy(ctx context.Context) (string, error) {
	kind, err := kindOf(d.opt.kind)
	if err != nil {
		return "", err
	}
	policy := cmp.Or(d.policy, kind.policy)
	if d.memoryMB != memoryLimitMB {
		policy = strings.Replace(policy, fmt.Sprintf("max_mib: %d", memoryLimitMB), fmt.Sprintf("max_mib: %d", d.memoryMB), 1)
	}
	if err := os.WriteFile(d.path("policy.yaml"), []byte(policy), 0o600); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "policy", "values", "import", d.path("values.json"), "--broker", d.path("operator.sock")); err != nil {
		return "", err
	}
	out, err := d.tool(ctx, "policy", "import", d.path("policy.yaml"), "--broker", d.path("operator.sock"), "--json")
	if err != nil {
		return "", err
	}
	var info struct {
		ID      string   `json:"id"`
		Version uint64   `json:"version"`
		Waived  []string `json:"waived"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return "", err
	}
	return fmt.Sprintf("policy %q version %d; %d checks waived in writing, all others required", info.ID, info.Version, len(info.Waived)), nil
}

// guestState returns the state directory of the agent of a name, with the processor that all
// guests of the demo run on. A directory is one agent's at a time.
func (d *demo) guestState(name string) (string, error) {
	dir := d.path("guest-" + name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, os.CopyFS(dir, os.DirFS(d.path("tee")))
}

// agentConfig writes the configuration of an agent and returns its path.
func (d *demo) agentConfig(name, model, measurement string, limitMB int) (string, error) {
	state, err := d.guestState(name)
	if err != nil {
		return "", err
	}
	kind, err := kindOf(d.opt.kind)
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf(`transport:
  tls: {version: "1.3", key_exchange: hybrid, classical: X25519, post_quantum: ML_KEM_768, enforce_pqc_first: true, fallback_policy: reject}
compute:
  tee:
    provider: %s
    attestation_ttl_seconds: 300
    memory_limit_mb: %d
broker:
  address: %q
  tls_roots: %s
  root_keys: [%s]
  minimum_epoch: 1
guest:
  image_id: demo-image
  state_dir: %s
  software_measurement: %q
models:
  - {name: demo, path: %s, resource: models/demo, publisher: %s, minimum_version: 1}
socket: {path: %s}
log: {level: info, format: text}
`, kind.provider, limitMB, d.brokerAddress, d.path("broker", "tls.crt"), d.path("root.key.pub"), state, measurement,
		model, d.path("publisher.key.pub"), d.path(name+".sock"))
	path := d.path(name + ".yaml")
	return path, os.WriteFile(path, []byte(config), 0o600)
}

// runAgent starts an agent with a configuration of its own.
func (d *demo) runAgent(name, model, measurement string, limitMB int) (*daemon, error) {
	config, err := d.agentConfig(name, model, measurement, limitMB)
	if err != nil {
		return nil, err
	}
	program := []string{filepath.Join(d.opt.bin, "anchorhold-agent"), "run", "--config", config}
	group, err := newGroup(fmt.Sprintf("anchorhold-demo-%d-%s", os.Getpid(), name), int64(limitMB)<<20)
	if err != nil {
		return nil, err
	}
	agent, err := start(d.dir, name, nil, group.within(program)[0], group.within(program)[1:]...)
	if err != nil {
		return nil, errors.Join(err, group.remove())
	}
	agent.group = group
	return agent, nil
}
