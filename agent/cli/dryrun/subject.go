package dryrun

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/agent/cli/evidencejudge"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// The words of a subject.
const (
	wrongClock  = "clock source %q is unknown"
	wrongKey    = "%q is not the name of a TPM's key in hexadecimal"
	wrongMemory = "a memory limit of %d MiB is more than a guest can have"
	maxMiB      = 1 << 43
)

// guest is what a guest states of itself, by the operator's word.
type guest struct {
	ImageID        string `yaml:"image_id"`
	AgentBuild     string `yaml:"agent_build"`
	Tenant         string `yaml:"tenant"`
	MemoryLimitMiB uint64 `yaml:"memory_limit_mib"`
	ClockSource    string `yaml:"clock_source"`
}

// claims are the statements in the form that a policy is asked with. A guest could state no others.
func (g guest) claims() (out evidence.GuestClaims, err error) {
	out = evidence.GuestClaims{ImageID: g.ImageID, AgentBuild: g.AgentBuild, Tenant: g.Tenant}
	if g.MemoryLimitMiB > maxMiB {
		return out, fmt.Errorf(wrongMemory, g.MemoryLimitMiB)
	}
	out.MemoryLimit = g.MemoryLimitMiB << 20
	if g.ClockSource != "" {
		if err := out.ClockSource.UnmarshalText([]byte(g.ClockSource)); err != nil {
			return out, fmt.Errorf(wrongClock, g.ClockSource)
		}
	}
	_, err = out.Marshal()
	return out, err
}

// subject is who asks for what.
type subject struct {
	files             []string
	collateral        string
	at                time.Time
	withoutRevocation bool
	evaluation        uint32
	enrolled          []string
	softwareRoots     []byte
	resource          string
	guest             guest
}

// input judges the evidence. What is wrong with it stands in the verdict, which then has no claims.
func (s subject) input(ctx context.Context) (in policy.Input, v evidencejudge.Verdict, err error) {
	in = policy.Input{Resource: s.resource, Now: s.at}
	if in.Guest, err = s.guest.claims(); err != nil {
		return in, v, err
	}
	o := evidencejudge.Options{Now: s.at, WithoutRevocation: s.withoutRevocation, MinimumEvaluationNumber: s.evaluation, SoftwareRoots: s.softwareRoots}
	for _, name := range s.enrolled {
		raw, err := hex.DecodeString(name)
		if err != nil || len(raw) == 0 {
			return in, v, fmt.Errorf(wrongKey, name)
		}
		o.EnrolledKeys = append(o.EnrolledKeys, raw)
	}
	contents, err := evidencefile.Open(s.files, s.collateral)
	if err != nil {
		return in, v, err
	}
	if v, err = evidencejudge.Judge(ctx, contents, o); err != nil {
		return in, v, err
	}
	if v.Claims != nil {
		in.Claims = *v.Claims
	}
	return in, v, nil
}
