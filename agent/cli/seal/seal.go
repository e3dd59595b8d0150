// Package seal has the commands of a publisher: seal a model, and inspect a sealed one.
package seal

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/convert"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/keygen"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// The words of "seal".
const (
	sealUse   = "seal MODEL --out MODEL.ahm"
	sealShort = "Seal a model: a GGUF language model, or an ONNX classifier, which becomes INT8"
	sealLong  = `Seals a GGUF file under a model key and signs it as its publisher. Weights, tokenizer
and chat template are all encrypted; 'anchorhold inspect' shows what stays public. The
result appears under its name only when it is complete.

An ONNX file, whose name ends in .onnx, becomes an INT8 classifier whose answers can be
proven: scikit-learn's LogisticRegression, RidgeClassifier, LinearSVC and MLPClassifier
(ReLU), alone or behind scalers, and PyTorch's dense and small convolutional networks
with ReLU. docs/classifiers.md lists what exporters write, what is accepted, and why the
rest is refused. Values outside the ranges of --calibration are clipped: seal reports
how many, warns from 1 %, and refuses if more than 10 % of the values for --test are.

A model is sealed only if agents compute it exactly as its file specifies: every tensor,
every key that changes the result, tokenizer, template and type is either honoured or
refused by name (model-unsupported). --check reports this without a key and writes
nothing; docs/models.md explains how every key is treated. Agents check again when they
open the model.

Exit status:
  0  sealed; with --check: it can be served
  1  a file could not be read or written
  2  wrong command line
  3  refused: it cannot be served as it is; every reason is named`
	sealExample = `  anchorhold seal --check model.gguf
  anchorhold seal --check digits.onnx --json
  anchorhold seal model.gguf --out model.ahm --key model.key --publisher publisher.key --name demo --model-version 1
  anchorhold seal digits.onnx --calibration train.csv --test test.csv --answers test.labels --out digits.ahm --key digits.key --publisher publisher.key --name digits --model-version 1`
	sealNeeds               = "one GGUF or ONNX file"
	sealParameterSetUnknown = "--parameter-set: %w (anchorhold params list shows them)"
	sealKeyIsCredential     = "--key is the credential that protects the publisher's key, and every guest that serves the model would receive it; make a model key (anchorhold keygen model)"
	sealResult              = "%s\n  size      %s (source %s)\n  contents  %d tensors in %d chunks\n  time      %.2f s, %.0f MB/s\n"
	sealFlagCheck           = "report whether agents can serve the model and what prevents it; seal nothing"
	sealFlagOut             = "new file for the sealed model"
	sealFlagKey             = "file with the model key (keygen model)"
	sealFlagPublisher       = "the publisher's key file (keygen publisher)"
	sealFlagName            = "name of the model"
	sealFlagModelVersion    = "version of the model, from 1; grows with each release"
	sealFlagParameterSet    = "parameter set to record in the manifest, from anchorhold params list (repeat for several)"
)

// The words of what "seal" shows of a model, and while it works.
const (
	sealModelID      = "  model id  %s\n            the broker must know it with the key: anchorhold secret put NAME --file KEY --model-id ID\n"
	progressTerminal = "\r%3d %% %s, %.0f MB/s "
)

// printModelID shows an id, and what it is needed for.
func printModelID(w io.Writer, id digest.Digest) {
	fmt.Fprintf(w, sealModelID, id)
}

// sealOptions are the flags of "seal".
type sealOptions struct {
	unlock    keyfile.Unlock
	keyFile   string // --key
	publisher string // --publisher
	quantizer convert.Options
	check     bool // --check
	opt       sealer.Options
}

// New are the commands of a publisher: those of this package, and keygen.
func New(inv *cli.Invocation) []*cobra.Command {
	return []*cobra.Command{keygen.New(inv), newSeal(inv), newInspect(inv)}
}

// newSeal is the command "seal".
func newSeal(inv *cli.Invocation) *cobra.Command {
	var o sealOptions
	c := &cobra.Command{
		Use:     sealUse,
		Short:   sealShort,
		Long:    sealLong,
		Example: sealExample,
		Args:    cli.Exactly(1, sealNeeds),
		RunE: func(c *cobra.Command, args []string) error {
			if o.check {
				if err := checkAlone(c); err != nil {
					return err
				}
				return inv.RunE(checkFile)(c, args)
			}
			if err := cli.Need(c, "out", "key", "publisher", "name", "model-version"); err != nil {
				return err
			}
			if err := o.quantizer.Check(c, args[0]); err != nil {
				return err
			}
			return inv.RunE(o.run)(c, args)
		},
	}
	c.Flags().BoolVar(&o.check, "check", false, sealFlagCheck)
	c.Flags().StringVar(&o.opt.Out, "out", "", sealFlagOut)
	c.Flags().StringVar(&o.keyFile, "key", "", sealFlagKey)
	c.Flags().StringVar(&o.publisher, "publisher", "", sealFlagPublisher)
	c.Flags().StringVar(&o.opt.Name, "name", "", sealFlagName)
	c.Flags().Uint64Var(&o.opt.Version, "model-version", 0, sealFlagModelVersion)
	c.Flags().StringSliceVar(&o.opt.ParameterSets, "parameter-set", nil, sealFlagParameterSet)
	o.quantizer.Add(c)
	o.unlock.Add(c)
	return c
}

func (o *sealOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	for _, name := range o.opt.ParameterSets { // before anything is read or converted
		if _, err := params.Lookup(name); err != nil {
			return cli.Usage(fmt.Errorf(sealParameterSetUnknown, err))
		}
	}
	o.opt.In = args[0]
	key, err := keyfile.ReadModelKey(o.keyFile)
	if err != nil {
		return err
	}
	defer key.Wipe()
	u, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	// Guests get the model key; with it they would open the publisher's.
	if u.Credential != nil && key.Equal(u.Credential) {
		return cli.Usage(errors.New(sealKeyIsCredential))
	}
	signer, err := idfile.Read(o.publisher, u)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	o.opt.Key = key
	o.opt.Sign = func(root []byte) ([]byte, []byte, error) {
		sig, err := signer.Sign(chunkseal.SignContext, root)
		return signer.Public().Bytes(), sig, err
	}
	o.opt.Progress = progress(inv.Err, "sealed")
	var s sealer.Summary
	var id digest.Digest
	var quantized *convert.Classifier
	if convert.IsONNX(o.opt.In) {
		s, id, quantized, err = o.quantizer.Seal(ctx, o.opt)
	} else {
		s, err = sealer.Seal(ctx, o.opt)
		id = s.Root
	}
	if _, ok := errors.AsType[*servable.Error](err); ok {
		return cli.Named(servable.Reason, fmt.Errorf("%w: %w", cli.ErrRefused, err))
	}
	if err != nil {
		return err
	}
	result := map[string]any{"file": o.opt.Out, "model_id": id, "root": hex.EncodeToString(s.Root[:]), "file_id": hex.EncodeToString(s.FileID[:]),
		"bytes": s.SealedBytes, "tensors": s.Tensors, "chunks": s.Chunks, "seconds": s.Duration.Seconds()}
	quantized.Json(result)
	quantized.Warn(inv.Err)
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, sealResult,
			o.opt.Out, size(s.SealedBytes), size(s.SourceBytes), s.Tensors, s.Chunks, s.Duration.Seconds(), float64(s.SourceBytes)/1e6/s.Duration.Seconds())
		convert.Print(w, quantized)
		printModelID(w, id)
	})
}

// size is a file's size: classifiers have a few kB.
func size(bytes int64) string {
	if bytes < 1e6 {
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// progress shows a percentage on a terminal, and a line each 10 % elsewhere.
func progress(w io.Writer, what string) func(done, total int64) {
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	began, last := time.Now(), int64(-1)
	return func(done, total int64) {
		percent := int64(100)
		if total > 0 {
			percent = done * 100 / total
		}
		switch {
		case terminal && percent != last:
			fmt.Fprintf(w, progressTerminal, percent, what, float64(done)/1e6/max(time.Since(began).Seconds(), 0.001))
			if done == total {
				fmt.Fprintln(w)
			}
		case !terminal && percent/10 != last/10 && time.Since(began) > 2*time.Second:
			fmt.Fprintf(w, "%3d %% %s\n", percent, what)
		}
		last = percent
	}
}
