package broker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// signedValues are a publisher's statement and public key, as files.
func signedValues(t *testing.T) (file, public string) {
	t.Helper()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	signed, err := publication.Sign(k, &publication.Statement{Format: 1, Name: "images/web-7", Made: "2026-12-01T17:00:00Z", Values: []publication.Value{
		{ID: "images/web-7/tdx/qemu", Kind: "tdx", Covers: "firmware", Platform: "TDX", Registers: map[string]string{"mrtd": strings.Repeat("1", 96)}, Checked: map[string]publication.Check{"mrtd": "vectors"}}}})
	text, textErr := k.Public().MarshalText()
	if err := errors.Join(err, textErr); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return clitest.Write(t, filepath.Join(dir, "web-7.values"), string(signed)), clitest.Write(t, filepath.Join(dir, "publisher.pub"), string(text)+"\n")
}

// TestPublishersValuesAreImportedVerified: the broker is sent the values alone, and nothing of a file that does not verify.
func TestPublishersValuesAreImportedVerified(t *testing.T) {
	file, public := signedValues(t)
	_, other := signedValues(t)
	server := clitest.Serve(t, map[string]any{"POST /v1/reference-values": operator.ValuesImported{Imported: 1, Total: 1}})
	clitest.Call{Run: (&importValuesOptions{signer: public}).run, Args: []string{file}, Broker: server.Socket, Says: "1 reference value is now known\n"}.Expect(t, "signed")
	values, err := policy.ParseReferenceValues([]byte(server.Last().Body))
	if err != nil || len(values) != 1 || values[0].ID != "images/web-7/tdx/qemu" || !strings.Contains(values[0].Source, "web-7.values, signed by publisher ") {
		t.Errorf("%+v, %v", values, err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := clitest.Write(t, filepath.Join(t.TempDir(), "changed"), string(bytes.Replace(raw, []byte(`"firmware"`), []byte(`"image"`), 1)))
	plain := clitest.Write(t, filepath.Join(t.TempDir(), "plain"), "format: 2\n")
	untouched := clitest.Serve(t, nil)
	id := func(file string) string {
		k, err := keyfile.Public(file)
		if err != nil {
			t.Fatal(err)
		}
		return publication.PublisherID(k)
	}
	clitest.Calls(t, map[string]clitest.Call{
		"no signer": {Run: (&importValuesOptions{}).run, Args: []string{file}, Broker: untouched.Socket, Status: cli.StatusRefused, Reason: "value-file-signer"},
		"another signer": {Run: (&importValuesOptions{signer: other}).run, Args: []string{file}, Broker: untouched.Socket, Status: cli.StatusRefused, Reason: "value-file-signer",
			Says: "the statement says that it is by publisher " + id(public) + ", and the key that was given is of publisher " + id(other)},
		"changed":    {Run: (&importValuesOptions{signer: public}).run, Args: []string{changed}, Broker: untouched.Socket, Status: cli.StatusRefused, Reason: "published-values-invalid"},
		"not signed": {Run: (&importValuesOptions{signer: public}).run, Args: []string{plain}, Broker: untouched.Socket, Status: cli.StatusRefused, Reason: "value-file-unsigned"},
		"no key":     {Run: (&importValuesOptions{signer: file + "x"}).run, Args: []string{file}, Broker: untouched.Socket, Status: cli.StatusFailed, Says: "--signer: "},
		"extracted":  {Run: (&extractValuesOptions{signers: []string{public}}).run, Args: []string{file}, Says: `id: "images/web-7/tdx/qemu"`},
	})
	if got := untouched.Last(); got.Line != "" {
		t.Errorf("the broker was asked %q", got.Line)
	}
}
