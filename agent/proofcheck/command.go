package proofcheck

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/crypto/zkverify"
)

// Exit codes, stable for scripts.
const (
	ExitVerified = 0 // every proof holds
	ExitRefused  = 1 // at least one does not
	ExitUsage    = 2 // the command line is wrong, or a file cannot be read
)

// Usage is the help of the stand-alone verifier.
const Usage = `anchorhold-verify verifies proofs of inference and of gradient bounds, without an
agent, a broker, a network or a prover.

  anchorhold-verify [flags] FILE...     envelopes, binary or JSON, also with a receipt

  --vk PATH              a verifying key, or a directory of keys (DIGEST.vk) with their
                         records (CIRCUIT.record.json); repeat for several
  --record FILE          a record that says what a key is for; repeat for several
  --model ID             refuse statements of another model (64 hexadecimal digits)
  --timeout DURATION     end after this time (10s); what is left then is refused
  --allow-development    take keys whose maker could forge proofs
  --allow-unregistered   take keys of which no record says what they are for
  --json                 print JSON
  --version              print the version

Examples:
  anchorhold-verify --vk keys/ answer.proof.json
  anchorhold-verify --vk 5f2c.vk --record circuit.record.json --model 91ab... *.proof
  anchorhold-verify --vk keys/ --timeout 2s --json answers/*.proof.json

Know where the keys come from: with keys of a stranger, a stranger's proofs verify.
A receipt in a file is not checked; 'anchorhold proof verify' does that.

Exit status: 0 all verified, 1 at least one refused, 2 wrong command line or unreadable
file. Reasons of a refusal: envelope-malformed, key-unknown, key-malformed,
key-unregistered, key-development, statement-mismatch, model-mismatch, proof-invalid,
timeout.
`

// command is the command line.
type command struct {
	options       Options
	keys, records []string
	files         []string
	timeout       time.Duration
	json, version bool
}

var errHelp = errors.New("help")

func parse(args []string) (*command, error) {
	c := &command{}
	f := flag.NewFlagSet("anchorhold-verify", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	several := func(to *[]string) func(string) error {
		return func(v string) error { *to = append(*to, v); return nil }
	}
	f.Func("vk", "", several(&c.keys))
	f.Func("record", "", several(&c.records))
	f.Func("model", "", func(v string) error {
		d, err := statement.ParseDigest(v)
		c.options.Model = &d
		return err
	})
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "")
	f.BoolVar(&c.options.Development, "allow-development", false, "")
	f.BoolVar(&c.options.Unregistered, "allow-unregistered", false, "")
	f.BoolVar(&c.json, "json", false, "")
	f.BoolVar(&c.version, "version", false, "")
	for rest := args; ; rest = rest[1:] { // flags may stand behind files
		if err := f.Parse(rest); errors.Is(err, flag.ErrHelp) {
			return nil, errHelp
		} else if err != nil {
			return nil, err
		}
		if rest = f.Args(); len(rest) == 0 {
			break
		}
		c.files = append(c.files, rest[0])
	}
	switch {
	case c.version:
	case len(c.files) == 0:
		return nil, errors.New("a file is needed")
	case len(c.files) > zkverify.MaxBatch:
		return nil, fmt.Errorf("%d files, the limit is %d", len(c.files), zkverify.MaxBatch)
	case len(c.keys) == 0:
		return nil, errors.New("--vk is needed: the key, or the directory of keys, to verify with")
	case c.timeout <= 0:
		return nil, errors.New("--timeout is a time above zero")
	}
	return c, nil
}

// Run is the stand-alone verifier: it returns the exit code.
func Run(ctx context.Context, version string, args []string, out, complaint io.Writer) int {
	c, err := parse(args)
	if errors.Is(err, errHelp) {
		fmt.Fprint(out, Usage)
		return ExitVerified
	}
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-verify: %v\nSee 'anchorhold-verify --help'\n", err)
		return ExitUsage
	}
	if c.version {
		fmt.Fprintln(out, "anchorhold-verify", version)
		return ExitVerified
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	findings, err := c.run(ctx)
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-verify: %v\n", err)
		return ExitUsage
	}
	code := ExitVerified
	for _, f := range findings {
		if !f.Verified {
			code = ExitRefused
		}
	}
	if err := c.print(out, findings, code == ExitVerified); err != nil {
		fmt.Fprintf(complaint, "anchorhold-verify: %v\n", err)
		return ExitUsage
	}
	return code
}

func (c *command) run(ctx context.Context) ([]Finding, error) {
	keys := NewKeys(c.options)
	for _, path := range c.keys {
		if err := keys.AddKeys(path); err != nil {
			return nil, err
		}
	}
	for _, path := range c.records {
		if err := keys.AddRecord(path); err != nil {
			return nil, err
		}
	}
	inputs := make([]Input, len(c.files))
	for i, path := range c.files {
		raw, err := readBounded(path, MaxFileBytes)
		if err != nil {
			return nil, err
		}
		inputs[i] = Input{path, raw}
	}
	return keys.Check(ctx, inputs)
}

func (c *command) print(out io.Writer, findings []Finding, verified bool) error {
	if c.json {
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
		line("  WARNING: no record says which circuit the key is of\n")
	}
	if f.Development {
		line("  WARNING: the key was set up for development: its maker could forge proofs\n")
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
