package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/runtime/quantize"
)

const (
	// servedRequests is how many test rows are asked at most.
	servedRequests = 300
	// servedAgreement is the share of answers that must be the ONNX file's: INT8 is not the file.
	servedAgreement = 0.95
)

// servedDemo serves one classifier of a directory that holds what packaging/classifiers writes,
// compares its answers with onnxruntime's, and proves one.
type servedDemo struct {
	proofDemo
	name string
}

func newServedDemo(opt options, models, name string) *servedDemo {
	return &servedDemo{proofDemo: *newProofDemo(opt, models), name: name}
}

func (d *servedDemo) run(ctx context.Context) (err error) {
	fmt.Printf("Anchorhold: the classifier %s, from its ONNX file to a proof.\n", d.name)
	fmt.Println("THE SOFTWARE TEE STANDS IN FOR THE HARDWARE HERE: these binaries prove nothing about where they run.")
	if d.dir, err = os.MkdirTemp("", "anchorhold-served-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	return runSteps(ctx, d.began, []step{
		{"ONNX file, and onnxruntime's answers for the test rows", d.readData},
		{"development identities", d.makeIdentities},
		{"broker", d.startBroker},
		{"classifier quantized to INT8 and sealed", d.seal},
		{"model key stored at the broker", d.storeKey},
		{"reference values and policy imported", d.importPolicy},
		{"circuit and keys for the architecture (a development setup)", d.setUpKeys},
		{"agent attested, classifier served", d.serve},
		{"answers compared with onnxruntime's", d.compare},
		{"one answer proven and verified", d.prove},
	})
}

// part is a file of the classifier.
func (d *servedDemo) part(name string) string { return d.model(d.name + name) }

func (d *servedDemo) readData(context.Context) (string, error) {
	network, err := d.network(d.name)
	if err != nil {
		return "", err
	}
	if d.rows, err = quantize.ReadRows(d.part(".test.npy")); err != nil {
		return "", err
	}
	answers, err := quantize.ReadAnswers(d.part(".predicted.npy"), network)
	if err != nil {
		return "", err
	}
	if len(answers) != d.rows.Len() {
		return "", fmt.Errorf("%d answers for %d rows", len(answers), d.rows.Len())
	}
	for _, class := range answers[:min(len(answers), servedRequests)] {
		label := fmt.Sprint(class)
		if network.Labels != nil {
			label = network.Labels[class]
		}
		d.want = append(d.want, label)
	}
	return fmt.Sprintf("%d layers, %d weights; %d rows of %d values are asked", len(network.Layers), d.weights, len(d.want), d.rows.Width), nil
}

func (d *servedDemo) seal(ctx context.Context) (string, error) {
	return d.sealClassifier(ctx, d.name, d.part(".test.npy"), d.part(".answers.npy"))
}

func (d *servedDemo) serve(ctx context.Context) (string, error) {
	d.proofMemory = 1024 // LeNet-5's proof takes 700 MB
	return "", d.serveClassifier(ctx, d.name, "on-demand")
}

func (d *servedDemo) compare(ctx context.Context) (string, error) {
	var times []time.Duration
	same := 0
	for i, want := range d.want {
		label, receipt, took, err := d.infer(ctx, d.name, d.rows.Row(i))
		if err != nil {
			return "", fmt.Errorf("row %d: %w", i, err)
		}
		d.receipts, times = append(d.receipts, receipt), append(times, took)
		if label == want {
			same++
		}
	}
	if share := float64(same) / float64(len(d.want)); share < servedAgreement {
		return "", fmt.Errorf("%d of %d answers are the file's, want a share of %g", same, len(d.want), servedAgreement)
	}
	return fmt.Sprintf("%d of %d are the file's; median %.2f ms a request", same, len(d.want), float64(median(times).Microseconds())/1000), nil
}

func (d *servedDemo) prove(ctx context.Context) (string, error) {
	id, file := d.receipts[0], d.path("0.proof.json")
	began := time.Now()
	if _, err := d.tool(ctx, "proof", "make", id, "--wait", "--agent", d.path("agent.sock")); err != nil {
		return "", err
	}
	took := time.Since(began)
	if _, err := d.tool(ctx, "proof", "show", id, "--out", file, "--agent", d.path("agent.sock")); err != nil {
		return "", err
	}
	if _, err := d.tool(ctx, "proof", "verify", "--keys", d.path("keys"), "--root", d.path("root.key.pub"), "--accept-software-tee", "--allow-development", file); err != nil {
		return "", err
	}
	if verified, refusal, err := d.verifier(ctx, file); err != nil || verified != 1 {
		return "", errors.Join(fmt.Errorf("the stand-alone verifier: %s", refusal), err)
	}
	return fmt.Sprintf("%.1f s; verified with its receipt, and by the stand-alone verifier", took.Seconds()), nil
}
