package receipt_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// A reader who trusts one broker's root verifies a receipt with nothing else.
func ExampleVerify() {
	raw, err := os.ReadFile("testdata/vectors/receipt-2.json")
	if err != nil {
		log.Fatal(err)
	}
	var stored struct {
		Keys struct {
			Root string `json:"root"`
		} `json:"public_keys"`
		Statement string `json:"statement"`
	}
	if err := json.Unmarshal(raw, &stored); err != nil {
		log.Fatal(err)
	}
	encoded, err := hex.DecodeString(stored.Keys.Root)
	if err != nil {
		log.Fatal(err)
	}
	root, err := identity.ParsePublic(encoded)
	if err != nil {
		log.Fatal(err)
	}
	binary, err := hex.DecodeString(stored.Statement)
	if err != nil {
		log.Fatal(err)
	}

	r, err := receipt.Parse(binary)
	if err != nil {
		log.Fatal(err)
	}
	report, err := receipt.Verify(r, []identity.Public{root}, receipt.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Body.ModelName, "with the key", report.Guest.Granted.Resource)
	fmt.Println("of a software TEE, which protects nothing:", report.SoftwareTEE)

	_, err = receipt.Verify(r, []identity.Public{root}, receipt.Options{Expect: receipt.Expect{ModelID: &[32]byte{9}}})
	reason, _ := refusal.ReasonOf(err)
	fmt.Println(reason)
	// Output:
	// smollm2-135m with the key models/demo
	// of a software TEE, which protects nothing: true
	// receipt-model-mismatch
}
