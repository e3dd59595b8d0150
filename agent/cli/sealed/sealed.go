// Package sealed identifies sealed models: by the id that receipts of their answers carry, and
// by their publisher's privacy account.
package sealed

import (
	"fmt"
	"os"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// publisherInvalid is said of a sealed file.
const publisherInvalid = "%w: %s: the publisher's key: %w"

// classifierMemory bounds a classifier that is opened to look at it.
const classifierMemory = 256 << 20

// ID is the id that receipts of a sealed model's answers carry: of a language model
// the file's root, of a classifier the digest that also covers what is sealed in it. A key
// that does not open the file is refused. The publisher is the file's own: an id names one
// file, whoever signed it.
func ID(path string, key *keybuf.Buffer) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return digest.Digest{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return digest.Digest{}, err
	}
	p, err := chunkseal.Inspect(f, info.Size())
	if err != nil {
		return digest.Digest{}, fmt.Errorf("%w: %s: %w", cli.ErrRefused, path, err)
	}
	publisher, err := identity.ParsePublic(p.Publisher)
	if err != nil {
		return digest.Digest{}, fmt.Errorf(publisherInvalid, cli.ErrRefused, path, err)
	}
	r, err := chunkseal.Open(f, info.Size(), key, chunkseal.OpenOptions{Publisher: publisher})
	if err != nil {
		return digest.Digest{}, fmt.Errorf("%w: %s: %w", cli.ErrRefused, path, err)
	}
	defer r.Wipe()
	ofClassifier := r.Sections()[0].Kind == chunkseal.KindClassifier
	if !ofClassifier {
		return p.Root, nil
	}
	m, err := classifier.Open(path, key, arena.NewBudget(classifierMemory), classifier.Options{Publisher: publisher, ModelID: &p.Root})
	if err != nil {
		return digest.Digest{}, fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	defer m.Close()
	var id digest.Digest
	err = m.WithParameters(func(parameters intnet.Parameters) (err error) {
		id, err = ClassifierID(m.Description(), parameters, p.Root)
		return err
	})
	return id, err
}

// Part is what a publisher signed of a sealed model, without its chunks, and the
// privacy account of that publisher's models of this name.
func Part(path string) ([]byte, federation.Account, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close() // read only
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	p, err := chunkseal.Inspect(f, info.Size())
	if err != nil {
		return nil, "", fmt.Errorf("%w: %s: %w", cli.ErrRefused, path, err)
	}
	publisher, err := identity.ParsePublic(p.Publisher)
	if err != nil {
		return nil, "", fmt.Errorf(publisherInvalid, cli.ErrRefused, path, err)
	}
	return p.Part(), federation.SealedAccount(digest.Digest(publisher.ID()), p.Name), nil
}

// ClassifierID is the model id in receipts of a classifier's answers.
func ClassifierID(d *classifier.Description, p intnet.Parameters, root [32]byte) (digest.Digest, error) {
	m, err := statement.ModelOf(&intnet.Network{Architecture: d.Architecture, Parameters: p}, d.QuantizationDigest(), root)
	return m.ID(), err
}

// IDWith is the id of a sealed model, in hexadecimal, by its key's file.
func IDWith(path, keyFile string) (string, error) {
	key, err := keyfile.ReadModelKey(keyFile)
	if err != nil {
		return "", err
	}
	defer key.Wipe()
	id, err := ID(path, key)
	return id.String(), err
}
