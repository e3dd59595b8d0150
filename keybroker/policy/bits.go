package policy

import (
	"fmt"
	"maps"
	"math/bits"
	"sort"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// platformBits names the bits of PLATFORM_INFO (SEV-SNP firmware ABI, table of
// the attestation report) that a policy may ask for, whatever the product.
func platformBits() map[string]uint {
	names := platformBitsOf("")
	for _, p := range []evidence.Product{"Milan", "Genoa", "Turin"} {
		maps.Copy(names, platformBitsOf(p))
	}
	return names
}

// platformBitsOf names the bits that a product line has. Bit 6 is set on
// current Turin platforms and reserved on the lines before it.
func platformBitsOf(p evidence.Product) map[string]uint {
	names := map[string]uint{
		"smt-enabled": 0, "tsme-enabled": 1, "ecc-enabled": 2, "rapl-disabled": 3,
		"ciphertext-hiding-enabled": 4, "alias-check-complete": 5, "tio-enabled": 7,
	}
	if p == "Turin" {
		names["iommu-write-safe"] = 6
	}
	return names
}

// guestPolicyBits names the bits of the launch policy (SEV-SNP firmware ABI,
// guest policy structure) that a policy may ask for. The ABI version, debug
// and migration bits have checks of their own.
func guestPolicyBits() map[string]uint {
	return map[string]uint{
		"smt-allowed": 16, "single-socket": 20, "cxl-allowed": 21, "memory-aes-256-xts": 22,
		"rapl-disabled": 23, "ciphertext-hiding": 24, "page-swap-disabled": 25,
	}
}

// guestPolicyFixed are the other bits that this version knows: the ABI
// version, the reserved bit that is always one, migration and debug.
const guestPolicyFixed = 0xffff | 1<<17 | 1<<18 | 1<<19

func maskOf(names map[string]uint) uint64 {
	var mask uint64
	for _, bit := range names {
		mask |= 1 << bit
	}
	return mask
}

// bitRule is a checked Bits.
type bitRule struct {
	set, clear uint64
	names      map[string]uint
}

func compileBits(b *Bits, names map[string]uint, field string) (*bitRule, error) {
	if b == nil {
		return nil, nil
	}
	out := &bitRule{names: names}
	for _, half := range []struct {
		list []string
		mask *uint64
	}{{b.Set, &out.set}, {b.Clear, &out.clear}} {
		for _, name := range half.list {
			bit, ok := names[name]
			if !ok {
				return nil, invalid("%s: %q is unknown (known: %s)", field, name, strings.Join(sortedKeys(names), ", "))
			}
			*half.mask |= 1 << bit
		}
	}
	if out.set&out.clear != 0 {
		return nil, invalid("%s: a bit cannot be set and clear", field)
	}
	if out.set|out.clear == 0 {
		return nil, invalid("%s: it asks for no bit; waive the check if that is meant", field)
	}
	return out, nil
}

// check returns what is wrong with value, or "".
func (r *bitRule) check(value uint64) string {
	var wrong []string
	for _, name := range sortedKeys(r.names) {
		bit := uint64(1) << r.names[name]
		if r.set&bit != 0 && value&bit == 0 {
			wrong = append(wrong, name+" is not set")
		}
		if r.clear&bit != 0 && value&bit != 0 {
			wrong = append(wrong, name+" is set")
		}
	}
	return strings.Join(wrong, ", ")
}

// foreign describes the bits that the rule asks for and names does not have, or "".
func (r *bitRule) foreign(names map[string]uint) string {
	var list []string
	for _, name := range sortedKeys(r.names) {
		if _, has := names[name]; !has && r.set&(1<<r.names[name]) != 0 {
			list = append(list, name)
		}
	}
	return strings.Join(list, ", ")
}

// unknownBits describes the bits of value outside known, or "".
func unknownBits(value, known uint64) string {
	if value &^= known; value == 0 {
		return ""
	}
	var list []string
	for v := value; v != 0; v &= v - 1 {
		list = append(list, fmt.Sprint(bits.TrailingZeros64(v)))
	}
	return "bit " + strings.Join(list, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
