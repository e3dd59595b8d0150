package seal

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/spf13/cobra"
)

// NewInspect is the command "inspect".
func NewInspect(inv *cli.Invocation) *cobra.Command {
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
		Args:    cli.Exactly(1, "one sealed file"),
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
				return fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			checked, err := verifySealed(c, p, publisher, chunks)
			if err != nil {
				return err
			}
			signer, err := identity.ParsePublic(p.Publisher)
			if err != nil {
				return fmt.Errorf("%w: the publisher's key: %w", cli.ErrRefused, err)
			}
			id := ""
			if keyFile != "" {
				if id, err = sealed.IDWith(args[0], keyFile); err != nil {
					return err
				}
			}
			result := map[string]any{"name": p.Name, "version": p.Version, "root": hex.EncodeToString(p.Root[:]), "model_id": id, "file_id": hex.EncodeToString(p.FileID[:]),
				"format": p.FormatVersion, "algorithm": p.Algorithm, "publisher": signer, "parameter_sets": p.ParameterSets,
				"sections": p.Sections, "chunks": p.Chunks, "plain_bytes": p.PlainBytes, "file_bytes": p.FileBytes, "verified": checked}
			return inv.Print(c.OutOrStdout(), result, func(w io.Writer) {
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
			return "", cli.Usage(errors.New("--chunks needs --publisher: an index that nobody signed proves nothing"))
		}
		return "nothing: give --publisher", nil
	}
	pub, err := keyfile.Public(publisher)
	if err != nil {
		return "", err
	}
	if err := p.Verify(pub); err != nil {
		return "", fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	if !chunks {
		return "the publisher's signature", nil
	}
	show := progress(c.ErrOrStderr(), "verified")
	if err := p.VerifyChunks(c.Context(), func(done, total int) { show(int64(done), int64(total)) }); err != nil {
		return "", fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	return "the publisher's signature and every chunk", nil
}
