package valuefile

import (
	"bytes"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// FormPublished is the statement of an image's publisher, which anchorhold-measure writes.
const FormPublished Form = "anchorhold-values"

// IsPublished says whether a file begins as a publisher's statement does.
func IsPublished(raw []byte) bool { return publication.Is(raw) }

// ReadPublished is [Read] for a publisher's statement alone: other forms are refused.
func ReadPublished(name string, raw []byte, t Trust) (File, error) {
	if !publication.Is(raw) {
		return File{}, refusal.New(ReasonUnsigned, "the file is not a publisher's statement: it is not signed, or in another form (anchorhold policy values extract)")
	}
	return Read(name, raw, Options{Trust: t})
}

// readPublished reads a publisher's statement. It says itself how its values are called and what they identify.
func readPublished(raw []byte, o Options) (File, error) {
	f := File{Form: FormPublished}
	switch {
	case o.Trust.Unsigned != "":
		return f, refusal.New(ReasonUnsupported, "a publisher's statement is always signed: verify it with the publisher's public key")
	case len(o.Trust.Publishers) == 0:
		return f, refusal.New(ReasonSigner, "the publisher's public key was not given (--signer publisher.key.pub), and the file cannot vouch for itself")
	case o.ID+o.Covers+o.Product != "":
		return f, refusal.New(ReasonUnsupported, "a publisher's statement names its values and what they identify: leave out an id, a coverage and a product")
	}
	for _, publisher := range o.Trust.Publishers {
		s, err := publication.Open(raw, publisher)
		if reason, _ := refusal.ReasonOf(err); reason == publication.ReasonPublisher {
			continue
		}
		if err != nil {
			return f, err
		}
		_, signature, _ := bytes.Cut(raw, []byte("\n\n"))
		f.signedBy("publisher "+publisher.String(), signature)
		f.Values = s.ReferenceValues("") // Read adds the source
		for _, g := range s.Gaps {
			f.note("No value of %s for %s: %s. Instead: %s.", strings.Join(g.Registers, ", "), g.Platform, g.Why, g.Instead)
		}
		return f, nil
	}
	var given []string
	for _, publisher := range o.Trust.Publishers {
		given = append(given, publication.PublisherID(publisher))
	}
	return f, refusal.New(ReasonSigner, "the statement says that it is by publisher %s, and the key that was given is of publisher %s", publication.SaysPublisher(raw), strings.Join(given, ", "))
}
