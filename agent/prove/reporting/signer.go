package reporting

import (
	"bytes"
	"sync"

	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// KeyOf finds the agent key of a receipt, verified from the roots on, in an epoch that is
// not below the lowest of now of its root's broker. Receipts of one lease have the same chain, which is verified
// once.
func KeyOf(roots []identity.Public, sign func() (attested.Signer, error)) func(receipt.Receipt) (digest.Digest, error) {
	var mu sync.Mutex
	var chain []byte
	var model, agent digest.Digest
	var epoch protocol.EpochStatement
	return func(r receipt.Receipt) (digest.Digest, error) {
		now, err := sign()
		if err != nil {
			return digest.Digest{}, err
		}
		mu.Lock()
		defer mu.Unlock()
		if chain != nil && bytes.Equal(r.LeaseChain, chain) && model == r.Body.ModelID && epoch.Epoch >= now.Lowest.Of(epoch.Broker) {
			return agent, nil
		}
		a, err := protocol.VerifyAuthority(r.LeaseChain, roots, protocol.AnyBroker(), protocol.Recorded(now.Lowest), protocol.RoleServe, protocol.About(r.Body.ModelID), protocol.Everyone())
		if err != nil {
			return digest.Digest{}, err
		}
		chain, model, agent, epoch = bytes.Clone(r.LeaseChain), r.Body.ModelID, a.Lease.AgentKey.ID(), a.Epoch
		return agent, nil
	}
}
