package evidencefile

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// Form is the form in which evidence lay in a file.
type Form string

// Forms.
const (
	FormEnvelope        Form = "anchorhold-envelope" // our own, of either version
	FormAnswer          Form = "anchorhold-answer"   // of our local API, GET /v1/attestation
	FormSNPReport       Form = "sev-snp-report"      // 1184 bytes
	FormTDXQuote        Form = "tdx-quote"           // with any padding of zeros
	FormHCL             Form = "azure-hcl-report"    // of Azure's paravisor, from the TPM's index 0x01400001
	FormTSM             Form = "configfs-tsm"        // a directory with outblob, auxblob and provider, or these as JSON
	FormTrusteeAzureSNP Form = "trustee-az-snp-vtpm" // evidence of Trustee's attester for Azure, SEV-SNP
	FormTrusteeAzureTDX Form = "trustee-az-tdx-vtpm" // the same on TDX
	FormTrusteeSNP      Form = "trustee-snp"         // evidence of Trustee's attester for SEV-SNP
	FormTrusteeTDX      Form = "trustee-tdx"         // evidence of Trustee's attester for TDX
	FormTPMTools        Form = "go-tpm-tools"        // an attestation of go-tpm-tools, as JSON
	FormEventLog        Form = "event-log"           // of a TPM or of a confidential guest
	FormGPU             Form = "nvidia-gpu-report"   // with the chain in another file
	formSupply          Form = "supply"              // what helps to verify
)

// Forms are the forms that evidence can have, with a word of what each is.
func Forms() []Form {
	return []Form{FormEnvelope, FormAnswer, FormSNPReport, FormTDXQuote, FormHCL, FormTSM, FormTrusteeAzureSNP, FormTrusteeAzureTDX,
		FormTrusteeSNP, FormTrusteeTDX, FormTPMTools, FormEventLog, FormGPU}
}

// Evidence is what the files hold of one guest. Nothing in it is verified.
type Evidence struct {
	// Form is that of the primary part.
	Form Form
	// Kind is the kind of guest; empty if there is an event log or a GPU's report alone.
	Kind evidence.Kind
	// Parts are the pieces. A report of Azure's paravisor without a TPM's quote makes no
	// envelope and can only be shown.
	Parts []evidence.Part
	// MadeFor is what the primary part says that it was made for: REPORT_DATA, 64 bytes, or a
	// TPM quote's nonce. It is nil if there is no primary part.
	MadeFor []byte
	// Nonce and Challenge are the caller's nonce and what it was hashed to with the agent's key,
	// by the word of an answer of our local API; nil elsewhere.
	Nonce     []byte
	Challenge *[64]byte
	// Unread names JSON members that this version does not read.
	Unread []string
}

// Ours says whether our own agent made the evidence, so that its parts are bound to one challenge.
func (e *Evidence) Ours() bool { return e.Form == FormEnvelope || e.Form == FormAnswer }

// Envelope is the evidence as an envelope. It is a refusal if the kind needs a part that is missing.
func (e *Evidence) Envelope() (evidence.Envelope, error) {
	return evidence.NewEnvelope(e.Kind, e.Parts...)
}

// Part is the first part of a type, or nil.
func (e *Evidence) Part(t evidence.PartType) []byte {
	return evidence.Envelope{Parts: e.Parts}.Part(t)
}

// Offsets in an SEV-SNP report (56860, ATTESTATION_REPORT) and in the report of Azure's paravisor.
const (
	snpReportBytes                 = 0x4a0
	snpAlgorithmAt                 = 0x34
	snpReportDataAt, snpReportDone = 0x50, 0x90
	maxSNPVersion                  = 64 // no report will ever have: it is something else
	hclHeaderBytes                 = 0x20
)

// MadeFor finds what the primary part says that it was made for; nil if it cannot be read.
func MadeFor(env evidence.Envelope) []byte {
	switch primary := env.Primary(); env.Kind {
	case evidence.KindSNP:
		if len(primary) == snpReportBytes {
			return primary[snpReportDataAt:snpReportDone]
		}
	case evidence.KindTDX:
		if q, err := tdx.Parse(primary); err == nil {
			data := q.ReportData()
			return data[:]
		}
	case evidence.KindVTPM, evidence.KindAzureSNP, evidence.KindAzureTDX:
		return TPMNonce(primary)
	}
	return nil
}

// Constants of an attestation (TPM 2.0 Library, part 2, 10.12.8, TPMS_ATTEST).
const (
	tpmGenerated   = 0xff544347
	tpmAttestQuote = 0x8018
)

// TPMNonce is the qualifying data of a TPM's quote, in the form of [evidence.TPMQuote]; nil if it
// cannot be read.
func TPMNonce(quote []byte) []byte {
	q, err := evidence.ParseTPMQuote(quote)
	if err != nil {
		return nil
	}
	s := cryptobyte.String(q.Attest)
	var magic uint32
	var typ uint16
	var signer, data cryptobyte.String
	if !s.ReadUint32(&magic) || magic != tpmGenerated || !s.ReadUint16(&typ) || typ != tpmAttestQuote ||
		!s.ReadUint16LengthPrefixed(&signer) || !s.ReadUint16LengthPrefixed(&data) {
		return nil
	}
	return data
}

// GPUNonce is the nonce that a GPU's report says it was made for (DSP0274, GET_MEASUREMENTS).
func GPUNonce(report []byte) (nonce [32]byte) {
	if len(report) >= gpuNonceAt+len(nonce) {
		copy(nonce[:], report[gpuNonceAt:])
	}
	return nonce
}

const gpuNonceAt = 4

// Chip is the id of the chip that an SEV-SNP report names, 64 bytes; nil for others.
func (e *Evidence) Chip() []byte {
	report := e.Part(evidence.PartSNPReport)
	if hcl := e.Part(evidence.PartHCLReport); report == nil && len(hcl) > hclHeaderBytes {
		report = hcl[hclHeaderBytes:]
	}
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}.Chip()
}

// isSNPReport recognises a report of any version, so that one of an unknown version is refused
// for that.
func isSNPReport(raw []byte) bool {
	return len(raw) == snpReportBytes && binary.LittleEndian.Uint32(raw) < maxSNPVersion && raw[snpAlgorithmAt] <= 1 &&
		raw[0] != 0 && binary.LittleEndian.Uint32(raw[snpAlgorithmAt:]) <= 1
}
