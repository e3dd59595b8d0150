package operator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
)

// TestAnOldPolicyDoesNotComeBackByWayOfAnother: versions of an id only go up, whatever
// was in force between.
func TestAnOldPolicyDoesNotComeBackByWayOfAnother(t *testing.T) {
	b := newBench(t, me(), nil)
	other := strings.Replace(policyText(1, "demo/one"), "id: demo", "id: other", 1)
	for _, source := range []string{policyText(5, "demo/one"), other} {
		if _, err := b.client.ImportPolicy(t.Context(), []byte(source)); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []int{1, 5} {
		if _, err := b.client.ImportPolicy(t.Context(), []byte(policyText(version, "demo/one"))); err == nil {
			t.Errorf("version %d of a policy is in force again after version 5", version)
		}
	}
	// A file of a format that is read no more still counts, and stands in nobody's way.
	old := filepath.Join(b.server.opts.Policies.dir, historyDir, "old.yaml")
	if err := os.WriteFile(old, []byte("format: 0\nid: demo\nversion: 7 # long ago\nchips: all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.ImportPolicy(t.Context(), []byte(policyText(7, "demo/one"))); err == nil {
		t.Error("version 7 came back")
	}
	if _, err := b.client.ImportPolicy(t.Context(), []byte(policyText(8, "demo/one"))); err != nil {
		t.Error(err)
	}
}

// TestAPolicyThatIsReadNoMoreStatesItsVersion in each form that earlier versions read.
func TestAPolicyThatIsReadNoMoreStatesItsVersion(t *testing.T) {
	for name, text := range map[string]string{
		"YAML":             "format: 1\nid: demo\nversion: 16\nreason: two\n lines\n",
		"hexadecimal":      "format: 1\nid: demo # ours\nversion: 0x10\nreason: two\n lines\n",
		"quoted keys":      "'format': 1\n\"id\": 'demo'\n'version' : 16\nreason: two\n lines\n",
		"JSON with tabs":   "{\n\t\"format\": 1,\n\t\"id\": \"demo\",\n\t\"version\": 16\n}\n",
		"JSON in one line": "{\"format\":1,\t\"id\":\"demo\",\"version\":16}\n",
		"braces":           "{format: 1, id: demo, version: 16, reason: two\nlines}\n",
	} {
		if id, version := stated([]byte(text)); id != "demo" || version != 16 {
			t.Errorf("%s: %q version %d", name, id, version)
		}
	}
}

// TestRecordsNameWhatDecidesLater: the record of an import names the policy, that of a
// secret names what it is for.
func TestRecordsNameWhatDecidesLater(t *testing.T) {
	b := newBench(t, me(), nil)
	if _, err := b.client.ImportPolicy(t.Context(), []byte(policyText(5, "demo/one"))); err != nil {
		t.Fatal(err)
	}
	subject := keystore.Subject{0xab, 31: 0xcd}
	if _, err := b.client.PutSecret(t.Context(), "models/a", secret(t, "value"), keystore.Meta{Subject: subject}, PutNext); err != nil {
		t.Fatal(err)
	}
	if err := b.log.Close(); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	if err := audit.Iterate(b.log.Dir(), func(e audit.Entry) bool { said[e.Record.Action] = e.Record.Detail; return true }); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(said[actionPolicyImport], "policy demo version 5, file sha256:") || said[actionSecretPut] != "for "+subject.String() {
		t.Errorf("%q", said)
	}
}

// TestViewersDoNotHoldOffOperators: whoever may only look, however long, does not keep an
// operator from withdrawing an image.
func TestViewersDoNotHoldOffOperators(t *testing.T) {
	b := newBench(t, me(), nil)
	b.server.large[0] <- struct{}{} // a viewer's request that does not end
	if _, err := b.client.ImportPolicy(t.Context(), []byte(policyText(1, "demo/one"))); err != nil {
		t.Error(err)
	}
	<-b.server.large[0]
	if _, err := b.client.ShowAudit(t.Context(), audit.Filter{Last: 1}); err != nil {
		t.Fatal(err)
	}
	select {
	case b.server.large[0] <- struct{}{}:
	default:
		t.Error("a request that was answered still holds the place")
	}
}

func TestReasonsAreSaidOnce(t *testing.T) {
	for _, err := range []error{refusal.New("a-reason", "why"), &Error{409, "a-reason", "why"}} {
		for name, got := range map[string]error{"asError": asError(err), "roundError": asError(roundError(err))} {
			if got.Error() != "a-reason: why" {
				t.Errorf("%s(%v): %v", name, err, got)
			}
		}
	}
}

// TestABadFileHidesNoPolicy of those that were imported.
func TestABadFileHidesNoPolicy(t *testing.T) {
	b := newBench(t, me(), nil)
	if list, err := b.client.Policies(t.Context()); list == nil || len(list) != 0 || err != nil {
		t.Errorf("none: %v, %v", list, err)
	}
	if _, err := b.client.ImportPolicy(t.Context(), []byte(policyText(1, "demo/*"))); err != nil {
		t.Fatal(err)
	}
	history := filepath.Join(b.server.opts.Policies.dir, historyDir)
	for name, text := range map[string]string{strings.Repeat("0", 64) + ".yaml": "id: old\nversion: 7\nwhat: ever\n", "mine.yaml": policyText(9, "demo/*")} {
		if err := os.WriteFile(filepath.Join(history, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := b.client.Policies(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%d, %v", len(list), err)
	}
	for _, p := range list {
		switch {
		case p.Active:
			if p.Unreadable != "" || p.Version != 1 {
				t.Errorf("%+v", p)
			}
		case strings.HasSuffix(p.File, "history/mine.yaml"):
			if !strings.Contains(p.Unreadable, "its name is not the digest") {
				t.Errorf("%+v", p)
			}
		case p.ID != "old" || p.Version != 7 || p.Unreadable == "" || !strings.HasSuffix(p.File, ".yaml"):
			t.Errorf("%+v", p)
		}
	}
}

func TestAnEmptyListIsNoNull(t *testing.T) {
	b := newBench(t, me(), nil)
	if list, err := b.client.Secrets(t.Context(), ""); err != nil || list.Secrets == nil || len(list.Secrets) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
