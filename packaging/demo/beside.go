package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/runtime/quantize"
)

// What is measured in each half of each round: with a proof under way, and without.
const (
	besideRounds   = 6
	besideRequests = 300
	besideTokens   = 64
	besideDecodes  = 3
)

// besideDemo measures what proving costs the answers beside it: an agent that serves a
// language model and a classifier, 784-128-10, whose answers are proven.
type besideDemo struct {
	proofDemo
	keys          string // kept between runs: their set-up takes minutes
	quiet, proven beside
}

// beside are the times of one half of all rounds.
type beside struct {
	requests, medians []time.Duration // of a classifier's request; each round's median
	decodes           []float64       // tokens a second
}

func newBesideDemo(opt options, models string) *besideDemo {
	return &besideDemo{proofDemo: proofDemo{demo: *newDemo(opt), models: models}, keys: filepath.Join(opt.cache, "beside-keys")}
}

func (d *besideDemo) run(ctx context.Context) (err error) {
	fmt.Println("Inference beside proving: the same agent, with and without a proof of 784-128-10 under way.")
	if d.dir, err = os.MkdirTemp("", "anchorhold-beside-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	d.policy = strings.Replace(demoPolicy, "max_mib: 128", "max_mib: 512", 1)
	return runSteps(ctx, d.began, []step{
		{"language model, and classifier", d.findBoth},
		{"development identities", d.makeIdentities},
		{"broker", d.startBroker},
		{"language model sealed", d.sealModel},
		{"classifier sealed", d.sealClassifier},
		{"keys stored at the broker", d.storeBoth},
		{"reference values and policy imported", d.importPolicy},
		{"circuit and keys (a development setup; takes minutes the first time)", d.findKeys},
		{"agent attested, both served", d.startBoth},
		{fmt.Sprintf("%d rounds of %d requests and %d decodes of %d tokens", besideRounds, besideRequests, besideDecodes, besideTokens), d.measure},
		{"beside a proof, against alone", d.compare},
	})
}

func (d *besideDemo) findBoth(ctx context.Context) (string, error) {
	var err error
	if d.rows, err = quantize.ReadRows(d.model("mnist-plain.test.npy")); err != nil {
		return "", err
	}
	return d.findModel(ctx)
}

func (d *besideDemo) sealClassifier(ctx context.Context) (string, error) {
	_, err := d.tool(ctx, "seal", d.model("mnist-plain.onnx"), "--calibration", d.model("mnist-plain.calibration.npy"), "--out", d.path("mnist.ahm"), "--key", d.path("model.key"),
		"--publisher", d.path("publisher.key"), "--credential-file", d.path("publisher.credential"), "--name", "mnist", "--model-version", "1", "--json")
	return "101,632 weights", err
}

func (d *besideDemo) storeBoth(ctx context.Context) (string, error) {
	if _, err := d.tool(ctx, "secret", "put", "models/mnist", "--file", d.path("model.key"), "--model", d.path("mnist.ahm"), "--broker", d.path("operator.sock")); err != nil {
		return "", err
	}
	return d.storeKey(ctx)
}

func (d *besideDemo) findKeys(ctx context.Context) (string, error) {
	if records, err := filepath.Glob(filepath.Join(d.keys, "*.record.json")); err == nil && len(records) > 0 {
		return "from an earlier run; remove " + d.keys + " if they no longer fit", nil
	}
	_, err := d.tool(ctx, "proof", "setup", d.path("mnist.ahm"), "--key", d.path("model.key"), "--publisher", d.path("publisher.key.pub"), "--out", d.keys, "--json")
	return "kept in " + d.keys, err
}

func (d *besideDemo) startBoth(ctx context.Context) (string, error) {
	config, err := d.agentConfig("agent", d.path("model.ahm"), goodMeasurement, 256)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(f, `classifiers:
  - {name: mnist, path: %s, resource: models/mnist, publisher: %s, minimum_version: 1}
proofs: {keys: %s, mode: on-demand, allow_development_setup: true}
workers: {path: %s}
`, d.path("mnist.ahm"), d.path("publisher.key.pub"), d.keys, filepath.Join(absolute(d.opt.bin), "anchorhold-worker"))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if d.agent, err = start(d.dir, "agent", nil, filepath.Join(d.opt.bin, "anchorhold-agent"), "run", "--config", config); err != nil {
		return "", err
	}
	return "", d.agent.waitFor(ctx, "served models", time.Minute, func() bool {
		s, err := d.status(ctx, "agent")
		return err == nil && s.Agent.State == "serving"
	})
}

// besideJob is what is read of a job that proves.
type besideJob struct {
	Job      string `json:"job"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Detail   string `json:"detail"`
	Progress *struct {
		Phase string `json:"phase"`
	} `json:"progress"`
}

func (d *besideDemo) show(ctx context.Context, id string) (j besideJob, err error) {
	if err = d.call(ctx, http.MethodGet, "/v1/jobs/"+id, nil, &j); err == nil && j.State == "dead" {
		err = fmt.Errorf("the proof failed: %s (%s)", j.Detail, j.Reason)
	}
	return j, err
}

// prove has one answer proven and returns when the multiplications have begun.
func (d *besideDemo) prove(ctx context.Context) (besideJob, error) {
	_, receipt, _, err := d.infer(ctx, "mnist", d.rows.Row(0))
	if err != nil {
		return besideJob{}, err
	}
	var j besideJob
	if err := d.call(ctx, http.MethodPost, "/v1/proofs/"+receipt, nil, &j); err != nil {
		return j, err
	}
	var failed error
	err = d.agent.waitFor(ctx, "proof", time.Minute, func() bool {
		j, failed = d.show(ctx, j.Job)
		return failed != nil || j.State == "done" || j.Progress != nil && j.Progress.Phase == "prove"
	})
	return j, errors.Join(err, failed)
}

func (d *besideDemo) measure(ctx context.Context) (string, error) {
	if err := d.half(ctx, &beside{}, func() (bool, error) { return true, nil }); err != nil { // warm
		return "", err
	}
	var proofs int
	for range besideRounds {
		if err := d.half(ctx, &d.quiet, func() (bool, error) { return true, nil }); err != nil {
			return "", err
		}
		j, err := d.prove(ctx)
		if err != nil {
			return "", err
		}
		proofs++
		err = d.half(ctx, &d.proven, func() (bool, error) {
			now, err := d.show(ctx, j.Job)
			if err != nil || now.State != "done" {
				return err == nil, err
			}
			j, err = d.prove(ctx) // the next one: what was measured meanwhile does not count
			proofs++
			return false, err
		})
		if err != nil {
			return "", err
		}
		if err := d.call(ctx, http.MethodDelete, "/v1/jobs/"+j.Job, nil, &struct{}{}); err != nil && !strings.Contains(err.Error(), "job-state") {
			return "", err
		}
		if err := d.agent.waitFor(ctx, "end of the worker", 30*time.Second, func() bool {
			now, err := d.show(ctx, j.Job)
			return err == nil && now.State != "leased"
		}); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d proofs were begun", proofs), nil
}

// half measures requests, then decodes. A sample counts if going says so after it.
func (d *besideDemo) half(ctx context.Context, into *beside, going func() (bool, error)) error {
	var round []time.Duration
	const batch = 25
	for len(round) < besideRequests {
		var times []time.Duration
		for i := range batch {
			_, _, took, err := d.infer(ctx, "mnist", d.rows.Row((len(round)+i)%d.rows.Len()))
			if err != nil {
				return err
			}
			times = append(times, took)
		}
		ok, err := going()
		if err != nil {
			return err
		}
		if ok {
			round = append(round, times...)
		}
	}
	into.requests = append(into.requests, round...)
	into.medians = append(into.medians, median(slices.Clone(round)))
	for n := 0; n < besideDecodes; {
		speed, err := d.decode(ctx)
		if err != nil {
			return err
		}
		ok, err := going()
		if err != nil {
			return err
		}
		if ok {
			into.decodes = append(into.decodes, speed)
			n++
		}
	}
	return nil
}

// decode returns the tokens a second of a whole request for a fixed number of tokens.
func (d *besideDemo) decode(ctx context.Context) (float64, error) {
	var a struct {
		Usage struct {
			Completion int `json:"completion_tokens"`
		} `json:"usage"`
	}
	began := time.Now()
	if err := d.call(ctx, http.MethodPost, "/v1/completions", map[string]any{"model": "demo", "prompt": "Once upon a time", "max_tokens": besideTokens, "temperature": 0}, &a); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if a.Usage.Completion != besideTokens {
		return 0, fmt.Errorf("%d tokens, want %d", a.Usage.Completion, besideTokens)
	}
	return besideTokens / took.Seconds(), nil
}

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

func (d *besideDemo) compare(context.Context) (string, error) {
	at := func(list []time.Duration, part float64) float64 {
		list = slices.Sorted(slices.Values(list))
		return float64(list[int(part*float64(len(list)-1))].Microseconds()) / 1000
	}
	var ratios []float64
	for i := range d.quiet.medians {
		ratios = append(ratios, float64(d.proven.medians[i])/float64(d.quiet.medians[i]))
	}
	q, p := d.quiet, d.proven
	request, decode := middle(ratios), middle(p.decodes)/middle(q.decodes)
	note, err := json.Marshal(map[string]any{
		"request_ms":    map[string]float64{"alone": at(q.requests, .5), "beside": at(p.requests, .5), "alone_99": at(q.requests, .99), "beside_99": at(p.requests, .99)},
		"decode_per_s":  map[string]float64{"alone": middle(q.decodes), "beside": middle(p.decodes)},
		"request_ratio": request, "decode_ratio": decode})
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("a classifier's request: %.2f ms alone, %.2f beside (ratio of the rounds' medians %.2f; 99 of 100 in %.2f and %.2f ms)\ndecoding: %.1f tokens/s alone, %.1f beside (%.2f)\n%s",
		at(q.requests, .5), at(p.requests, .5), request, at(q.requests, .99), at(p.requests, .99), middle(q.decodes), middle(p.decodes), decode, note)
	if request > 1.1 || decode < 0.9 {
		return "", fmt.Errorf("more than 10 %% slower:\n%s", text)
	}
	return text, nil
}
