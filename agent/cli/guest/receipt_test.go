package guest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

func rootText(t *testing.T, w *federationtest.World) string {
	t.Helper()
	text, err := w.Root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReceiptVerifyHoldsExpectations: each option, right and wrong, and what is not asked
// is said.
func TestReceiptVerifyHoldsExpectations(t *testing.T) {
	w := federationtest.New(t)
	a := w.Agent(t, nil)
	model := [32]byte{1, 2, 3}
	a.Grant(t, model)
	id, err := receipt.NewID()
	if err != nil {
		t.Fatal(err)
	}
	issued, err := receipt.Issue(a.Key, receipt.Lease{ID: a.Lease.Lease, EvidenceDigest: a.Lease.EvidenceDigest, Chain: a.Chain, Now: federationtest.Begin.Add(time.Minute)},
		receipt.Answer{ID: id, ModelID: model, ModelName: "demo", ModelVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	file, root := clitest.WriteJSON(t, "r.json", issued), rootText(t, w)
	out, code, err := run(t, "receipt", "verify", file, "--root", root)
	if code != cli.StatusRefused || !strings.Contains(out, "software TEE: the signatures hold") || strings.Contains(out, "the receipt holds") || !strings.Contains(clitest.ErrorText(err), "--accept-software-tee") {
		t.Errorf("a receipt of a software TEE: exit %d, %v\n%s", code, err, out)
	}
	out, code, _ = run(t, "receipt", "verify", file, "--root", root, "--json")
	var refused struct {
		Verified bool
		Reason   string
		Report   receipt.Report
	}
	if err := json.Unmarshal([]byte(out), &refused); err != nil || code != cli.StatusRefused || refused.Verified || refused.Reason != "software-tee-not-allowed" || !refused.Report.SoftwareTEE || len(refused.Report.Links) == 0 {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	out, code, _ = run(t, "receipt", "verify", file, "--root", root, "--accept-software-tee")
	if code != 0 {
		t.Fatal(code, out)
	}
	hardware := w.Agent(t, func(c *protocol.LeaseCertificate) { c.SoftwareTEE = false })
	hardware.Grant(t, model)
	vouched, err := receipt.Issue(hardware.Key, receipt.Lease{ID: hardware.Lease.Lease, EvidenceDigest: hardware.Lease.EvidenceDigest, Chain: hardware.Chain, Now: federationtest.Begin.Add(time.Minute)},
		receipt.Answer{ID: id, ModelID: model, ModelName: "demo", ModelVersion: 1})
	if err != nil {
		t.Fatal(err)
	}
	expectRun(t, 0, "the receipt holds", "receipt", "verify", clitest.WriteJSON(t, "hardware.json", vouched), "--root", root)
	for _, want := range []string{"measurement  launch 0000", "sha256:", "tenant       tenant", "roles        serve", "granted      models/", "NOT CHECKED  measurement", "(--measurement)",
		"NOT CHECKED  platform since", "NOT CHECKED  epoch since", "NOT CHECKED  software TEE"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	right := map[string]string{"measurement": strings.Repeat("00", 48), "image": a.Lease.Image.String(), "policy": protocol.PolicyDigest(a.Lease.PolicyDigest).String(),
		"model-id": hex.EncodeToString(model[:]), "tenant": "tenant", "min-epoch": "1"}
	prefixed := "launch=sha384:" + right["measurement"] // as anchorhold evidence prints it
	wrong := map[string]string{"measurement": "launch=" + strings.Repeat("01", 48), "image": "sha256:" + strings.Repeat("01", 32), "policy": strings.Repeat("01", 32),
		"model-id": strings.Repeat("01", 32), "tenant": "another", "min-epoch": "2"}
	malformed := map[string]string{"measurement": "00", "image": strings.Repeat("01", 32), "policy": "x", "model-id": "01", "min-epoch": "x"}
	args := []string{"receipt", "verify", file, "--root", root, "--accept-software-tee", "--json"}
	for _, value := range []string{prefixed, strings.TrimPrefix(prefixed, "launch=")} {
		if out, code, _ := run(t, append(args, "--measurement", value)...); code != 0 {
			t.Errorf("--measurement %s: exit %d\n%s", value, code, out)
		}
	}
	for name, value := range right {
		if out, code, _ := run(t, append(args, "--"+name, value)...); code != 0 {
			t.Errorf("--%s %s: exit %d\n%s", name, value, code, out)
		}
		out, code, _ := run(t, append(args, "--"+name, wrong[name])...)
		var result struct {
			Verified bool
			Reason   string
		}
		if err := json.Unmarshal([]byte(out), &result); err != nil || code != cli.StatusRefused || result.Verified || result.Reason == "" {
			t.Errorf("--%s %s: exit %d, %v\n%s", name, wrong[name], code, err, out)
		}
		if bad := malformed[name]; bad != "" {
			if out, code, _ := run(t, append(args, "--"+name, bad)...); code != cli.StatusUsage {
				t.Errorf("--%s %s: exit %d\n%s", name, bad, code, out)
			}
		}
	}
}

// TestReceiptOfVersionOneSaysSo: exit status 3, the plain words, and still its links.
func TestReceiptOfVersionOneSaysSo(t *testing.T) {
	raw, err := os.ReadFile("../../../keybroker/receipt/testdata/receipt-1.json")
	if err != nil {
		t.Fatal(err)
	}
	var former struct {
		Root   string
		Issued json.RawMessage
	}
	if err := json.Unmarshal(raw, &former); err != nil {
		t.Fatal(err)
	}
	file := clitest.WriteJSON(t, "r.json", former.Issued)
	out, code, _ := run(t, "receipt", "verify", file, "--root", former.Root)
	if code != cli.StatusRefused || !strings.Contains(out, "authority not recorded") || !strings.Contains(out, "lease certificate") {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, code, _ = run(t, "receipt", "verify", file, "--root", former.Root, "--json")
	var result struct {
		Verified bool
		Reason   string
		Report   receipt.Report
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != cli.StatusRefused || result.Verified || result.Reason != "authority-not-recorded" || len(result.Report.Links) != 6 {
		t.Errorf("exit %d, %v: %+v\n%s", code, err, result, out)
	}
}
