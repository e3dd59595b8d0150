package uplink

import "io"

// section is a body that can be sent again, on another connection.
type section struct {
	r    *io.SectionReader
	unit int64            // tell counts in units of so many bytes
	tell func(done int64) // of progress; nil if nobody asks
	read int64
}

// Read reads on, and tells of each unit that is complete.
func (s *section) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if s.tell == nil {
		return n, err
	}
	before := s.read / s.unit
	s.read += int64(n)
	if now := s.read / s.unit; now > before {
		s.tell(now)
	}
	return n, err
}

// again is the whole of it once more.
func (s *section) again() *section {
	r, offset, size := s.r.Outer()
	return &section{r: io.NewSectionReader(r, offset, size), unit: s.unit, tell: s.tell}
}
