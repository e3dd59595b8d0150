package fed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/spf13/cobra"
)

// The words of "dataset".
const (
	datasetUse   = "dataset {FILE | --id DIGEST} --name NAME --key PUBLISHER --out FILE"
	datasetShort = "Sign a dataset's id, which gives its privacy an account of its own"
	datasetLong  = `Rounds that name neither a model nor a dataset are charged to one account of the broker.
A dataset signed by a publisher has its own account in every round that uses it; the
broker's configuration lists the publishers (rounds.dataset_publishers). The id is the
SHA-256 of FILE, or the digest given with --id.`
	datasetTakes     = "one file"
	datasetExample   = "  anchorhold fed dataset patients.csv --name patients-2026 --key publisher.key --out patients.dataset"
	datasetFileOrID  = "give either a file or --id"
	datasetIDInvalid = "--id: %w"
	datasetResult    = "dataset  %s\naccount  %s\nsigned   %s\n"
	datasetFlagKey   = "publisher's key (anchorhold keygen publisher)"
	datasetFlagName  = "name of the data, for people"
	datasetFlagID    = "digest that identifies the data, if it is not a single file"
	datasetFlagOut   = "new file for the signed statement"
)

// datasetOptions are the flags of "dataset".
type datasetOptions struct {
	key    string // --key
	name   string // --name
	id     string // --id
	out    string // --out
	unlock keyfile.Unlock
}

func newFedDataset(inv *cli.Invocation) *cobra.Command {
	var o datasetOptions
	c := &cobra.Command{
		Use: datasetUse, Short: datasetShort,
		Long:    datasetLong,
		Example: datasetExample, Args: cli.AtMostOne(datasetTakes),
		RunE: inv.RunE(o.run, "key", "name", "out"),
	}
	c.Flags().StringVar(&o.key, "key", "", datasetFlagKey)
	c.Flags().StringVar(&o.name, "name", "", datasetFlagName)
	c.Flags().StringVar(&o.id, "id", "", datasetFlagID)
	c.Flags().StringVar(&o.out, "out", "", datasetFlagOut)
	o.unlock.Add(c)
	return c
}

func (o *datasetOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if (len(args) == 1) == (o.id != "") {
		return cli.Usage(errors.New(datasetFileOrID))
	}
	d := federation.Dataset{Name: o.name, Time: protocol.TimeOf(time.Now())}
	var err error
	if o.id != "" {
		if d.ID, err = digest.Parse(o.id); err != nil {
			return cli.Usage(fmt.Errorf(datasetIDInvalid, err))
		}
	} else if d.ID, err = fileDigest(args[0]); err != nil {
		return err
	}
	u, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	publisher, err := idfile.Read(o.key, u)
	if err != nil {
		return err
	}
	defer publisher.Wipe()
	signed, err := federation.SignDataset(publisher, d)
	if err != nil {
		return err
	}
	if err := cli.WriteNew(o.out, signed, 0o644); err != nil {
		return err
	}
	account := federation.DatasetAccount(d.ID)
	return inv.Print(map[string]any{"dataset": d.ID, "name": o.name, "account": account}, func(w io.Writer) {
		fmt.Fprintf(w, datasetResult, o.name, account, o.out)
	})
}

func fileDigest(path string) (d digest.Digest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close() // read only
	h := sha256.New()
	_, err = io.Copy(h, f)
	return digest.Sum(h), err
}
