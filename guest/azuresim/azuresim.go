//go:build !release

// Package azuresim is an Azure confidential VM for development and tests. IT PROVES NOTHING.
//
// It wraps the reports of another emulator, of SEV-SNP ([Options].SNP, guest/teesim) or of TDX
// ([Options].TDX), into the report that a paravisor leaves in the VM's TPM, over runtime data with
// the attestation key that it is given, and answers as the instance metadata service does. A [VM]
// can stand in for the TPM and for the service that guest/azure asks. What it makes is trusted
// where the emulator below it is, and nowhere else. None of its files compiles into a release.
// Tests and the demo use it.
package azuresim

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Reporter makes SEV-SNP reports.
type Reporter interface {
	// Collect returns a report over the data with its certificates.
	Collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error)
}

// Quoter makes a TDX quote, version 4, over the data.
type Quoter func(ctx context.Context, reportData [64]byte) ([]byte, error)

// Hash numbers, as a paravisor's report has them.
const (
	SHA256 = 1
	SHA384 = 2
	SHA512 = 3
)

// Options describe the VM. Exactly one of SNP and TDX is set.
type Options struct {
	SNP Reporter
	TDX Quoter
	// AK is the TPM's attestation key and required; EK, its endorsement key, may be nil.
	AK, EK *rsa.PublicKey
	// HeaderVersion is 1 or 2, RequestVersion 1 to 3, Hash one of the numbers; 0 is 2, 1 and SHA256.
	HeaderVersion, RequestVersion, Hash uint32
	// VMID is the VM's unique id.
	VMID string
	// UserData is what the guest wrote to the TPM.
	UserData [64]byte
	// SecureBoot is as the configuration says; the TPM is always said to be enabled.
	SecureBoot bool
	// Change alters the runtime data before the CPU's report is made over it, for cases that no
	// field covers.
	Change func(runtime []byte) []byte
}

// VM is a simulated VM. It is safe for concurrent use if its reporter or quoter is.
type VM struct{ opt Options }

// New makes a VM.
func New(o Options) (*VM, error) {
	if (o.SNP == nil) == (o.TDX == nil) {
		return nil, errors.New("azuresim: exactly one of SNP and TDX is required")
	}
	if o.AK == nil {
		return nil, errors.New("azuresim: an attestation key is required")
	}
	for _, d := range []struct {
		field           *uint32
		standard, limit uint32
	}{{&o.HeaderVersion, 2, 2}, {&o.RequestVersion, 1, 3}, {&o.Hash, SHA256, SHA512}} {
		if *d.field == 0 {
			*d.field = d.standard
		}
		if *d.field > d.limit {
			return nil, fmt.Errorf("azuresim: %d is out of range, the limit is %d", *d.field, d.limit)
		}
	}
	return &VM{o}, nil
}

// Index is where the report lies in the TPM, and indexSize that index's size.
const (
	Index     = 0x01400001
	indexSize = 2600
)

// ReadNV reads the TPM: the one index that it has.
func (v *VM) ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	if index != Index {
		return nil, fs.ErrNotExist
	}
	blob, err := v.HCL(ctx)
	if err == nil && len(blob) > limit {
		return nil, fmt.Errorf("azuresim: the index has %d bytes, the limit is %d", len(blob), limit)
	}
	return blob, err
}

// Sizes and numbers of a paravisor's report.
const (
	headerSize, hardwareSize, requestSize = 32, 0x4a0, 20
	requestAKCert                         = 2
	hardwareSNP, hardwareTDX              = 2, 4
)

// HCL makes the content of the TPM's index, with a new report of the CPU.
func (v *VM) HCL(ctx context.Context) ([]byte, error) {
	runtime, err := v.runtime()
	if err != nil {
		return nil, err
	}
	hardware, kind, err := v.report(ctx, digest(v.opt.Hash, runtime))
	if err != nil {
		return nil, err
	}
	head := requestSize
	if v.opt.RequestVersion >= 2 {
		head += 4 // the paravisor's abilities
	}
	blob := make([]byte, headerSize+hardwareSize+head, indexSize)
	put := func(at int, n uint32) { binary.LittleEndian.PutUint32(blob[at:], n) }
	copy(blob, "HCLA")
	put(4, v.opt.HeaderVersion)
	put(8, uint32(len(blob)+len(runtime)))
	put(12, requestAKCert)
	copy(blob[headerSize:], hardware)
	at := headerSize + hardwareSize
	put(at, uint32(head+len(runtime)))
	put(at+4, v.opt.RequestVersion)
	put(at+8, kind)
	put(at+12, v.opt.Hash)
	put(at+16, uint32(len(runtime)))
	blob = append(blob, runtime...)
	return append(blob, make([]byte, max(0, indexSize-len(blob)))...), nil
}

// report asks the emulator below for the CPU's report.
func (v *VM) report(ctx context.Context, reportData [64]byte) ([]byte, uint32, error) {
	if v.opt.TDX == nil {
		env, err := v.opt.SNP.Collect(ctx, reportData)
		return env.Primary(), hardwareSNP, err
	}
	quote, err := v.opt.TDX(ctx, reportData)
	if err != nil {
		return nil, 0, err
	}
	report, err := tdReport(quote)
	return report, hardwareTDX, err
}

func digest(hash uint32, data []byte) (out [64]byte) {
	switch hash {
	case SHA384:
		sum := sha512.Sum384(data)
		copy(out[:], sum[:])
	case SHA512:
		out = sha512.Sum512(data)
	default:
		sum := sha256.Sum256(data)
		copy(out[:], sum[:])
	}
	return out
}

// jwk is an RSA public key as the runtime data has it.
type jwk struct {
	KID string   `json:"kid"`
	Ops []string `json:"key_ops"`
	Kty string   `json:"kty"`
	E   string   `json:"e"`
	N   string   `json:"n"`
}

func rsaKey(kid, use string, k *rsa.PublicKey) jwk {
	encode := base64.RawURLEncoding.EncodeToString
	return jwk{kid, []string{use}, "RSA", encode(big.NewInt(int64(k.E)).Bytes()), encode(k.N.Bytes())}
}

// runtime makes the runtime data.
func (v *VM) runtime() ([]byte, error) {
	keys := []jwk{rsaKey("HCLAkPub", "sign", v.opt.AK)}
	if v.opt.EK != nil {
		keys = append(keys, rsaKey("HCLEkPub", "encrypt", v.opt.EK))
	}
	text, err := json.Marshal(map[string]any{
		"keys": keys,
		"vm-configuration": map[string]any{"console-enabled": true, "root-cert-thumbprint": "", "secure-boot": v.opt.SecureBoot,
			"tpm-enabled": true, "tpm-persisted": true, "vmUniqueId": v.opt.VMID},
		"user-data": hex.EncodeToString(v.opt.UserData[:]),
	})
	if err == nil && v.opt.Change != nil {
		text = v.opt.Change(text)
	}
	return text, err
}
