package classify

// Thresholds of the warning about inputs that a model was not calibrated for. What tells
// of one odd row is not worth it; from so many values on a share is one of the data's.
const (
	clippedShare  = 0.01
	clippedValues = 1000
)

// clipCount counts input values, and those outside the calibrated ranges. Its owner's mutex
// guards it.
type clipCount struct {
	values, clipped uint64
	told            bool
}

func (c *clipCount) add(values, clipped int) {
	c.values, c.clipped = c.values+uint64(values), c.clipped+uint64(clipped)
}

// CountClipped counts a request's input values of a classifier that is served, and how many
// of them lay outside the ranges that it was calibrated for. The first time that more than
// one value in a hundred does, it is logged: answers are worse than the model's.
func (s *Service) CountClipped(name string, values, clipped int) {
	s.mu.Lock()
	s.inputs.add(values, clipped)
	o := s.open[name]
	tell := false
	var share float64
	if o != nil {
		o.inputs.add(values, clipped)
		share = float64(o.inputs.clipped) / float64(o.inputs.values)
		tell = !o.inputs.told && o.inputs.values >= clippedValues && share > clippedShare
		o.inputs.told = o.inputs.told || tell
	}
	s.mu.Unlock()
	if tell {
		s.cfg.Logger.Warn("inputs outside the ranges that the classifier was calibrated for are clipped, so its answers are worse than the model's; calibrate with rows like those it receives",
			"model", name, "clipped", share)
	}
}

// Clipped returns how many input values of all classifiers there were since the start, and
// how many lay outside the ranges that their model was calibrated for.
func (s *Service) Clipped() (values, clipped uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.inputs.values, s.inputs.clipped
}
