package leases

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Running reads from the audit log which leases run: a restart forgets none, and one
// whose release never reached its guest is among them. It reads at most so many releases;
// more says that there are others.
func Running(dir string, now time.Time, most int) (list []operator.Lease, more bool, err error) {
	byID := map[string]int{}
	filter := audit.Filter{Kind: audit.KindRelease, Since: now.Add(-protocol.MaxLease - time.Minute)}
	for read := 0; ; {
		page, err := audit.Show(dir, filter)
		if err != nil {
			return nil, false, err
		}
		for _, entry := range slices.Backward(page) {
			r := entry.Record
			if !r.Expiry.After(now) {
				continue
			}
			i, ok := byID[r.Grant]
			if !ok {
				i = len(list)
				byID[r.Grant], list = i, append(list, leaseIn(r))
			}
			list[i].Resources[r.Resource] = r.ResourceVersion
		}
		read += len(page)
		if len(page) < audit.MaxShown || page[0].Index == 0 {
			return list, false, nil
		}
		if read >= most {
			return list, true, nil
		}
		filter.To = page[0].Index
	}
}

// leaseIn is the lease that a record of a release is of.
func leaseIn(r audit.Record) operator.Lease {
	said := keybroker.ParseReleaseDetail(r.Detail)
	l := operator.Lease{Lease: r.Grant, Agent: r.AgentKey, Processor: r.ChipDigest, ImageID: said.ImageID, Tenant: said.Tenant, Image: "unknown",
		Resources: map[string]uint64{}, Policy: fmt.Sprintf("%s version %d", r.PolicyID, r.PolicyVersion), Peer: r.Peer, Granted: r.Time.UTC(), Ends: r.Expiry.UTC()}
	measurement, err := hex.DecodeString(r.Measurement)
	if err != nil {
		return l
	}
	if image, err := evidence.ImageOf(evidence.Kind(r.EvidenceKind), []evidence.Register{evidence.LaunchRegister(measurement).Register}); err == nil {
		l.Image = image.String()
	}
	return l
}
