//go:build !release

package tdx_test

import (
	"context"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// A development broker judges an emulated guest. With the zero Roots it would believe Intel's
// alone.
func Example() {
	now := time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)
	guest, err := tdxsim.New(tdxsim.Options{Now: now, TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "SWHardeningNeeded"}}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	reportData := [64]byte{1, 2, 3}
	raw, err := guest.Collect(context.Background(), reportData)
	if err != nil {
		fmt.Println(err)
		return
	}
	documents, err := guest.Collateral()
	if err != nil {
		fmt.Println(err)
		return
	}

	roots, err := tdx.SoftwareRoots(guest.RootsPEM())
	if err != nil {
		fmt.Println(err)
		return
	}
	collateral, err := tdx.ParseCollateral(tdx.Documents(documents), roots)
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := tdx.New(tdx.Options{MinimumEvaluationNumber: 18, Roots: roots})
	if err != nil {
		fmt.Println(err)
		return
	}
	quote, err := tdx.Parse(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := verifier.Verify(quote, tdx.NewSet(collateral), reportData, now)
	fmt.Println(err, claims.FMSPC, claims.TCB.Status, claims.SoftwareTEE)

	_, err = verifier.Verify(quote, tdx.NewSet(collateral), [64]byte{}, now)
	fmt.Println(err)
	// Output:
	// <nil> 50806f000000 SWHardeningNeeded true
	// tdx-report-data: the quote was made for another connection or nonce
}
