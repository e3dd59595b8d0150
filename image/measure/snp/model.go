package snp

import (
	"maps"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Signature is what CPUID's leaf 1 gives in eax for a family, model and stepping (AMD 25481).
func Signature(family, model, stepping uint32) uint32 {
	const baseFamily = 0xf
	base, extended := family, uint32(0)
	if family > baseFamily {
		base, extended = baseFamily, family-baseFamily
	}
	return extended<<20 | model>>4<<16 | base<<8 | model&0xf<<4 | stepping&0xf
}

// models are QEMU's processor models that SEV-SNP runs on, without the version behind them: versions of a
// model differ in features, never in family, model or stepping.
func models() map[string]uint32 {
	return map[string]uint32{
		"EPYC": Signature(23, 1, 2), "EPYC-IBPB": Signature(23, 1, 2),
		"EPYC-Rome":  Signature(23, 49, 0),
		"EPYC-Milan": Signature(25, 1, 1),
		"EPYC-Genoa": Signature(25, 17, 0),
		"EPYC-Turin": Signature(26, 0, 0),
	}
}

// Models are the names that [Model] knows, sorted; each may have a version behind it, such as EPYC-Milan-v2.
func Models() []string { return slices.Sorted(maps.Keys(models())) }

// Model is the signature of QEMU's processor model of a name.
func Model(name string) (uint32, error) {
	base := name
	if at := strings.LastIndex(name, "-v"); at > 0 && isVersion(name[at+2:]) {
		base = name[:at]
	}
	signature, ok := models()[base]
	if !ok {
		return 0, refusal.New(ReasonMachine, "cpu: the model %q is not known (known: %s, with or without a version); give its signature instead, as CPUID's leaf 1 has it in eax", name, strings.Join(Models(), ", "))
	}
	return signature, nil
}

func isVersion(text string) bool {
	return len(text) == 1 && text[0] >= '1' && text[0] <= '9'
}
