package broker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// kindModelKey is the kind of secrets that open models.
const kindModelKey = "model-key"

func newSecretPut(inv *cli.Invocation) *cobra.Command {
	var file, model, id string
	var meta keystore.Meta
	put := dial.Operate(inv, "put NAME --file FILE", "Store a secret, or a new version of it",
		"  anchorhold secret put models/demo --file model.key --model model.ahm\n  anchorhold secret put models/demo --file model.key --model-id 5f1c...", cli.Exactly(1, "the secret's name"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			if err := keystore.CheckName(args[0]); err != nil {
				return nil, nil, cli.Usage(err)
			}
			if file == "" {
				return nil, nil, cli.Usage(errors.New("--file is needed; a secret never stands on a command line"))
			}
			read := keyfile.ReadModelKey
			if model == "" && meta.Kind != kindModelKey {
				read = func(path string) (*keybuf.Buffer, error) { return keyfile.ReadSecret(path, false) }
			}
			secret, err := read(file)
			if err != nil {
				return nil, nil, err
			}
			defer secret.Wipe()
			if meta.Subject, err = keySubject(secret, model, id); err != nil {
				return nil, nil, err
			}
			version, err := b.PutSecret(ctx, args[0], secret, meta, operator.PutNext)
			return operator.SecretVersion{Name: args[0], Version: version}, func(w io.Writer) {
				fmt.Fprintf(w, "%s version %d is stored%s\n", args[0], version, subjectText(meta))
				if meta.Subject == (keystore.Subject{}) && meta.Kind == kindModelKey {
					fmt.Fprintln(w, "No receipt of this model's answers will verify: leases do not say what the key opens. Store it again with --model or --model-id.")
				}
			}, err
		})
	put.Long = `Stores a secret under a name, or a new version of one that is there.

A model's key is stored with the model that it opens: leases that are granted the key then
speak for that model, and its receipts verify. --model reads the id from the sealed file,
of a language model or a classifier, and refuses a key that does not open it; where the
file is elsewhere, --model-id takes the id that "anchorhold seal" printed. Agents refuse
to serve another model with the key: a model that is sealed anew has a new id, and its
key is stored again. A file of another length than a model key's is refused: another file
was meant, or another --kind.`
	put.Flags().StringVar(&file, "file", "", "file with the secret")
	put.Flags().StringVar(&meta.Kind, "kind", kindModelKey, "what the secret is for (stored in the clear)")
	put.Flags().StringVar(&model, "model", "", "the sealed model that the key opens")
	put.Flags().StringVar(&id, "model-id", "", "its id, as \"anchorhold seal\" printed it, instead of the file")
	put.Flags().StringVar(&meta.Description, "description", "", "for people (stored in the clear)")
	return put
}

// keySubject is the model that a key is for, by the sealed file or by its id; zero if
// neither is given.
func keySubject(secret *keybuf.Buffer, file, id string) (subject keystore.Subject, err error) {
	switch {
	case file != "" && id != "":
		return subject, cli.Usage(errors.New("--model and --model-id say the same; give one"))
	case file != "":
		d, err := sealed.ID(file, secret)
		return keystore.Subject(d), err
	case id != "":
		if err := subject.UnmarshalText([]byte(id)); err != nil {
			return subject, cli.Usage(fmt.Errorf("--model-id: %w", err))
		}
	}
	return subject, nil
}

// subjectText shows what a secret is for, if anything says so.
func subjectText(m keystore.Meta) string {
	switch stated := m.Subject != (keystore.Subject{}); {
	case stated && m.Kind == kindModelKey:
		return ", for model " + m.Subject.String()
	case stated:
		return ", for " + m.Subject.String()
	case m.Kind == kindModelKey:
		return ", for no stated model"
	}
	return ""
}
