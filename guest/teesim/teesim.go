//go:build !release

// Package teesim is a software TEE for development and tests. IT PROVES NOTHING.
//
// It behaves like a live SEV-SNP guest: it signs reports in the real format over any REPORT_DATA
// with a P-384 chip key, certified under a root of its own. That root cannot be taken for a
// vendor's (its names say so, and its key is not pinned anywhere), and processes that share a
// directory share one chain. It refuses options that no hardware could have. None of its files
// compiles into a release, and only builds with the tag softtee may import it from a main package.
// Tests and the demo use it.
package teesim

import (
	"context"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/snp"
)

// Options describe the simulated guest and platform.
type Options struct {
	// Dir keeps the chain of certificates and keys; made if missing. Required:
	// making RSA-4096 keys takes seconds.
	Dir string
	// Measurement is the launch measurement; zero is allowed, for a guest that was not measured.
	Measurement [48]byte
	// Version of the reports, 2, 3, 4 or 5; 0 is 3.
	Version uint32
	// HostData is what the host put in at launch.
	HostData [32]byte
	// VMPL is the privilege level.
	VMPL uint32
	// Debug and MigrateMA set the policy bits of those names.
	Debug, MigrateMA bool
	// TCB overrides versions by component; nil is one good version for all.
	TCB *TCBs
	// PlatformInfo are the platform bits; 0 is SMT with ECC and alias check.
	PlatformInfo uint64
	// VLEK signs with a provider's loaded key instead of the chip's.
	VLEK bool
	// MaskChip hides the chip id.
	MaskChip bool
	// Stall, if set, is a device that answers only when the channel is closed. Collect still
	// returns at its deadline.
	Stall <-chan struct{}
	// Change alters a report before it is signed, for cases that no field covers.
	Change func(report []byte)
}

// TCBs are raw TCB_VERSION values of a report, in the layout of Genoa.
type TCBs struct{ Current, Reported, Committed, Launch uint64 }

// goodTCB is boot loader 9, TEE 0, SNP 23, microcode 72: what the chain's
// certificates are made for.
const goodTCB = 72<<56 | 23<<48 | 9

// TEE is a simulated guest. It is safe for concurrent use.
type TEE struct {
	opt      Options
	chain    *chain
	chipID   [64]byte
	reportID [32]byte
}

const (
	reportSize     = 0x4a0
	signedSize     = 0x2a0
	policyReserved = 1 << 17 // must be one
	policySMT      = 1 << 16
	policyABI      = 31 // 0.31: the minor number is the low byte
)

// New makes a guest, with the chain in Options.Dir or a fresh one.
func New(o Options) (*TEE, error) {
	if o.Version == 0 {
		o.Version = 3
	}
	if o.Version < 2 || o.Version > 5 || o.VMPL > 3 {
		return nil, fmt.Errorf("teesim: report version %d or VMPL %d is out of range", o.Version, o.VMPL)
	}
	if o.TCB == nil {
		o.TCB = &TCBs{goodTCB, goodTCB, goodTCB, goodTCB}
	}
	if o.PlatformInfo == 0 {
		o.PlatformInfo = 0x25
	}
	c, err := openChain(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("teesim: %w", err)
	}
	t := &TEE{opt: o, chain: c, chipID: c.chipID}
	rand.Read(t.reportID[:])
	return t, nil
}

// RootsPEM is the chain's root and intermediate certificates, for a broker's
// development configuration.
func (t *TEE) RootsPEM() []byte { return slices.Clone(t.chain.rootsPEM) }

// Collect signs a report over the challenge and adds the whole chain.
func (t *TEE) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	if err := ctx.Err(); err != nil {
		return evidence.Envelope{}, err
	}
	if t.opt.Stall != nil {
		select {
		case <-t.opt.Stall:
		case <-ctx.Done():
			return evidence.Envelope{}, context.Cause(ctx)
		}
	}
	report := t.report(challenge)
	if t.opt.Change != nil {
		t.opt.Change(report)
	}
	key := t.chain.vcekKey
	if t.opt.VLEK {
		key = t.chain.vlekKey
	}
	if err := sign(report, key); err != nil {
		return evidence.Envelope{}, err
	}
	parts := []evidence.Part{{Type: evidence.PartSNPReport, Data: report}, {Type: evidence.EndorsementARK, Data: t.chain.ark}}
	if t.opt.VLEK {
		parts = append(parts, evidence.Part{Type: evidence.EndorsementASVK, Data: t.chain.asvk}, evidence.Part{Type: evidence.EndorsementVLEK, Data: t.chain.vlek})
	} else {
		parts = append(parts, evidence.Part{Type: evidence.EndorsementASK, Data: t.chain.ask}, evidence.Part{Type: evidence.EndorsementVCEK, Data: t.chain.vcek})
	}
	return evidence.NewEnvelope(evidence.KindSNP, parts...)
}

// report fills in the fixed layout (SEV-SNP ABI specification, table
// "ATTESTATION_REPORT").
func (t *TEE) report(reportData [64]byte) []byte {
	o, r := t.opt, make([]byte, reportSize)
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(r[at:], v) }
	put64 := func(at int, v uint64) { binary.LittleEndian.PutUint64(r[at:], v) }
	policy := uint64(policyABI | policySMT | policyReserved)
	if o.MigrateMA {
		policy |= 1 << 18
	}
	if o.Debug {
		policy |= 1 << 19
	}
	put32(0x00, o.Version)
	put64(0x08, policy)
	put32(0x30, o.VMPL)
	put32(0x34, 1) // ECDSA P-384 with SHA-384
	put64(0x38, o.TCB.Current)
	put64(0x40, o.PlatformInfo)
	var keyInfo uint32
	if o.MaskChip {
		keyInfo |= 2
	}
	if o.VLEK {
		keyInfo |= 1 << 2
	}
	put32(0x48, keyInfo)
	copy(r[0x50:], reportData[:])
	copy(r[0x90:], o.Measurement[:])
	copy(r[0xc0:], o.HostData[:])
	copy(r[0x140:], t.reportID[:])
	for i := range 32 {
		r[0x160+i] = 0xff // no migration agent
	}
	put64(0x180, o.TCB.Reported)
	if o.Version >= 3 {
		r[0x188], r[0x189], r[0x18a] = 0x19, 0x11, 1 // Genoa
	}
	if !o.MaskChip && !o.VLEK {
		copy(r[0x1a0:], t.chipID[:])
	}
	put64(0x1e0, o.TCB.Committed)
	r[0x1e8], r[0x1e9], r[0x1ea] = 21, 55, 1
	r[0x1ec], r[0x1ed], r[0x1ee] = 21, 55, 1
	put64(0x1f0, o.TCB.Launch)
	return r
}

// sign puts r and s, little-endian in 72 bytes each, behind the signed part.
func sign(report []byte, key *ecdsa.PrivateKey) error {
	digest := sha512.Sum384(report[:signedSize])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return fmt.Errorf("teesim: sign report: %w", err)
	}
	for i, n := range [][]byte{r.Bytes(), s.Bytes()} {
		slices.Reverse(n)
		copy(report[signedSize+72*i:], n)
	}
	return nil
}

// CommittedTCB is what reports say, as [snp.Deriver.CommittedTCB] reads it.
func (t *TEE) CommittedTCB(ctx context.Context) (uint64, error) {
	return t.opt.TCB.Committed, ctx.Err()
}

// Derive is a key of the chip for this measurement and policy, and for a TCB up to the committed one, as
// [snp.Deriver.Derive] has the firmware derive it.
func (t *TEE) Derive(ctx context.Context, tcb uint64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if tcb > t.opt.TCB.Committed {
		return nil, refusal.New(snp.ReasonOlderFirmware, "the committed TCB is below %#x", tcb)
	}
	chip, err := t.chain.vcekKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("teesim: %w", err)
	}
	report := t.report([64]byte{})
	info := binary.LittleEndian.AppendUint64(slices.Concat([]byte("teesim derived key"), report[0x08:0x10], report[0x90:0xc0]), tcb)
	return hkdf.Key(sha256.New, chip, nil, string(info), snp.DerivedKeyBytes)
}
