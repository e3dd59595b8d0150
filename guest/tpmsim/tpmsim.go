//go:build !release

// Package tpmsim is a software TPM for development and tests. IT PROVES NOTHING.
//
// It quotes PCRs in the real format with an attestation key of its own, over any nonce, and writes
// the log of a measured boot as real firmware and GRUB do; [Log] also writes that of a
// confidential guest. The key has a certificate of an authority that is pinned nowhere, and keeps
// its name in a directory, so that an operator can enrol it. It is not the emulator to test a TPM
// driver with: it takes no commands. None of its files compiles into a release. The broker's tests
// and the demo use it.
package tpmsim

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/vtpm"
)

// Options describe the simulated TPM and its guest.
type Options struct {
	// Dir keeps the key and its authority; made if missing. Without it they live in memory.
	Dir string
	// Key is the attestation key instead, ECDSA over P-256 or RSA.
	Key crypto.Signer
	// Boot is what the guest measured before the TPM is used.
	Boot Boot
	// Bank and PCRs are what Collect quotes: SHA-256 and PCRs 0 to 9 if empty.
	Bank string
	PCRs []int
	// Change alters an attestation before it is signed, for cases that no field covers.
	Change func(attest []byte)
}

// TPM is a simulated TPM. It is safe for concurrent use.
type TPM struct {
	opt       Options
	authority *authority
	public    []byte

	mu  sync.Mutex
	log *Log // owned by mu
}

// Numbers of the TPM (TPM 2.0 Library, part 2).
const (
	magicGenerated = 0xff544347
	attestQuote    = 0x8018
	algRSA         = 0x0001
	algNull        = 0x0010
	algRSASSA      = 0x0014
	algECDSA       = 0x0018
	algECC         = 0x0023
	curveP256      = 0x0003
	attributes     = 1<<1 | 1<<4 | 1<<5 | 1<<6 | 1<<10 | 1<<16 | 1<<18 // a restricted signing key that does not leave
	endorsement    = 0x4000000b
	firmware       = 0x2019102300163636
)

// New makes a TPM and measures the boot.
func New(o Options) (*TPM, error) {
	if o.Bank == "" {
		o.Bank = evidence.BankSHA256
	}
	if len(o.PCRs) == 0 {
		o.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	}
	t := &TPM{opt: o, log: NewLog(TPMLog)}
	var err error
	if t.authority, err = openAuthority(o.Dir, o.Key); err != nil {
		return nil, err
	}
	if t.public, err = publicArea(t.authority.key.Public()); err != nil {
		return nil, err
	}
	return t, o.Boot.Write(t.log)
}

// Measure extends a PCR and logs the event, as the running system does ([Log.Measure]).
func (t *TPM) Measure(pcr int, typ uint32, data, measured []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Measure(pcr, typ, data, measured)
}

// Public is the attestation key's public area, TPMT_PUBLIC.
func (t *TPM) Public() []byte { return slices.Clone(t.public) }

// Key is the attestation key.
func (t *TPM) Key() crypto.PublicKey { return t.authority.key.Public() }

// Name is the attestation key's name.
func (t *TPM) Name() []byte {
	d := sha256.Sum256(t.public)
	return append([]byte{0, algSHA256}, d[:]...)
}

// Root is the certificate (DER) of the authority that certified the key.
func (t *TPM) Root() []byte { return slices.Clone(t.authority.root.Raw) }

// Collect quotes the options' PCRs over a nonce of at most [vtpm.MaxNonceBytes] bytes, as
// [vtpm.Collector.Collect] does.
func (t *TPM) Collect(ctx context.Context, nonce []byte) (vtpm.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return vtpm.Evidence{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	quote, err := t.quote(nonce, t.opt.Bank, t.opt.PCRs)
	return vtpm.Evidence{Quote: quote, Certificate: slices.Clone(t.authority.certificate)}, err
}

// EventLog is the log of everything measured so far, as [vtpm.Collector.EventLog] reads it.
func (t *TPM) EventLog(ctx context.Context) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.Bytes(), ctx.Err()
}

// Quote is a quote over a nonce of the given PCRs.
func (t *TPM) Quote(nonce []byte, bank string, pcrs ...int) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.quote(nonce, bank, pcrs)
}

// quote needs mu.
func (t *TPM) quote(nonce []byte, bank string, pcrs []int) ([]byte, error) {
	if len(nonce) > vtpm.MaxNonceBytes {
		return nil, fmt.Errorf("tpmsim: a nonce of %d bytes", len(nonce))
	}
	q := evidence.TPMQuote{Public: t.public, Bank: bank, PCRs: map[int]evidence.Hex{}}
	for _, n := range pcrs {
		if n < 0 || n >= registers {
			return nil, fmt.Errorf("tpmsim: no PCR %d", n)
		}
		q.PCRs[n] = slices.Clone(t.log.sha256[n][:])
		if bank == evidence.BankSHA384 {
			q.PCRs[n] = slices.Clone(t.log.sha384[n][:])
		}
	}
	var err error
	if q.Attest, err = t.attest(nonce, q); err != nil {
		return nil, err
	}
	if t.opt.Change != nil {
		t.opt.Change(q.Attest)
	}
	if q.Signature, err = t.sign(q.Attest); err != nil {
		return nil, err
	}
	return q.Marshal()
}

// attest is TPMS_ATTEST with TPMS_QUOTE_INFO.
func (t *TPM) attest(nonce []byte, q evidence.TPMQuote) ([]byte, error) {
	qualified := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, endorsement), t.Name()...))
	bitmap, values := make([]byte, registers/8), sha256.New()
	for n := range registers {
		if value, quoted := q.PCRs[n]; quoted {
			bitmap[n/8] |= 1 << (n % 8)
			values.Write(value) // hash.Hash never fails
		}
	}
	bank := uint16(algSHA256)
	if q.Bank == evidence.BankSHA384 {
		bank = algSHA384
	}
	var b cryptobyte.Builder
	b.AddUint32(magicGenerated)
	b.AddUint16(attestQuote)
	addSized(&b, append([]byte{0, algSHA256}, qualified[:]...))
	addSized(&b, nonce)
	b.AddUint64(1 << 20) // clock, in milliseconds
	b.AddUint32(1)       // resets
	b.AddUint32(0)       // restarts
	b.AddUint8(1)        // the clock is safe
	b.AddUint64(firmware)
	b.AddUint32(1) // one bank
	b.AddUint16(bank)
	b.AddUint8(uint8(len(bitmap)))
	b.AddBytes(bitmap)
	addSized(&b, values.Sum(nil))
	return b.Bytes()
}

// sign makes a TPMT_SIGNATURE.
func (t *TPM) sign(attest []byte) ([]byte, error) {
	d := sha256.Sum256(attest)
	raw, err := t.authority.key.Sign(rand.Reader, d[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("tpmsim: sign: %w", err)
	}
	var b cryptobyte.Builder
	if _, isRSA := t.authority.key.Public().(*rsa.PublicKey); isRSA {
		b.AddUint16(algRSASSA)
		b.AddUint16(algSHA256)
		addSized(&b, raw)
		return b.Bytes()
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(raw, &sig); err != nil {
		return nil, fmt.Errorf("tpmsim: sign: %w", err)
	}
	b.AddUint16(algECDSA)
	b.AddUint16(algSHA256)
	addSized(&b, sig.R.FillBytes(make([]byte, 32)))
	addSized(&b, sig.S.FillBytes(make([]byte, 32)))
	return b.Bytes()
}

// publicArea is the key's TPMT_PUBLIC.
func publicArea(key crypto.PublicKey) ([]byte, error) {
	var b cryptobyte.Builder
	begin := func(typ, scheme uint16) {
		b.AddUint16(typ)
		b.AddUint16(algSHA256)
		b.AddUint32(attributes)
		addSized(&b, nil) // no policy
		b.AddUint16(algNull)
		b.AddUint16(scheme)
		b.AddUint16(algSHA256)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		begin(algRSA, algRSASSA)
		b.AddUint16(uint16(key.N.BitLen()))
		b.AddUint32(0) // the usual exponent
		addSized(&b, key.N.Bytes())
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, errors.New("tpmsim: the key is on another curve than P-256")
		}
		begin(algECC, algECDSA)
		b.AddUint16(curveP256)
		b.AddUint16(algNull)
		point, err := key.Bytes()
		if err != nil {
			return nil, fmt.Errorf("tpmsim: %w", err)
		}
		addSized(&b, point[1:33])
		addSized(&b, point[33:])
	default:
		return nil, fmt.Errorf("tpmsim: a key of type %T", key)
	}
	return b.Bytes()
}

func addSized(b *cryptobyte.Builder, data []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data) })
}
