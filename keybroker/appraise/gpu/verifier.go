package gpu

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/crl"
)

// MaxDevices bounds the reports that are appraised together.
const MaxDevices = evidence.MaxGPUs

// Evidence is one device's report with its chain of certificates in DER, the report key's first
// and the root last.
type Evidence struct {
	Report []byte
	Chain  [][]byte
}

// Verifier appraises reports. The zero value believes NVIDIA's root alone. It may be used by
// several goroutines.
type Verifier struct {
	software map[[32]byte]bool // roots of emulators; nil in a release
	lists    *crl.Lists        // nil: the caller wrote that revocation is not checked by configuring none
	cache    chainCache
}

// Appraise verifies a report that must be over a nonce, at the broker's time, and returns what
// it proves. A refusal is an *refusal.Error.
func (v *Verifier) Appraise(ctx context.Context, e Evidence, nonce [32]byte, now time.Time) (evidence.GPUClaims, error) {
	if err := ctx.Err(); err != nil {
		return evidence.GPUClaims{}, err
	}
	r, err := parseReport(e.Report)
	if err != nil {
		return evidence.GPUClaims{}, err
	}
	// Freshness first: it is cheap, and a replayed report deserves no more work.
	if subtle.ConstantTimeCompare(r.nonce, nonce[:]) != 1 {
		return evidence.GPUClaims{}, refusal.New(ReasonNonce, "the report was made for another nonce")
	}
	c, err := v.chainOf(e.Chain)
	if err != nil {
		return evidence.GPUClaims{}, err
	}
	if err := c.validAt(now); err != nil {
		return evidence.GPUClaims{}, err
	}
	if err := v.unrevoked(c, now); err != nil {
		return evidence.GPUClaims{}, err
	}
	digest := sha512.Sum384(r.signed)
	if !ecdsa.Verify(c.key, digest[:], new(big.Int).SetBytes(r.r), new(big.Int).SetBytes(r.s)) {
		return evidence.GPUClaims{}, refusal.New(ReasonSignature, "the report was changed or signed by another key")
	}
	if r.opaque.fwid != nil && subtle.ConstantTimeCompare(r.opaque.fwid, c.firmware.fwid) != 1 {
		return evidence.GPUClaims{}, refusal.New(ReasonFirmware, "the report is from firmware %x, its certificate is for %x", r.opaque.fwid, c.firmware.fwid)
	}
	return c.claims(r), nil
}

// Revocation has certificates judged by lists (DER) of their authorities. Those of a chip's authority and of its
// provisioner need a current one of their issuer, unless without accepts those that no list is held of. It is called before the verifier is used; without it nobody asks for lists.
func (v *Verifier) Revocation(lists [][]byte, without bool) (err error) {
	v.lists, err = crl.New(crl.Options{Lists: lists, WithoutRevocation: without, Revoked: ReasonRevoked, Unknown: ReasonRevocationUnknown})
	return err
}

// SetRevocationLists takes new lists besides those that are held: see [crl.Lists.Set].
func (v *Verifier) SetRevocationLists(raw [][]byte) error {
	if v.lists == nil {
		return errors.New("gpu: the verifier was made without revocation lists")
	}
	return v.lists.Set(raw)
}

// ListEnds are when the lists end.
func (v *Verifier) ListEnds() []crl.End {
	if v.lists == nil {
		return nil
	}
	return v.lists.Ends()
}

// unrevoked asks the lists at every use of a chain. NVIDIA names a list in the certificates of a chip's authority and of its
// provisioner, and none in a device's. The report key's was issued by the device itself.
func (v *Verifier) unrevoked(c *chain, now time.Time) error {
	if v.lists == nil {
		return nil
	}
	if err := v.lists.Check(c.certificates[atProvisioner:], now); err != nil {
		return err
	}
	return v.lists.Ask(c.certificates[atDevice], c.certificates[atProvisioner], now)
}

// AppraiseAll appraises the reports of one guest's devices, all over one nonce, and refuses the
// lot if one is refused or two are of one device.
func (v *Verifier) AppraiseAll(ctx context.Context, list []Evidence, nonce [32]byte, now time.Time) ([]evidence.GPUClaims, error) {
	if len(list) == 0 || len(list) > MaxDevices {
		return nil, refusal.New(ReasonSameDevice, "%d reports; 1 to %d are appraised together", len(list), MaxDevices)
	}
	claims := make([]evidence.GPUClaims, len(list))
	for i, e := range list {
		var err error
		if claims[i], err = v.Appraise(ctx, e, nonce, now); err != nil {
			return nil, fmt.Errorf("device %d: %w", i, err)
		}
	}
	if err := Distinct(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// Distinct refuses claims of which two are of one device. A device keeps its name across
// firmware, and thereby across keys.
func Distinct(claims []evidence.GPUClaims) error {
	seen := map[string]int{}
	for i, c := range claims {
		if first, twice := seen[c.Device]; twice || c.Device == "" {
			return refusal.New(ReasonSameDevice, "reports %d and %d are of device %q", first, i, c.Device)
		}
		seen[c.Device] = i
	}
	return nil
}

// claims are what a verified report says.
func (c *chain) claims(r *report) evidence.GPUClaims {
	blocks := make(map[int]evidence.Hex, len(r.measurements))
	for i, value := range r.measurements {
		blocks[i] = value
	}
	o, f := &r.opaque, &c.firmware
	return evidence.GPUClaims{
		Architecture: c.architecture, Software: c.software, Model: c.commonName(atDevice), Device: c.certificates[atDevice].SerialNumber.Text(16),
		UEID: c.certificates[atLeaf].SerialNumber.String(), Chip: o.chip, Driver: o.driver, VBIOS: o.vbios,
		ChipSKU: o.chipSKU, Project: o.project, ProjectSKU: o.projectSKU, FWID: f.fwid, FWIDReported: o.fwid != nil,
		FlagsStated: f.flags != nil, Debug: f.flag(flagDebug), Recovery: f.flag(flagRecovery), NotSecure: f.flag(flagNotSecure),
		NotConfigured: f.flag(flagNotConfigured), SVN: f.svn, Mode: o.mode, ProtectedPCIe: o.protectedPCIe, NVDEC0: o.nvdec0,
		Measurements: blocks,
	}
}
