package collateral

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/spf13/cobra"
)

// The words of "export".
const (
	exportUse   = "export --dir DIR --out FILE --key FILE"
	exportShort = "Write everything in the directory into one signed file"
	exportLong  = `Writes a bundle for brokers without a network, signed by the key of an identity that they
trust (anchorhold keygen publisher makes one). It holds all items that verify and have not
ended; those that are left out are named. Carry it over and use 'collateral import' there,
before the first item ends.`
	exportExample  = "  anchorhold collateral export --dir collateral --out 2027-03.bundle --key operator.key --credential-file operator.kek"
	exportFlagOut  = "new file for the bundle"
	exportFlagKey  = "key file of the identity that signs it"
	exportResult   = "%s: %d items, made %s, signed by %s\n"
	exportLeftOut  = "LEFT OUT  %s: it ended, is damaged or does not verify; fetch it again\n"
	exportNothing  = "%s holds nothing that can be exported; fill it with 'collateral fetch' first"
	exportRefused  = "%s holds nothing that can be exported: %s ended, are damaged or do not verify; fetch them again"
	importUse      = "import FILE --dir DIR --trust IDENTITY"
	importShort    = "Store what a signed file brings"
	importNeeds    = "the file that 'collateral export' wrote"
	importExample  = "  anchorhold collateral import 2027-03.bundle --dir /var/lib/anchorhold/collateral --trust operator.pub"
	importFlagFrom = "public identity that may sign bundles, as text or a file (repeatable)"
	importLong     = `Reads a bundle that one of the trusted identities signed, verifies each item up to the
vendor's root and stores what is new or newer. An item that is refused keeps no other out.

Exit status: 0 everything is stored or was kept already, 1 failed, 2 wrong command line,
3 the bundle or an item was refused, with the reason.`
	importResult = "made %s, signed by %s\n"
)

// exportOptions are the flags of "export".
type exportOptions struct {
	directory
	unlock   keyfile.Unlock
	out, key string // --out, --key
}

// exported is what "export --json" prints.
type exported struct {
	File    string           `json:"file"`
	Made    time.Time        `json:"made"`
	Signer  identity.Public  `json:"signer"`
	Items   int              `json:"items"`
	LeftOut []collateral.Key `json:"left_out"`
}

func newExport(inv *cli.Invocation) *cobra.Command {
	var o exportOptions
	c := &cobra.Command{Use: exportUse, Short: exportShort, Long: exportLong, Example: exportExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run, "dir", "out", "key")}
	o.add(c)
	c.Flags().StringVar(&o.out, "out", "", exportFlagOut)
	c.Flags().StringVar(&o.key, "key", "", exportFlagKey)
	o.unlock.Add(c)
	return c
}

func (o *exportOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if err := cli.CheckNew(o.out); err != nil {
		return err
	}
	d, err := o.open(depot.Options{Offline: true})
	if err != nil {
		return err
	}
	defer d.Close()
	u, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	signer, err := idfile.Read(o.key, u)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	var file bytes.Buffer
	list, leftOut, err := d.Export(&file, signer, nil)
	if err != nil {
		return err
	}
	if len(list.Entries) == 0 {
		return nothingToExport(o.dir, leftOut)
	}
	if err := cli.WriteNew(o.out, file.Bytes(), 0o644); err != nil {
		return err
	}
	e := exported{File: o.out, Made: list.Made, Signer: list.Signer, Items: len(list.Entries), LeftOut: append([]collateral.Key{}, leftOut...)}
	return inv.Print(e, func(w io.Writer) {
		fmt.Fprintf(w, exportResult, e.File, e.Items, e.Made.Format(time.RFC3339), e.Signer)
		for _, k := range e.LeftOut {
			fmt.Fprintf(w, exportLeftOut, k)
		}
	})
}

// nothingToExport names what is there and no importer would take.
func nothingToExport(dir string, leftOut []collateral.Key) error {
	if len(leftOut) == 0 {
		return fmt.Errorf(exportNothing, dir)
	}
	var names []string
	for _, k := range leftOut {
		names = append(names, k.String())
	}
	return fmt.Errorf(exportRefused, dir, strings.Join(names, ", "))
}

// importOptions are the flags of "import".
type importOptions struct {
	directory
	trust []string // --trust
}

// imported is what "import --json" prints.
type imported struct {
	Made   time.Time       `json:"made"`
	Signer identity.Public `json:"signer"`
	Items  []result        `json:"items"`
	Error  *cli.Failure    `json:"error,omitempty"`
}

func newImport(inv *cli.Invocation) *cobra.Command {
	var o importOptions
	c := &cobra.Command{Use: importUse, Short: importShort, Long: importLong, Example: importExample, Args: cli.Exactly(1, importNeeds), RunE: inv.RunE(o.run, "dir", "trust")}
	o.add(c)
	c.Flags().StringSliceVar(&o.trust, "trust", nil, importFlagFrom)
	return c
}

func (o *importOptions) run(_ context.Context, inv *cli.Invocation, args []string) error {
	trusted, err := keyfile.Publics(o.trust)
	if err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := o.open(depot.Options{Offline: true})
	if err != nil {
		return err
	}
	defer d.Close()
	list, outcomes, err := d.Import(f, trusted)
	if err != nil {
		return cli.RefusedFor(err)
	}
	out := imported{Made: list.Made, Signer: list.Signer, Items: []result{}}
	for _, oc := range outcomes {
		r := result{Key: oc.Key, Status: statusKept}
		if oc.Error != "" {
			r = failed(oc.Key, oc.Reason, oc.Error)
		} else if oc.Stored {
			r.Status = statusStored
		}
		out.Items = append(out.Items, r)
	}
	bad := verdict(out.Items)
	out.Error = failureOf(bad)
	if err := inv.Print(out, func(w io.Writer) {
		fmt.Fprintf(w, importResult, out.Made.Format(time.RFC3339), out.Signer)
		printResults(w, out.Items)
	}); err != nil {
		return err
	}
	return bad
}
