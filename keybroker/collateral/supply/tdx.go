package supply

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
)

// maxPlatforms bounds the platforms whose documents are held parsed. Intel has made dozens of types.
const maxPlatforms = 256

// freshFor is how long parsed documents are used before the depot is looked at again.
const freshFor = time.Minute

// TDX has Intel's documents for quotes of trust domains, as a [tdx.Provider]. It may be used by
// several goroutines.
type TDX struct {
	depot *depot.Depot
	roots tdx.Roots

	mu   sync.Mutex
	held map[collateral.Platform]held
}

// held are documents that were parsed.
type held struct {
	*tdx.Collateral
	digest [32]byte
	looked time.Time
}

// NewTDX returns a provider of what a depot has, under these roots.
func NewTDX(d *depot.Depot, roots tdx.Roots) *TDX {
	return &TDX{depot: d, roots: roots, held: map[collateral.Platform]held{}}
}

// Lookup returns a platform's documents, which the depot fetches if it has none. It waits at most
// [Wait]; a fetch that takes longer goes on. The verifier checks that they hold at its time.
func (t *TDX) Lookup(fmspc [6]byte, ca tdx.CA) (*tdx.Collateral, error) {
	p := collateral.Platform{FMSPC: fmspc, CA: collateral.CA(ca), Update: collateral.UpdateStandard}
	t.mu.Lock()
	h, ok := t.held[p]
	t.mu.Unlock()
	if ok && time.Since(h.looked) < freshFor {
		return h.Collateral, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	docs, err := t.depot.TDX(ctx, p)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, refusal.New(collateral.ReasonUnavailable, "the platform's TCB information is being fetched; ask again")
	}
	if err != nil {
		return nil, err
	}
	h, err = t.parsed(h, docs)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) >= maxPlatforms && !ok {
		clear(t.held)
	}
	t.held[p] = h
	return h.Collateral, nil
}

// parsed are documents, parsed again only if they are others than before.
func (t *TDX) parsed(before held, docs collateral.TDXDocuments) (held, error) {
	h := sha256.New()
	for _, d := range docs.Documents() {
		sum := sha256.Sum256(d)
		h.Write(sum[:])
	}
	now := held{before.Collateral, [32]byte(h.Sum(nil)), time.Now()}
	if before.Collateral != nil && before.digest == now.digest {
		return now, nil
	}
	var err error
	now.Collateral, err = tdx.ParseCollateral(tdx.Documents(docs), t.roots)
	return now, err
}
