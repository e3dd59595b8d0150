package main

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// logFixture makes a broker's audit log of four decisions, of which the first has no input that is
// kept: image-7 was granted models/demo twice, and image-6 was refused it.
func logFixture(t *testing.T, dir string) {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	log, err := audit.Open(dir, key, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	claims := evidence.Claims{Format: evidence.ClaimsFormat, Kind: evidence.KindVTPM, Platform: "TPM",
		TPM: &evidence.TPMClaims{AKTrust: evidence.AKEnrolled, Bank: "sha256", PCRs: map[int]evidence.Hex{4: make([]byte, 32)}}}
	pcr4 := make([]byte, 32)
	pcr4[0] = 4
	claims.Registers = []evidence.Measured{{Register: evidence.Register{Name: "pcr4", Value: pcr4}, Covers: evidence.CoversImage}}
	for i, image := range []string{"", "image-7", "image-6", "image-7"} {
		r := audit.Record{Kind: audit.KindGrant, Time: at.Add(time.Duration(i) * time.Hour), Grant: "lease", Decision: "allowed", PolicyID: "old", PolicyVersion: 1,
			ClaimsDigest: claims.Digest()}
		r.PolicyDigest[0] = 1
		if image == "image-6" {
			r.Kind, r.Grant, r.Decision, r.Reasons = audit.KindRefusal, "", "refused", []audit.Reason{{Code: string(policy.ReasonImage), Detail: "models/demo"}}
		}
		if image != "" {
			document, err := policy.Request{Now: r.Time, Resources: []string{"models/demo"}, Claims: claims, Guest: evidence.GuestClaims{ImageID: image}}.Document()
			if err != nil {
				t.Fatal(err)
			}
			r.InputDigest = log.KeepInput(r.Time, document, false)
		}
		if _, err := log.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}
