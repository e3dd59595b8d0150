package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of "put".
const (
	secretPutUse             = "put NAME --file FILE"
	secretPutShort           = "Store a secret, or a new version of it"
	secretPutExample         = "  anchorhold secret put models/demo --file model.key --model model.ahm\n  anchorhold secret put models/demo --file model.key --model-id 5f1c...\n  anchorhold secret put secrets/web-tls --file tls.key"
	secretPutNeeds           = "the secret's name"
	secretPutNoFile          = "--file is required: a secret is never given on the command line"
	secretPutResult          = "%s version %d is stored%s\n"
	secretPutUnbound         = "No receipt of this model's answers will verify: leases do not say what the key opens. Store it again with --model or --model-id."
	secretPutHint            = "%[2]q is the name of a model's key: of other secrets it begins with secrets/. Did you mean secrets/%[2]s?"
	secretPutNoPrefix        = "If it is for other services of a guest, agents do not hand it on: its name must begin with secrets/, as secrets/%s does.\n"
	secretPutFlagFile        = "file with the secret"
	secretPutFlagKind        = "what the secret is for (stored in the clear; default service-secret below secrets/ and volumes/, else model-key)"
	secretPutFlagModel       = "the sealed model that the key opens"
	secretPutFlagModelID     = "its id, as \"anchorhold seal\" printed it, instead of the file"
	secretPutFlagDescription = "description for people (stored in the clear)"
	secretPutLong            = `Stores a secret under a name, or a new version of one that exists.

A model's key is stored with the model that it opens: leases that grant the key then
speak for that model, and its receipts verify. --model reads the id from the sealed
file, of a language model or a classifier, and refuses a key that does not open it; if
the file is elsewhere, --model-id takes the id that "anchorhold seal" printed. Agents
refuse to serve another model with the key: a model that is sealed again has a new id,
and its key must be stored again. A file that does not have the length of a model key is
refused: it is the wrong file, or needs another --kind.

Below secrets/ and volumes/ are secrets that agents hand on to other services of their
guests, such as a web server's TLS key or the key of an encrypted volume: any bytes, at
most 16 KiB, as a release carries no more.`
)

// The words of the model that a key is for.
const (
	secretPutTwoModels      = "--model and --model-id both name the model; give one"
	secretPutModelIDInvalid = "--model-id: %w"
	subjectModel            = ", for model "
	subjectOther            = ", for "
	subjectUnstated         = ", for no stated model"
)

// secretPutOptions are the flags of "put".
type secretPutOptions struct {
	file  string // --file
	model string // --model
	id    string // --model-id
	meta  keystore.Meta
}

func newSecretPut(inv *cli.Invocation) *cobra.Command {
	var o secretPutOptions
	put := &cobra.Command{Use: secretPutUse, Short: secretPutShort, Example: secretPutExample, Args: cli.Exactly(1, secretPutNeeds), RunE: inv.RunE(o.run)}
	put.Long = secretPutLong
	put.Flags().StringVar(&o.file, "file", "", secretPutFlagFile)
	put.Flags().StringVar(&o.meta.Kind, "kind", "", secretPutFlagKind)
	put.Flags().StringVar(&o.model, "model", "", secretPutFlagModel)
	put.Flags().StringVar(&o.id, "model-id", "", secretPutFlagModelID)
	put.Flags().StringVar(&o.meta.Description, "description", "", secretPutFlagDescription)
	return put
}

func (o *secretPutOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if err := keystore.CheckName(args[0]); err != nil {
			return nil, nil, cli.Usage(err)
		}
		if o.file == "" {
			return nil, nil, cli.Usage(errors.New(secretPutNoFile))
		}
		secret, kind, err := keyfile.Stored{Name: args[0], Kind: o.meta.Kind, ForModel: o.model+o.id != "", Opens: o.model != ""}.Read(o.file)
		if err != nil {
			return nil, nil, hinted(args[0], kind, err)
		}
		defer secret.Wipe()
		o.meta.Kind = kind
		if o.meta.Subject, err = keySubject(secret, o.model, o.id); err != nil {
			return nil, nil, err
		}
		version, err := b.PutSecret(ctx, args[0], secret, o.meta, operator.PutNext)
		return operator.SecretVersion{Name: args[0], Version: version}, func(w io.Writer) {
			fmt.Fprintf(w, secretPutResult, args[0], version, subjectText(o.meta))
			if !strings.Contains(args[0], "/") {
				fmt.Fprintf(w, secretPutNoPrefix, args[0])
			}
			if o.meta.Subject == (keystore.Subject{}) && o.meta.Kind == keyfile.KindModelKey {
				fmt.Fprintln(w, secretPutUnbound)
			}
		}, err
	})
}

// hinted adds the name that was probably meant, where a file is no model key because its name lacks what says so.
func hinted(name, kind string, err error) error {
	if kind != keyfile.KindModelKey || strings.Contains(name, "/") {
		return err
	}
	return fmt.Errorf("%w\n"+secretPutHint, err, name)
}

// keySubject is the model that a key is for, by the sealed file or by its id; zero if
// neither is given.
func keySubject(secret *keybuf.Buffer, file, id string) (subject keystore.Subject, err error) {
	switch {
	case file != "" && id != "":
		return subject, cli.Usage(errors.New(secretPutTwoModels))
	case file != "":
		d, err := sealed.ID(file, secret)
		return keystore.Subject(d), err
	case id != "":
		if err := subject.UnmarshalText([]byte(id)); err != nil {
			return subject, cli.Usage(fmt.Errorf(secretPutModelIDInvalid, err))
		}
	}
	return subject, nil
}

// subjectText shows what a secret is for, if anything says so.
func subjectText(m keystore.Meta) string {
	switch stated := m.Subject != (keystore.Subject{}); {
	case stated && m.Kind == keyfile.KindModelKey:
		return subjectModel + m.Subject.String()
	case stated:
		return subjectOther + m.Subject.String()
	case m.Kind == keyfile.KindModelKey:
		return subjectUnstated
	}
	return ""
}
