package measure

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// Confirm marks the values of a kind of evidence whose registers a guest of the image quoted, all of them. The registers are
// in hexadecimal by name, and may be more than a value has. If no value has been confirmed the guest measured otherwise
// than was computed, and the statement must not be published.
func Confirm(s *publication.Statement, kind string, quoted map[string]string) error {
	confirmed := 0
	var differences []string
	for _, v := range s.Values {
		if v.Kind != kind {
			continue
		}
		differs := ""
		for _, name := range slices.Sorted(maps.Keys(v.Registers)) {
			if got, was := quoted[name]; !was {
				differs = fmt.Sprintf("%s: %s was not quoted, computed was %s", v.ID, name, v.Registers[name])
				break
			} else if got = strings.ToLower(got); got != v.Registers[name] {
				differs = fmt.Sprintf("%s: %s is %q, computed was %s", v.ID, name, got, v.Registers[name])
				break
			}
		}
		if differs != "" {
			differences = append(differences, differs)
			continue
		}
		confirmed++
		for name := range v.Checked {
			v.Checked[name] = publication.CheckBoot
		}
	}
	switch {
	case confirmed > 0:
		return nil
	case len(differences) == 0:
		return refusal.New(ReasonBoot, "the statement has no value of kind %s", kind)
	}
	return refusal.New(ReasonBoot, "the guest measured otherwise than was computed: %s", strings.Join(differences, "; "))
}
