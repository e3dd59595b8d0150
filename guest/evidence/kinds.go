package evidence

import "slices"

// Kind is the kind of guest that evidence comes from.
type Kind string

const (
	// KindSNP is a guest of AMD SEV-SNP that asks the processor itself. The software TEE makes the
	// same kind under another root.
	KindSNP Kind = "sev-snp"
	// KindTDX is a trust domain of Intel TDX.
	KindTDX Kind = "tdx"
	// KindVTPM is a guest that shows the quote of a virtual TPM alone.
	KindVTPM Kind = "vtpm"
	// KindAzureSNP is a guest of SEV-SNP under Azure's paravisor: the processor's report covers the
	// key of a virtual TPM, and that TPM's quote is what is fresh.
	KindAzureSNP Kind = "azure-sev-snp"
	// KindAzureTDX is the same on TDX.
	KindAzureTDX Kind = "azure-tdx"
)

// Kinds are all that this version knows.
func Kinds() []Kind { return []Kind{KindSNP, KindTDX, KindVTPM, KindAzureSNP, KindAzureTDX} }

// Known reports whether this version knows the kind.
func (k Kind) Known() bool { return slices.Contains(Kinds(), k) }

// TPMBeside reports whether a TPM's quote in evidence of the kind stands beside a processor's report that does not
// vouch for the TPM: only a policy can say what ties the two.
func (k Kind) TPMBeside() bool { return k == KindSNP || k == KindTDX }

// primary is the part that is signed over what the evidence is bound to.
func (k Kind) primary() PartType {
	switch k {
	case KindSNP:
		return PartSNPReport
	case KindTDX:
		return PartTDXQuote
	case KindVTPM, KindAzureSNP, KindAzureTDX:
		return PartTPMQuote
	}
	return ""
}

// required are the parts that evidence of the kind cannot do without.
func (k Kind) required() []PartType {
	switch k {
	case KindAzureSNP:
		return []PartType{PartTPMQuote, PartHCLReport}
	case KindAzureTDX:
		return []PartType{PartTPMQuote, PartHCLReport, PartTDXQuote}
	}
	return []PartType{k.primary()}
}

// PartType says what a part of an envelope is.
type PartType string

// Types of parts. Endorsements are a cache that the guest offers: nobody believes one that does
// not lead to a pinned root.
const (
	// PartSNPReport is an attestation report of SEV-SNP (56860, ATTESTATION_REPORT).
	PartSNPReport PartType = "snp-report"
	// PartTDXQuote is a quote of a trust domain, with its certificates inside.
	PartTDXQuote PartType = "tdx-quote"
	// PartTPMQuote is a TPM's quote with its key and the quoted registers.
	PartTPMQuote PartType = "tpm-quote"
	// PartHCLReport is the report that Azure's paravisor keeps in the TPM.
	PartHCLReport PartType = "hcl-report"
	// PartTCGLog is the firmware's and boot loader's log behind a TPM's registers.
	PartTCGLog PartType = "tcg-event-log"
	// PartCCLog is the log behind the registers of a trust domain.
	PartCCLog PartType = "cc-event-log"
	// PartGPUReport and PartGPUChain are a GPU's signed measurements and its device's
	// certificates: as many of one as of the other, in the same order.
	PartGPUReport PartType = "nvidia-gpu-report"
	PartGPUChain  PartType = "nvidia-gpu-chain"

	EndorsementAK   PartType = "ak-certificate" // of a TPM's attestation key (DER)
	EndorsementARK  PartType = "ark"            // AMD root key (DER)
	EndorsementASK  PartType = "ask"            // AMD SEV signing key, signs VCEKs (DER)
	EndorsementASVK PartType = "asvk"           // AMD SEV VLEK signing key, signs VLEKs (DER)
	EndorsementVCEK PartType = "vcek"           // chip endorsement key (DER)
	EndorsementVLEK PartType = "vlek"           // loaded endorsement key of a provider (DER)
)

// Limits of parts.
const (
	MaxGPUs             = 8         // devices that one guest may show
	MaxEndorsementBytes = 8 << 10   // of a certificate
	MaxLogBytes         = 256 << 10 // of an event log
)

// partForm is what a type of part may be.
type partForm struct {
	name        PartType
	bytes       int // at most
	count       int // at most
	endorsement bool
	kinds       []Kind // in whose evidence it may stand
}

// numParts is the number of types.
const numParts = 14

// table holds all types, in canonical order. It never changes.
var table = forms()

func forms() [numParts]partForm {
	amd := []Kind{KindSNP, KindAzureSNP}
	return [...]partForm{
		{PartSNPReport, 4 << 10, 1, false, []Kind{KindSNP}},
		{PartTDXQuote, 16 << 10, 1, false, []Kind{KindTDX, KindAzureTDX}},
		{PartTPMQuote, 8 << 10, 1, false, Kinds()},
		{PartHCLReport, 16 << 10, 1, false, []Kind{KindAzureSNP, KindAzureTDX}},
		{PartTCGLog, MaxLogBytes, 1, false, Kinds()},
		{PartCCLog, MaxLogBytes, 1, false, []Kind{KindTDX}},
		{PartGPUReport, 16 << 10, MaxGPUs, false, Kinds()},
		{PartGPUChain, 8 << 10, MaxGPUs, false, Kinds()},
		{EndorsementAK, MaxEndorsementBytes, 1, true, Kinds()},
		{EndorsementARK, MaxEndorsementBytes, 1, true, amd},
		{EndorsementASK, MaxEndorsementBytes, 1, true, amd},
		{EndorsementASVK, MaxEndorsementBytes, 1, true, amd},
		{EndorsementVCEK, MaxEndorsementBytes, 1, true, amd},
		{EndorsementVLEK, MaxEndorsementBytes, 1, true, amd},
	}
}

func formOf(t PartType) (partForm, bool) {
	if i := t.rank(); i < numParts {
		return table[i], true
	}
	return partForm{}, false
}

// Certificate reports whether parts of this type are X.509 certificates.
func (t PartType) Certificate() bool {
	form, _ := formOf(t)
	return form.endorsement
}

// rank is the place in the table; an unknown type stands behind all.
func (t PartType) rank() int {
	for i := range table {
		if table[i].name == t {
			return i
		}
	}
	return numParts
}
