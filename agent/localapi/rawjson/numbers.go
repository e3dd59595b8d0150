package rawjson

import (
	"errors"
	"fmt"
)

// maxNumber bounds the text of one number; the longest that a float64 needs is shorter.
const maxNumber = 400

// Numbers calls each with the numbers of an array, in their order. They stand in it one
// after the other, or in arrays of arrays up to depth levels deep in row-major order, of
// which all of one level are equally long. The text that each gets is gone afterwards.
func Numbers(text []byte, depth int, each func(number []byte) error) error {
	s := scanner{text: text}
	if !s.skip('[') {
		return errors.New("expected an array of numbers")
	}
	n := nesting{size: make([]int, depth), begun: make([]int, depth), level: 1}
	for n.level > 0 {
		s.space()
		if s.at >= len(s.text) {
			return errors.New("the array is not closed")
		}
		switch c := s.text[s.at]; {
		case c == '[':
			s.at++
			if err := n.open(); err != nil {
				return err
			}
		case c == ']':
			s.at++
			if err := n.close(); err != nil {
				return err
			}
		case c == ',':
			s.at++
		case c == '-' || c >= '0' && c <= '9':
			begin := s.at
			s.word()
			if s.at-begin > maxNumber {
				return fmt.Errorf("a number has more than %d characters", maxNumber)
			}
			if err := n.number(); err != nil {
				return err
			}
			if err := each(s.text[begin:s.at]); err != nil {
				return err
			}
		default:
			return errors.New("expected only numbers, got null or a string")
		}
	}
	return nil
}

// nesting checks that the array is rectangular.
type nesting struct {
	level int   // how deep
	leaf  int   // the level at which numbers stand; 0 is not known yet
	total int   // numbers so far
	begun []int // of each level, total when its array began
	size  []int // of each level, the numbers in each of its arrays; 0 is not known yet
}

func (n *nesting) open() error {
	if n.level == len(n.size) {
		return fmt.Errorf("nested more than %d levels deep", len(n.size))
	}
	if n.leaf == n.level {
		return errors.New("numbers and arrays are mixed on one level")
	}
	n.level++
	n.begun[n.level-1] = n.total
	return nil
}

func (n *nesting) close() error {
	i := n.level - 1
	had := n.total - n.begun[i]
	if had == 0 {
		return errors.New("an array must not be empty")
	}
	if n.size[i] != 0 && n.size[i] != had {
		return fmt.Errorf("arrays on one level have different lengths, %d and %d", n.size[i], had)
	}
	n.size[i] = had
	n.level--
	return nil
}

func (n *nesting) number() error {
	if n.leaf == 0 {
		n.leaf = n.level
	}
	if n.leaf != n.level {
		return errors.New("numbers and arrays are mixed on one level")
	}
	n.total++
	return nil
}
