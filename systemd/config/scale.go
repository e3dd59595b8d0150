package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Scale is a power of two, written as 2^40.
type Scale struct{ log2 int }

// Log2 is the exponent.
func (s Scale) Log2() int { return s.log2 }

// UnmarshalText reads "2^n" with n from 0 to 63.
func (s *Scale) UnmarshalText(text []byte) error {
	exponent, ok := strings.CutPrefix(string(text), "2^")
	n, err := strconv.Atoi(exponent)
	if !ok || err != nil || n < 0 || n > 63 || strconv.Itoa(n) != exponent {
		return fmt.Errorf("%q is not a power of two such as 2^40", text)
	}
	s.log2 = n
	return nil
}
