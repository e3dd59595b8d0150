package guest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/agent/cli/evidencelook"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/spf13/cobra"
)

// The words of "evidence".
const (
	evidenceUse   = "evidence"
	evidenceShort = "Have the local agent attest itself for a fresh nonce"
	evidenceLong  = `Asks the agent for hardware evidence over a nonce of yours, or a random one. The nonce
is hashed together with a label of the local API, so that the evidence can never answer
a broker's challenge. Shows the launch measurement in both forms that
compute.tee.measurement_whitelist accepts, unless a TPM alone speaks for the guest.

Nothing is verified here: 'evidence verify' does that, of the file that --out writes and with the
challenge that is shown, on any machine.`
	evidenceExample     = "  anchorhold evidence\n  anchorhold evidence --nonce 00112233445566778899aabbccddeeff --out evidence.bin\n  anchorhold evidence verify evidence.bin --challenge 5a24b0a4... --collateral collateral"
	evidenceFlagNonce   = "nonce of 16 to 64 bytes, in hexadecimal or base64url (random if omitted)"
	evidenceFlagOut     = "write the evidence to this new file"
	evidencePart        = "%s (%d bytes)"
	evidenceField       = "%-20s %v\n"
	evidenceKindUnknown = "%w: unknown evidence of kind %q with a report of %d bytes"
	evidenceOtherData   = "%w: the report covers other data than the agent says"
)

// evidenceOptions are the flags of "evidence".
type evidenceOptions struct {
	nonce string // --nonce
	out   string // --out
}

// NewEvidence is the command "evidence", which asks the local agent, with the commands below it that
// look at evidence in files.
func NewEvidence(inv *cli.Invocation) *cobra.Command {
	var o evidenceOptions
	c := &cobra.Command{
		Use: evidenceUse, Short: evidenceShort,
		Long:    evidenceLong,
		Example: evidenceExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(o.run),
	}
	dial.AgentFlag(inv, c)
	c.Flags().StringVar(&o.nonce, "nonce", "", evidenceFlagNonce)
	c.Flags().StringVar(&o.out, "out", "", evidenceFlagOut)
	c.AddCommand(evidencelook.NewVerify(inv), evidencelook.NewShow(inv))
	return c
}

func (o *evidenceOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if o.nonce == "" {
		random := make([]byte, 32)
		rand.Read(random)
		o.nonce = hex.EncodeToString(random)
	}
	var answer struct {
		Nonce      string `json:"nonce"`
		AgentKeyID string `json:"agent_key_id"`
		ReportData string `json:"report_data"`
		Evidence   []byte `json:"evidence"`
	}
	if err := dial.Agent(inv.Agent).GetJSON(ctx, "/v1/attestation?nonce="+o.nonce, &answer); err != nil {
		return err
	}
	env, err := evidence.ParseEnvelope(answer.Evidence)
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	if o.out != "" {
		if err := cli.WriteNew(o.out, answer.Evidence, 0o600); err != nil {
			return err
		}
	}
	shown, err := describe(env, answer.ReportData)
	if err != nil {
		return err
	}
	shown["nonce"], shown["agent_key_id"] = answer.Nonce, answer.AgentKeyID
	if made, ok := challenge(answer.Nonce, answer.AgentKeyID); ok {
		shown["challenge"] = made
	}
	return inv.Print(shown, func(w io.Writer) {
		for _, k := range []string{"kind", "report_bytes", "parts", "certificates", "measurement_sha384", "measurement_sha256", "nonce", "agent_key_id", "challenge", "report_data", "digest"} {
			switch value := shown[k].(type) {
			case nil:
			case []string:
				fmt.Fprintf(w, evidenceField, k, strings.Join(value, ", "))
			default:
				fmt.Fprintf(w, evidenceField, k, value)
			}
		}
	})
}

// describe reads what the evidence itself says. It verifies no signature: that is an appraiser's
// work; but evidence over another nonce is refused.
func describe(env evidence.Envelope, want string) (map[string]any, error) {
	digest, primary, certificates := env.Digest(), env.Primary(), 0
	parts := []string{}
	for _, p := range env.Parts {
		if p.Type.Certificate() {
			certificates++
		} else {
			parts = append(parts, fmt.Sprintf(evidencePart, p.Type, len(p.Data)))
		}
	}
	shown := map[string]any{"kind": env.Kind, "report_bytes": len(primary), "parts": parts, "certificates": certificates, "report_data": want, "digest": hex.EncodeToString(digest[:])}
	got := evidencefile.MadeFor(env)
	if len(got) == 0 {
		return nil, fmt.Errorf(evidenceKindUnknown, cli.ErrRefused, env.Kind, len(primary))
	}
	made, err := hex.DecodeString(want)
	if err != nil || len(made) != len([64]byte{}) {
		return nil, fmt.Errorf(evidenceOtherData, cli.ErrRefused)
	}
	if env.Kind != evidence.KindSNP && env.Kind != evidence.KindTDX {
		nonce := evidence.Nonce(evidence.PartTPMQuote, [64]byte(made)) // what a TPM can quote
		made = nonce[:]
	}
	if !bytes.Equal(got, made) {
		return nil, fmt.Errorf(evidenceOtherData, cli.ErrRefused)
	}
	if measurement := env.LaunchMeasurement(); measurement != nil {
		compact := sha256.Sum256(measurement)
		shown["measurement_sha384"] = "sha384:" + hex.EncodeToString(measurement)
		shown["measurement_sha256"] = "sha256:" + hex.EncodeToString(compact[:])
	}
	return shown, nil
}

// challenge is what the evidence was made for by the agent's word, for 'evidence verify'; not ok if its
// word is none.
func challenge(nonce, agentKeyID string) (string, bool) {
	n, err := hex.DecodeString(nonce)
	id, idErr := hex.DecodeString(agentKeyID)
	if err != nil || idErr != nil || len(id) != len(evidence.CallerBinding{}.AgentKeyID) {
		return "", false
	}
	made := evidence.CallerBinding{Nonce: n, AgentKeyID: [32]byte(id)}.Challenge()
	return hex.EncodeToString(made[:]), true
}
