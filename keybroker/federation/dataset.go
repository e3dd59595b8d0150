package federation

import (
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Dataset is a publisher's word that there is data of this name. Its ID names the account
// of the privacy of those whose data it is, in every round over it.
type Dataset struct {
	ID        digest.Digest `json:"dataset"`
	Name      string        `json:"name"`
	Publisher digest.Digest `json:"publisher"`
	Time      protocol.Time `json:"time"`
}

func (d *Dataset) context() string { return labelPrefix + "dataset" + labelVersion }

func (d *Dataset) check() error {
	if d.ID == (digest.Digest{}) || d.Name == "" || len(d.Name) > maxNameBytes || !printable(d.Name) || d.Time == 0 {
		return malformed("dataset: no id, no time, or a name that is not 1 to %d printable characters", maxNameBytes)
	}
	return nil
}

// SignDataset signs with a publisher's key.
func SignDataset(key *identity.Private, d Dataset) ([]byte, error) {
	d.Publisher = key.Public().ID()
	return seal(key, nil, &d)
}

// VerifyDataset checks that one of the publishers signed for the dataset. Without
// publishers none verifies.
func VerifyDataset(signed []byte, publishers []identity.Public) (Dataset, error) {
	var d Dataset
	s, err := split(signed, &d)
	if err != nil {
		return Dataset{}, err
	}
	for _, p := range publishers {
		err := s.Open(p, "the publisher", &d, d.check)
		if reason, _ := refusal.ReasonOf(err); reason == ReasonSignature {
			continue
		}
		if err == nil && (digest.Digest(p.ID()) != d.Publisher || len(s.Chain()) != 0) {
			err = refusal.New(ReasonSignature, "dataset %q is signed for another publisher or under a lease", d.Name)
		}
		if err != nil {
			return Dataset{}, err
		}
		return d, nil
	}
	return Dataset{}, refusal.New(ReasonSignature, "no publisher in this broker's configuration signed for this dataset")
}
