package appraise

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/go-sev-guest/abi"
)

// TestReportLayoutIsTheOtherLibrarys parses reports of random bytes with both
// parsers: every offset that this package reads must be the other's too.
func TestReportLayoutIsTheOtherLibrarys(t *testing.T) {
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
		theirs, err := abi.ReportToProto(raw)
		if err != nil {
			t.Fatalf("version %d: the other library: %v", version, err)
		}
		ours, err := parseReport(raw)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		for name, same := range map[string]bool{
			"guest SVN": ours.guestSVN == theirs.GuestSvn, "policy": ours.policy == theirs.Policy, "VMPL": ours.vmpl == theirs.Vmpl,
			"family": bytes.Equal(ours.familyID, theirs.FamilyId), "image": bytes.Equal(ours.imageID, theirs.ImageId),
			"current TCB": ours.current == theirs.CurrentTcb, "platform": ours.platformInfo == theirs.PlatformInfo,
			"report data": bytes.Equal(ours.reportData, theirs.ReportData), "measurement": bytes.Equal(ours.measurement, theirs.Measurement),
			"host data": bytes.Equal(ours.hostData, theirs.HostData), "ID key": bytes.Equal(ours.idKeyDigest, theirs.IdKeyDigest),
			"author key": bytes.Equal(ours.authorKeyDigest, theirs.AuthorKeyDigest), "report ID": bytes.Equal(ours.reportID, theirs.ReportId),
			"migration agent": bytes.Equal(ours.reportIDMA, theirs.ReportIdMa), "reported TCB": ours.reported == theirs.ReportedTcb,
			"chip": bytes.Equal(ours.chipID, theirs.ChipId), "committed TCB": ours.committed == theirs.CommittedTcb,
			"launch TCB": ours.launch == theirs.LaunchTcb,
		} {
			if !same {
				t.Errorf("version %d: %s is read from another place", version, name)
			}
		}
	}
}
