package intel

import (
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Check is the check by Intel's pinned root, or by others that a development build believes:
// package appraise/tdx verifies the documents as it does before it judges a quote by them, and
// they must be for the platform, the authority and the evaluation number that were asked for.
func Check(roots tdx.Roots) collateral.TDXCheck {
	return func(p collateral.Platform, d collateral.TDXDocuments, now time.Time) error {
		c, err := tdx.ParseCollateral(tdx.Documents(d), roots)
		if err != nil {
			return err
		}
		if err := c.ValidAt(now); err != nil {
			return err
		}
		n := p.EvaluationNumber()
		if c.FMSPC() != p.FMSPC || string(c.CA()) != string(p.CA) || n != 0 && c.EvaluationNumber() != n {
			return refusal.New(collateral.ReasonMismatch, "the documents are for FMSPC %x of the %s authority with evaluation number %d", c.FMSPC(), c.CA(), c.EvaluationNumber())
		}
		return nil
	}
}
