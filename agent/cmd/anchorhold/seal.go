package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newSeal(inv *invocation) *cobra.Command {
	var unlock unlockFlags
	var keyFile, publisher string
	var quantizer quantizing
	var check bool
	opt := sealer.Options{}
	c := &cobra.Command{
		Use:   "seal MODEL --out MODEL.ahm",
		Short: "Seal a model: a GGUF language model, or an ONNX classifier, which becomes INT8",
		Long: `Seals a GGUF file under a model key and signs it as its publisher. Weights,
tokenizer and chat template are all encrypted; 'anchorhold inspect' shows what
stays public. The result appears under its name only when it is complete.

An ONNX file, whose name ends in .onnx, becomes an INT8 classifier whose answers can be
proven: scikit-learn's LogisticRegression, RidgeClassifier, LinearSVC and MLPClassifier
(ReLU), alone or behind scalers, and PyTorch's dense and small convolutional networks with
ReLU. docs/classifiers.md lists what exporters write, what is accepted, and why the rest is
refused. Values outside the ranges of --calibration are clipped: seal says how many, warns
from 1 %, and refuses more than 10 % of them for --test.

A model is sealed only if agents compute it exactly as its file means it: each tensor,
key that changes the result, tokenizer, template and type is honoured, or refused by
name (model-unsupported). --check says so without a key, and writes nothing;
docs/models.md has what is made of every key. Agents look again when they open it.

Exit status:
  0  sealed; with --check: it can be served
  1  a file could not be read or written
  2  wrong command line
  3  refused: it cannot be served as it is, and each reason is named`,
		Example: `  anchorhold seal --check model.gguf
  anchorhold seal --check digits.onnx --json
  anchorhold seal model.gguf --out model.ahm --key model.key --publisher publisher.key --name demo --model-version 1
  anchorhold seal digits.onnx --calibration train.csv --test test.csv --answers test.labels --out digits.ahm --key digits.key --publisher publisher.key --name digits --model-version 1`,
		Args: exactly(1, "one GGUF or ONNX file"),
		RunE: func(c *cobra.Command, args []string) error {
			if check {
				return checkFile(c, inv, args[0])
			}
			if err := need(c, "out", "key", "publisher", "name", "model-version"); err != nil {
				return err
			}
			opt.In = args[0]
			if err := quantizer.check(c, opt.In); err != nil {
				return err
			}
			key, err := readModelKey(keyFile)
			if err != nil {
				return err
			}
			defer key.Wipe()
			u, err := unlock.open(c)
			if err != nil {
				return err
			}
			defer wipeUnlock(u)
			// Guests get the model key; with it they would open the publisher's.
			if u.Credential != nil && key.Equal(u.Credential) {
				return usageError{errors.New("--key is the credential that protects the publisher's key: every guest that serves the model would have it; make a model key (anchorhold keygen model)")}
			}
			signer, err := identity.ReadKeyFile(publisher, u)
			if err != nil {
				return err
			}
			defer signer.Wipe()
			opt.Key = key
			opt.Sign = func(root []byte) ([]byte, []byte, error) {
				sig, err := signer.Sign(chunkseal.SignContext, root)
				return signer.Public().Bytes(), sig, err
			}
			opt.Progress = progress(c.ErrOrStderr(), "sealed")
			var s sealer.Summary
			var id statement.Digest
			var quantized *quantized
			if isONNX(opt.In) {
				s, id, quantized, err = quantizer.seal(c.Context(), opt)
			} else {
				s, err = sealer.Seal(c.Context(), opt)
				id = s.Root
			}
			if _, ok := errors.AsType[*servable.Error](err); ok {
				return namedError{servable.Reason, fmt.Errorf("%w: %w", errRefused, err)}
			}
			if err != nil {
				return err
			}
			result := map[string]any{"file": opt.Out, "model_id": id, "root": hex.EncodeToString(s.Root[:]), "file_id": hex.EncodeToString(s.FileID[:]),
				"bytes": s.SealedBytes, "tensors": s.Tensors, "chunks": s.Chunks, "seconds": s.Duration.Seconds()}
			quantized.json(result)
			quantized.warn(c.ErrOrStderr())
			return inv.print(c.OutOrStdout(), result, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n  size      %.1f MB (source %.1f MB)\n  contents  %d tensors in %d chunks\n  time      %.2f s, %.0f MB/s\n",
					opt.Out, float64(s.SealedBytes)/1e6, float64(s.SourceBytes)/1e6, s.Tensors, s.Chunks, s.Duration.Seconds(), float64(s.SourceBytes)/1e6/s.Duration.Seconds())
				printQuantization(w, quantized)
				printModelID(w, id)
			})
		},
	}
	c.Flags().BoolVar(&check, "check", false, "say whether agents can serve the model, and name what stands against it; seal nothing")
	c.Flags().StringVar(&opt.Out, "out", "", "sealed file, a new one")
	c.Flags().StringVar(&keyFile, "key", "", "file with the model key (keygen model)")
	c.Flags().StringVar(&publisher, "publisher", "", "the publisher's key file (keygen publisher)")
	c.Flags().StringVar(&opt.Name, "name", "", "name of the model")
	c.Flags().Uint64Var(&opt.Version, "model-version", 0, "version of the model, from 1; grows with each release")
	c.Flags().StringSliceVar(&opt.ParameterSets, "parameter-set", nil, "name of a parameter set to record in the manifest (repeat for several)")
	quantizer.add(c)
	unlock.add(c)
	return c
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
			fmt.Fprintf(w, "\r%3d %% %s, %.0f MB/s ", percent, what, float64(done)/1e6/max(time.Since(began).Seconds(), 0.001))
			if done == total {
				fmt.Fprintln(w)
			}
		case !terminal && percent/10 != last/10 && time.Since(began) > 2*time.Second:
			fmt.Fprintf(w, "%3d %% %s\n", percent, what)
		}
		last = percent
	}
}

func newInspect(inv *invocation) *cobra.Command {
	var publisher, keyFile string
	var chunks bool
	c := &cobra.Command{
		Use:   "inspect MODEL.ahm",
		Short: "Show what a sealed file holds, without its key",
		Long: `Shows what is public in a sealed file. With --publisher its signature is
verified; with --chunks besides every chunk is compared with the signed index.

The root names the file, and is the id of a language model. The id of a classifier also
covers what is sealed in it: --key shows the id that receipts carry, of either.`,
		Example: "  anchorhold inspect model.ahm\n  anchorhold inspect model.ahm --publisher publisher.key.pub --chunks",
		Args:    exactly(1, "one sealed file"),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			p, err := chunkseal.Inspect(f, info.Size())
			if err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			checked, err := verifySealed(c, p, publisher, chunks)
			if err != nil {
				return err
			}
			signer, err := identity.ParsePublic(p.Publisher)
			if err != nil {
				return fmt.Errorf("%w: the publisher's key: %w", errRefused, err)
			}
			id := ""
			if keyFile != "" {
				if id, err = modelIDWith(args[0], keyFile); err != nil {
					return err
				}
			}
			result := map[string]any{"name": p.Name, "version": p.Version, "root": hex.EncodeToString(p.Root[:]), "model_id": id, "file_id": hex.EncodeToString(p.FileID[:]),
				"format": p.FormatVersion, "algorithm": p.Algorithm, "publisher": signer, "parameter_sets": p.ParameterSets,
				"sections": p.Sections, "chunks": p.Chunks, "plain_bytes": p.PlainBytes, "file_bytes": p.FileBytes, "verified": checked}
			return inv.print(c.OutOrStdout(), result, func(w io.Writer) {
				fmt.Fprintf(w, "name            %s\nversion         %d\nroot            %x\nmodel id        %s\nfile id         %x\nformat          %d, %s\npublisher       %s\nparameter sets  %v\ncontents        %d sections in %d chunks, %.1f MB sealed in %.1f MB\nverified        %s\n",
					p.Name, p.Version, p.Root, cmp.Or(id, "the root, unless this is a classifier: give --key"), p.FileID, p.FormatVersion, p.Algorithm, signer, p.ParameterSets, p.Sections, p.Chunks,
					float64(p.PlainBytes)/1e6, float64(p.FileBytes)/1e6, checked)
			})
		},
	}
	c.Flags().StringVar(&publisher, "publisher", "", "verify the signature of this publisher (ahpub1... or a file)")
	c.Flags().StringVar(&keyFile, "key", "", "file with the model key, to show the id that receipts carry")
	c.Flags().BoolVar(&chunks, "chunks", false, "verify every chunk against the index too")
	return c
}

// verifySealed makes the checks that were asked for and says which.
func verifySealed(c *cobra.Command, p *chunkseal.Public, publisher string, chunks bool) (string, error) {
	if publisher == "" {
		if chunks {
			return "", usageError{errors.New("--chunks needs --publisher: an index that nobody signed proves nothing")}
		}
		return "nothing: give --publisher", nil
	}
	pub, err := publicIdentity(publisher)
	if err != nil {
		return "", err
	}
	if err := p.Verify(pub); err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	if !chunks {
		return "the publisher's signature", nil
	}
	show := progress(c.ErrOrStderr(), "verified")
	if err := p.VerifyChunks(c.Context(), func(done, total int) { show(int64(done), int64(total)) }); err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	return "the publisher's signature and every chunk", nil
}

// publicIdentity reads an identity from its text form or from a file.
func publicIdentity(value string) (identity.Public, error) {
	var pub identity.Public
	if pub.UnmarshalText([]byte(value)) == nil {
		return pub, nil
	}
	return identity.ReadPublicFile(value)
}
