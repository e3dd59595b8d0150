package fed

import (
	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// recordOf is what the journal calls the upload that a run signed again, by its agent key.
func recordOf(round string, agent digest.Digest) string {
	return "fed/" + round + "/upload/" + agent.String()
}

// restate signs again, under this run's key and lease, what an earlier run signed and no
// aggregator takes any more because the lease of then ended before the manifest arrived: the
// same ciphertext, to the byte, and no vector is encrypted again. The broker admits an upload
// once, whoever signed it, so it cannot count twice. A proof of the norm, or of answers, is of
// the key of then: such a contribution stays refused.
//
// That an attested agent signed it first is verified, for journal and files lie on a disk that
// is not the guest's, under a key that the broker may have; and that it was of this image and
// tenant: what another image clipped and encrypted is not for this one to vouch for.
func (s *Service) restate(h rounds.Round, result Contributed, manifest []byte, refused error) (Contributed, []byte, error) {
	floor, err := s.rounds.Live()
	if err != nil {
		return result, nil, err
	}
	m, err := federation.ParseManifest(manifest)
	if err != nil {
		return result, nil, err
	}
	signer, err := s.cfg.Sign()
	if err != nil {
		return result, nil, err
	}
	c, then, err := s.cfg.Shards[0].Contribution(m.Signed, floor.Kept(), h.Round)
	if err != nil {
		return result, nil, err
	}
	agent := digest.Digest(signer.Key.Public().ID())
	if c.Agent == agent || h.NormProof || len(c.Answers) > 0 {
		return result, nil, refused
	}
	c.Agent, c.Time = agent, signer.Now
	if err := c.Follows(h.Round, h.Digest); err != nil {
		return result, nil, err
	}
	if m.Signed, err = federation.SignContribution(signer.Key, signer.Chain, c); err != nil {
		return result, nil, err
	}
	_, now, err := s.cfg.Shards[0].Contribution(m.Signed, floor, h.Round)
	if err != nil {
		return result, nil, err
	}
	if then.Lease.Image != now.Lease.Image || then.Lease.Tenant != now.Lease.Tenant {
		return result, nil, refused
	}
	if manifest, err = m.Marshal(); err != nil {
		return result, nil, err
	}
	round := h.ID.String()
	if err := s.store.WriteUpload(h.ID, store.Restated, manifest); err != nil {
		return result, nil, err
	}
	result.Contribution = digest.Of(m.Signed)
	s.cfg.Logger.Info("a contribution of an earlier run is signed again", "round", round, "contribution", result.Contribution.String())
	return result, manifest, s.cfg.Queue.Once(recordOf(round, agent), result.Contribution)
}

// restated says whether this run signed a round's upload again, and what.
func (s *Service) restated(round string) (digest.Digest, error) {
	signer, err := s.cfg.Sign()
	if err != nil {
		return digest.Digest{}, err
	}
	return s.cfg.Queue.Consumed(recordOf(round, signer.Key.Public().ID()))
}

// outsideLease says whether an aggregator refused a contribution for the lease that it was
// signed under.
func outsideLease(err error) bool {
	reason, _ := refusal.ReasonOf(err)
	return reason == federation.ReasonOutsideLease
}
