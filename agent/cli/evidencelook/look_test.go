package evidencelook

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/spf13/cobra"
)

// run runs one of the commands.
func run(t *testing.T, command func(*cli.Invocation) *cobra.Command, asJSON bool, args ...string) (string, error) {
	t.Helper()
	c := command(&cli.Invocation{AsJSON: asJSON})
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// TestEveryFileIsShownOrRefused: as text and as JSON, and never as verified.
func TestEveryFileIsShownOrRefused(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(evidencetest.Dir(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, failed := run(t, NewShow, false, path)
		raw, again := run(t, NewShow, true, path)
		switch {
		case failed != nil:
			if cli.StatusOf(failed) != cli.StatusRefused || again == nil || text != "" {
				t.Errorf("%s: %v, %v, %q", path, failed, again, text)
			}
		default:
			var v struct {
				Verified *bool
				Parts    []struct{ Fields []field }
			}
			if err := json.Unmarshal([]byte(raw), &v); err != nil || v.Verified == nil || *v.Verified || len(v.Parts) == 0 || len(v.Parts[0].Fields) == 0 || !strings.HasPrefix(text, printNotVerified) {
				t.Errorf("%s: %v\n%s", path, err, text)
			}
			seen++
		}
		return nil
	})
	if err != nil || seen < 15 {
		t.Errorf("%d files hold evidence, %v", seen, err)
	}
}

// TestClaimsAreInGroups: each proof has its own, with the policy behind.
func TestClaimsAreInGroups(t *testing.T) {
	dir := evidencetest.Dir(t)
	text, err := run(t, NewVerify, false, filepath.Join(dir, "azure", "snp-trustee", "evidence-v1.json"), filepath.Join(dir, "snp", "01-milan-v2-google", "chain.pem"),
		filepath.Join(dir, "snp", "roots", "milan.crl"), "--at", "2026-01-15T12:00:00Z", "--nonce", "6368616c6c656e6765")
	if err != nil {
		t.Fatal(err, text)
	}
	last := 0
	for _, want := range []string{"VERIFIED  trustee-az-snp-vtpm", "\nFiles\n", "\nChecks\n", "passed       freshness", "\nGuest\n", "\nRegisters\n", "  pcr4 ", "\nSEV-SNP\n", "\nAzure\n", "\nTPM\n",
		"\nWarnings\n", "\nPolicy", "    kinds: [azure-sev-snp]\n", "\nReference values", "        pcr4: "} {
		i := strings.Index(text[last:], want)
		if i < 0 {
			t.Fatalf("no %q in its place:\n%s", want, text)
		}
		last += i
	}
	if policy := "policy_bits              0x00000000000"; !strings.Contains(text, policy) {
		t.Errorf("no bits in hexadecimal:\n%s", text)
	}
	text, err = run(t, NewVerify, false, filepath.Join(dir, "nvidia", "hopper-report.hex"), filepath.Join(dir, "nvidia", "hopper-chain.txt"), "--at", "2026-01-15T12:00:00Z")
	if err != nil || !strings.Contains(text, "\nGPU 0\n") || strings.Contains(text, "\nPolicy") {
		t.Errorf("%v\n%s", err, text)
	}
	if strings.Contains(text, strings.Repeat("0", 96)) || strings.Count(text, "    zeros  ") != 1 {
		t.Errorf("measurements of nothing are not one line:\n%s", text)
	}
	if got := ranges([]int{1, 3, 4, 5, 9, 10}); got != "1, 3-5, 9-10" {
		t.Errorf("got %q", got)
	}
}

// TestBitFieldsAreThoseOfTheClaims: none is misspelt.
func TestBitFieldsAreThoseOfTheClaims(t *testing.T) {
	raw, err := json.Marshal([]any{evidence.SNPClaims{}, evidence.TDXClaims{Extended: &evidence.TDXExtended{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range bitFields() {
		if !strings.Contains(string(raw), `"`+name+`":0`) {
			t.Errorf("no claim has the number %s", name)
		}
	}
}
