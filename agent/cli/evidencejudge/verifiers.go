package evidencejudge

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
)

// certificate is what chips' certificates are sorted as.
type certificate = *x509.Certificate

func contains(haystack, needle []byte) bool {
	return len(needle) > 0 && !bytes.Equal(needle, make([]byte, len(needle))) && bytes.Contains(haystack, needle)
}

// verifiers are the broker's, with what the files brought.
type verifiers struct {
	strict  *kinds.Verifier // asks for revocation
	waiving *kinds.Verifier // does without an AMD list that is not at hand
	gpu     *gpu.Verifier
}

// softwareRoots are what a development build believes beside the vendors' roots.
type softwareRoots struct{ pem []byte }

// newVerifiers makes them; without AMD's lists if unlisted.
func newVerifiers(c *evidencefile.Contents, o Options, unlisted bool) (*verifiers, error) {
	software := softwareRoots{o.SoftwareRoots}
	s := &c.Supplies
	lists := amdLists(s)
	if unlisted {
		lists = nil
	}
	roots, err := software.tdx()
	if err != nil {
		return nil, err
	}
	devices := &gpu.Verifier{}
	if err := software.gpu(devices); err != nil {
		return nil, err
	}
	quotes, err := tdx.New(tdx.Options{MinimumEvaluationNumber: max(o.MinimumEvaluationNumber, 1), Roots: roots})
	if err != nil {
		return nil, err
	}
	authorities, err := tpmAuthorities(s, o)
	if err != nil {
		return nil, err
	}
	base := kinds.Options{TDX: quotes, TDXCollateral: newDocuments(s, roots, o.Now), Authorities: authorities, Enrolled: o.EnrolledKeys, GPU: devices}
	v := &verifiers{gpu: devices}
	for _, w := range []struct {
		to      **kinds.Verifier
		without bool
	}{{&v.strict, false}, {&v.waiving, true}} {
		snp, err := appraise.New(appraise.Options{Certificates: raws(s.Authorities), RevocationLists: lists, WithoutRevocation: w.without})
		if err != nil {
			return nil, err
		}
		if err := software.snp(snp); err != nil {
			return nil, err
		}
		with := base
		with.SNP = snp
		*w.to = kinds.New(with)
	}
	return v, nil
}

func raws(list []*x509.Certificate) (der [][]byte) {
	for _, c := range list {
		der = append(der, c.Raw)
	}
	return der
}

// amdLists are those revocation lists that the verifier could read: others were signed by nobody
// whom it believes.
func amdLists(s *evidencefile.Supplies) (der [][]byte) {
	for _, l := range s.Lists {
		if l.SignatureAlgorithm == x509.SHA384WithRSAPSS && l.Number != nil {
			der = append(der, l.Raw)
		}
	}
	return der
}

// tpmAuthorities certify keys of TPMs, if the caller does without revocation, of which there is
// none: Google's.
func tpmAuthorities(s *evidencefile.Supplies, o Options) (*tpmquote.Authorities, error) {
	if !o.WithoutRevocation {
		return nil, nil
	}
	var certificates [][]byte
	for _, c := range s.Others {
		if c.IsCA && len(c.Raw) <= tpmquote.MaxCertificateBytes && len(certificates) < tpmquote.MaxCertificates {
			certificates = append(certificates, c.Raw)
		}
	}
	return tpmquote.NewAuthorities(tpmquote.AuthorityOptions{Roots: tpmquote.GoogleRoots(), Certificates: certificates, WithoutRevocation: true})
}

// documents are Intel's that came with the evidence.
type documents struct {
	set    *tdx.Set
	failed error // of the first that did not verify
}

// newDocuments verifies each combination. For one platform, those that hold at this time are taken
// rather than others, and then the newest.
func newDocuments(s *evidencefile.Supplies, roots tdx.Roots, now time.Time) *documents {
	d := &documents{}
	var list []*tdx.Collateral
	for _, docs := range s.TDXDocuments() {
		c, err := tdx.ParseCollateral(tdx.Documents(docs), roots)
		if err == nil {
			list = append(list, c)
		} else if d.failed == nil {
			d.failed = err
		}
	}
	slices.SortStableFunc(list, func(a, b *tdx.Collateral) int {
		if x, y := a.ValidAt(now) == nil, b.ValidAt(now) == nil; x != y {
			if x {
				return 1
			}
			return -1
		}
		if x, y := a.EvaluationNumber(), b.EvaluationNumber(); x != y {
			return int(x) - int(y)
		}
		_, x := a.Window()
		_, y := b.Window()
		return x.Compare(y)
	})
	d.set = tdx.NewSet(list...) // the last of a platform counts
	return d
}

// Lookup implements tdx.Provider.
func (d *documents) Lookup(fmspc [6]byte, ca tdx.CA) (*tdx.Collateral, error) {
	c, err := d.set.Lookup(fmspc, ca)
	if err == nil || d.failed == nil {
		return c, err
	}
	reason, ok := refusal.ReasonOf(d.failed)
	if !ok {
		return nil, errors.Join(err, d.failed)
	}
	return nil, refusal.New(reason, "no documents verify for FMSPC %x and the %s CA; of those that are here: %w", fmspc, ca, d.failed)
}
