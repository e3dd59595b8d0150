package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/valuefile"
	"github.com/spf13/cobra"
)

// The words of "extract".
const (
	extractValuesUse   = "extract FILE [FILE]"
	extractValuesShort = "Verify others' signed measurements and print them as reference values"
	extractValuesLong  = `Recognises by the bytes what the file is, verifies its signature, and prints a file of
reference values for 'policy values import'. It asks no broker and needs no network.

  publisher's statement   of what guests of an image measure (anchorhold-measure)
  CoRIM                   signed (COSE_Sign1) or not; measurements of SEV-SNP (AMD's profile)
                          and of TDX (Intel's profile)
  launch endorsement      Google's, for the firmware of GCE's SEV-SNP and TDX guests
  ID block of SEV-SNP     with its authentication: 96 and 4096 bytes, as one file or as two;
                          binary or in base64

The signer is never taken from the file: --signer is a public key or certificate of whoever
signed, of a publisher's statement the publisher's public key (publisher.key.pub);
--root a certificate that issued the signer's. An ID block has no certificates: give
its ID key or its author key. An unsigned CoRIM is refused unless --unsigned says why it is
accepted.

What the file demands besides measurements is printed as comments: values do not enforce it,
a policy can. Intel's TCB information is no such file: the broker verifies quotes with it
(see 'anchorhold collateral').`
	extractValuesExample = `  anchorhold policy values extract endorsement.binarypb --root GCE-cc-tcb-root_1.crt --out google.yaml
  anchorhold policy values extract web-7.values --signer publisher.key.pub --out web-7.yaml
  anchorhold policy values extract image.corim --signer publisher.pem --id images/web-7 --covers image
  anchorhold policy values extract id-block.base64 id-auth.base64 --signer id-key.pem --covers image`
	extractValuesNeeds    = "one file, or an ID block and its authentication"
	extractValuesSigner   = "public key of whoever signed: a PEM file, or a publisher's key as text or in a file (repeatable)"
	extractValuesRoot     = "certificate that issued the signer's, PEM or DER (repeatable)"
	extractValuesUnsigned = "accept a file that nobody signed, for this `REASON`"
	extractValuesID       = "first part of the values' ids (default derived from the content)"
	extractValuesCovers   = "what the values are known to identify: image or firmware"
	extractValuesProduct  = "product line of SEV-SNP that the values are for (default every one)"
	extractValuesAt       = "judge as of this time, RFC 3339 (default now)"
	extractValuesOut      = "write the values to this new file instead of standard output"
	extractValuesWritten  = "%s is written: %d reference values, %s\n"
	extractValuesBoth     = "--unsigned excludes --signer and --root: what is signed is verified"
	extractValuesReason   = "--unsigned needs a reason"
)

// extractValuesOptions are the flags of "extract".
type extractValuesOptions struct {
	signers, roots      []string // --signer, --root
	unsigned            string   // --unsigned
	id, covers, product string   // --id, --covers, --product
	at, out             string   // --at, --out
}

func newExtractValues(inv *cli.Invocation) *cobra.Command {
	var o extractValuesOptions
	c := &cobra.Command{Use: extractValuesUse, Short: extractValuesShort, Long: extractValuesLong, Example: extractValuesExample, Args: oneFileOrTwo}
	c.Flags().StringSliceVar(&o.signers, "signer", nil, extractValuesSigner)
	c.Flags().StringSliceVar(&o.roots, "root", nil, extractValuesRoot)
	c.Flags().StringVar(&o.unsigned, "unsigned", "", extractValuesUnsigned)
	c.Flags().StringVar(&o.id, "id", "", extractValuesID)
	c.Flags().StringVar(&o.covers, "covers", "", extractValuesCovers)
	c.Flags().StringVar(&o.product, "product", "", extractValuesProduct)
	c.Flags().StringVar(&o.at, "at", "", extractValuesAt)
	c.Flags().StringVar(&o.out, "out", "", extractValuesOut)
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("unsigned") && strings.TrimSpace(o.unsigned) == "" {
			return cli.Usage(errors.New(extractValuesReason))
		}
		return inv.RunE(o.run)(c, args)
	}
	return c
}

func oneFileOrTwo(c *cobra.Command, args []string) error {
	if len(args) == 1 || len(args) == 2 {
		return nil
	}
	return cli.Usage(fmt.Errorf("%s needs %s\nSee '%s --help'", c.CommandPath(), extractValuesNeeds, c.CommandPath()))
}

// trust reads the keys and roots that the command line names.
func (o *extractValuesOptions) trust() (t valuefile.Trust, err error) {
	t.Unsigned = o.unsigned
	if t.Unsigned != "" && len(o.signers)+len(o.roots) > 0 {
		return t, cli.Usage(errors.New(extractValuesBoth))
	}
	for _, path := range o.signers {
		if publisher, err := keyfile.Public(path); err == nil {
			t.Publishers = append(t.Publishers, publisher)
			continue
		}
		data, err := cli.ReadFile(path)
		if err != nil {
			return t, err
		}
		keys, err := valuefile.ParseKeys(data)
		if err != nil {
			return t, fmt.Errorf("--signer %s: %w", path, err)
		}
		t.Keys = append(t.Keys, keys...)
	}
	for _, path := range o.roots {
		data, err := cli.ReadFile(path)
		if err != nil {
			return t, err
		}
		roots, err := valuefile.ParseRoots(data)
		if err != nil {
			return t, fmt.Errorf("--root %s: %w", path, err)
		}
		t.Roots = append(t.Roots, roots...)
	}
	return t, nil
}

func (o *extractValuesOptions) run(_ context.Context, inv *cli.Invocation, args []string) error {
	options := valuefile.Options{ID: o.id, Covers: o.covers, Product: o.product}
	var err error
	if options.Now, err = cli.ParseTime("--at", o.at, time.Now()); err != nil {
		return err
	}
	if options.Trust, err = o.trust(); err != nil {
		return err
	}
	var files [][]byte
	for _, path := range args {
		data, err := cli.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, data)
	}
	f, err := valuefile.Read(filepath.Base(args[0]), valuefile.Join(files...), options)
	if err != nil {
		return cli.RefusedFor(fmt.Errorf("%s: %w", args[0], err))
	}
	text := f.YAML()
	if o.out != "" {
		const readable = 0o644
		if err := cli.WriteNew(o.out, text, readable); err != nil {
			return err
		}
	}
	return inv.Print(struct {
		valuefile.File
		ReferenceValues string `json:"reference_values"`
	}{f, string(text)}, func(w io.Writer) {
		if o.out == "" {
			w.Write(text)
			return
		}
		for _, n := range f.Notes {
			fmt.Fprintf(w, "%s\n", n)
		}
		fmt.Fprintf(w, extractValuesWritten, o.out, len(f.Values), f.Form)
	})
}
