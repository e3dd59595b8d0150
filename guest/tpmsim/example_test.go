//go:build !release

package tpmsim_test

import (
	"context"
	"fmt"

	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise/eventlog"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tpmquote"
)

// A guest quotes its PCRs; a verifier that enrolled the TPM's key checks the quote first, and then
// the log against the registers that were quoted.
func Example() {
	tpm, err := tpmsim.New(tpmsim.Options{Boot: tpmsim.Boot{SecureBoot: true, Kernel: []byte("kernel"), CommandLine: "quiet"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	nonce := []byte("the verifier's own 32 bytes here")
	e, err := tpm.Collect(context.Background(), nonce)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := tpmquote.Verify(e.Quote, tpmquote.Expected{Nonce: nonce, PCRs: []int{0, 4, 7, 8, 9}, Trust: tpmquote.TrustEnrolled(tpm.Name())})
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := tpm.EventLog(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	log, err := eventlog.Verify(text, eventlog.TCG, eventlog.Registers(claims.PCRs))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("Secure Boot:", *log.SecureBoot)
	for _, b := range log.Boot {
		if b.Text != "" {
			fmt.Println(b.Register, b.Text)
		}
	}
	// Output:
	// Secure Boot: true
	// pcr8 linux /vmlinuz quiet
	// pcr8 /vmlinuz quiet
}
