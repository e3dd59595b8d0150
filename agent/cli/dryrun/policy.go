package dryrun

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// FlagValues describes the flag "values" of every command that calls [ReadPolicy].
const FlagValues = "file of reference values (repeatable; a later value replaces an earlier one of its id)"

// ReasonPolicy is the broker's word, too, for a file that is no policy, or none of reference values.
const ReasonPolicy refusal.Reason = "policy-invalid"

// The words of what all commands take.
const (
	flagValues     = FlagValues
	warnNoValues   = "WARNING: the policy names %s, and no reference values were given: give them with --values FILE ('anchorhold policy values export --out FILE' writes those of a broker)\n"
	warnUnmatched  = "WARNING: the policy names %s, and no reference value given with --values matches it\n"
	stillSigned    = "it is a publisher's signed statement: verify it and take its values with 'anchorhold policy values extract FILE --signer publisher.key.pub --out values.yaml'"
	policyTitle    = "%s version %d"
	unreadablePath = "%s: %w"
)

// named is a policy as results name it.
type named struct {
	ID      string `json:"id"`
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
}

func nameOf(p *policy.Policy) named { return named{p.ID(), p.Version(), fmt.Sprintf("%x", p.Digest())} }

// String is the name for people.
func (n named) String() string { return fmt.Sprintf(policyTitle, n.ID, n.Version) }

// ReadPolicy reads a policy with its reference values, and says which of them it lacks.
func ReadPolicy(warn io.Writer, file string, values []string) (*policy.Policy, error) {
	data, err := cli.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, Malformed(file, err)
	}
	var all []policy.ReferenceValue
	for _, name := range values {
		data, err := cli.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if publication.Is(data) {
			return nil, Malformed(name, errors.New(stillSigned))
		}
		some, err := policy.ParseReferenceValues(data)
		if err != nil {
			return nil, Malformed(name, err)
		}
		all = policy.Merge(all, some)
	}
	unmatched := p.Unmatched(all)
	if len(values) == 0 && len(unmatched) > 0 {
		fmt.Fprintf(warn, warnNoValues, cli.Printable(strings.Join(unmatched, ", ")))
		unmatched = nil
	}
	for _, name := range unmatched {
		fmt.Fprintf(warn, warnUnmatched, cli.Printable(name))
	}
	return p.WithReferenceValues(all)
}

// Malformed is the refusal of a file that is no policy, or none of reference values.
func Malformed(file string, err error) error {
	return cli.RefusedFor(refusal.New(ReasonPolicy, unreadablePath, file, err))
}
