package federate

import "time"

// Tidy removes what nobody needs, as Run does.
func (s *Service) Tidy(now time.Time) (int, error) { return s.tidy(now) }
