package evidencefile

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/appraise/hcl"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// found is what one file holds: a piece of evidence, a part that belongs to one, or supplies.
type found struct {
	form     Form
	evidence *Evidence     // with a primary part, or a report of Azure's paravisor
	loose    evidence.Part // an event log or a GPU's report
	supplies Supplies
}

// maxDecodings bounds text in text: base64 of hexadecimal, for one.
const maxDecodings = 3

// recognise tells what the bytes are. A refusal is an *refusal.Error.
func recognise(raw []byte) (found, error) { return recogniseNested(raw, maxDecodings) }

func recogniseNested(raw []byte, decodings int) (found, error) {
	if f, ok, err := recogniseBinary(raw); ok {
		return f, err
	}
	text := bytes.TrimSpace(bytes.TrimRight(raw, "\x00"))
	switch {
	case len(text) == 0:
		return found{}, refusal.New(ReasonForm, "it is empty, or holds zeros alone")
	case text[0] == '{':
		return recogniseJSON(text)
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return recognisePEM(text)
	}
	if decodings > 0 {
		if decoded, ok := plainText(text); ok {
			return recogniseNested(decoded, decodings-1)
		}
	}
	return found{}, refusal.New(ReasonForm, "known are %s, certificates, revocation lists and Intel's documents", formList())
}

func formList() string {
	var names []string
	for _, f := range Forms() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// leastText is below the shortest text that is decoded.
const leastText = 32

// plainText decodes hexadecimal or base64, of either alphabet.
func plainText(text []byte) ([]byte, bool) {
	if len(text) < leastText {
		return nil, false
	}
	joined := strings.Join(strings.Fields(string(text)), "")
	if raw, err := hex.DecodeString(strings.TrimPrefix(joined, "0x")); err == nil {
		return raw, true
	}
	raw, err := anyBase64(joined)
	return raw, err == nil
}

// anyBase64 decodes base64 of either alphabet, padded or not.
func anyBase64(text string) ([]byte, error) {
	text = strings.TrimRight(text, "=")
	if strings.ContainsAny(text, "-_") {
		return base64.RawURLEncoding.DecodeString(text)
	}
	return base64.RawStdEncoding.DecodeString(text)
}

// What binary forms begin with.
const (
	hclMagic       = "HCLA"
	envelopePrefix = "anchorhold/evidence/envelope/"
	specIDEvent    = "Spec ID Event03\x00" // TCG PC Client Platform Firmware Profile, 10.4.5.1
	specIDAt       = 32
	derSequence    = 0x30
	quoteVendorAt  = 12
	quoteMinBytes  = 48
	intelQEVendor  = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"
	spdmRequest    = "\x11\xe0" // version 1.1, GET_MEASUREMENTS
)

// recogniseBinary tells binary forms by what they begin with. It is not ok if the bytes are none.
func recogniseBinary(raw []byte) (f found, ok bool, err error) {
	switch {
	case len(raw) > 1 && bytes.HasPrefix(raw[1:], []byte(envelopePrefix)):
		f.evidence, err = ownEnvelope(raw)
	case isSNPReport(raw):
		f.evidence = piece(FormSNPReport, evidence.KindSNP, evidence.Part{Type: evidence.PartSNPReport, Data: raw})
	case len(raw) >= quoteMinBytes && string(raw[quoteVendorAt:quoteVendorAt+len(intelQEVendor)]) == intelQEVendor:
		f.evidence, err = quote(raw)
	case bytes.HasPrefix(raw, []byte(hclMagic)):
		f.evidence, err = paravisor(raw)
	case isEventLog(raw):
		f.form, f.loose = FormEventLog, evidence.Part{Data: raw}
	case bytes.HasPrefix(raw, []byte(spdmRequest)) && len(raw) > gpuNonceAt+32:
		f.form, f.loose = FormGPU, evidence.Part{Type: evidence.PartGPUReport, Data: raw}
	case len(raw) > 1 && raw[0] == derSequence && raw[1]&0x80 != 0:
		f.form = formSupply
		err = f.supplies.addDER(raw)
		if errors.Is(err, errNotDER) {
			return found{}, false, nil
		}
	default:
		return found{}, false, nil
	}
	if f.evidence != nil {
		f.form = f.evidence.Form
	}
	return f, true, err
}

func isEventLog(raw []byte) bool {
	return len(raw) > specIDAt+len(specIDEvent) && string(raw[specIDAt:specIDAt+len(specIDEvent)]) == specIDEvent
}

// piece is evidence of one form, with what it was made for.
func piece(form Form, kind evidence.Kind, parts ...evidence.Part) *Evidence {
	return &Evidence{Form: form, Kind: kind, Parts: parts, MadeFor: MadeFor(evidence.Envelope{Kind: kind, Parts: parts})}
}

// quote reads a quote, so that one of an SGX enclave or of an unknown version is refused for that.
func quote(raw []byte) (*Evidence, error) {
	if _, err := tdx.Parse(raw); err != nil {
		return nil, err
	}
	return piece(FormTDXQuote, evidence.KindTDX, evidence.Part{Type: evidence.PartTDXQuote, Data: raw}), nil
}

func ownEnvelope(raw []byte) (*Evidence, error) {
	env, err := evidence.ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	return piece(FormEnvelope, env.Kind, env.Parts...), nil
}

// paravisor reads a report of Azure's paravisor.
func paravisor(raw []byte) (*Evidence, error) {
	r, err := hcl.Parse(raw)
	if err != nil {
		return nil, err
	}
	kind := evidence.KindAzureSNP
	if r.Kind() == evidence.KindTDX {
		kind = evidence.KindAzureTDX
	}
	return &Evidence{Form: FormHCL, Kind: kind, Parts: []evidence.Part{{Type: evidence.PartHCLReport, Data: raw}}}, nil
}
