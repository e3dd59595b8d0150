package collateral

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Kind is a kind of document, or of documents that are only good together.
type Kind string

const (
	// KindVCEK is one chip's certificate for one firmware version. It never ends in practice
	// and never changes.
	KindVCEK Kind = "amd-vcek"
	// KindAMDChain is a product line's intermediate certificate, ASK or ASVK, and its root, ARK.
	KindAMDChain Kind = "amd-chain"
	// KindAMDCRL is a product line's revocation list.
	KindAMDCRL Kind = "amd-crl"
	// KindTDX is everything that quotes of one Intel platform type are judged with.
	KindTDX Kind = "intel-tdx"
)

// Kinds are all kinds, in the order in which they are shown and exported: each after what it is
// verified with.
func Kinds() []Kind { return []Kind{KindAMDChain, KindAMDCRL, KindTDX, KindVCEK} }

// Products are AMD's product lines, as KDS names them.
func Products() []evidence.Product { return []evidence.Product{"Milan", "Genoa", "Turin"} }

// Key names an item. The zero value names none.
type Key struct {
	kind Kind
	name string
}

// Kind is what the key names.
func (k Key) Kind() Kind { return k.kind }

// String is the kind and the name: "amd-crl/Milan", "amd-chain/Milan/vcek",
// "amd-vcek/Milan/HWID/TCB", "intel-tdx/FMSPC/platform/standard".
func (k Key) String() string {
	if k == (Key{}) {
		return ""
	}
	return string(k.kind) + "/" + k.name
}

// MarshalText is [Key.String].
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// maxKeyBytes is more than the longest key has.
const maxKeyBytes = 192

// ParseKey reads what [Key.String] wrote and nothing else.
func ParseKey(text string) (Key, error) {
	if len(text) > maxKeyBytes {
		return Key{}, refusal.New(ReasonKey, "%d characters are too many for a key", len(text))
	}
	kind, name, _ := strings.Cut(text, "/")
	parts := strings.Split(name, "/")
	switch {
	case Kind(kind) == KindVCEK && len(parts) == 3:
		c, err := parseChip(parts)
		if err != nil {
			return Key{}, err
		}
		return c.Key()
	case Kind(kind) == KindAMDChain && len(parts) == 2 && (parts[1] == "vcek" || parts[1] == "vlek"):
		return ChainKey(evidence.Product(parts[0]), parts[1] == "vlek")
	case Kind(kind) == KindAMDCRL && len(parts) == 1:
		return CRLKey(evidence.Product(parts[0]))
	case Kind(kind) == KindTDX && len(parts) == 3:
		p, err := parsePlatform(parts)
		if err != nil {
			return Key{}, err
		}
		return p.Key()
	}
	return Key{}, refusal.New(ReasonKey, "%q names no collateral", text)
}

// FileName is the key as a file's name, without a slash.
func (k Key) FileName() string { return strings.ReplaceAll(k.String(), "/", "_") }

// ParseFileName reads what [Key.FileName] wrote and nothing else.
func ParseFileName(name string) (Key, error) {
	k, err := ParseKey(strings.ReplaceAll(name, "_", "/"))
	if err == nil && k.FileName() != name {
		err = refusal.New(ReasonKey, "%q names no collateral", name)
	}
	return k, err
}

// Product is the product line of an AMD key; "" for others.
func (k Key) Product() evidence.Product {
	if k.kind == KindTDX {
		return ""
	}
	p, _, _ := strings.Cut(k.name, "/")
	return evidence.Product(p)
}

// Loaded says whether the key is that of the chain of VLEKs, whose intermediate is the ASVK.
func (k Key) Loaded() bool { return k.kind == KindAMDChain && strings.HasSuffix(k.name, "/vlek") }

func checkProduct(p evidence.Product) error {
	if !slices.Contains(Products(), p) {
		return refusal.New(ReasonKey, "product %q; %v are known", p, Products())
	}
	return nil
}

// ChainKey names a product line's authorities: of VLEKs if loaded is set, else of VCEKs.
func ChainKey(p evidence.Product, loaded bool) (Key, error) {
	signer := "/vcek"
	if loaded {
		signer = "/vlek"
	}
	return Key{KindAMDChain, string(p) + signer}, checkProduct(p)
}

// CRLKey names a product line's revocation list.
func CRLKey(p evidence.Product) (Key, error) {
	return Key{KindAMDCRL, string(p)}, checkProduct(p)
}

// Chip is one AMD chip with one firmware version: what a VCEK is made for.
type Chip struct {
	Product evidence.Product
	// HWID is the chip's id: 64 bytes, on Turin 8 (57230, section 3.1).
	HWID []byte
	// TCB is the reported version. Only Turin has an FMC.
	TCB evidence.TCB
}

// hwidBytes is the length of a product line's hardware ids.
func hwidBytes(p evidence.Product) int {
	if p == "Turin" {
		return 8
	}
	return 64
}

// Key names the chip's VCEK: amd-vcek/PRODUCT/HWID/TCB, where TCB is FMC, boot loader, TEE, SNP
// and microcode, two digits each.
func (c Chip) Key() (Key, error) {
	if err := checkProduct(c.Product); err != nil {
		return Key{}, err
	}
	zero := !slices.ContainsFunc(c.HWID, func(b byte) bool { return b != 0 })
	if len(c.HWID) != hwidBytes(c.Product) || zero {
		return Key{}, refusal.New(ReasonKey, "a hardware id of %s has %d bytes, not all zero; got %d", c.Product, hwidBytes(c.Product), len(c.HWID))
	}
	if c.TCB.FMC != 0 && c.Product != "Turin" {
		return Key{}, refusal.New(ReasonKey, "an FMC version for %s, which has none", c.Product)
	}
	tcb := []byte{c.TCB.FMC, c.TCB.BootLoader, c.TCB.TEE, c.TCB.SNP, c.TCB.Microcode}
	return Key{KindVCEK, string(c.Product) + "/" + hex.EncodeToString(c.HWID) + "/" + hex.EncodeToString(tcb)}, nil
}

// Chip is what a VCEK's key names; the zero value for keys of other kinds.
func (k Key) Chip() Chip {
	if k.kind != KindVCEK {
		return Chip{}
	}
	c, _ := parseChip(strings.Split(k.name, "/")) // a key is valid
	return c
}

func parseChip(parts []string) (Chip, error) {
	hwid, err := parseHex(parts[1], hwidBytes(evidence.Product(parts[0])))
	if err != nil {
		return Chip{}, err
	}
	tcb, err := parseHex(parts[2], 5)
	if err != nil {
		return Chip{}, err
	}
	return Chip{Product: evidence.Product(parts[0]), HWID: hwid,
		TCB: evidence.TCB{FMC: tcb[0], BootLoader: tcb[1], TEE: tcb[2], SNP: tcb[3], Microcode: tcb[4]}}, nil
}

// parseHex reads lower-case digits of exactly so many bytes.
func parseHex(text string, size int) ([]byte, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != size || hex.EncodeToString(raw) != text {
		return nil, refusal.New(ReasonKey, "want %d lower-case hexadecimal digits, got %d characters", 2*size, len(text))
	}
	return raw, nil
}

// CA is which of Intel's authorities issued a platform's PCK certificate.
type CA string

const (
	// CAPlatform certifies multi-package servers.
	CAPlatform CA = "platform"
	// CAProcessor certifies single-package ones.
	CAProcessor CA = "processor"
)

// Updates of Intel's TCB information (PCS API v4, parameter update): a TCB recovery appears
// as early at its disclosure, as standard about a year later.
const (
	UpdateStandard = "standard"
	UpdateEarly    = "early"
)

// Platform is what Intel's documents are made for, by the PCK certificate of a quote.
type Platform struct {
	// FMSPC is the family, model, stepping and platform code (PCK certificate, SGX extensions).
	FMSPC [6]byte
	CA    CA
	// Update is "standard" or "early", or the TCB evaluation data number that is asked for, in
	// decimal from 1.
	Update string
}

// Key names the platform's documents: intel-tdx/FMSPC/CA/UPDATE.
func (p Platform) Key() (Key, error) {
	if p.CA != CAPlatform && p.CA != CAProcessor {
		return Key{}, refusal.New(ReasonKey, "CA %q; platform and processor are known", p.CA)
	}
	if p.Update != UpdateStandard && p.Update != UpdateEarly && p.EvaluationNumber() == 0 {
		return Key{}, refusal.New(ReasonKey, "update %q; want standard, early or a TCB evaluation data number", p.Update)
	}
	return Key{KindTDX, hex.EncodeToString(p.FMSPC[:]) + "/" + string(p.CA) + "/" + p.Update}, nil
}

// EvaluationNumber is the TCB evaluation data number that is asked for; 0 for none.
func (p Platform) EvaluationNumber() uint32 {
	n, err := strconv.ParseUint(p.Update, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != p.Update {
		return 0
	}
	return uint32(n)
}

// Platform is what a key of KindTDX names; the zero value for keys of other kinds.
func (k Key) Platform() Platform {
	if k.kind != KindTDX {
		return Platform{}
	}
	p, _ := parsePlatform(strings.Split(k.name, "/")) // a key is valid
	return p
}

func parsePlatform(parts []string) (Platform, error) {
	fmspc, err := parseHex(parts[0], 6)
	if err != nil {
		return Platform{}, err
	}
	return Platform{FMSPC: [6]byte(fmspc), CA: CA(parts[1]), Update: parts[2]}, nil
}
