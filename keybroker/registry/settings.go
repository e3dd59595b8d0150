package registry

import (
	"fmt"
	"net"
	"reflect"

	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Settings say what a registry is. They are the section proofs of the broker's configuration.
type Settings struct {
	// Listen is the address for guests, host:port; without it there is no registry.
	Listen string `yaml:"listen"`
	// AllowDevelopment registers keys whose maker could forge proofs.
	AllowDevelopment bool `yaml:"allow_development"`
	// VerificationTimeoutMS bounds one verification, in milliseconds; 1000.
	VerificationTimeoutMS int `yaml:"verification_timeout_ms"`
	// Waiting is how many announced receipts may wait for a challenge or a proof, 16384;
	// one takes some 15 kB. WaitingPerAgent of one agent, a quarter; WaitingPerGuest of all
	// guests of one processor, half; WaitingDays for how long, 30. Beyond the numbers a
	// draw decides which of the agent's or the processor's wait; the others can be challenged no more.
	Waiting         int `yaml:"waiting"`
	WaitingPerAgent int `yaml:"waiting_per_agent"`
	WaitingPerGuest int `yaml:"waiting_per_guest"`
	WaitingDays     int `yaml:"waiting_days"`
	// Kept is how many receipts with a challenge or a proof are kept, 65536; a quarter of
	// it is for challenges alone. KeptPerAgent of one agent without challenge, a quarter;
	// KeptDays for how long, 365. Beyond the numbers proofs are refused; none goes before
	// its time.
	Kept         int `yaml:"kept"`
	KeptPerAgent int `yaml:"kept_per_agent"`
	KeptDays     int `yaml:"kept_days"`
	// Limits of guests' connections and memory; see docs/operations.md.
	Limits listen.Limits `yaml:"limits"`
}

// limits of the numbers: the file has some 20 kB for each receipt.
const (
	maxReceipts = 1 << 22
	maxDays     = 3650
)

// Check finds what is wrong with it.
func (c Settings) Check() error {
	if reflect.ValueOf(c).IsZero() {
		return nil
	}
	if err := c.Limits.Check(); err != nil {
		return fmt.Errorf("proofs.limits: %w", err)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("proofs.listen: %w; want host:port", err)
	}
	if ms := c.VerificationTimeoutMS; ms < 0 || ms > 60_000 {
		return fmt.Errorf("proofs.verification_timeout_ms: %d is outside 0 to 60000", ms)
	}
	for name, n := range map[string]int{"waiting": c.Waiting, "waiting_per_agent": c.WaitingPerAgent, "waiting_per_guest": c.WaitingPerGuest, "kept": c.Kept, "kept_per_agent": c.KeptPerAgent} {
		if n < 0 || n > maxReceipts {
			return fmt.Errorf("proofs.%s: %d is outside 0 to %d", name, n, maxReceipts)
		}
	}
	for name, n := range map[string]int{"waiting_days": c.WaitingDays, "kept_days": c.KeptDays} {
		if n < 0 || n > maxDays {
			return fmt.Errorf("proofs.%s: %d is outside 0 to %d", name, n, maxDays)
		}
	}
	return nil
}
