package decrypt

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Recounted writes the blocks of a closed round's sum, added up again from the contributions
// that its participants signed. A party of the round's key decrypts nothing else.
func (s *Service) Recounted(ctx context.Context, id digest.RoundID, w io.Writer) error {
	h, err := s.cfg.Rounds.Past(ctx, id)
	if err != nil {
		return err
	}
	t, _, err := s.ticket(ctx, h)
	if err != nil {
		return err
	}
	hashes, err := s.sumHashes(ctx, h, t)
	if err != nil {
		return err
	}
	sum, err := s.recount(ctx, h, t, hashes)
	if err != nil {
		return err
	}
	return sum[0](w)
}

// shares finds what the active parties of a round left: as many as the threshold,
// all made for the same parties.
func (s *Service) shares(ctx context.Context, h rounds.Round, ticket digest.Digest) ([]source, error) {
	type share struct {
		federation.Share
		federation.Manifest
	}
	floor, err := s.cfg.Rounds.Live()
	if err != nil {
		return nil, err
	}
	blocks, err := h.Blocks()
	if err != nil {
		return nil, err
	}
	found := map[uint32]share{}
	for i := range h.Parties.Agents {
		st, m, err := s.cfg.Shards[0].Share(ctx, floor, h.Round, ticket, i+1)
		if reason, _ := refusal.ReasonOf(err); reason == "share-missing" {
			continue
		}
		if err != nil {
			return nil, err
		}
		if st.Blocks != blocks {
			return nil, refusal.New(ReasonShares, "the share of party %d has %d blocks, want %d as in the round's vector", st.From, st.Blocks, blocks)
		}
		found[st.From] = share{st, m}
	}
	// In the parties' order: all that decrypt use the same shares, and sign the same values.
	for i := range h.Parties.Agents {
		first, ok := found[uint32(i+1)]
		if !ok {
			continue
		}
		var list []source
		for _, party := range first.Active {
			if other, ok := found[party]; ok && slices.Equal(other.Active, first.Active) {
				list = append(list, s.shareBlocks(ctx, h, int(party), other.Hashes))
			}
		}
		if len(list) == int(h.Parties.Threshold) {
			return list, nil
		}
	}
	return nil, refusal.New(ReasonShares, "%d of the %d parties have left a share; %d made for the same set of parties are needed", len(found), len(h.Parties.Agents), h.Parties.Threshold)
}

// shareBlocks streams one share, checked.
func (s *Service) shareBlocks(ctx context.Context, h rounds.Round, from int, hashes []digest.Digest) source {
	return func(w io.Writer) error {
		body, err := s.cfg.Shards[0].ShareBlocks(ctx, h.ID, from)
		if err != nil {
			return err
		}
		defer body.Close() // read only
		block := make([]byte, params.ShareBlockBytes)
		for i, want := range hashes {
			if _, err := io.ReadFull(body, block); err != nil {
				return fmt.Errorf("share of party %d: %w", from, err)
			}
			if federation.BlockHash(h.ID, uint64(i), block) != want {
				return refusal.New(ReasonShares, "block %d of the share of party %d does not match its signed hash", i, from)
			}
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		return nil
	}
}
