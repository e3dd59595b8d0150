package collateral

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Stamp dates one document of an item.
type Stamp struct {
	// Name is which document: "amd-crl/Milan", "intel-pck-crl/platform", "intel-root-crl",
	// "intel-tcb/FMSPC/UPDATE", "intel-qe/UPDATE". Items of several platforms share documents.
	Name string `json:"name"`
	// Number is a CRL's number or a TCB evaluation data number; nil for certificates.
	Number *big.Int `json:"number,omitempty"`
	// Issued and Ends are thisUpdate and nextUpdate, issueDate and nextUpdate, or notBefore
	// and notAfter.
	Issued time.Time `json:"issued"`
	Ends   time.Time `json:"ends"`
	// Digest is the SHA-256 of the document.
	Digest [32]byte `json:"-"`
	// Documents are the indices of the document, and of the chain that signs it, in its item.
	Documents []int `json:"-"`
}

// Replaces says whether a document may take the place of a kept one of the same name. Equal
// documents return false without an error. Neither number nor date may go back: Intel's lists
// all have number 1, and AMD may issue two on one day.
func (s Stamp) Replaces(kept Stamp) (bool, error) {
	if s.Name != kept.Name {
		return false, refusal.New(ReasonMismatch, "%q cannot replace %q", s.Name, kept.Name)
	}
	number := 0
	if s.Number != nil && kept.Number != nil {
		number = s.Number.Cmp(kept.Number)
	} else if s.Number != kept.Number {
		return false, refusal.New(ReasonMalformed, "%s has no number", s.Name)
	}
	if number < 0 || s.Issued.Before(kept.Issued) {
		return false, refusal.New(ReasonRollback, "%s number %v of %s is older than the kept number %v of %s",
			s.Name, s.Number, s.Issued.UTC().Format(time.RFC3339), kept.Number, kept.Issued.UTC().Format(time.RFC3339))
	}
	if number > 0 || s.Issued.After(kept.Issued) {
		return true, nil
	}
	if s.Digest != kept.Digest {
		return false, refusal.New(ReasonConflict, "%s number %v of %s differs from the kept one of the same number and date",
			s.Name, s.Number, s.Issued.UTC().Format(time.RFC3339))
	}
	return false, nil
}

// Stamps dates the documents of an item whose signatures were verified. A VCEK has none: it
// never changes.
func (it Item) Stamps() ([]Stamp, error) {
	if err := it.check(); err != nil {
		return nil, err
	}
	switch it.Key.kind {
	case KindAMDChain:
		return one(certificateStamp(it.Key.String(), it.Documents[0], 0, 1))
	case KindAMDCRL:
		return one(listStamp(it.Key.String(), it.Documents[0], 0))
	case KindTDX:
		return it.tdxStamps()
	}
	return nil, nil
}

func one(s Stamp, err error) ([]Stamp, error) { return []Stamp{s}, err }

func certificateStamp(name string, der []byte, at ...int) (Stamp, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Stamp{}, refusal.New(ReasonMalformed, "%s: %w", name, err)
	}
	return Stamp{Name: name, Issued: c.NotBefore, Ends: c.NotAfter, Digest: sha256.Sum256(der), Documents: at}, nil
}

func listStamp(name string, der []byte, at ...int) (Stamp, error) {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return Stamp{}, refusal.New(ReasonMalformed, "%s: %w", name, err)
	}
	if l.Number == nil || l.NextUpdate.IsZero() {
		return Stamp{}, refusal.New(ReasonMalformed, "%s has no number or no end", name)
	}
	return Stamp{Name: name, Number: l.Number, Issued: l.ThisUpdate, Ends: l.NextUpdate, Digest: sha256.Sum256(der), Documents: at}, nil
}

func (it Item) tdxStamps() ([]Stamp, error) {
	p, d := it.Key.Platform(), it.TDX()
	tcb, err := signedStamp("intel-tcb/"+hex.EncodeToString(p.FMSPC[:])+"/"+p.Update, "tcbInfo", d.TCBInfo, 0, 1)
	if err != nil {
		return nil, err
	}
	qe, err := signedStamp("intel-qe/"+p.Update, "enclaveIdentity", d.QEIdentity, 2, 3)
	if err != nil {
		return nil, err
	}
	pck, err := listStamp("intel-pck-crl/"+string(p.CA), d.PCKCRL, 4, 5)
	if err != nil {
		return nil, err
	}
	root, err := listStamp("intel-root-crl", d.RootCRL, 6)
	return []Stamp{tcb, qe, pck, root}, err
}

// signedStamp dates one of Intel's JSON documents by its signed part alone.
func signedStamp(name, member string, doc []byte, at ...int) (Stamp, error) {
	signed, err := signedPart(doc, member)
	if err != nil {
		return Stamp{}, refusal.New(ReasonMalformed, "%s: %w", name, err)
	}
	var body struct {
		IssueDate  time.Time `json:"issueDate"`
		NextUpdate time.Time `json:"nextUpdate"`
		Number     *uint32   `json:"tcbEvaluationDataNumber"`
	}
	if err := json.Unmarshal(signed, &body); err != nil {
		return Stamp{}, refusal.New(ReasonMalformed, "%s: %w", name, err)
	}
	if body.Number == nil || body.IssueDate.IsZero() || body.NextUpdate.IsZero() {
		return Stamp{}, refusal.New(ReasonMalformed, "%s has no dates or no evaluation data number", name)
	}
	return Stamp{Name: name, Number: new(big.Int).SetUint64(uint64(*body.Number)), Issued: body.IssueDate, Ends: body.NextUpdate,
		Digest: sha256.Sum256(doc), Documents: at}, nil
}

// signedPart is the member of a JSON document that its signature covers. The document has that
// member and "signature", each once and spelled exactly so: package json would take "TCBInfo",
// which nobody signed, for the same, and the last one counts.
func signedPart(doc []byte, member string) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	malformed := refusal.New(ReasonMalformed, "want an object with %q and \"signature\" alone", member)
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed
	}
	parts := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if _, twice := parts[name]; err != nil || !ok || twice || name != member && name != "signature" {
			return nil, malformed
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, malformed
		}
		parts[name] = value
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') || len(parts) != 2 || len(bytes.TrimSpace(doc[dec.InputOffset():])) > 0 {
		return nil, malformed
	}
	return parts[member], nil
}

// Ends is when the first of an item's documents ends; the zero time for one that does not.
func Ends(stamps []Stamp) (first time.Time) {
	for _, s := range stamps {
		if first.IsZero() || s.Ends.Before(first) {
			first = s.Ends
		}
	}
	return first
}

// HalfLife is when the first of an item's documents has spent half of its life.
func HalfLife(stamps []Stamp) (first time.Time) {
	for _, s := range stamps {
		if half := s.Issued.Add(s.Ends.Sub(s.Issued) / 2); first.IsZero() || half.Before(first) {
			first = half
		}
	}
	return first
}
