package appraise

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// TestReportLayoutIsTheOtherLibrarys parses reports of random bytes with both
// parsers: every offset that this package reads must be the other's too.
func TestReportLayoutIsTheOtherLibrarys(t *testing.T) {
	o := oracletest.Start(t)
	rng := rand.New(rand.NewPCG(1, 5))
	for version := uint32(minReportVersion); version <= maxReportVersion; version++ {
		raw := make([]byte, reportSize)
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		raw[0], raw[1], raw[2], raw[3] = byte(version), 0, 0, 0
		raw[0x34], raw[0x35], raw[0x36], raw[0x37] = algorithmP384SHA384, 0, 0, 0
		raw[0x48], raw[0x49], raw[0x4a], raw[0x4b] = 1<<2|3, 0, 0, 0
		clear(raw[0x4c:0x50])
		raw[0x0a], raw[0x0d], raw[0x0e], raw[0x0f] = 2, 0, 0, 0 // the policy's reserved bits
		raw[0x0b], raw[0x0c] = 0, 0
		clear(raw[0x18b:0x1a0])
		raw[0x1eb], raw[0x1ef] = 0, 0
		clear(raw[0x1f8:0x2a0])
		clear(raw[0x330:])
		if version < 3 {
			clear(raw[0x188:0x1a0])
		}
		theirs := o.SNPFields(t, raw)
		if theirs.Err != "" {
			t.Fatalf("version %d: the other library: %s", version, theirs.Err)
		}
		ours, err := parseReport(raw)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		for name, same := range map[string]bool{
			"guest SVN": ours.guestSVN == theirs.GuestSVN, "policy": ours.policy == theirs.Policy, "VMPL": ours.vmpl == theirs.VMPL,
			"family": bytes.Equal(ours.familyID, theirs.FamilyID), "image": bytes.Equal(ours.imageID, theirs.ImageID),
			"current TCB": ours.current == theirs.Current, "platform": ours.platformInfo == theirs.PlatformInfo,
			"report data": bytes.Equal(ours.reportData, theirs.ReportData), "measurement": bytes.Equal(ours.measurement, theirs.Measurement),
			"host data": bytes.Equal(ours.hostData, theirs.HostData), "ID key": bytes.Equal(ours.idKeyDigest, theirs.IDKeyDigest),
			"author key": bytes.Equal(ours.authorKeyDigest, theirs.AuthorKeyDigest), "report ID": bytes.Equal(ours.reportID, theirs.ReportID),
			"migration agent": bytes.Equal(ours.reportIDMA, theirs.ReportIDMigrationAgent), "reported TCB": ours.reported == theirs.Reported,
			"chip": bytes.Equal(ours.chipID, theirs.ChipID), "committed TCB": ours.committed == theirs.Committed,
			"launch TCB": ours.launch == theirs.Launch,
		} {
			if !same {
				t.Errorf("version %d: %s is read from another place", version, name)
			}
		}
	}
}
