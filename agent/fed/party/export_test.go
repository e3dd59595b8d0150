package party

import (
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// Secret copies 32 bytes of each part that a party has of a key: of its seed, and of what was dealt to it, behind the
// header that all deals have in common.
func (s *Service) Secret(id digest.RoundID) (copies []*keybuf.Buffer, err error) {
	s.mu.Lock()
	m := s.keys[id]
	s.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, secret := range append([]*keybuf.Buffer{m.seed}, m.dealt...) {
		c, err := keybuf.New(32)
		if err != nil {
			return copies, err
		}
		all := secret.Bytes()
		copy(c.Bytes(), all[(len(all)-32)/2:])
		copies = append(copies, c)
	}
	return copies, nil
}
