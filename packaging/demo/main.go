// Command demo runs private inference as a user would, with the real programs and a real language
// model: it seals the model, starts a broker and an agent under the software TEE, chats, verifies
// the receipt and the audit log, and shows three refusals. Its exit status is 0 only if every step
// did what it says.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var opt options
	flag.StringVar(&opt.bin, "bin", ".cache/demo-bin", "directory of the demo's programs (built with the tag softtee)")
	flag.StringVar(&opt.cache, "cache", "", "directory that keeps the model between runs")
	flag.StringVar(&opt.model, "model", "", "model to use: "+modelNames()+", or a GGUF file")
	flag.StringVar(&opt.question, "question", "What is the capital of France? Answer in one sentence.", "question to ask the model")
	flag.StringVar(&opt.kind, "kind", "sev-snp", "kind of guest to emulate: sev-snp, tdx, tdx-v5 (quotes of version 5), vtpm, azure or azure-tdx")
	flag.BoolVar(&opt.keep, "keep", false, "leave the broker and the agent running, and print how to talk to them")
	fetchOnly := flag.Bool("fetch", false, "only fetch the model into the cache")
	federated := flag.String("federated", "", "run the federated demo instead, with this Python (numpy and scikit-learn)")
	flower := flag.String("flower", "", "run Flower on top of federated rounds instead, with the peers of this directory")
	wheels := flag.String("wheels", "", "with -flower: directory of the Python package's wheel")
	proofs := flag.String("proofs", "", "run the demo of proofs instead, with the classifiers of this directory")
	classifier := flag.String("classifier", "", "with -proofs: serve the classifier of this name instead, compare its answers with onnxruntime's and prove one")
	beside := flag.String("beside", "", "measure inference beside proving instead, with the classifiers of this directory")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opt, *fetchOnly, *federated, *proofs, *classifier, *beside, *flower, *wheels); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, opt options, fetchOnly bool, python, classifiers, classifier, beside, flower, wheels string) error {
	if opt.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		opt.cache = dir + "/anchorhold"
	}
	if python != "" {
		return newFedDemo(opt, python).run(ctx)
	}
	if flower != "" {
		return newFlowerDemo(opt, flower, wheels).run(ctx)
	}
	if beside != "" {
		return newBesideDemo(opt, beside).run(ctx)
	}
	if classifier != "" {
		return newServedDemo(opt, classifiers, classifier).run(ctx)
	}
	if classifiers != "" {
		return newProofDemo(opt, classifiers).run(ctx)
	}
	if _, err := kindOf(opt.kind); err != nil {
		return err
	}
	if fetchOnly {
		m := modelNamed(opt.model)
		if m == nil {
			return fmt.Errorf("no model %q is fetched by name; want one of %s", opt.model, modelNames())
		}
		_, err := fetchModel(ctx, opt.cache, m)
		return err
	}
	return newDemo(opt).run(ctx)
}
