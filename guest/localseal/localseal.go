// Package localseal makes keys that only this guest can make again: under the same PCRs of the same TPM, from
// the same image on the same SEV-SNP processor, or under both at once.
//
// With a TPM a key opens so many times and no more, whatever copy of the disk is put back, and each new key
// ends those before it. With SEV-SNP alone nothing counts: a host that restarts the guest opens the key as often
// as it likes. A TPM is as good as whoever emulates it; with both, the processor keeps the key secret and the
// TPM counts. The package says nothing about whether a key may be used: the agent has its broker's word for
// that (agent/tenure/restart), and calls it. What is kept of a key, a handle, is not secret and is read as foreign bytes.
package localseal

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/guest/vtpm"
)

// Reasons of this package; those of packages vtpm and snp are about the devices.
const (
	// ReasonHandle: the handle is malformed, or of another version.
	ReasonHandle refusal.Reason = "sealed-handle-malformed"
	// ReasonOtherWay: it was sealed in another way than this guest is configured for.
	ReasonOtherWay refusal.Reason = "sealed-another-way"
)

const (
	label     = "anchorhold/localseal/1"
	saltBytes = 32

	// KeyBytes is the size of a key.
	KeyBytes = 32
	// MaxHandleBytes bounds what is kept of one.
	MaxHandleBytes = 4 << 10

	byTPM = 1
	bySNP = 2
)

// TPM seals and counts; [vtpm.Collector] implements it.
type TPM interface {
	Seal(ctx context.Context, index uint32, opens uint16, secret []byte) (vtpm.Sealed, error)
	Open(ctx context.Context, s vtpm.Sealed) (vtpm.Opened, error)
	Exhaust(ctx context.Context, index uint32) error
}

// Deriver has a processor derive keys; [snp.Deriver] and the software TEE implement it.
type Deriver interface {
	CommittedTCB(ctx context.Context) (uint64, error)
	Derive(ctx context.Context, tcb uint64) ([]byte, error)
}

// Sealer makes keys. At least one of its devices must be there; all that are there are needed to
// open a key.
type Sealer struct {
	// TPM and SNP are the devices.
	TPM TPM
	SNP Deriver
	// Index is the NV index of the TPM's counter; [vtpm.SealCounter] if zero.
	Index uint32
}

func (s *Sealer) index() uint32 {
	if s.Index == 0 {
		return vtpm.SealCounter
	}
	return s.Index
}

func (s *Sealer) ways() (ways uint8) {
	if s.TPM != nil {
		ways |= byTPM
	}
	if s.SNP != nil {
		ways |= bySNP
	}
	return ways
}

// New makes a key that opens so many times if there is a TPM, which ends all keys before it, and returns what is to be kept of
// it. The caller wipes the key.
func (s *Sealer) New(ctx context.Context, opens uint16) (key, kept []byte, err error) {
	h := handle{ways: s.ways()}
	rand.Read(h.salt[:]) // never fails: crypto/rand ends the process instead
	var secrets [2][]byte
	defer func() { wipe(secrets[:]) }()
	if s.SNP != nil {
		if h.tcb, err = s.SNP.CommittedTCB(ctx); err != nil {
			return nil, nil, err
		}
		if secrets[1], err = s.SNP.Derive(ctx, h.tcb); err != nil {
			return nil, nil, err
		}
	}
	if s.TPM != nil {
		secrets[0] = make([]byte, vtpm.SecretBytes)
		rand.Read(secrets[0])
		if h.tpm, err = s.TPM.Seal(ctx, s.index(), opens, secrets[0]); err != nil {
			return nil, nil, err
		}
	}
	if kept, err = h.marshal(); err != nil {
		return nil, nil, err
	}
	key, err = join(secrets, kept)
	return key, kept, err
}

// Open makes a key again from what was kept; the caller wipes it. With a TPM it is counted before anything is
// opened: number says how often, this time included, and elapsed what the TPM's clock says has passed since the key was
// made. Both are zero without a TPM.
func (s *Sealer) Open(ctx context.Context, kept []byte) (key []byte, number uint16, elapsed time.Duration, err error) {
	h, err := parse(kept)
	if err != nil {
		return nil, 0, 0, err
	}
	if h.ways != s.ways() {
		return nil, 0, 0, refusal.New(ReasonOtherWay, "it was sealed by the devices %b, and this guest has %b", h.ways, s.ways())
	}
	if s.TPM != nil && h.tpm.Index != s.index() {
		return nil, 0, 0, refusal.New(ReasonOtherWay, "it was counted by the index %#x, and this guest counts by %#x", h.tpm.Index, s.index())
	}
	var secrets [2][]byte
	defer func() { wipe(secrets[:]) }()
	// First what costs no opening.
	if s.SNP != nil {
		if secrets[1], err = s.SNP.Derive(ctx, h.tcb); err != nil {
			return nil, 0, 0, err
		}
	}
	if s.TPM != nil {
		opened, err := s.TPM.Open(ctx, h.tpm)
		if err != nil {
			return nil, 0, 0, err
		}
		secrets[0], number, elapsed = opened.Secret, opened.Number, opened.Elapsed
	}
	key, err = join(secrets, kept)
	return key, number, elapsed, err
}

// Forget ends every key that was made, if there is a TPM; without one only the lack of what was kept does.
func (s *Sealer) Forget(ctx context.Context) error {
	if s.TPM == nil {
		return nil
	}
	return s.TPM.Exhaust(ctx, s.index())
}

// join derives the key from what every device gave, for this handle alone.
func join(secrets [2][]byte, kept []byte) ([]byte, error) {
	if len(secrets[0])+len(secrets[1]) == 0 {
		return nil, errors.New("localseal: no device sealed it")
	}
	all := slices.Concat(secrets[0], secrets[1])
	defer clear(all)
	sum := sha256.Sum256(kept)
	return hkdf.Key(sha256.New, all, nil, label+string(sum[:]), KeyBytes)
}

func wipe(secrets [][]byte) {
	for _, s := range secrets {
		clear(s)
	}
}

// handle is what is kept of a key.
type handle struct {
	ways uint8
	salt [saltBytes]byte
	tpm  vtpm.Sealed
	tcb  uint64
}

func (h handle) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	part := func(v []byte) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(v) })
	}
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(label)) })
	b.AddUint8(h.ways)
	b.AddBytes(h.salt[:])
	if h.ways&byTPM != 0 {
		b.AddUint32(h.tpm.Index)
		b.AddUint64(h.tpm.Last)
		b.AddUint16(h.tpm.Opens)
		b.AddUint64(uint64(h.tpm.Clock.Milliseconds()))
		part(h.tpm.Parent)
		part(h.tpm.Private)
		part(h.tpm.Public)
	}
	if h.ways&bySNP != 0 {
		b.AddUint64(h.tcb)
	}
	kept, err := b.Bytes()
	if err == nil && len(kept) > MaxHandleBytes {
		return nil, refusal.New(ReasonHandle, "%d bytes, the limit is %d", len(kept), MaxHandleBytes)
	}
	return kept, err
}

// maxClock bounds the TPM's clock, to 139 years.
const maxClock = 1 << 42

// parse reads a handle; package vtpm checks what is for the TPM.
func parse(kept []byte) (h handle, err error) {
	s := cryptobyte.String(kept)
	var name cryptobyte.String
	var clock uint64
	bad := refusal.New(ReasonHandle, "truncated, trailing bytes, over a limit or of another version")
	if len(kept) > MaxHandleBytes || !s.ReadUint8LengthPrefixed(&name) || string(name) != label || !s.ReadUint8(&h.ways) || h.ways == 0 || h.ways > byTPM|bySNP || !s.CopyBytes(h.salt[:]) {
		return handle{}, bad
	}
	part := func(v *[]byte) bool {
		var read cryptobyte.String
		ok := s.ReadUint16LengthPrefixed(&read)
		*v = slices.Clone([]byte(read))
		return ok
	}
	if h.ways&byTPM != 0 && (!s.ReadUint32(&h.tpm.Index) || !s.ReadUint64(&h.tpm.Last) || !s.ReadUint16(&h.tpm.Opens) || !s.ReadUint64(&clock) || clock > maxClock ||
		!part(&h.tpm.Parent) || !part(&h.tpm.Private) || !part(&h.tpm.Public)) {
		return handle{}, bad
	}
	h.tpm.Clock = time.Duration(clock) * time.Millisecond
	if h.ways&bySNP != 0 && !s.ReadUint64(&h.tcb) || !s.Empty() {
		return handle{}, bad
	}
	return h, nil
}

var _ Deriver = (*snp.Deriver)(nil)
