package proofs

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/keybroker/proofs/ledger"
)

// maxNamed bounds the agents that one record of displaced receipts names.
const maxNamed = 16

// tellEvery is how often the audit log is told of them.
const tellEvery = time.Hour

// displaced counts receipts that went by a draw, until the audit log has them. Strangers can
// cause any number, and one record an hour.
type displaced struct {
	of     map[statement.Digest]int // by agent, maxNamed of them
	others int
}

func (d *displaced) add(entries []ledger.ReceiptEntry) {
	for _, e := range entries {
		agent := e.Receipt.Agent
		if _, named := d.of[agent]; !named && len(d.of) == maxNamed {
			d.others++
			continue
		}
		if d.of == nil {
			d.of = map[statement.Digest]int{}
		}
		d.of[agent]++
	}
}

func (d *displaced) String() string {
	parts := make([]string, 0, len(d.of)+1)
	for _, agent := range slices.SortedFunc(maps.Keys(d.of), func(a, b statement.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		parts = append(parts, fmt.Sprintf("%d of agent %s", d.of[agent], agent))
	}
	if d.others > 0 {
		parts = append(parts, fmt.Sprintf("%d of other agents", d.others))
	}
	return "more receipts than may wait, displaced: " + strings.Join(parts, ", ")
}

// TellDisplaced puts into the audit log whose receipts went by a draw since the last time, an
// hour ago at least. An agent that announces more than may wait makes each of its answers
// less likely to be challenged, or answers more than is challenged.
func (s *Service) TellDisplaced(ctx context.Context) error {
	s.mu.Lock()
	gone := s.displaced
	if len(gone.of) == 0 || s.now() < s.told.Add(tellEvery) {
		s.mu.Unlock()
		return nil
	}
	s.displaced, s.told = displaced{}, s.now()
	s.mu.Unlock()
	return s.cfg.Audit(ctx, "receipts-displaced", gone.String())
}
