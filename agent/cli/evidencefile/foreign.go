package evidencefile

import (
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/keybroker/appraise/hcl"
)

// Algorithms of Azure's attestation keys (TCG Algorithm Registry).
const (
	algRSASSA = 0x0014
	algSHA256 = 0x000b
)

// trusteeAzure reads evidence of Trustee's attesters for Azure: the paravisor's report, the TPM's
// quote with a bare RSA signature over SHA-256 registers, and the VCEK or the quote of TDX.
func trusteeAzure(o *object) (*Evidence, error) {
	report := o.bytes("hcl_report")
	o.read["version"] = true
	q := o.object("tpm_quote")
	quote := evidence.TPMQuote{Attest: q.hexBytes("message"), Bank: evidence.BankSHA256, PCRs: map[int]evidence.Hex{}}
	signature := q.hexBytes("signature")
	for i, raw := range q.list("pcrs", evidence.MaxPCRs) {
		value, ok := anyBytes(raw, hex.DecodeString)
		if !ok {
			q.fail("pcrs", "a register that is not bytes")
		}
		quote.PCRs[i] = value
	}
	if q.err != nil {
		return nil, q.err
	}
	var err error
	if quote.Signature, err = rsaSignature(signature); err != nil {
		return nil, err
	}
	parts := []evidence.Part{{Type: evidence.PartHCLReport, Data: report}}
	form, kind := FormTrusteeAzureSNP, evidence.KindAzureSNP
	if o.has("td_quote") {
		form, kind = FormTrusteeAzureTDX, evidence.KindAzureTDX
		parts = append(parts, evidence.Part{Type: evidence.PartTDXQuote, Data: o.bytes("td_quote")})
	} else {
		parts = append(parts, evidence.Part{Type: evidence.EndorsementVCEK, Data: bareCertificate(o.bytes("vcek"))})
	}
	if o.err != nil {
		return nil, o.err
	}
	if _, err := hcl.Parse(report); err != nil {
		return nil, err
	}
	return withQuote(form, kind, quote, parts...)
}

// rsaSignature is the TPMT_SIGNATURE (TPM 2.0 Library, part 2, 11.3.4) of a bare signature.
func rsaSignature(raw []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint16(algRSASSA)
	b.AddUint16(algSHA256)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(raw) })
	out, err := b.Bytes()
	if err != nil {
		return nil, refusal.New(ReasonMalformed, "a signature of %d bytes", len(raw))
	}
	return out, nil
}

// withQuote is a piece whose primary part is a TPM's quote.
func withQuote(form Form, kind evidence.Kind, q evidence.TPMQuote, parts ...evidence.Part) (*Evidence, error) {
	raw, err := q.Marshal()
	if err != nil {
		return nil, err
	}
	env, err := evidence.NewEnvelope(kind, append(parts, evidence.Part{Type: evidence.PartTPMQuote, Data: raw})...)
	if err != nil {
		return nil, err
	}
	return piece(form, kind, env.Parts...), nil
}

// bareCertificate is a certificate in DER, whether it was PEM or not.
func bareCertificate(raw []byte) []byte {
	if block, _ := pem.Decode(raw); block != nil {
		return block.Bytes
	}
	return raw
}

// trusteeTDX reads evidence of Trustee's attester for TDX: a quote, perhaps with the log.
func trusteeTDX(o *object) (*Evidence, error) {
	raw := o.bytes("quote")
	if o.err != nil {
		return nil, o.err
	}
	e, err := quote(raw)
	if err != nil {
		return nil, err
	}
	e.Form = FormTrusteeTDX
	if o.has("cc_eventlog") {
		if log := o.bytes("cc_eventlog"); len(log) > 0 {
			e.Parts = append(e.Parts, evidence.Part{Type: evidence.PartCCLog, Data: log})
		}
	}
	return e, o.err
}

// Words of configfs-tsm for who makes reports.
const (
	providerSNP = "sev_guest"
	providerTDX = "tdx_guest"
)

// tsmReport reads a report of configfs-tsm as JSON.
func tsmReport(o *object) (*Evidence, error) {
	out, aux, provider := o.bytes("outblob"), []byte(nil), ""
	if o.has("auxblob") {
		aux = o.bytes("auxblob")
	}
	if o.has("provider") {
		provider = o.text("provider")
	}
	if o.err != nil {
		return nil, o.err
	}
	return tsm(out, aux, provider)
}

// tsm makes evidence of configfs-tsm's files. An empty provider is not known, and the bytes tell.
func tsm(out, aux []byte, provider string) (*Evidence, error) {
	f, ok, err := recogniseBinary(out)
	if err != nil {
		return nil, err
	}
	if !ok || f.form != FormSNPReport && f.form != FormTDXQuote {
		return nil, refusal.New(ReasonForm, "outblob is neither a report of SEV-SNP nor a quote of TDX")
	}
	want := providerSNP
	if f.form == FormTDXQuote {
		want = providerTDX
	}
	if provider = strings.TrimSpace(provider); provider != "" && provider != want {
		return nil, refusal.New(ReasonMalformed, "the provider is %q, and outblob comes from %q", provider, want)
	}
	e := f.evidence
	e.Form = FormTSM
	if len(aux) == 0 {
		return e, nil
	}
	if want != providerSNP {
		return nil, refusal.New(ReasonMalformed, "an auxblob of %d bytes comes with a quote of TDX, which has none", len(aux))
	}
	certificates, err := snp.Certificates(out, aux)
	if err != nil {
		return nil, err
	}
	e.Parts = append(e.Parts, certificates...)
	return e, nil
}

// maxQuotes bounds the quotes of an attestation of go-tpm-tools, one for each bank.
const maxQuotes = 8

// tpmTools reads an attestation of go-tpm-tools (proto/attest.proto, as protobuf's JSON): of its
// quotes the one over the best bank, with the log and the certificates of the key.
func tpmTools(o *object, s *Supplies) (*Evidence, error) {
	public := o.bytes("akPub")
	var best evidence.TPMQuote
	for _, raw := range o.list("quotes", maxQuotes) {
		q, err := tpmToolsQuote(raw, public)
		if err != nil {
			return nil, err
		}
		if q.Bank == evidence.BankSHA384 || q.Bank == evidence.BankSHA256 && best.Bank == "" {
			best = q
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	if best.Bank == "" {
		return nil, refusal.New(ReasonForm, "no quote is over a bank of SHA-256 or SHA-384")
	}
	var parts []evidence.Part
	if o.has("eventLog") {
		parts = append(parts, evidence.Part{Type: evidence.PartTCGLog, Data: o.bytes("eventLog")})
	}
	if o.has("akCert") {
		parts = append(parts, evidence.Part{Type: evidence.EndorsementAK, Data: o.bytes("akCert")})
	}
	if o.has("intermediateCerts") {
		for _, raw := range o.list("intermediateCerts", maxQuotes) {
			der, ok := anyBytes(raw, anyBase64)
			if !ok {
				return nil, refusal.New(ReasonMalformed, "intermediateCerts: not bytes")
			}
			if err := s.addCertificate(der); err != nil {
				return nil, err
			}
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	return withQuote(FormTPMTools, evidence.KindVTPM, best, parts...)
}

// tpmToolsQuote reads one quote; its bank is empty if it is none that this version judges.
func tpmToolsQuote(raw json.RawMessage, public []byte) (evidence.TPMQuote, error) {
	o, err := readObject(raw)
	if err != nil {
		return evidence.TPMQuote{}, err
	}
	set := o.object("pcrs")
	q := evidence.TPMQuote{Attest: o.bytes("quote"), Signature: o.bytes("rawSig"), Public: public, PCRs: map[int]evidence.Hex{}}
	switch hash := set.text("hash"); hash {
	case "SHA256", "SHA384":
		q.Bank = strings.ToLower(hash)
	}
	values := set.object("pcrs")
	for name, value := range values.members {
		n, err := strconv.Atoi(name)
		b, ok := anyBytes(value, anyBase64)
		if err != nil || !ok || n < 0 || n >= evidence.MaxPCRs {
			return evidence.TPMQuote{}, refusal.New(ReasonMalformed, "quotes: register %q", name)
		}
		q.PCRs[n] = b
	}
	for _, inner := range []*object{o, set} {
		if inner.err != nil {
			return evidence.TPMQuote{}, inner.err
		}
	}
	return q, nil
}
