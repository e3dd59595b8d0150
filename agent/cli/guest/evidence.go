package guest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
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
compute.tee.measurement_whitelist accepts. The commands below look at evidence in files.`
	evidenceExample     = "  anchorhold evidence\n  anchorhold evidence --nonce 00112233445566778899aabbccddeeff --out evidence.bin"
	evidenceFlagNonce   = "nonce of 16 to 64 bytes, in hexadecimal or base64url (random if omitted)"
	evidenceFlagOut     = "write the evidence to this new file"
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
	return inv.Print(shown, func(w io.Writer) {
		for _, k := range []string{"kind", "report_bytes", "certificates", "measurement_sha384", "measurement_sha256", "nonce", "agent_key_id", "report_data", "digest"} {
			fmt.Fprintf(w, "%-20s %v\n", k, shown[k])
		}
	})
}

// Where an SEV-SNP report holds REPORT_DATA and MEASUREMENT.
const (
	reportDataAt  = 0x50
	measurementAt = 0x90
	reportLength  = 0x4a0
)

// describe reads what the report itself says. It verifies no signature: that is
// an appraiser's work; but a report over another nonce is refused.
func describe(env evidence.Envelope, want string) (map[string]any, error) {
	digest, report, certificates := env.Digest(), env.Primary(), 0
	for _, p := range env.Parts {
		if p.Type.Certificate() {
			certificates++
		}
	}
	shown := map[string]any{"kind": env.Kind, "report_bytes": len(report), "certificates": certificates, "digest": hex.EncodeToString(digest[:])}
	if env.Kind != evidence.KindSNP || len(report) != reportLength {
		return nil, fmt.Errorf(evidenceKindUnknown, cli.ErrRefused, env.Kind, len(report))
	}
	got := hex.EncodeToString(report[reportDataAt : reportDataAt+64])
	if got != want {
		return nil, fmt.Errorf(evidenceOtherData, cli.ErrRefused)
	}
	measurement := report[measurementAt : measurementAt+48]
	compact := sha256.Sum256(measurement)
	shown["report_data"] = got
	shown["measurement_sha384"] = "sha384:" + hex.EncodeToString(measurement)
	shown["measurement_sha256"] = "sha256:" + hex.EncodeToString(compact[:])
	return shown, nil
}
