package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Exit codes, stable for scripts, as those of anchorhold.
const (
	ExitVerified = 0 // every proof holds
	ExitFailed   = 1 // a file cannot be read
	ExitUsage    = 2 // the command line is wrong
	ExitRefused  = 3 // at least one proof does not hold
)

// Command is one run of the stand-alone verifier.
type Command struct {
	keyset.Waivers
	// Model is the model that statements must be of; nil is any.
	Model   *digest.Digest
	Keys    []string // verifying keys' files, or directories of keys and records
	Records []string // records' files
	Files   []string // of envelopes
	Timeout time.Duration
	JSON    bool
}

func (c *Command) check() error {
	switch {
	case len(c.Files) == 0:
		return errors.New("name at least one file")
	case len(c.Files) > groth16verify.MaxBatch:
		return fmt.Errorf("%d files, the limit is %d", len(c.Files), groth16verify.MaxBatch)
	case len(c.Keys) == 0:
		return errors.New("--vk is required: the verifying key, or a directory of keys")
	case c.Timeout <= 0:
		return errors.New("--timeout must be above zero")
	}
	return nil
}

// Run verifies the files, prints what it found, and returns the exit code. The error, if
// any, is for people; its exit code is ExitFailed, or ExitUsage.
func (c *Command) Run(ctx context.Context, out io.Writer) (int, error) {
	if err := c.check(); err != nil {
		return ExitUsage, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	findings, err := c.run(ctx)
	if err != nil {
		return ExitFailed, err
	}
	code := ExitVerified
	for _, f := range findings {
		if !f.Verified {
			code = ExitRefused
		}
	}
	if err := c.print(out, findings, code == ExitVerified); err != nil {
		return ExitFailed, err
	}
	return code, nil
}

func (c *Command) run(ctx context.Context) ([]Finding, error) {
	keys := keyset.NewFiles(max(groth16verify.MaxKeyBytes, plonkverify.MaxKeyBytes))
	for _, path := range c.Keys {
		if err := keys.AddKeys(path); err != nil {
			return nil, err
		}
	}
	for _, path := range c.Records {
		if err := keys.AddRecord(path); err != nil {
			return nil, err
		}
	}
	inputs := make([]Input, len(c.Files))
	for i, path := range c.Files {
		raw, err := readBounded(path, MaxFileBytes)
		if err != nil {
			return nil, err
		}
		inputs[i] = Input{path, raw}
	}
	verify := checker{keys.Ring(c.Waivers, verifiers()), c.Model}
	return verify.Check(ctx, inputs)
}

func (c *Command) print(out io.Writer, findings []Finding, verified bool) error {
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"verified": verified, "proofs": findings})
	}
	for _, f := range findings {
		if err := f.print(out); err != nil {
			return err
		}
	}
	return nil
}

// print writes a finding for people. Names of files are quoted where they need it.
func (f *Finding) print(out io.Writer) error {
	if !f.Verified {
		_, err := fmt.Fprintf(out, "%s: REFUSED: %s\n", name(f.Name), f.Detail)
		return err
	}
	var err error
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format, args...)
		}
	}
	line("%s: verified, %s\n", name(f.Name), f.System)
	if f.Model != nil {
		line("  model      %s\n", f.Model)
	}
	for _, item := range f.Items {
		line("  receipt    %s\n  outputs    %d\n", item.Receipt, item.Outputs)
	}
	if g := f.Gradient; g != nil {
		line("  round      %s\n  by         %s\n  ciphertext %s\n  bounds     %d coordinates, each at most %d, squares at most %d\n",
			g.Round, g.Participant, g.Ciphertext, g.Coordinates, g.LInf, g.SquaredL2)
	}
	line("  circuit    %s\n  key        %s\n", f.Circuit, f.Key)
	if !f.Registered {
		line("  WARNING: no record says which circuit the key is for\n")
	}
	if f.Development {
		line("  WARNING: the key comes from a development setup: its maker can forge proofs\n")
	}
	if f.ReceiptIgnored {
		line("  the receipt in the file was not checked\n")
	}
	return err
}

func name(path string) string {
	if quoted := fmt.Sprintf("%q", path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}

// verifiers are those of every proof system.
func verifiers() keyset.Parsers {
	return keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey), statement.PLONK: keyset.By(plonkverify.ParseKey)}
}

func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(raw) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return raw, err
}
