package proofs

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/keybroker/proofs/ledger"
)

// maxNamed bounds the agents that one record of refused receipts names.
const maxNamed = 16

// refused counts receipts that found no place, until the audit log has them. Strangers can
// cause any number, and one record a minute.
type refused struct {
	of     map[statement.Digest]int // by agent, maxNamed of them
	others int
}

func (r *refused) add(entries []ledger.ReceiptEntry) {
	for _, e := range entries {
		agent := e.Receipt.Agent
		if _, named := r.of[agent]; !named && len(r.of) == maxNamed {
			r.others++
			continue
		}
		if r.of == nil {
			r.of = map[statement.Digest]int{}
		}
		r.of[agent]++
	}
}

func (r *refused) String() string {
	parts := make([]string, 0, len(r.of)+1)
	for _, agent := range slices.SortedFunc(maps.Keys(r.of), func(a, b statement.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		parts = append(parts, fmt.Sprintf("%d of agent %s", r.of[agent], agent))
	}
	if r.others > 0 {
		parts = append(parts, fmt.Sprintf("%d of other agents", r.others))
	}
	return "no place for receipts: " + strings.Join(parts, ", ")
}

// TellFull puts into the audit log whose receipts found no place since the last time. An
// agent that has more to announce than it may forged an answer, or answers more than is
// challenged.
func (s *Service) TellFull(ctx context.Context) error {
	s.mu.Lock()
	full := s.full
	s.full = refused{}
	s.mu.Unlock()
	if len(full.of) == 0 {
		return nil
	}
	return s.cfg.Audit(ctx, "receipts-refused", full.String())
}
