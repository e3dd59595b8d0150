package fed

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/spf13/cobra"
)

func newFedDataset(inv *cli.Invocation) *cobra.Command {
	var key, name, id, out string
	var unlock keyfile.Unlock
	c := &cobra.Command{
		Use: "dataset {FILE | --id DIGEST} --name NAME --key PUBLISHER --out FILE", Short: "Sign for a dataset, so that its privacy has an account of its own",
		Long: `Rounds that name neither a model nor a dataset are charged to one account of the
broker. A dataset that a publisher signed for has an account of its own, in every
round over it; the broker's configuration names the publishers
(rounds.dataset_publishers). The id is the SHA-256 of FILE, or the digest given.`,
		Example: "  anchorhold fed dataset patients.csv --name patients-2026 --key publisher.key --out patients.dataset", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := cli.Need(c, "key", "name", "out"); err != nil {
				return err
			}
			if (len(args) == 1) == (id != "") {
				return cli.Usage(errors.New("name a file or --id, one of them"))
			}
			d := federation.Dataset{Name: name, Time: protocol.TimeOf(time.Now())}
			var err error
			if id != "" {
				if d.ID, err = federation.ParseDigest(id); err != nil {
					return cli.Usage(fmt.Errorf("--id: %w", err))
				}
			} else if d.ID, err = fileDigest(args[0]); err != nil {
				return err
			}
			u, err := unlock.Open(c)
			if err != nil {
				return err
			}
			defer keyfile.Wipe(u)
			publisher, err := identity.ReadKeyFile(key, u)
			if err != nil {
				return err
			}
			defer publisher.Wipe()
			signed, err := federation.SignDataset(publisher, d)
			if err != nil {
				return err
			}
			if err := cli.WriteNew(out, signed, 0o644); err != nil {
				return err
			}
			account := federation.DatasetAccount(d.ID)
			return inv.Print(c.OutOrStdout(), map[string]any{"dataset": d.ID, "name": name, "account": account}, func(w io.Writer) {
				fmt.Fprintf(w, "dataset  %s\naccount  %s\nsigned   %s\n", name, account, out)
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "publisher's key (anchorhold keygen publisher)")
	c.Flags().StringVar(&name, "name", "", "name of the data, for people")
	c.Flags().StringVar(&id, "id", "", "digest that names the data, where it is not one file")
	c.Flags().StringVar(&out, "out", "", "new file for the signed statement")
	unlock.Add(c)
	return c
}

func fileDigest(path string) (d federation.Digest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close() // read only
	h := sha256.New()
	_, err = io.Copy(h, f)
	return federation.Digest(h.Sum(nil)), err
}
