package localapi

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// attestation is evidence for a caller's nonce. ReportData is what the evidence
// must carry: evidence.CallerBinding over nonce and agent key.
type attestation struct {
	Kind       evidence.Kind `json:"kind"`
	Nonce      string        `json:"nonce"`        // hexadecimal, as it was understood
	AgentKeyID string        `json:"agent_key_id"` // hexadecimal
	ReportData string        `json:"report_data"`  // hexadecimal
	Evidence   []byte        `json:"evidence"`     // canonical envelope, base64
}

// attest makes evidence for the caller's nonce. The caller chooses the nonce and
// nothing else: the report is bound under the local API's label, so no answer of
// this route could pass for one to a broker's challenge.
func (s *Server) attest(w http.ResponseWriter, r *http.Request) error {
	nonce, err := parseNonce(r.URL.Query().Get("nonce"))
	if err != nil {
		return BadRequest("nonce", "invalid-nonce", err.Error())
	}
	a, err := s.quote(r.Context(), nonce)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, a)
	return nil
}

// quote makes the evidence in the request's turn, which is over before its client reads.
func (s *Server) quote(ctx context.Context, nonce []byte) (*attestation, error) {
	ctx, cancel := s.Bound(ctx)
	defer cancel(nil)
	leave, err := s.quotes.Enter(ctx, s.UID(ctx), nil)
	if err != nil {
		return nil, err
	}
	defer leave()
	key := s.cfg.Attester.AgentKeyID()
	challenge := evidence.CallerBinding{Nonce: nonce, AgentKeyID: key}.Challenge()
	env, err := s.cfg.Attester.Collect(ctx, challenge)
	if err != nil {
		return nil, err
	}
	reportData := env.ReportData(challenge)
	raw, err := env.Marshal()
	if err != nil {
		return nil, err
	}
	return &attestation{
		Kind: env.Kind, Nonce: hex.EncodeToString(nonce), AgentKeyID: hex.EncodeToString(key[:]),
		ReportData: hex.EncodeToString(reportData[:]), Evidence: raw,
	}, nil
}

// parseNonce reads hexadecimal if all is hexadecimal, else base64url. The answer
// repeats the nonce as it was understood.
func parseNonce(s string) ([]byte, error) {
	if len(s) > 2*evidence.MaxCallerNonce {
		return nil, fmt.Errorf("nonce must be at most %d bytes", evidence.MaxCallerNonce)
	}
	nonce, err := hex.DecodeString(s)
	if err != nil {
		nonce, err = base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	}
	if err != nil || len(nonce) < evidence.MinCallerNonce || len(nonce) > evidence.MaxCallerNonce {
		return nil, fmt.Errorf("nonce must be %d to %d bytes, in hexadecimal or base64url", evidence.MinCallerNonce, evidence.MaxCallerNonce)
	}
	return nonce, nil
}
