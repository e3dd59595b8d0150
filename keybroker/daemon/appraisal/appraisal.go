// Package appraisal makes the broker's verifier of evidence from its settings.
//
// An [Appraiser] judges the kinds that the settings name, SEV-SNP always, and refuses every other.
// With a directory of collateral it keeps itself supplied while [Appraiser.Run] runs: certificates
// of chips, revocation lists and Intel's TCB information come from the directory and, unless it is
// offline, from the vendors' services or the mirrors that the settings name. It trusts the roots
// that are pinned in the binary; a development build can add those of software TEEs. It refuses
// settings whose files cannot be read, and a release has no roots but the pinned ones. The broker's
// main makes one, and package daemon runs it.
package appraisal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/crl"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/kinds"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/anchorhold/anchorhold/keybroker/collateral/intel"
	"github.com/anchorhold/anchorhold/keybroker/collateral/supply"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

// Roots are software TEEs' that a development build believes besides the vendors'. The zero value
// is none.
type Roots struct {
	snp []byte // PEM
	tdx tdx.Roots
}

// Appraiser judges evidence. It may be used by several goroutines.
type Appraiser struct {
	*kinds.Verifier
	snp         *appraise.Verifier
	authorities *tpmquote.Authorities // nil without roots
	gpu         *gpu.Verifier         // nil if no GPU is judged
	depot       *depot.Depot          // nil without a directory
	supply      *supply.Appraiser     // nil without a directory
	grace       depot.Grace
	log         *slog.Logger
}

// Open makes an appraiser. Close it after Run and all else has returned.
func Open(c settings.Appraisal, roots Roots, log *slog.Logger) (*Appraiser, error) {
	a, err := open(c, roots, log)
	if err != nil {
		return nil, fmt.Errorf("appraisal: %w", err)
	}
	log.Info("evidence is judged", "kinds", a.Kinds())
	return a, nil
}

func open(c settings.Appraisal, roots Roots, log *slog.Logger) (a *Appraiser, err error) {
	a = &Appraiser{log: log}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	until, err := c.Collateral.Grace.End()
	if err != nil {
		return a, err
	}
	a.grace = depot.Grace{Until: until, Reason: c.Collateral.Grace.Reason}
	if a.snp, err = snpVerifier(c, until, roots, log); err != nil {
		return a, err
	}
	o := kinds.Options{SNP: a.snp}
	if c.Collateral.Directory != "" {
		if err := a.supplied(c.Collateral, roots); err != nil {
			return a, err
		}
		o.SNP = a.supply
	}
	if n := c.TDX.MinimumEvaluationNumber; n > 0 {
		if a.depot == nil {
			return a, errors.New("tdx: a directory of collateral is required")
		}
		if o.TDX, err = tdx.New(tdx.Options{MinimumEvaluationNumber: n, Roots: roots.tdx, GraceUntil: until}); err != nil {
			return a, err
		}
		o.TDXCollateral = supply.NewTDX(a.depot, roots.tdx)
	}
	if o.Authorities, o.Enrolled, err = attestationKeys(c.TPM, log); err != nil {
		return a, fmt.Errorf("tpm: %w", err)
	}
	o.ReportedKeys = c.TPM.Reported
	if c.GPU {
		if o.GPU, err = gpus(c); err != nil {
			return a, fmt.Errorf("gpu: %w", err)
		}
	}
	for _, what := range c.RevocationUnchecked() {
		log.Warn("revocation is not checked", "of", what)
	}
	a.authorities, a.gpu = o.Authorities, o.GPU
	a.Verifier = kinds.New(o)
	return a, nil
}

// snpVerifier reads the files that the configuration names. Revocation is checked
// unless someone wrote down why not, and then every start says so.
func snpVerifier(c settings.Appraisal, grace time.Time, roots Roots, log *slog.Logger) (*appraise.Verifier, error) {
	o := appraise.Options{WithoutRevocation: c.WithoutRevocation != "", RevocationGrace: c.Grace(), RevocationGraceUntil: grace}
	if o.WithoutRevocation {
		log.Warn("revoked vendor keys may go unnoticed: appraisal.without_revocation is set", "reason", c.WithoutRevocation)
	}
	var err error
	if o.Certificates, err = settings.ReadDER(c.Certificates); err != nil {
		return nil, err
	}
	if o.RevocationLists, err = settings.ReadDER(c.RevocationLists); err != nil {
		return nil, err
	}
	v, err := appraise.New(o)
	if err != nil {
		return nil, err
	}
	return v, roots.allow(v)
}

// supplied opens the directory. What is put into it is verified by the pinned roots; whether a
// list is held is asked where evidence is judged.
func (a *Appraiser) supplied(c settings.Collateral, roots Roots) error {
	v, err := appraise.New(appraise.Options{WithoutRevocation: true})
	if err != nil {
		return err
	}
	if err := roots.allow(v); err != nil {
		return err
	}
	wanted, err := wanted()
	if err != nil {
		return err
	}
	a.depot, err = depot.Open(depot.Options{Dir: c.Directory, KDS: c.KDS, PCS: c.PCS, PCSRoot: c.PCSRoot, PCCS: c.PCCS, Offline: c.Offline, Grace: a.grace,
		AMD: v, TDX: intel.Check(roots.tdx), Wanted: wanted, Logger: a.log})
	if err != nil {
		return err
	}
	a.supply, err = supply.New(a.snp, a.depot, a.log)
	return err
}

// wanted are the authorities and lists of AMD's product lines: without a list a guest is refused,
// and so the first one cannot wait for its guest. Intel's documents are fetched for the first guest
// of a platform, and renewed from then on.
func wanted() (keys []collateral.Key, err error) {
	for _, p := range collateral.Products() {
		chain, err := collateral.ChainKey(p, false)
		if err != nil {
			return nil, err
		}
		list, err := collateral.CRLKey(p)
		if err != nil {
			return nil, err
		}
		keys = append(keys, chain, list)
	}
	return keys, nil
}

// attestationKeys says which keys of TPMs are believed.
func attestationKeys(c settings.TPM, log *slog.Logger) (*tpmquote.Authorities, [][]byte, error) {
	names, err := c.EnrolledNames()
	if err != nil || len(c.Roots) == 0 {
		return nil, names, err
	}
	if c.WithoutRevocation != "" {
		log.Warn("revoked attestation keys of TPMs may go unnoticed: appraisal.tpm.without_revocation is set", "reason", c.WithoutRevocation)
	}
	o := tpmquote.AuthorityOptions{WithoutRevocation: c.WithoutRevocation != ""}
	if o.Roots, err = c.RootKeys(tpmquote.GoogleRoots()); err != nil {
		return nil, nil, err
	}
	if o.Certificates, err = settings.ReadDER(c.Certificates); err != nil {
		return nil, nil, err
	}
	if o.RevocationLists, err = settings.ReadDER(c.RevocationLists); err != nil {
		return nil, nil, err
	}
	authorities, err := tpmquote.NewAuthorities(o)
	return authorities, names, err
}

// gpus makes the verifier of GPUs, which asks for lists if there are any.
func gpus(c settings.Appraisal) (*gpu.Verifier, error) {
	v := &gpu.Verifier{}
	if len(c.GPURevocationLists) == 0 {
		return v, nil
	}
	lists, err := settings.ReadDER(c.GPURevocationLists)
	if err != nil {
		return nil, err
	}
	return v, v.Revocation(lists, c.GPUWithoutRevocation != "")
}

// Appraise is [kinds.Verifier.Appraise].
func (a *Appraiser) Appraise(ctx context.Context, env evidence.Envelope, challenge [64]byte, now time.Time) (evidence.Claims, error) {
	return a.Verifier.Appraise(ctx, env, challenge, now)
}

// SetRevocationLists replaces AMD's lists, for lists from files.
func (a *Appraiser) SetRevocationLists(raw [][]byte) error { return a.snp.SetRevocationLists(raw) }

// SetTPMRevocationLists takes lists of authorities of attestation keys besides those that are held.
func (a *Appraiser) SetTPMRevocationLists(raw [][]byte) error {
	if a.authorities == nil {
		return errors.New("tpm: without roots there is nothing to revoke")
	}
	return a.authorities.SetRevocationLists(raw)
}

// SetGPURevocationLists does the same for GPUs.
func (a *Appraiser) SetGPURevocationLists(raw [][]byte) error {
	if a.gpu == nil {
		return errors.New("gpu: none is judged")
	}
	return a.gpu.SetRevocationLists(raw)
}

// listEnds are the ends of the lists of TPMs' and GPUs' authorities.
func (a *Appraiser) listEnds() (out []appraise.End) {
	var ends []crl.End
	if a.authorities != nil {
		ends = append(ends, a.authorities.ListEnds()...)
	}
	if a.gpu != nil {
		ends = append(ends, a.gpu.ListEnds()...)
	}
	for _, e := range ends {
		out = append(out, appraise.End{Kind: "revocation_list", Name: e.Issuer, At: e.At})
	}
	return out
}

// Ends are [appraise.Verifier.Ends], those of Intel's documents that are kept, and that of a grace.
func (a *Appraiser) Ends() []appraise.End {
	ends := append(a.snp.Ends(), a.listEnds()...)
	for _, item := range a.items() {
		if item.Key.Kind() == collateral.KindTDX && item.Ends != nil {
			ends = append(ends, appraise.End{Kind: "tdx_collateral", Name: item.Key.String(), At: *item.Ends})
		}
	}
	if g := a.grace; time.Now().Before(g.Until) {
		ends = append(ends, appraise.End{Kind: "collateral_grace", Name: g.Reason, At: g.Until})
	}
	return ends
}

// items are what the directory holds and wants.
func (a *Appraiser) items() []depot.ItemStatus {
	if a.depot == nil {
		return nil
	}
	st, err := a.depot.Status()
	if err != nil {
		a.log.Error("collateral cannot be read", "err", err)
	}
	return st.Items
}

// Metrics are how much collateral is kept, how old the oldest of it is, and how much of it is
// missing, has ended, or could not be renewed when that was tried last.
func (a *Appraiser) Metrics() map[string]int64 {
	if a.depot == nil {
		return nil
	}
	var oldest, missing, ended, failing int64
	items := a.items()
	for _, item := range items {
		oldest = max(oldest, item.AgeSeconds)
		if item.Missing {
			missing++
		}
		if item.Ended {
			ended++
		}
		if item.Failures > 0 {
			failing++
		}
	}
	const name = "anchorhold_broker_collateral_"
	return map[string]int64{name + "items": int64(len(items)), name + "oldest_seconds": oldest, name + "missing": missing, name + "ended": ended, name + "failing": failing}
}

// Run keeps the directory's collateral renewed until the context ends.
func (a *Appraiser) Run(ctx context.Context) error {
	if a.supply == nil {
		<-ctx.Done()
		return nil
	}
	return a.supply.Run(ctx)
}

// Close ends what is being fetched.
func (a *Appraiser) Close() {
	if a.depot != nil {
		a.depot.Close()
	}
}
