package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/runtime/layers"
	"github.com/anchorhold/anchorhold/runtime/onnx"
	"github.com/anchorhold/anchorhold/runtime/quantize"
)

// proofRequests is how many answers are asked for and proven.
const proofRequests = 100

// proofDemo serves a real classifier, proves its answers afterwards, and verifies them.
type proofDemo struct {
	demo
	models          string // directory with ONNX files and data
	rows            *quantize.Rows
	want            []string // the right classes
	weights         int      // of the network
	receipts        []string
	labels          []string
	busy            time.Duration // of a request, while proofs are made; median
	registryAddress string        // of the broker
	registry        string        // its address, once the agent is to use it
	accuracy        float64       // of the integer reference on the same rows
	fed             *deployment   // of the federated round
	proofMemory     int           // of a prover, in MiB
}

func newProofDemo(opt options, models string) *proofDemo {
	return &proofDemo{demo: *newDemo(opt), models: models, proofMemory: 512}
}

func (d *proofDemo) run(ctx context.Context) (err error) {
	fmt.Println("Anchorhold proof demo: answers at once, proofs of them later.")
	fmt.Println("THE SOFTWARE TEE STANDS IN FOR THE HARDWARE HERE: these binaries prove nothing about where they run.")
	if d.dir, err = os.MkdirTemp("", "anchorhold-proof-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	defer func() {
		if d.fed != nil {
			err = errors.Join(err, d.fed.cleanUp())
		}
	}()
	return runSteps(ctx, d.began, []step{
		{"data of scikit-learn's digits", d.findDigits},
		{"development identities", d.makeIdentities},
		{"broker with a registry of proofs", d.startRegistry},
		{"classifier 64-32-10 quantized to INT8 and sealed", d.sealDigits},
		{"model key stored at the broker", d.storeKey},
		{"reference values and policy imported", d.importPolicy},
		{"circuit and keys for the architecture (a development setup)", d.setUpKeys},
		{"keys for a second classifier, 30-16-2, by a ceremony of three parties", d.holdCeremony},
		{"agent attested, classifier served", d.startProver},
		{fmt.Sprintf("%d requests, each with a receipt at once", proofRequests), d.ask},
		{"proofs of all of them, made in the background", d.awaitProofs},
		{"every proof verified with its receipt", d.verifyProofs},
		{"REFUSAL 1: a tampered answer", d.refuseTampered},
		{"the broker's registry: keys, and an audit that chooses answers after they were given", d.challenge},
		{"an answer of the second classifier, proven with the ceremony's keys", d.proveWithCeremony},
		{"REFUSAL 2: keys from a development setup, where they are not allowed", d.refuseDevelopment},
		{"audit log verified", d.verifyAudit},
		{"a federation whose rounds accept only proven updates", d.federate},
		{"REFUSAL 3: an update above the norm bound", d.refuseOverNorm},
		{"REFUSAL 4: an update whose answers cannot be proven, and its bytes sent by somebody else", d.refuseUnproven},
		{"one round: answers, proofs and proven updates, each in one call", d.admitProven},
	})
}

func (d *proofDemo) model(name string) string { return filepath.Join(d.models, name) }

// network reads a classifier's ONNX file, and counts its weights.
func (d *proofDemo) network(name string) (*layers.Network, error) {
	m, err := onnx.ParseFile(d.model(name + ".onnx"))
	if err != nil {
		return nil, err
	}
	network, err := layers.FromONNX(m)
	if err != nil {
		return nil, err
	}
	for _, l := range network.Layers {
		d.weights += len(l.Weights)
	}
	return network, nil
}

func (d *proofDemo) findDigits(context.Context) (string, error) {
	var err error
	if d.rows, err = quantize.ReadRows(d.model("digits.test.npy")); err != nil {
		return "", err
	}
	if d.rows.Len() < proofRequests {
		return "", fmt.Errorf("only %d rows", d.rows.Len())
	}
	network, err := d.network("digits")
	if err != nil {
		return "", err
	}
	answers, err := quantize.ReadAnswers(d.model("digits.answers.npy"), network)
	if err != nil {
		return "", err
	}
	var test, labels strings.Builder
	for i := range proofRequests {
		cells := make([]string, d.rows.Width)
		for k, v := range d.rows.Row(i) {
			cells[k] = fmt.Sprint(v)
		}
		fmt.Fprintln(&test, strings.Join(cells, ","))
		d.want = append(d.want, fmt.Sprint(answers[i]))
		fmt.Fprintln(&labels, d.want[i])
	}
	return fmt.Sprintf("%d rows of 64 values that the model has not seen; the first %d are asked", d.rows.Len(), proofRequests),
		errors.Join(os.WriteFile(d.path("test.csv"), []byte(test.String()), 0o600), os.WriteFile(d.path("test.labels"), []byte(labels.String()), 0o600))
}

func (d *proofDemo) sealDigits(ctx context.Context) (string, error) {
	return d.sealClassifier(ctx, "digits", d.path("test.csv"), d.path("test.labels"))
}

// sealClassifier quantizes and seals a classifier; its accuracy is that of test rows with their answers.
func (d *proofDemo) sealClassifier(ctx context.Context, name, test, answers string) (string, error) {
	out, err := d.tool(ctx, "seal", d.model(name+".onnx"), "--calibration", d.model(name+".calibration.npy"), "--test", test, "--answers", answers,
		"--out", d.path("model.ahm"), "--key", d.path("model.key"), "--publisher", d.path("publisher.key"), "--credential-file", d.path("publisher.credential"),
		"--name", name, "--model-version", "1", "--json")
	if err != nil {
		return "", err
	}
	var sealed struct {
		ModelID      string  `json:"model_id"`
		Bytes        float64 `json:"bytes"`
		Quantization struct {
			Rows    int     `json:"rows"`
			Float   float64 `json:"float_accuracy"`
			Integer float64 `json:"integer_accuracy"`
		} `json:"quantization"`
	}
	if err := json.Unmarshal(out, &sealed); err != nil {
		return "", err
	}
	d.modelID = sealed.ModelID
	q := sealed.Quantization
	d.accuracy = q.Integer
	return fmt.Sprintf("%.0f bytes; of %d rows %.1f %% right as INT8, %.1f %% in floating point", sealed.Bytes, q.Rows, 100*q.Integer, 100*q.Float), nil
}

func (d *proofDemo) setUpKeys(ctx context.Context) (string, error) {
	out, err := d.tool(ctx, "proof", "setup", d.path("model.ahm"), "--key", d.path("model.key"), "--publisher", d.path("publisher.key.pub"), "--out", d.path("keys"), "--json")
	if err != nil {
		return "", err
	}
	var set struct {
		Circuit     string `json:"circuit"`
		Constraints int    `json:"constraints"`
	}
	if err := json.Unmarshal(out, &set); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d constraints for %d weights, circuit %.16s...\nweights are not part of it: one set of keys serves every version", set.Constraints, d.weights, set.Circuit), nil
}

// proverConfig is the agent's configuration.
func (d *proofDemo) proverConfig(name, model, resource, file, keys, mode string, development bool) (string, error) {
	state, err := d.guestState(name)
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf(`compute:
  tee: {provider: software, attestation_ttl_seconds: 300, memory_limit_mb: 96}
verification:
  zkp: {scheme: zkSNARK, prover_mode: async, worker_pool_size: 1, verification_timeout_ms: 1000}
broker: {address: %q, tls_roots: %s, root_keys: [%s], minimum_epoch: 1}
guest: {image_id: demo-image, state_dir: %s, software_measurement: %q}
classifiers:
  - {name: %s, path: %s, resource: %s, publisher: %s, minimum_version: 1}
proofs: {keys: %s, mode: %s, registry: %q, allow_development_setup: %t, memory_mb: %d}
workers: {path: %s}
socket: {path: %s}
log: {level: info, format: text}
`, d.brokerAddress, d.path("broker", "tls.crt"), d.path("root.key.pub"), state, goodMeasurement,
		model, d.path(file), resource, d.path("publisher.key.pub"), d.path(keys), mode, d.registry, development, d.proofMemory, filepath.Join(absolute(d.opt.bin), "anchorhold-worker"), d.path(name+".sock"))
	path := d.path(name + ".yaml")
	return path, os.WriteFile(path, []byte(config), 0o600)
}

// serveClassifier starts the agent and waits until it serves the sealed classifier.
func (d *proofDemo) serveClassifier(ctx context.Context, name, mode string) error {
	config, err := d.proverConfig("agent", name, "models/demo", "model.ahm", "keys", mode, true)
	if err != nil {
		return err
	}
	if d.agent, err = start(d.dir, "agent", nil, filepath.Join(d.opt.bin, "anchorhold-agent"), "run", "--config", config); err != nil {
		return err
	}
	return d.agent.waitFor(ctx, "served classifier", 40*time.Second, func() bool {
		s, err := d.status(ctx, "agent")
		return err == nil && s.Agent.State == "serving"
	})
}

func (d *proofDemo) startProver(ctx context.Context) (string, error) {
	if err := d.serveClassifier(ctx, "digits", "all"); err != nil {
		return "", err
	}
	var meta struct {
		Parameters struct {
			ModelID string `json:"model_id"`
		} `json:"parameters"`
	}
	if err := d.call(ctx, http.MethodGet, "/v2/models/digits", nil, &meta); err != nil {
		return "", err
	}
	return "Open Inference Protocol v2 on the socket; model id " + meta.Parameters.ModelID, nil
}

// call talks to the agent's socket.
func (d *proofDemo) call(ctx context.Context, method, path string, body, into any) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.path("agent.sock"))
	}}}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// inferred is what the demo reads of an answer.
type inferred struct {
	Parameters struct {
		Receipts []string `json:"receipts"`
	} `json:"parameters"`
	Outputs []struct {
		Name string            `json:"name"`
		Data []json.RawMessage `json:"data"`
	} `json:"outputs"`
}

// inferRow asks the digits classifier about one row.
func (d *proofDemo) inferRow(ctx context.Context, i int) (label, receipt string, took time.Duration, err error) {
	return d.infer(ctx, "digits", d.rows.Row(i))
}

// infer asks a classifier about one row and returns the label, the receipt's id, and the time.
func (d *proofDemo) infer(ctx context.Context, model string, row []float64) (label, receipt string, took time.Duration, err error) {
	var a inferred
	began := time.Now()
	err = d.call(ctx, http.MethodPost, "/v2/models/"+model+"/infer", map[string]any{"inputs": []any{map[string]any{
		"name": "input", "datatype": "FP64", "shape": []int{1, len(row)}, "data": row}}}, &a)
	took = time.Since(began)
	if err != nil {
		return "", "", 0, err
	}
	for _, out := range a.Outputs {
		if out.Name == "label" && len(out.Data) == 1 {
			err = json.Unmarshal(out.Data[0], &label)
		}
	}
	if err == nil && (len(a.Parameters.Receipts) != 1 || label == "") {
		err = errors.New("an answer without label or receipt")
	}
	if err != nil {
		return "", "", 0, err
	}
	return label, a.Parameters.Receipts[0], took, nil
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

func (d *proofDemo) ask(ctx context.Context) (string, error) {
	var times []time.Duration
	right := 0
	for i := range proofRequests {
		label, receipt, took, err := d.inferRow(ctx, i)
		if err != nil {
			return "", err
		}
		d.labels, d.receipts, times = append(d.labels, label), append(d.receipts, receipt), append(times, took)
		if label == d.want[i] {
			right++
		}
	}
	d.busy = median(times)
	if accuracy := float64(right) / proofRequests; accuracy != d.accuracy {
		return "", fmt.Errorf("%.3f of the served answers are right, of the integer reference's %.3f", accuracy, d.accuracy)
	}
	one, err := d.tool(ctx, "receipt", "get", d.receipts[0], "--agent", d.path("agent.sock"))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(d.path("one.receipt.json"), one, 0o600); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "receipt", "verify", d.path("one.receipt.json"), "--root", d.path("root.key.pub"), "--accept-software-tee", "--model-id", d.modelID); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d right, exactly as many as of the integer reference; median %.2f ms a request, with proving under way", right, proofRequests, float64(d.busy.Microseconds())/1000), nil
}

func (d *proofDemo) awaitProofs(ctx context.Context) (string, error) {
	began := time.Now()
	var took time.Duration
	for i, id := range d.receipts {
		file := d.path(fmt.Sprintf("%d.proof.json", i))
		err := d.agent.waitFor(ctx, "proof "+id, 5*time.Minute, func() bool {
			var proof json.RawMessage
			return d.call(ctx, http.MethodGet, "/v1/proofs/"+id, nil, &proof) == nil
		})
		if err != nil {
			return "", err
		}
		if i == len(d.receipts)-1 {
			took = time.Since(began)
		}
		if _, err := d.tool(ctx, "proof", "show", id, "--out", file, "--agent", d.path("agent.sock")); err != nil {
			return "", err
		}
	}
	var quiet []time.Duration
	for i := range proofRequests / 4 {
		// Answers of the same rows; their proofs begin after this.
		_, _, t, err := d.inferRow(ctx, i)
		if err != nil {
			return "", err
		}
		quiet = append(quiet, t)
	}
	return fmt.Sprintf("%d proofs of 196 bytes, the last %.1f s after the last answer, one worker; a request alone takes %.2f ms", proofRequests, took.Seconds(), float64(median(quiet).Microseconds())/1000), nil
}

func (d *proofDemo) proofFiles() (files []string) {
	for i := range proofRequests {
		files = append(files, d.path(fmt.Sprintf("%d.proof.json", i)))
	}
	return files
}

// verifier runs the verifier that needs neither agent nor broker, and counts what it verified.
func (d *proofDemo) verifier(ctx context.Context, files ...string) (verified int, refusal string, err error) {
	out, err := command(ctx, filepath.Join(d.opt.bin, "anchorhold-verify"), append([]string{"--vk", d.path("keys"), "--allow-development", "--json"}, files...)...)
	var said struct {
		Proofs []struct {
			Verified bool   `json:"verified"`
			Reason   string `json:"reason"`
		} `json:"proofs"`
	}
	if failed := json.Unmarshal(out, &said); failed != nil || len(said.Proofs) != len(files) {
		return 0, "", fmt.Errorf("%d answers for %d files: %w", len(said.Proofs), len(files), errors.Join(err, failed))
	}
	for _, v := range said.Proofs {
		if v.Verified {
			verified++
		} else {
			refusal = v.Reason
		}
	}
	if (err == nil) != (verified == len(files)) {
		return 0, "", fmt.Errorf("%d of %d verified, but the exit status says otherwise: %w", verified, len(files), err)
	}
	return verified, refusal, nil
}

func (d *proofDemo) verifyProofs(ctx context.Context) (string, error) {
	out, err := d.tool(ctx, append([]string{"proof", "verify", "--keys", d.path("keys"), "--root", d.path("root.key.pub"), "--accept-software-tee", "--allow-development", "--json"}, d.proofFiles()...)...)
	if err != nil {
		return "", err
	}
	var said struct {
		Proofs []struct {
			Verified *struct {
				Model   string `json:"model"`
				ModelID string `json:"model_id"`
				Time    string `json:"time"`
				Guest   struct {
					Image    string `json:"image_id"`
					Evidence string `json:"evidence"`
				} `json:"guest"`
			} `json:"verified"`
		} `json:"proofs"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return "", err
	}
	views := said.Proofs
	if len(views) != proofRequests {
		return "", fmt.Errorf("%d of %d proofs were verified", len(views), proofRequests)
	}
	alone, _, err := d.verifier(ctx, d.proofFiles()...)
	if err != nil {
		return "", err
	}
	if alone != proofRequests {
		return "", fmt.Errorf("the stand-alone verifier accepted %d of %d", alone, proofRequests)
	}
	v := views[0].Verified
	return fmt.Sprintf("%d of %d, and as many by the stand-alone verifier\nthe first: model %s (%.16s...), image %s by %s evidence, at %s", len(views), proofRequests, v.Model, v.ModelID, v.Guest.Image, v.Guest.Evidence, v.Time), nil
}

// refuseTampered changes one output of a proven answer.
func (d *proofDemo) refuseTampered(ctx context.Context) (string, error) {
	raw, err := os.ReadFile(d.path("0.proof.json"))
	if err != nil {
		return "", err
	}
	at := bytes.Index(raw, []byte(`"outputs":[`))
	if at < 0 {
		return "", errors.New("no outputs in the proof's statement")
	}
	end := at + bytes.IndexByte(raw[at:], ',')
	tampered := slices.Concat(raw[:at], []byte(`"outputs":[77777`), raw[end:])
	if err := os.WriteFile(d.path("tampered.proof.json"), tampered, 0o600); err != nil {
		return "", err
	}
	out, err := d.tool(ctx, "proof", "verify", "--keys", d.path("keys"), "--root", d.path("root.key.pub"), "--accept-software-tee", "--allow-development", d.path("tampered.proof.json"))
	if err == nil {
		return "", errors.New("the tampered answer was verified")
	}
	joined, err := refused(fmt.Errorf("%w: %s", err, out), "proof-receipt-mismatch")
	if err != nil {
		return "", err
	}
	verified, alone, err := d.verifier(ctx, d.path("tampered.proof.json"))
	if err != nil {
		return "", err
	}
	if verified != 0 || alone != "proof-invalid" {
		return "", fmt.Errorf("the stand-alone verifier: %d verified, %q", verified, alone)
	}
	return joined + "\nthe stand-alone verifier: " + alone, nil
}

// refuseDevelopment verifies without allowing keys that one party made.
func (d *proofDemo) refuseDevelopment(ctx context.Context) (string, error) {
	_, err := d.tool(ctx, "proof", "verify", "--keys", d.path("keys"), "--root", d.path("root.key.pub"), "--accept-software-tee", d.path("0.proof.json"))
	return refused(err, "keys come from a development setup")
}
