package seal

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/spf13/cobra"
)

// The words of "inspect".
const (
	inspectUse   = "inspect MODEL.ahm"
	inspectShort = "Show what a sealed file holds, without its key"
	inspectLong  = `Shows what is public in a sealed file. --publisher verifies its signature; --chunks also
compares every chunk with the signed index.

The root names the file, and is a language model's id. A classifier's id also covers its
sealed contents: --key shows the id that receipts carry, for either kind.`
	inspectExample           = "  anchorhold inspect model.ahm\n  anchorhold inspect model.ahm --publisher publisher.key.pub --chunks"
	inspectNeeds             = "one sealed file"
	inspectPublisherInvalid  = "%w: the publisher's key: %w"
	inspectNoSets            = "none"
	inspectResult            = "name            %s\nversion         %d\nroot            %x\nmodel id        %s\nfile id         %x\nformat          %d, %s\npublisher       %s\nparameter sets  %s\ncontents        %d sections in %d chunks, %s sealed in %s\nverified        %s\n"
	inspectFlagPublisher     = "verify this publisher's signature (ahpub1... or a file)"
	inspectFlagKey           = "file with the model key, to show the id that receipts carry"
	inspectFlagChunks        = "also verify every chunk against the index"
	inspectNoKey             = "the root, unless this is a classifier: give --key"
	inspectChunksAlone       = "--chunks needs --publisher: an unsigned index proves nothing"
	inspectVerifiedNothing   = "nothing: give --publisher"
	inspectVerifiedSignature = "the publisher's signature"
	inspectVerifiedChunks    = "the publisher's signature and every chunk"
)

// inspectOptions are the flags of "inspect".
type inspectOptions struct {
	publisher string // --publisher
	keyFile   string // --key
	chunks    bool   // --chunks
}

// newInspect is the command "inspect".
func newInspect(inv *cli.Invocation) *cobra.Command {
	var o inspectOptions
	c := &cobra.Command{
		Use:     inspectUse,
		Short:   inspectShort,
		Long:    inspectLong,
		Example: inspectExample,
		Args:    cli.Exactly(1, inspectNeeds),
		RunE:    inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.publisher, "publisher", "", inspectFlagPublisher)
	c.Flags().StringVar(&o.keyFile, "key", "", inspectFlagKey)
	c.Flags().BoolVar(&o.chunks, "chunks", false, inspectFlagChunks)
	return c
}

func (o *inspectOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
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
	checked, err := verifySealed(ctx, inv, p, o.publisher, o.chunks)
	if err != nil {
		return err
	}
	signer, err := identity.ParsePublic(p.Publisher)
	if err != nil {
		return fmt.Errorf(inspectPublisherInvalid, cli.ErrRefused, err)
	}
	id := ""
	if o.keyFile != "" {
		if id, err = sealed.IDWith(args[0], o.keyFile); err != nil {
			return err
		}
	}
	result := map[string]any{"name": p.Name, "version": p.Version, "root": hex.EncodeToString(p.Root[:]), "model_id": id, "file_id": hex.EncodeToString(p.FileID[:]),
		"format": p.FormatVersion, "algorithm": p.Algorithm, "publisher": signer, "parameter_sets": p.ParameterSets,
		"sections": p.Sections, "chunks": p.Chunks, "plain_bytes": p.PlainBytes, "file_bytes": p.FileBytes, "verified": checked}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, inspectResult,
			p.Name, p.Version, p.Root, cmp.Or(id, inspectNoKey), p.FileID, p.FormatVersion, p.Algorithm, signer, cmp.Or(strings.Join(p.ParameterSets, ", "), inspectNoSets), p.Sections, p.Chunks,
			size(p.PlainBytes), size(p.FileBytes), checked)
	})
}

// verifySealed makes the checks that were asked for and says which.
func verifySealed(ctx context.Context, inv *cli.Invocation, p *chunkseal.Public, publisher string, chunks bool) (string, error) {
	if publisher == "" {
		if chunks {
			return "", cli.Usage(errors.New(inspectChunksAlone))
		}
		return inspectVerifiedNothing, nil
	}
	pub, err := keyfile.Public(publisher)
	if err != nil {
		return "", err
	}
	if err := p.Verify(pub); err != nil {
		return "", fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	if !chunks {
		return inspectVerifiedSignature, nil
	}
	show := progress(inv.Err, "verified")
	if err := p.VerifyChunks(ctx, func(done, total int) { show(int64(done), int64(total)) }); err != nil {
		return "", fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	return inspectVerifiedChunks, nil
}
