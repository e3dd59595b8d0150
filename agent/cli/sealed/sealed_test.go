package sealed_test

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// The account of a sealed model is that of its publisher and name, and what is sent to the
// broker is the file without its chunks.
func TestAccountOfASealedModel(t *testing.T) {
	path, root := clitest.SealedModel(t, make([]byte, chunkseal.KeySize))
	part, account, err := sealed.Part(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := chunkseal.InspectPart(part)
	if err != nil || p.Root != root {
		t.Fatalf("%+v, %v", p, err)
	}
	publisher, err := identity.ParsePublic(p.Publisher)
	if err != nil || account != federation.SealedAccount(digest.Digest(publisher.ID()), "lm") || p.Verify(publisher) != nil {
		t.Errorf("%s, %v", account, err)
	}
	if _, _, err := sealed.Part("sealed.go"); err == nil {
		t.Error("no sealed model has an account")
	}
	if _, status, _ := run(t, "fed", "ledger", "broker", "--sealed", path); status == 0 {
		t.Error("two accounts at once were taken")
	}
}
