package settings

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/collateral/fetch"
)

// Appraisal says what hardware evidence is judged with besides the root keys that are pinned in
// the binary. Files are DER or PEM. Without tdx, tpm and gpu the broker judges SEV-SNP alone, bare
// and under Azure's paravisor.
type Appraisal struct {
	// Certificates are ARK, ASK and ASVK certificates for guests whose host
	// hands out none.
	Certificates []string `yaml:"certificates"`
	// RevocationLists are AMD's, one for each product line in use. With a directory of collateral
	// there are none: it has them.
	RevocationLists []string `yaml:"revocation_lists"`
	// RevocationGraceHours accepts a list so long after its end; not with a directory of collateral.
	RevocationGraceHours int `yaml:"revocation_grace_hours"`
	// WithoutRevocation is the reason, in writing, for judging AMD's chains for which
	// no list is held. Without a reason they are refused.
	WithoutRevocation string `yaml:"without_revocation"`
	// Collateral is what AMD and Intel publish, kept in a directory and renewed.
	Collateral Collateral `yaml:"collateral"`
	// TDX has trust domains judged, those under Azure's paravisor too.
	TDX TDX `yaml:"tdx"`
	// TPM has quotes of TPMs judged whose key no processor vouches for.
	TPM TPM `yaml:"tpm"`
	// GPU has reports of NVIDIA GPUs judged, by NVIDIA's pinned root.
	GPU bool `yaml:"gpu"`
	// GPURevocationLists are files of lists of revoked GPU certificates, read again when they change. Every certificate
	// above the report key's then needs a current list of its issuer. Without any, none is checked, and each start says so.
	GPURevocationLists []string `yaml:"gpu_revocation_lists"`
	// GPUWithoutRevocation is the reason, in writing, for believing certificates of GPUs of whose issuer no list is held.
	GPUWithoutRevocation string `yaml:"gpu_without_revocation"`
}

// Collateral is a directory of certificates, revocation lists and TCB information, as "anchorhold
// collateral" fills it. The broker looks at it every minute, and renews what is in it.
type Collateral struct {
	// Directory is its path; it must exist, and the broker must be allowed to write it. Empty: the
	// files named above are all that there is.
	Directory string `yaml:"directory"`
	// Offline fetches nothing: the directory is filled by "anchorhold collateral import".
	Offline bool `yaml:"offline"`
	// KDS is the base URL of a mirror of AMD's service; empty means AMD's.
	KDS string `yaml:"kds"`
	// PCS and PCSRoot are base URLs of mirrors of Intel's service and of the place of its root's
	// revocation list; empty ones are Intel's. PCCS is a caching service in place of both.
	PCS     string `yaml:"pcs"`
	PCSRoot string `yaml:"pcs_root"`
	PCCS    string `yaml:"pccs"`
	// Grace accepts what has ended until a date, for a reason; by default nothing is.
	Grace CollateralGrace `yaml:"grace"`
}

// CollateralGrace accepts revocation lists and TCB information after their end, until a date. Each start and
// each day of use is logged.
type CollateralGrace struct {
	// Until is that date (RFC 3339); Reason says why. Neither is optional.
	Until  string `yaml:"until"`
	Reason string `yaml:"reason"`
}

// End is the date; the zero value without a grace.
func (g CollateralGrace) End() (time.Time, error) {
	if g == (CollateralGrace{}) {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, g.Until)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("until: got %q, want a time such as \"2026-11-01T00:00:00Z\"", g.Until)
	case strings.TrimSpace(g.Reason) == "":
		return time.Time{}, errors.New("reason: say why ended documents are accepted")
	}
	return until, nil
}

// TDX says how quotes of trust domains are judged.
type TDX struct {
	// MinimumEvaluationNumber is the lowest tcbEvaluationDataNumber, of Intel's TCB recoveries, of
	// the documents that a platform is judged by; 1 accepts every one. 0: no trust domain is judged.
	MinimumEvaluationNumber uint32 `yaml:"minimum_evaluation_number"`
}

// TPM says whose attestation keys of TPMs are believed. Under Azure's paravisor the processor
// vouches for the key, and nothing of this is needed.
type TPM struct {
	// Roots are the authorities at which the certificates of attestation keys may end: "google",
	// for Google Compute Engine's, or the SHA-256 of a root's public key (SubjectPublicKeyInfo) in
	// 64 hexadecimal digits.
	Roots []string `yaml:"roots"`
	// Certificates are roots and intermediate ones that evidence leaves out.
	Certificates []string `yaml:"certificates"`
	// Enrolled are the names of attestation keys that the operator believes, in hexadecimal: the
	// name algorithm and the digest, as tpm2_readpublic prints it.
	Enrolled []string `yaml:"enrolled"`
	// Reported believes the key of a TPM beside a report of SEV-SNP or a quote of TDX because that covers
	// it: the guest says which TPM is its own. Policies tell such keys from others ("report").
	Reported bool `yaml:"reported"`
	// RevocationLists are files of the authorities' lists, read again when they change. Every certificate below the
	// root then needs a current list of its issuer.
	RevocationLists []string `yaml:"revocation_lists"`
	// WithoutRevocation is the reason, in writing, for believing certificates of whose issuer no list is held.
	// Roots without lists need it.
	WithoutRevocation string `yaml:"without_revocation"`
}

// RootGoogle is the name of Google's roots.
const RootGoogle = "google"

// Check finds everything that is wrong with the settings.
func (a Appraisal) Check() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("appraisal."+format, args...))
	}
	if a.RevocationGraceHours < 0 {
		bad("revocation_grace_hours: %d is negative", a.RevocationGraceHours)
	}
	c := a.Collateral
	switch {
	case c.Directory == "" && c != (Collateral{}):
		bad("collateral: a directory is required")
	case c.Directory != "" && !filepath.IsAbs(c.Directory):
		bad("collateral.directory: an absolute path is required")
	case c.Directory != "" && len(a.RevocationLists) > 0:
		bad("revocation_lists: the directory of collateral has them; remove one of the two settings")
	case c.Directory != "" && a.RevocationGraceHours > 0:
		bad("revocation_grace_hours: lists of the directory of collateral have collateral.grace; remove one of the two settings")
	case c.PCCS != "" && c.PCS+c.PCSRoot != "":
		bad("collateral: pccs stands for pcs and pcs_root; remove one or the others")
	case c.Offline && c.KDS+c.PCS+c.PCSRoot+c.PCCS != "":
		bad("collateral: an offline broker asks no mirror; remove offline or the URLs")
	}
	if _, err := c.Grace.End(); err != nil {
		bad("collateral.grace.%w", err)
	}
	for _, u := range []struct{ name, url string }{{"kds", c.KDS}, {"pcs", c.PCS}, {"pcs_root", c.PCSRoot}, {"pccs", c.PCCS}} {
		if u.url == "" {
			continue
		}
		if _, err := fetch.ParseBase(u.url, fetch.Pace{}); err != nil {
			bad("collateral.%s: %w", u.name, err)
		}
	}
	if a.TDX.MinimumEvaluationNumber > 0 && c.Directory == "" {
		bad("tdx: Intel's documents are kept in appraisal.collateral.directory, which is not set")
	}
	if err := a.TPM.check(); err != nil {
		bad("tpm.%w", err)
	}
	if !a.GPU && (len(a.GPURevocationLists) > 0 || a.GPUWithoutRevocation != "") {
		bad("gpu: revocation of GPUs is configured, and none is judged")
	}
	return errors.Join(problems...)
}

// RevocationUnchecked says of which certificates nobody asks whether they were revoked.
func (a Appraisal) RevocationUnchecked() (out []string) {
	if len(a.TPM.Roots) > 0 && len(a.TPM.RevocationLists) == 0 {
		out = append(out, "certificates of TPM attestation keys: no appraisal.tpm.revocation_lists")
	}
	if a.GPU && len(a.GPURevocationLists) == 0 {
		out = append(out, "certificates of GPUs: no appraisal.gpu_revocation_lists")
	}
	return out
}

func (t TPM) check() error {
	if _, err := t.RootKeys(nil); err != nil {
		return err
	}
	if _, err := t.EnrolledNames(); err != nil {
		return err
	}
	switch {
	case len(t.Roots) > 0 && t.WithoutRevocation == "" && len(t.RevocationLists) == 0:
		return errors.New("revocation_lists: no list of revoked attestation keys is read; name one, or give under without_revocation the reason for believing certificates all the same")
	case len(t.Roots) == 0 && len(t.RevocationLists) > 0:
		return errors.New("revocation_lists: they are about roots, and there are none")
	case len(t.Roots) == 0 && len(t.Certificates) > 0:
		return errors.New("certificates: without roots none is believed")
	case len(t.Roots) == 0 && t.WithoutRevocation != "":
		return errors.New("without_revocation: it is about roots, and there are none")
	}
	return nil
}

// RootKeys are the digests of the roots' public keys; google are those of Google's.
func (t TPM) RootKeys(google [][32]byte) (keys [][32]byte, err error) {
	for i, text := range t.Roots {
		if text == RootGoogle {
			keys = append(keys, google...)
			continue
		}
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("roots: entry %d is neither %q nor 64 hexadecimal digits", i+1, RootGoogle)
		}
		keys = append(keys, [32]byte(raw))
	}
	return keys, nil
}

// EnrolledNames are the names of the enrolled keys (TPM 2.0 Library, part 1, 16: the number of
// SHA-256 or SHA-384 and the digest).
func (t TPM) EnrolledNames() (names [][]byte, err error) {
	for i, text := range t.Enrolled {
		raw, err := hex.DecodeString(text)
		sha256 := len(raw) == 2+32 && raw[0] == 0 && raw[1] == 0x0b
		sha384 := len(raw) == 2+48 && raw[0] == 0 && raw[1] == 0x0c
		if err != nil || !sha256 && !sha384 {
			return nil, fmt.Errorf("enrolled: entry %d is no name of a key: 000b and 64 hexadecimal digits, or 000c and 96", i+1)
		}
		names = append(names, raw)
	}
	return names, nil
}

// Grace is how long revocation lists are accepted after their end.
func (a Appraisal) Grace() time.Duration {
	return time.Duration(a.RevocationGraceHours) * time.Hour
}
