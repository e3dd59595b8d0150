package receipt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// jsonReceipt is the JSON form: the same fields, digests in hexadecimal, long
// byte strings in base64. The signature stays over the binary encoding.
type jsonReceipt struct {
	Format     string   `json:"format"`
	Body       jsonBody `json:"body"`
	Signature  []byte   `json:"signature"`
	LeaseChain []byte   `json:"lease_chain"`
}

type jsonBody struct {
	ID               string `json:"id"`
	ModelID          string `json:"model_id"`
	ModelName        string `json:"model_name"`
	ModelVersion     uint64 `json:"model_version"`
	InputCommitment  string `json:"input_commitment"`
	OutputCommitment string `json:"output_commitment"`
	LeaseID          string `json:"lease_id"`
	EvidenceDigest   string `json:"evidence_digest"`
	PromptTokens     uint32 `json:"prompt_tokens"`
	CompletionTokens uint32 `json:"completion_tokens"`
	Time             string `json:"time"`
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON returns the canonical JSON form.
func (r Receipt) MarshalJSON() ([]byte, error) {
	if _, err := r.Marshal(); err != nil {
		return nil, err
	}
	b := &r.Body
	format, _ := b.format()
	return json.Marshal(jsonReceipt{
		Format: format,
		Body: jsonBody{
			ID: b.ID.String(), ModelID: hex.EncodeToString(b.ModelID[:]), ModelName: b.ModelName, ModelVersion: b.ModelVersion,
			InputCommitment: hex.EncodeToString(b.InputCommitment[:]), OutputCommitment: hex.EncodeToString(b.OutputCommitment[:]),
			LeaseID: b.LeaseID.String(), EvidenceDigest: hex.EncodeToString(b.EvidenceDigest[:]),
			PromptTokens: b.PromptTokens, CompletionTokens: b.CompletionTokens,
			Time: b.Time.Time().Format(timeLayout),
		},
		Signature: r.Signature, LeaseChain: r.LeaseChain,
	})
}

// ParseJSON reads the JSON form. White space between values is free; all else
// must be as MarshalJSON writes it, so that a receipt has one spelling. It
// checks no signature.
func ParseJSON(raw []byte) (Receipt, error) {
	if len(raw) > MaxJSONBytes {
		return Receipt{}, refusal.New(ReasonMalformed, "%d bytes, the limit is %d", len(raw), MaxJSONBytes)
	}
	var j jsonReceipt
	if err := json.Unmarshal(raw, &j); err != nil {
		return Receipt{}, refusal.New(ReasonMalformed, "%w", err)
	}
	if j.Format != Context && j.Format != formerContext {
		return Receipt{}, refusal.New(ReasonMalformed, "format %.40q, want %q", j.Format, Context)
	}
	body, err := j.Body.body()
	if err != nil {
		return Receipt{}, refusal.New(ReasonMalformed, "%w", err)
	}
	body.former = j.Format == formerContext
	r := Receipt{Body: body, Signature: j.Signature, LeaseChain: j.LeaseChain}
	again, err := r.MarshalJSON()
	if err != nil {
		return Receipt{}, refusal.New(ReasonMalformed, "%w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil || !bytes.Equal(compact.Bytes(), again) {
		return Receipt{}, refusal.New(ReasonMalformed, "unknown, duplicate, misordered or misspelled fields")
	}
	return r, nil
}

// ParseFile reads what a client kept: a receipt alone, or a receipt with its
// salts as the local API returns them. It checks no signature.
func ParseFile(raw []byte) (r Receipt, salts Salts, hasSalts bool, err error) {
	var whole struct {
		Receipt json.RawMessage `json:"receipt"`
		Salts   *Salts          `json:"salts"`
	}
	if len(raw) > MaxJSONBytes {
		return Receipt{}, Salts{}, false, refusal.New(ReasonMalformed, "%d bytes, the limit is %d", len(raw), MaxJSONBytes)
	}
	if err := json.Unmarshal(raw, &whole); err != nil {
		return Receipt{}, Salts{}, false, refusal.New(ReasonMalformed, "%w", err)
	}
	if whole.Receipt == nil {
		r, err = ParseJSON(raw)
		return r, Salts{}, false, err
	}
	if r, err = ParseJSON(whole.Receipt); err != nil || whole.Salts == nil {
		return r, Salts{}, false, err
	}
	return r, *whole.Salts, true, nil
}

// UnmarshalJSON is ParseJSON for a receipt inside a larger document.
func (r *Receipt) UnmarshalJSON(raw []byte) error {
	parsed, err := ParseJSON(raw)
	if err == nil {
		*r = parsed
	}
	return err
}

func (j *jsonBody) body() (Body, error) {
	b := Body{ModelName: j.ModelName, ModelVersion: j.ModelVersion, PromptTokens: j.PromptTokens, CompletionTokens: j.CompletionTokens}
	for _, f := range []struct {
		name string
		dst  []byte
		text string
	}{
		{"id", b.ID[:], j.ID},
		{"model_id", b.ModelID[:], j.ModelID},
		{"input_commitment", b.InputCommitment[:], j.InputCommitment},
		{"output_commitment", b.OutputCommitment[:], j.OutputCommitment},
		{"lease_id", b.LeaseID[:], j.LeaseID},
		{"evidence_digest", b.EvidenceDigest[:], j.EvidenceDigest},
	} {
		if err := digest.Decode(f.dst, []byte(f.text)); err != nil {
			return Body{}, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	at, err := time.Parse(timeLayout, j.Time)
	if err != nil {
		return Body{}, fmt.Errorf("time: %w", err)
	}
	b.Time = protocol.TimeOf(at)
	return b, nil
}

// MarshalText writes the salt in base64url.
func (s Salt) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, s[:]), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Salt) UnmarshalText(text []byte) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) != len(s) || len(text) != base64.RawURLEncoding.EncodedLen(len(s)) {
		return fmt.Errorf("a salt is %d bytes in base64url", len(s))
	}
	copy(s[:], raw)
	return nil
}
